"""Real databases for every test: a PostgreSQL of the suite's own, and SQLite files."""

import asyncio
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, closing
from itertools import count
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from service.app import create_app
from service.database import create_engine
from service.embedded import Server
from service.settings import Settings

ROOT = Path(__file__).parent.parent
TEMPLATE = "head"
numbers = count(1)
versions: dict[str, str] = {}

Alembic = Callable[..., subprocess.CompletedProcess[str]]
Service = Callable[..., AbstractAsyncContextManager[httpx.AsyncClient]]
# what makes a server that lives for minutes fast: nothing must survive a power cut
IN_A_HURRY = "-c fsync=off -c synchronous_commit=off -c full_page_writes=off -c max_connections=200"


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    for name, version in versions.items():
        terminalreporter.write_line(f"ran on {name} {version}")


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
        await self.tell(f'CREATE DATABASE "{name}" TEMPLATE {source}')
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
    process = subprocess.run(
        [sys.executable, "-m", "alembic", *arguments],
        check=False,
        capture_output=True,
        text=True,
        cwd=cwd,
        env={**os.environ, "DATABASE_URL": url, **environment},
    )
    if check:
        assert process.returncode == 0, process.stdout + process.stderr
    return process


@pytest.fixture(scope="session")
def directory() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="users-tests-") as name:
        yield Path(name)


@pytest.fixture(scope="session")
def server(directory: Path) -> Iterator[Server]:
    server = Server(directory / "postgresql", *IN_A_HURRY.split())
    server.join()
    yield server
    server.leave()


@pytest.fixture(scope="session")
def all_databases(server: Server, directory: Path) -> dict[str, Databases]:
    return {kind: Databases(kind, server, directory) for kind in ("postgresql", "sqlite")}


@pytest.fixture(params=["postgresql", "sqlite"])
async def databases(
    request: pytest.FixtureRequest, all_databases: dict[str, Databases]
) -> Databases:
    """Each test that uses it runs on both; mark `only("postgresql")` for what one can't do."""
    databases = all_databases[request.param]
    if databases.kind not in versions:
        versions[databases.kind] = await version(databases)
    return databases


async def version(databases: Databases) -> str:
    if databases.kind == "sqlite":
        return sqlite3.sqlite_version
    connection = await asyncpg.connect(databases.server.url("postgres"))
    found = await connection.fetchval("SHOW server_version")
    await connection.close()
    return str(found)


@pytest.fixture
async def url(databases: Databases) -> AsyncIterator[str]:
    """The address of a database at the head, of the test's own."""
    url = await databases.at_head()
    yield url
    await databases.drop(url)


@pytest.fixture
async def empty_url(databases: Databases) -> AsyncIterator[str]:
    """The address of an empty database of the test's own."""
    url = await databases.empty()
    yield url
    await databases.drop(url)


@pytest.fixture
async def engine(url: str) -> AsyncIterator[AsyncEngine]:
    """For looking at the database beside the service."""
    engine = engine_for(url)
    yield engine
    await engine.dispose()


def engine_for(url: str) -> AsyncEngine:
    return create_engine(Settings(database_url=url), application_name="tests")


@pytest.fixture
async def client(url: str) -> AsyncIterator[httpx.AsyncClient]:
    """The app in its lifespan, in this event loop."""
    async with serving(database_url=url) as client:
        yield client


@asynccontextmanager
async def serving(**settings: Any) -> AsyncIterator[httpx.AsyncClient]:
    app = create_app(Settings(**settings))
    ready, over = asyncio.Event(), asyncio.Event()

    async def live() -> None:
        async with app.lifespan():
            ready.set()
            await over.wait()

    # a task of its own: a fixture's two halves run in two, and a lifespan must end where it began
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(live())
        await ready.wait()
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            yield client
        over.set()


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "only(kind): runs on one of the databases, and says why")


def pytest_collection_modifyitems(items: list[pytest.Item], config: pytest.Config) -> None:
    """Leave out the half of a test that its mark `only` excludes."""
    kept, left_out = [], []
    for item in items:
        mark = item.get_closest_marker("only")
        kind = getattr(item, "callspec", None) and item.callspec.params.get("databases")  # type: ignore[attr-defined]  # parametrised items have it
        (left_out if mark and kind and kind != mark.args[0] else kept).append(item)
    items[:] = kept
    config.hook.pytest_deselected(items=left_out)
