"""Real databases for every test: a PostgreSQL of the suite's own, and SQLite files."""

import compileall
import gc
import os
import shutil
import sqlite3
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from service.embedded import Server
from tests.app import serving
from tests.databases import Databases, engine_for
from tests.paths import ROOT
from tests.revisions import Revision, write_revision

versions: dict[str, str] = {}

# what makes a server that lives for minutes fast: nothing must survive a power cut
IN_A_HURRY = "-c fsync=off -c synchronous_commit=off -c full_page_writes=off -c max_connections=200"

IN_MEMORY = "/dev/shm"  # noqa: S108  # what is made there has a name of its own
ROOM = 2**30  # bytes; a server takes some 100 MiB


def pytest_sessionfinish(session: pytest.Session) -> None:
    if hasattr(session.config, "workeroutput"):  # one of several processes: tell the first
        session.config.workeroutput["versions"] = versions


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    versions.update(getattr(node, "workeroutput", {}).get("versions", {}))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    for name, version in versions.items():
        terminalreporter.write_line(f"ran on {name} {version}")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--full", action="store_true", help="the live proofs at full size")


@pytest.fixture
def full(request: pytest.FixtureRequest) -> bool:
    """Whether the live proofs run at full size."""
    return bool(request.config.getoption("--full"))


@pytest.fixture(scope="session")
def directory(pytestconfig: pytest.Config) -> Iterator[Path]:
    """Where the databases are: in memory where they fit, since file systems are slow to make files.

    A database has some 300 of them, and each test has a database.
    """
    fits = os.access(IN_MEMORY, os.W_OK) and shutil.disk_usage(IN_MEMORY).free > ROOM
    place = IN_MEMORY if fits and not pytestconfig.getoption("--full") else None
    with tempfile.TemporaryDirectory(prefix="users-tests-", dir=place) as name:
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


@pytest.fixture
async def client(url: str) -> AsyncIterator[httpx.AsyncClient]:
    """The app in its lifespan, in this event loop."""
    async with serving(database_url=url) as client:
        yield client


@pytest.fixture
async def empty(empty_url: str) -> AsyncIterator[AsyncEngine]:
    """For looking at a database that starts empty."""
    engine = engine_for(empty_url)
    yield engine
    await engine.dispose()


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    half_written = shutil.ignore_patterns("*.pyc.*")
    for name in ("service", "migrations"):  # with what is compiled: that takes longer than to copy
        shutil.copytree(ROOT / name, tmp_path / name, ignore=half_written)
    shutil.copy(ROOT / "alembic.ini", tmp_path)
    return tmp_path


@pytest.fixture
def revision(clone: Path) -> Revision:
    """Write the revision after the head with these bodies."""

    def written(up: str, down: str = 'safely.nothing_to_undo("a test")') -> None:
        write_revision(clone, 1, up, down)

    return written


@pytest.fixture
async def driver(url: str) -> AsyncIterator[asyncpg.Connection]:
    """A client of its own, for holding locks and transactions open."""
    connection = await asyncpg.connect(url)
    yield connection
    await connection.close()


@pytest.fixture
def no_pauses() -> Iterator[None]:
    """The garbage collector's pauses would be taken for the database's."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def pytest_configure(config: pytest.Config) -> None:
    if not hasattr(config, "workerinput"):  # once, for all that is started from these files
        for package in ("service", "migrations"):
            compileall.compile_dir(ROOT / package, quiet=1)
    config.addinivalue_line("markers", "only(kind): runs on one of the databases, and says why")
    config.addinivalue_line("markers", "alembic: one of the tests that pytest-alembic brings")


def pytest_collection_modifyitems(items: list[pytest.Item], config: pytest.Config) -> None:
    """Leave out the half of a test that its mark `only` excludes."""
    kept: list[pytest.Item] = []
    left_out: list[pytest.Item] = []
    for item in items:
        mark = item.get_closest_marker("only")
        kind = getattr(item, "callspec", None) and item.callspec.params.get("databases")  # type: ignore[attr-defined]  # parametrised items have it
        (left_out if mark and kind and kind != mark.args[0] else kept).append(item)
    items[:] = kept
    config.hook.pytest_deselected(items=left_out)
