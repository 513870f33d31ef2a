"""One run: the service under load, a fault, and what is compared afterwards."""

import asyncio
import sqlite3
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, closing, contextmanager
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import asyncpg

from service.models import SCHEMA_REVISION
from tests.chaos.acknowledged import Comparison, Fields, compare
from tests.chaos.clients import Client
from tests.chaos.postgresql import Postgresql
from tests.chaos.proxy import Proxy
from tests.chaos.request_log import Entry, RequestLog, sample
from tests.chaos.service import Service
from tests.chaos.worlds import MakeWorld, Shared, World, direct
from tests.databases import path_of
from tests.servers import free_port

RECOVERY_LIMIT = 2.0  # seconds from the return of what was gone until every client has written
RECOVERY_PATIENCE = 15.0  # seconds that a run waits for that
LOADED = "loaded"  # the beginning of the names of users that no client writes
COLUMNS = "SELECT id, full_name, email, age"
OF_CLIENTS = f"WHERE full_name NOT LIKE '{LOADED}%'"
QUERY = f"{COLUMNS} FROM at_{SCHEMA_REVISION}.users {OF_CLIENTS}"
SQLITE_QUERY = f"{COLUMNS} FROM users {OF_CLIENTS}"
CONNECTABLE_TIMEOUT = 60.0  # seconds
BACKENDS_TIMEOUT = 30.0  # seconds
BACKENDS = (
    "SELECT pid FROM pg_stat_activity "
    "WHERE application_name LIKE 'users@%' AND pid <> pg_backend_pid()"
)


class Size(NamedTuple):
    """How large the runs are."""

    clients: int
    calm: float  # seconds of load before the fault, and again after the recovery
    scale: float  # a fault's time is so many times that of a full run


FULL = Size(clients=32, calm=2.0, scale=1.0)
SMALL = Size(clients=8, calm=0.3, scale=0.1)


@dataclass
class Run:
    """A running service with its clients, and what a fault may harm."""

    size: Size
    world: World
    service: Service
    log: RequestLog
    clients: list[Client]
    environment: Mapping[str, str]  # of the service
    complaints: list[str] = field(default_factory=list)
    """The failures that a fault itself reports, besides those that every run compares."""

    @property
    def postgresql(self) -> Postgresql:
        """The PostgreSQL of a fault that needs one."""
        assert self.world.postgresql is not None
        return self.world.postgresql

    @property
    def proxy(self) -> Proxy:
        """The proxy of a fault that needs one."""
        assert self.world.proxy is not None
        return self.world.proxy

    @property
    def disk(self) -> Path:
        """The small disk of a fault that needs one."""
        assert self.world.disk is not None
        return self.world.disk

    def began(self) -> None:
        """Note that the fault begins now."""
        self.log.began = time.monotonic()

    def returned(self) -> None:
        """Note that what was gone is back now."""
        self.log.returned = time.monotonic()

    async def last(self, seconds: float) -> None:
        """Let the fault last so many seconds in a full run, fewer in a small one."""
        await asyncio.sleep(seconds * self.size.scale)

    def since(self, moment: float) -> list[Entry]:
        """Return the requests that began after a moment, of the clock `time.monotonic`."""
        return [entry for entry in self.log.entries if entry.start >= moment]

    @contextmanager
    def killing(self) -> Iterator[None]:
        """In the block a process of the service is killed, and the whole one started again."""
        gone = time.monotonic()
        try:
            yield
        finally:
            self.log.kills.append((gone, time.monotonic()))

    @asynccontextmanager
    async def administrator(self) -> AsyncIterator[asyncpg.Connection]:
        """Yield a superuser's connection to PostgreSQL, past the proxy."""
        connection = await asyncpg.connect(self.world.url)
        try:
            yield connection
        finally:
            await connection.close()

    async def connectable(self) -> None:
        """Return as soon as PostgreSQL accepts connections."""
        async with asyncio.timeout(CONNECTABLE_TIMEOUT):
            while True:
                try:
                    async with self.administrator():
                        return
                except (OSError, asyncpg.PostgresError):
                    await asyncio.sleep(0.02)

    async def stop_service(self) -> None:
        """Stop the service, or the one that took its place."""
        await self.service.stop()

    async def recovered(self) -> None:
        """Return when every client has written again, or after RECOVERY_PATIENCE."""
        try:
            async with asyncio.timeout(RECOVERY_PATIENCE):
                while self.log.recovery() is None:
                    await asyncio.sleep(0.1)
        except TimeoutError:
            pass

    async def compared(self) -> Comparison:
        """Compare what clients know with what the database kept and with what they read."""
        return await compared(self.clients, self.world.url)


