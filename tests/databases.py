"""Databases of the tests' own, and how to look into them."""

import asyncio
import re
import shutil
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from itertools import count
from pathlib import Path
from typing import Any

import asyncpg
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from service.database import create_engine
from service.embedded import Server
from service.settings import Settings
from tests.commands import run_alembic

NOWHERE = "sqlite:////no/such/directory/users.sqlite"  # where no database answers
TEMPLATE = "head"
numbers = count(1)


class Databases:
    """Makes databases: empty ones, and copies of one at the head."""

    def __init__(self, kind: str, server: Server, directory: Path) -> None:
        self.kind = kind
        self.server = server
        self.directory = directory
        self.template: str | None = None

    async def empty(self) -> str:
        return await self.make("template0")

    async def at_head(self) -> str:
        if self.template is None:
            self.template = await self.make("template0", name=TEMPLATE)
            run_alembic(self.template, "upgrade", "head")
            if self.kind == "sqlite":  # so that one file is the whole database
                with closing(sqlite3.connect(path_of(self.template))) as connection:
                    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        return await self.make(TEMPLATE)

    async def make(self, source: str, name: str | None = None) -> str:
        name = name or f"test_{next(numbers)}"
        if self.kind == "sqlite":
            file = self.directory / f"{name}.sqlite"
            if source == TEMPLATE:
                shutil.copy(self.directory / f"{TEMPLATE}.sqlite", file)
            return f"sqlite:///{file}"
        await self.tell(f'CREATE DATABASE "{name}" TEMPLATE {source} STRATEGY file_copy')
        return self.server.url(name)

    async def drop(self, url: str) -> None:
        if self.kind == "sqlite":
            path_of(url).unlink(missing_ok=True)
        else:
            await self.tell(f'DROP DATABASE "{name_of(url)}" WITH (FORCE)')

    async def tell(self, statement: str) -> None:
        connection = await asyncpg.connect(self.server.url("postgres"))
        try:
            await connection.execute(statement)
        finally:
            await connection.close()


def path_of(url: str) -> Path:
    return Path(url.removeprefix("sqlite:///"))


def name_of(url: str) -> str:
    return url.partition("?")[0].rpartition("/")[2]


def engine_for(url: str) -> AsyncEngine:
    return create_engine(Settings(database_url=url), application_name="tests")


async def query(engine: AsyncEngine, statement: str, **values: Any) -> list[Any]:
    async with engine.connect() as connection:
        return [tuple(row) for row in await connection.execute(text(statement), values)]


async def write(engine: AsyncEngine, statement: str) -> None:
    async with engine.begin() as connection:
        await connection.execute(text(statement))


async def revision_of(engine: AsyncEngine) -> str | None:
    rows = await query(engine, "SELECT version_num FROM alembic_version")
    return rows[0][0] if rows else None


async def run_script(engine: AsyncEngine, script: str) -> None:
    async with engine.connect() as connection:
        driver = (await connection.get_raw_connection()).driver_connection
        assert driver is not None
        for statement in re.split(r";\n\n", script):
            if statement.strip():
                await driver.execute(statement)


async def waiting_for_a_lock(engine: AsyncEngine) -> None:
    """Until the migration stands in a queue."""
    statement = (
        "SELECT count(*) FROM pg_stat_activity "
        "WHERE application_name = 'migrations' AND wait_event_type = 'Lock'"
    )
    async with asyncio.timeout(30):
        while await query(engine, statement) == [(0,)]:
            await asyncio.sleep(0.02)


@asynccontextmanager
async def nobody_writes(url: str) -> AsyncIterator[None]:
    """Whoever wants to write to `users` has to wait."""
    connection = await asyncpg.connect(url)
    try:
        async with connection.transaction():
            await connection.execute("LOCK TABLE users IN SHARE MODE")
            yield
    finally:
        await connection.close()
