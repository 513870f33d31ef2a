"""The databases of the runs: what stands between them and the service, and what can be harmed."""

import asyncio
import os
import subprocess
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.chaos.postgresql import Postgresql, removed_at_end, started
from tests.chaos.proxy import Proxy
from tests.databases import Databases

DATA_DISK = 400  # MiB
WAL_DISK = 80  # MiB
SQLITE_DISK = 40  # MiB
FAKETIME = list(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))  # none, or one


class SkippedError(Exception):
    """A fault can't be made here; the message says why."""


@dataclass
class World:
    """A database at the head, and what is around it."""

    service_url: str  # by which the service connects
    url: str  # past the proxy
    postgresql: Postgresql | None = None
    standby: Postgresql | None = None
    proxy: Proxy | None = None
    disk: Path | None = None
    clock: Path | None = None  # the file that sets the service's clock
    settings: dict[str, str] = field(default_factory=dict)  # of the service, beside DATABASE_URL


@dataclass
class Shared:
    """The directory of all chaos runs, and the PostgreSQL that most of them share."""

    directory: Path
    postgresql: Postgresql
    postgresql_databases: Databases
    sqlite_databases: Databases


MakeWorld = Callable[[Shared], AbstractAsyncContextManager[World]]


@contextmanager
def shared_world() -> Iterator[Shared]:
    """Start a durable PostgreSQL; remove everything at the end."""
    with tempfile.TemporaryDirectory(prefix="users-chaos-", ignore_cleanup_errors=True) as name:
        directory = Path(name)
        with started(Postgresql(directory / "postgresql")) as server:
            yield Shared(
                directory,
                server,
                Databases("postgresql", server, directory),
                Databases("sqlite", server, directory),
            )


@asynccontextmanager
async def direct(shared: Shared) -> AsyncIterator[World]:
    """The service connects to PostgreSQL's socket."""
    url = await shared.postgresql_databases.at_head()
    yield World(url, url, shared.postgresql)


@asynccontextmanager
async def proxied(shared: Shared) -> AsyncIterator[World]:
    """The service connects through a proxy."""
    async with direct(shared) as world, Proxy(shared.postgresql.socket) as proxy:
        world.proxy, world.service_url = proxy, through(proxy, world.url)
        yield world


def through(proxy: Proxy, url: str) -> str:
    """Return the address of a database through a proxy."""
    name = url.partition("?")[0].rpartition("/")[2]
    return f"postgresql://postgres@127.0.0.1:{proxy.port}/{name}"


@asynccontextmanager
async def with_standby(shared: Shared) -> AsyncIterator[World]:
    """The service connects through a proxy to a primary, which waits for its standby's commits."""
    primary = Postgresql(shared.directory / "primary")
    standby = Postgresql(shared.directory / "standby")
    with started(primary):
        databases = Databases("postgresql", primary, shared.directory)
        url = await databases.at_head()
        await asyncio.to_thread(standby.make_standby_of, primary)
        with removed_at_end(standby):
            # otherwise a failover would lose commits that had not arrived there
            await databases.execute("ALTER SYSTEM SET synchronous_standby_names = standby")
            await databases.execute("SELECT pg_reload_conf()")
            async with Proxy(primary.socket) as proxy:
                yield World(through(proxy, url), url, primary, standby, proxy)


@asynccontextmanager
async def small_data_disk(shared: Shared) -> AsyncIterator[World]:
    """PostgreSQL's data are on a small disk, its write-ahead log is not."""
    with small_disk(shared.directory / "data-disk", DATA_DISK) as disk:
        wal = shared.directory / "wal"
        async with own_server(shared, disk / "postgresql", wal) as world:
            world.disk = disk
            yield world


@asynccontextmanager
async def small_wal_disk(shared: Shared) -> AsyncIterator[World]:
    """PostgreSQL's write-ahead log is on a small disk, its data are not."""
    with small_disk(shared.directory / "wal-disk", WAL_DISK) as disk:
        async with own_server(shared, shared.directory / "small-wal", disk / "wal") as world:
            world.disk = disk
            yield world


@asynccontextmanager
async def own_server(shared: Shared, data: Path, wal: Path) -> AsyncIterator[World]:
    """A PostgreSQL with its data in one directory, and its write-ahead log in another."""
    server = Postgresql(data, "-c", "max_wal_size=48MB", "-c", "min_wal_size=32MB")
    server.initialize(wal)
    with started(server):
        url = await Databases("postgresql", server, shared.directory).at_head()
        yield World(url, url, server)


@asynccontextmanager
async def sqlite(shared: Shared) -> AsyncIterator[World]:
    """An SQLite file."""
    url = await shared.sqlite_databases.at_head()
    yield World(url, url)


@asynccontextmanager
async def sqlite_on_small_disk(shared: Shared) -> AsyncIterator[World]:
    """An SQLite file on a small disk."""
    with small_disk(shared.directory / "sqlite-disk", SQLITE_DISK) as disk:
        databases = Databases("sqlite", shared.postgresql, disk)
        url = await databases.at_head()
        yield World(url, url, disk=disk)


@asynccontextmanager
async def with_clock(shared: Shared) -> AsyncIterator[World]:
    """The service's clock is set by a file, which libfaketime reads; PostgreSQL's is right."""
    if not FAKETIME:
        raise SkippedError("the Debian package faketime is not installed")
    async with direct(shared) as world:
        world.clock = shared.directory / "clock"
        world.clock.write_text("+0", encoding="utf-8")
        world.settings = {
            "LD_PRELOAD": str(FAKETIME[0]),
            "FAKETIME_TIMESTAMP_FILE": str(world.clock),
            "FAKETIME_CACHE_DURATION": "1",  # seconds until it reads the file again
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",  # as where an administrator sets a clock
        }
        yield world


@contextmanager
def small_disk(place: Path, mebibytes: int) -> Iterator[Path]:
    """Mount a file system in memory of that size; raise SkippedError where that is not allowed."""
    if os.geteuid() != 0:
        raise SkippedError("only root can mount a small disk")
    place.mkdir(parents=True)
    options = f"size={mebibytes}m,mode=711"
    mount = ["mount", "-t", "tmpfs", "-o", options, "users-chaos", str(place)]
    mounted = subprocess.run(mount, capture_output=True, text=True, check=False)
    if mounted.returncode != 0:
        raise SkippedError(f"a small disk can't be mounted: {mounted.stderr.strip()}")
    try:
        yield place
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True)  # noqa: S607


@contextmanager
def full(disk: Path) -> Iterator[None]:
    """Fill a small disk to the last byte, until the block ends."""
    ballast = disk / "ballast"
    try:
        with ballast.open("wb", buffering=0) as file:
            try:
                while file.write(bytes(65536)) == 65536:
                    pass
            except OSError:  # full
                pass
        yield
    finally:
        ballast.unlink()
