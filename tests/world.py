"""What tests run against: databases of their own, Alembic, and the app in its lifespan."""

import os
import shutil
import sqlite3
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from itertools import count
from pathlib import Path
from typing import Any, cast

import asyncpg
import httpx
from sqlalchemy.ext.asyncio import AsyncEngine

from service.app import create_app
from service.database import create_engine
from service.embedded import Server
from service.settings import Settings
from tests import forked
from tests.lifespan import lifespan

ROOT = Path(__file__).parent.parent
NOWHERE = "sqlite:////no/such/directory/users.sqlite"  # where no database answers
VERSIONS = sorted((ROOT / "migrations/versions").glob("*.py"))
NUMBERS = [path.name[:4] for path in VERSIONS]
PREVIOUS, HEAD = NUMBERS[-2:]
TEMPLATE = "head"
numbers = count(1)


def later(steps: int) -> str:
    """The number of the revision that comes so many after the head."""
    return f"{int(HEAD) + steps:04}"


NEXT = later(1)


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


def run_alembic(
    url: str, *arguments: str, check: bool = True, cwd: Path = ROOT, **environment: str
) -> subprocess.CompletedProcess[str]:
    """The command as a user types it; its output comes along when it fails unexpectedly."""
    process = run_module("alembic", url, *arguments, cwd=cwd, **environment)
    if check:
        assert process.returncode == 0, process.stdout + process.stderr
    return process


def run_migrations(url: str, *arguments: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    """`python -m migrations`, whose exit code is part of its answer."""
    return run_module("migrations", url, *arguments, cwd=cwd)


def run_module(
    name: str, url: str, *arguments: str, cwd: Path, **environment: str
) -> subprocess.CompletedProcess[str]:
    variables = {**os.environ, "DATABASE_URL": url, **environment}
    return forked.run(name, arguments, cwd=cwd, environment=variables)


def engine_for(url: str) -> AsyncEngine:
    return create_engine(Settings(database_url=url), application_name="tests")


@asynccontextmanager
async def serving(**settings: Any) -> AsyncIterator[httpx.AsyncClient]:
    app = create_app(Settings(**settings))
    async with lifespan(app):
        transport = httpx.ASGITransport(cast("Any", app))  # the same calls, typed more narrowly
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            yield client
