"""Reads from streaming replicas: which of them may be asked, and what a read of theirs must show.

Each worker watches the primary and the replicas by a connection of its own to each. A replica is
left out while it is gone, silent, no replica of this primary, not migrated to this build's schema,
or further behind than `REPLICA_LAG`; it comes back by itself.

A client reads its own writes by the position in the write-ahead log that the answer to a write
carries. What the watch saw is a moment old, and an address may lead to several servers, so the
connection itself is asked whether its server has replayed that far, before it is read from. A read
that fails on a replica, for whatever reason, is repeated on the primary.
"""

import asyncio
import logging
import time
from bisect import bisect_left
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from typing import Any, Concatenate, Literal, NamedTuple, ParamSpec, TypeVar, cast

from sqlalchemy import URL, Connection, event, text
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker
from sqlalchemy.orm import Session, SessionTransaction

from service.connections import ServiceConnection, driver_of
from service.database import (
    KnownSession,
    WatchedPool,
    create_engine,
    postgresql_options,
    reading_size,
    returning,
    service_connector,
)
from service.database_errors import has_code, was_lost, why_unavailable
from service.positions import Position, position_of
from service.settings import Settings, replica_urls

INTERVAL = 0.25  # seconds between two looks at a server
LOOK_TIMEOUT = 1.0  # seconds that a server has for an answer: in two it must be left out
# Seconds for which a client's reads go to the primary after its write. The answers to several
# writes of one client may arrive in another order, and its cookie has the position of the last.
SETTLING = 0.5
REMEMBERED = 60.0  # seconds, beside the lag, for which the primary's positions are kept

# What tells a server from another, and how far it is. Each of a replica's three timelines may come
# late, but none too early; a role without pg_read_all_stats does not see the receiver's.
LOOK = """
    SELECT pg_is_in_recovery(),
        (SELECT system_identifier FROM pg_control_system()),
        current_database(),
        to_regnamespace('at_{revision}') IS NOT NULL,
        CASE WHEN pg_is_in_recovery()
            THEN greatest(
                (SELECT timeline_id FROM pg_control_checkpoint()),
                (SELECT min_recovery_end_timeline FROM pg_control_recovery()),
                (SELECT received_tli FROM pg_stat_get_wal_receiver())
            )
            ELSE ('x' || left(pg_walfile_name(pg_current_wal_insert_lsn()), 8))::bit(32)::bigint
        END,
        CASE WHEN pg_is_in_recovery()
            THEN coalesce(pg_last_wal_replay_lsn(), '0/0')
            ELSE pg_current_wal_insert_lsn()
        END - '0/0'::pg_lsn
"""

State = Literal[
    "used", "unknown", "gone", "unreadable", "primary", "foreign", "timeline", "database",
    "unmigrated", "lagging",
]  # fmt: skip
MISTAKES = {"unreadable", "primary", "foreign", "database"}  # that an operator must mend

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")

log = logging.getLogger("service")


class Behind(Exception):  # noqa: N818  # it is as it may be; the primary is asked
    """The server of this connection has not replayed what the read must show."""


class Seen(NamedTuple):
    """The answer of a server to LOOK: which it is, and how far it has replayed or written."""

    in_recovery: bool
    system: int
    database: str
    is_migrated: bool  # whether it has the published version of this build
    position: Position


class History:
    """The positions of the primary, as they were seen lately."""

    def __init__(self, seconds: float) -> None:
        """Keep the positions of so many seconds."""
        self.seconds = seconds
        self.times: list[float] = []  # before each question: what was written by then is in it
        self.positions: list[Position] = []

    def add(self, when: float, position: Position) -> None:
        """Add what was seen at this time of the monotonic clock."""
        self.times.append(when)
        self.positions.append(position)
        if old := bisect_left(self.times, when - self.seconds):
            del self.times[:old], self.positions[:old]

    def floor(self, age: float) -> Position | None:
        """Return a position that covers all that was written until `age` seconds ago.

        Where the primary has been silent since, that is all that is known of it.
        """
        if not self.times:
            return None
        index = bisect_left(self.times, time.monotonic() - age)
        return self.positions[min(index, len(self.positions) - 1)]

    def lag(self, position: Position) -> float:
        """Return for how many seconds a replica that is there has lacked something."""
        missing = bisect_left(self.positions, position.lsn + 1, key=lambda seen: seen.lsn)
        if missing == len(self.times):
            return 0.0
        return time.monotonic() - self.times[missing]