MakeFault = Callable[[Run], Awaitable[None]]


@dataclass(frozen=True)
class Fault:
    """A fault: its name, how it is made in words, and the function that makes it."""

    key: str  # by which the command line names it
    name: str
    how: str
    make: MakeFault
    world: MakeWorld
    settings: Mapping[str, str]


def fault(
    name: str, how: str, world: MakeWorld = direct, **settings: str
) -> Callable[[MakeFault], Fault]:
    """Return a decorator that makes a fault of a function; `settings` are the service's own."""

    def decorate(make: MakeFault) -> Fault:
        return Fault(make.__name__, name, how, make, world, settings)

    return decorate


@dataclass(frozen=True)
class Result:
    """The result of one chaos run: its fault, its figures, and its failures."""

    fault: Fault
    log: RequestLog
    comparison: Comparison
    complaints: list[str]

    def flaws(self) -> list[str]:
        """Return what must not be, in sentences; a good run has none."""
        flaws = [
            f"{kind}: {sentence}"
            for kind, sentences in self.comparison.faults.items()
            for sentence in sample(sentences)
        ]
        flaws += sample(self.log.others())
        flaws += self.complaints
        recovery = self.log.recovery()
        if recovery is None:
            flaws.append("not every client could write again")
        elif recovery > RECOVERY_LIMIT:
            flaws.append(f"every client could write again only after {recovery:.2f} s")
        return flaws


async def execute(fault: Fault, shared: Shared, size: Size) -> Result:
    """Run the service under load on a fault's own world, make the fault, and compare."""
    async with fault.world(shared) as world:
        return await under_load(fault, world, shared.directory, size)


async def under_load(fault: Fault, world: World, directory: Path, size: Size) -> Result:
    """Run the service under load, make the fault, and compare; its log is in the directory."""
    async with AsyncExitStack() as stack:
        settings = {"DATABASE_URL": world.service_url, **world.settings, **fault.settings}
        log_file = directory / f"{fault.key}.log"
        service = Service(free_port(), log_file, settings)
        log = RequestLog(size.clients)
        clients = [Client(number, service.port, log) for number in range(size.clients)]
        run = Run(size, world, service, log, clients, settings)
        stack.push_async_callback(run.stop_service)
        await service.start()
        async with asyncio.TaskGroup() as tasks:
            for client in clients:
                tasks.create_task(client.work())
            try:
                await asyncio.sleep(size.calm)
                run.began()
                await fault.make(run)
                if not log.returned:
                    run.returned()
                await run.recovered()
                await asyncio.sleep(size.calm)
            finally:
                for client in clients:
                    client.stopping = True
        await run.stop_service()  # so that no write is on its way any more
        await no_backends(world)
        return Result(fault, log, await run.compared(), run.complaints)


async def compared(clients: Sequence[Client], url: str) -> Comparison:
    """Compare what clients know with what a database kept and with what they read."""
    rows = await stored_rows(url)
    owned = chain.from_iterable(client.owned.values() for client in clients)
    imports = chain.from_iterable(client.imports for client in clients)
    comparison = compare(owned, imports, rows)
    for client in clients:
        for sentence in client.read_wrong:
            comparison.add("wrong", sentence)
    for sentence in damages(url):
        comparison.add("wrong", sentence)
    return comparison


async def stored_rows(url: str) -> list[tuple[int, Fields]]:
    """Return the id and the fields of each user that the database kept."""
    if url.startswith("sqlite"):
        with closing(sqlite3.connect(path_of(url))) as database:
            rows = database.execute(SQLITE_QUERY).fetchall()
    else:
        connection = await asyncpg.connect(url)
        try:
            rows = await connection.fetch(QUERY)
        finally:
            await connection.close()
    return [(row[0], Fields(*row[1:])) for row in rows]


def damages(url: str) -> list[str]:
    """Return what SQLite finds damaged in its file; PostgreSQL is not asked."""
    if not url.startswith("sqlite"):
        return []
    with closing(sqlite3.connect(path_of(url))) as database:
        lines = [str(line) for (line,) in database.execute("PRAGMA integrity_check")]
    return [line for line in lines if line != "ok"]


async def no_backends(world: World) -> None:
    """Return when PostgreSQL has ended what the service's connections did."""
    if world.postgresql is None:
        return
    connection = await asyncpg.connect(world.url)
    try:
        async with asyncio.timeout(BACKENDS_TIMEOUT):
            while await connection.fetchval(BACKENDS):
                await asyncio.sleep(0.05)
    finally:
        await connection.close()
