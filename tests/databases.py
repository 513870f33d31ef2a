"""Make databases for tests, query them, and change them."""

import asyncio
import re
import shutil
import sqlite3
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, closing
from itertools import count
from pathlib import Path
from typing import Any

import asyncpg
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from safely.scratch.embedded import Server
from service.connections import Connector
from service.database import create_engine
from service.settings import Settings
from tests.commands import run_alembic

UNREACHABLE_URL = "sqlite:////no/such/directory/users.sqlite"  # no database answers there
TEMPLATE = "head"
database_numbers = count(1)


class Databases:
    """Make databases of one kind: empty ones, and copies of one at the head."""

    def __init__(self, kind: str, server: Server, directory: Path) -> None:
        self.kind = kind
        self.server = server
        self.directory = directory
        self.template: str | None = None

    async def empty(self) -> str:
        """Make an empty database; return its address."""
        return await self.make("template0")

    async def at_head(self) -> str:
        """Make a database at the head; return its address."""
        if self.template is None:
            self.template = await self.make("template0", name=TEMPLATE)
            run_alembic(self.template, "upgrade", "head")
            if self.kind == "sqlite":  # without its write-ahead log the file alone can be copied
                with closing(sqlite3.connect(path_of(self.template))) as connection:
                    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        return await self.make(TEMPLATE)

    async def make(self, source: str, name: str | None = None) -> str:
        """Make a database as a copy of a template; return its address."""
        name = name or f"test_{next(database_numbers)}"
        if self.kind == "sqlite":
            file = self.directory / f"{name}.sqlite"
            if source == TEMPLATE:
                shutil.copy(self.directory / f"{TEMPLATE}.sqlite", file)
            return f"sqlite:///{file}"
        await self.execute(f'CREATE DATABASE "{name}" TEMPLATE {source} STRATEGY file_copy')
        return self.server.url(name)

    async def drop(self, url: str) -> None:
        if self.kind == "sqlite":
            path_of(url).unlink(missing_ok=True)
        else:
            await self.execute(f'DROP DATABASE "{name_of(url)}" WITH (FORCE)')

    async def execute(self, statement: str) -> None:
        """Execute a statement as a superuser, in the database postgres (PostgreSQL only)."""
        connection = await asyncpg.connect(self.server.url("postgres"))
        try:
            await connection.execute(statement)
        finally:
            await connection.close()


def path_of(url: str) -> Path:
    """Return the file of an SQLite database."""
    return Path(url.removeprefix("sqlite:///"))


def name_of(url: str) -> str:
    """Return the database's name in an address."""
    return url.partition("?")[0].rpartition("/")[2]


def engine_for(url: str) -> AsyncEngine:
    """Make an engine; the caller disposes of it."""
    settings = Settings(database_url=url, pool_timeout=5, statement_timeout=10)
    return create_engine(settings, connector=Connector("tests", {}), size=10)


async def query(engine: AsyncEngine, statement: str, **values: Any) -> list[Any]:
    """Return the rows of a query as tuples."""
    async with engine.connect() as connection:
        return [tuple(row) for row in await connection.execute(text(statement), values)]


async def write(engine: AsyncEngine, statement: str) -> None:
    """Execute a statement and commit."""
    async with engine.begin() as connection:
        await connection.execute(text(statement))


async def execute(url: str, *statements: str) -> list[Any]:
    """Execute statements in one session, which leaves nothing behind; return the last one's rows.

    A transaction is committed unless a statement says otherwise.
    """
    connection = await asyncpg.connect(url)
    try:
        for statement in statements[:-1]:
            await connection.execute(statement)
        return list(await connection.fetch(statements[-1]))
    finally:
        await connection.close()


async def revision_of(engine: AsyncEngine) -> str | None:
    """Return the revision that the database is at; None at base."""
    rows = await query(engine, "SELECT version_num FROM alembic_version")
    return rows[0][0] if rows else None


async def run_script(engine: AsyncEngine, script: str) -> None:
    """Execute a script of `alembic --sql` statement by statement, as psql does."""
    async with engine.connect() as connection:
        driver = (await connection.get_raw_connection()).driver_connection
        assert driver is not None
        for statement in re.split(r";\n\n", script):
            if statement.strip():
                await driver.execute(statement)


async def wait_for_blocked_migration(engine: AsyncEngine) -> None:
    """Return as soon as a migration waits for a lock."""
    statement = (
        "SELECT count(*) FROM pg_stat_activity "
        "WHERE application_name = 'migrations' AND wait_event_type = 'Lock'"
    )
    async with asyncio.timeout(30):
        while await query(engine, statement) == [(0,)]:
            await asyncio.sleep(0.02)


def writes_blocked(url: str) -> AbstractAsyncContextManager[None]:
    """Hold a lock that makes every writer of `users` wait."""
    return table_locked(url, "users", "SHARE")


@asynccontextmanager
async def table_locked(url: str, table: str, mode: str = "ACCESS EXCLUSIVE") -> AsyncIterator[None]:
    """Hold a lock on a table until the end of the block (PostgreSQL); as it is, nobody reads it."""
    connection = await asyncpg.connect(url)
    try:
        async with connection.transaction():
            await connection.execute(f"LOCK TABLE {table} IN {mode} MODE")
            yield
    finally:
        await connection.close()