class Server:
    """A server, and the connection by which it is watched."""

    def __init__(self, settings: Settings, url: URL | None, revision: str) -> None:
        self.looking = LOOK.format(revision=revision)
        self.watching = create_engine(
            settings,
            url=url,
            connector=service_connector(settings, revision),
            size=1,
            **postgresql_options(revision),
        )
        self.sessions = async_sessionmaker(self.watching, sync_session_class=KnownSession)

    async def look(self) -> Seen:
        """Return what the server tells of itself; raise whatever goes wrong."""
        async with asyncio.timeout(LOOK_TIMEOUT), returning(self.sessions()) as session:
            return seen((await session.execute(text(self.looking))).one())


def seen(row: Sequence[Any]) -> Seen:
    """Return what a row of LOOK says."""
    in_recovery, system, database, is_migrated, timeline, lsn = row
    return Seen(in_recovery, system, database, is_migrated, position_of(timeline, lsn))


class Replica(Server):
    """A host of READ_DATABASE_URL: its connections, and whether it may be asked."""

    def __init__(self, name: str, url: URL, settings: Settings, revision: str) -> None:
        super().__init__(settings, url, revision)
        self.name = name  # host:port
        self.timeout = settings.pool_timeout + settings.statement_timeout  # seconds
        # whatever the role may do, nothing is ever written by these connections
        self.connector = service_connector(settings, revision, default_transaction_read_only="on")

        def engine(size: int) -> AsyncEngine:
            return create_engine(
                settings,
                url=url,
                connector=self.connector,
                size=size,
                **postgresql_options(revision),
            )

        self.reading = engine(reading_size(settings))
        self.exporting = engine(max(1, settings.pool_size // 2))
        snapshots = self.exporting.execution_options(isolation_level="REPEATABLE READ")
        kind: dict[str, Any] = {
            "expire_on_commit": False,
            "sync_session_class": ReplicaSession,
            "info": {"replica": self},
        }
        self.readers = async_sessionmaker(self.reading, **kind)
        self.snapshots = async_sessionmaker(snapshots, **kind)
        self.system: int | None = None  # the identifier of the primary's system, once it is known
        self.state: State = "unknown"
        self.reason = ""  # in words; empty while it is used
        self.position = Position(0, 0)  # how far it had replayed when it was last seen
        self.lag_seconds = self.lag_bytes = 0.0
        # covers what every read that was sent here must show
        self.promised = Position(0, 0)
        self.answered = 0  # lookups, lists and exports that were read here
        self.reads: set[asyncio.Timeout] = set()  # those that are under way

    @property
    def engines(self) -> tuple[AsyncEngine, ...]:
        """The engines of its connections."""
        return self.reading, self.exporting, self.watching

    @property
    def heard(self) -> float:
        """When the server last answered a read, by the monotonic clock."""
        return self.connector.heard

    def read(self) -> AbstractAsyncContextManager[AsyncSession]:
        """Return a session that only reads, in AUTOCOMMIT mode, as a context manager.

        Its first statement raises Behind where the server has not replayed what was promised.
        """
        return returning(self.readers())

    def snapshot(self) -> AbstractAsyncContextManager[AsyncSession]:
        """Return a session as `read` does whose statements all see one snapshot, for an export."""
        return returning(self.snapshots())

    async def query(
        self,
        work: Callable[Concatenate[AsyncSession, Arguments], Awaitable[Result]],
        *arguments: Arguments.args,
        **options: Arguments.kwargs,
    ) -> Result:
        """Return what `work` returns; it gets a session of this replica, then the arguments.

        Raise TimeoutError as soon as the watch finds the replica gone, or after `timeout` seconds.
        """
        try:
            async with asyncio.timeout(self.timeout) as timeout:
                self.reads.add(timeout)
                async with self.read() as session:
                    return await work(session, *arguments, **options)
        except TimeoutError:
            self.connector.generation += 1  # its connections may be silent, too
            raise
        except Exception as error:
            if was_lost(error):
                self.state = "gone"  # until the watch sees it again
            raise
        finally:
            self.reads.discard(timeout)

    def give_up_reads(self) -> None:
        """Let the reads that are under way fail at once, and trust no open connection."""
        self.connector.generation += 1
        for timeout in self.reads:
            if not timeout.expired():
                timeout.reschedule(0)  # it is over


class ReplicaSession(KnownSession):
    """A session on a replica, whose connection proves that its server has replayed enough."""


@event.listens_for(ReplicaSession, "after_begin")
def require_replayed(
    session: Session,
    transaction: SessionTransaction,  # noqa: ARG001  # SQLAlchemy's signature
    connection: Connection,
) -> None:
    """Raise Behind unless the server of the connection covers what its replica has promised.

    A server that has replayed so far stays there while the connection lasts. Behind a pooler each
    transaction may have another server, so there it is asked each time.
    """
    replica: Replica = session.info["replica"]
    promised = replica.promised
    replayed = connection.info.get("replayed")
    if replayed is not None and replayed.covers(promised):
        return
    if connection.info.get("shared"):
        shown = seen(connection.exec_driver_sql(replica.looking).one())
    else:
        # by the driver, before BEGIN: the snapshot of a transaction would be older than the answer
        dbapi: Any = connection.connection.dbapi_connection

        async def ask(driver: ServiceConnection) -> Any:
            return await driver.fetchrow(replica.looking)

        shown = seen(dbapi.run_async(ask))
        if driver_of(dbapi).is_closed():
            raise ConnectionError("the connection was lost")
        connection.info["replayed"] = shown.position
    if not (
        shown.in_recovery and shown.system == replica.system and shown.position.covers(promised)
    ):
        connection.info.pop("replayed", None)
        raise Behind


class Replicas:
    """The replicas of READ_DATABASE_URL, none without it, and the watch over them."""

    def __init__(self, settings: Settings, revision: str) -> None:
        self.lag = settings.replica_lag  # seconds
        self.revision = revision
        self.all = [
            Replica(name, url, settings, revision) for name, url in replica_urls(settings).items()
        ]
        self.primary = Server(settings, None, revision) if self.all else None
        self.history = History(self.lag + REMEMBERED)
        self.shown: Seen | None = None  # what the primary told last
        self.trouble = ""  # why the primary's position can't be read
        self.turn = 0

    def __iter__(self) -> Iterator[Replica]:
        return iter(self.all)

    def __bool__(self) -> bool:
        return bool(self.all)

    def choose(self, after: Position | None) -> Replica | None:
        """Return a replica for a read, in turn; None: the primary must answer it.

        The read shows all that was written until `after`, and what is older than the lag allows.
        """
        floor = self.history.floor(self.lag if after is None else SETTLING)
        if floor is None:
            return None
        if after is not None and not floor.covers(after):
            return None
        for _ in self.all:
            self.turn = (self.turn + 1) % len(self.all)
            replica = self.all[self.turn]
            if replica.state == "used" and replica.position.covers(floor):
                if not replica.promised.covers(floor):
                    replica.promised = replica.promised.joined(floor)
                return replica
        return None

    @asynccontextmanager
    async def watched(self) -> AsyncIterator[None]:
        """Watch the servers until the end of the block, then close all connections."""
        if self.primary is None:
            yield
            return
        looks = [
            partial(self.look_at_primary, self.primary),
            *(partial(self.look_at, replica) for replica in self.all),
        ]
        tasks = [asyncio.create_task(again_and_again(look)) for look in looks]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            for engine in self.engines:
                await engine.dispose()

    @property
    def engines(self) -> list[AsyncEngine]:
        """The engines of all connections."""
        engines = [engine for replica in self.all for engine in replica.engines]
        return engines if self.primary is None else [*engines, self.primary.watching]

    @property
    def pools(self) -> list[WatchedPool]:
        """The pools of all connections."""
        return [cast("WatchedPool", engine.pool) for engine in self.engines]

    async def look_at_primary(self, primary: Server) -> None:
        """Remember where the primary is."""
        now = time.monotonic()
        trouble = ""
        try:
            shown = await primary.look()
            if not shown.in_recovery:
                self.shown = shown
                self.history.add(now, shown.position)
        except Exception as error:  # noqa: BLE001  # whatever it is, the watch goes on
            if has_code(error, "42501"):
                trouble = denied(error)
        if trouble and trouble != self.trouble:
            log.error("no replica is read from: the primary's position can't be read: %s", trouble)
        self.trouble = trouble

    async def look_at(self, replica: Replica) -> None:
        """Decide whether a replica may be asked from now on."""
        try:
            shown = await replica.look()
        except Exception as error:  # noqa: BLE001  # whatever it is, the watch goes on
            if has_code(error, "42501"):
                self.decide(replica, "unreadable", f"its state can't be read: {denied(error)}")
                return
            why = why_unavailable(error) or type(error).__name__
            self.decide(replica, "gone", why)
            replica.give_up_reads()
            return
        primary = self.shown
        if primary is None:
            return
        replica.system, replica.position = primary.system, shown.position
        replica.lag_bytes = max(0, primary.position.lsn - shown.position.lsn)
        replica.lag_seconds = self.history.lag(shown.position)
        self.decide(replica, *self.judge(shown, primary, replica.lag_seconds))

    def judge(self, shown: Seen, primary: Seen, seconds: float) -> tuple[State, str]:
        """Return whether a server that tells this may be read from, and in words why not."""
        here, there = shown.position.timeline, primary.position.timeline
        flaws: list[tuple[bool, State, str]] = [
            (
                shown.system != primary.system,
                "foreign",
                "it is no replica of this primary: its system identifier is another",
            ),
            (
                not shown.in_recovery,
                "primary",
                "it is a primary, and no replica: it takes writes",
            ),
            (
                shown.database != primary.database,
                "database",
                f"its URL names the database {shown.database}, and DATABASE_URL names "
                f"{primary.database}",
            ),
            (
                here != there,
                "timeline",
                f"it is seen on timeline {here}, and the primary on {there}: after a failover it "
                "must follow the new primary. A role with pg_read_all_stats sees that at once, "
                "another one after the next checkpoints",
            ),
            (
                not shown.is_migrated,
                "unmigrated",
                f"at_{self.revision}, this build's version, has not arrived there yet",
            ),
            (
                seconds > self.lag,
                "lagging",
                f"it lags by {seconds:.1f} s, and REPLICA_LAG allows {self.lag:g} s",
            ),
        ]
        for is_wrong, state, reason in flaws:
            if is_wrong:
                return state, reason
        return "used", ""

    def decide(self, replica: Replica, state: State, reason: str) -> None:
        """Note whether a replica is used; log it where that has changed."""
        before = replica.reason, replica.state
        replica.state, replica.reason = state, reason
        if state == "used":
            if before[0] or before[1] == "unknown":
                log.info("reads use the replica %s", replica.name)
        elif state != before[1] or not before[0]:
            level = logging.ERROR if state in MISTAKES else logging.WARNING
            log.log(level, "reads leave out the replica %s: %s", replica.name, reason)


async def again_and_again(look: Callable[[], Awaitable[None]]) -> None:
    """Look at a server every INTERVAL, for ever."""
    while True:
        await look()
        await asyncio.sleep(INTERVAL)


def denied(error: BaseException) -> str:
    """Return what a role may not read, in the server's words, which have no values."""
    return str(getattr(error, "orig", error)).rpartition(": ")[2]
