"""The engines and their sessions: one to write, one to read."""

import asyncio
import sqlite3
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar, cast

from sqlalchemy import URL, Connection, Dialect, event
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import DisconnectionError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import (
    AsyncEngine,
    AsyncSession,
    async_sessionmaker,
    create_async_engine,
)
from sqlalchemy.orm import Session, SessionTransaction
from sqlalchemy.pool import (
    AsyncAdaptedQueuePool,
    ConnectionPoolEntry,
    PoolProxiedConnection,
)
from sqlalchemy.util import await_only

from service.addresses import for_asyncpg
from service.batching import Batcher
from service.connections import (
    CONNECT_TIMEOUT,
    Connector,
    ServiceConnection,
)
from service.database_errors import is_stale_plan, was_lost, was_never_sent
from service.errors import OutcomeUnknown
from service.positions import UNREACHED, Position, written_position
from service.settings import Settings, async_url
from service.sqlite_writers import WriteQueue

SQLITE_SCHEMAS = {"staging": "temp"}  # where SQLite has temporary tables
SQLITE_BUSY_TIMEOUT = 1.5  # seconds; the first in the queue waits for one transaction at most
ROUND_TRIP = 0.5  # seconds in which an answer comes, once the server has it
POSITION_LIMIT = 1000  # commits that share one query for their position
COMMIT_TIME = 1.0  # seconds that a commit has, even where its transaction has used up its time

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


class WatchedPool(AsyncAdaptedQueuePool):
    """A connection pool that knows who waits, and refuses those that would wait in vain."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.waits: deque[float] = deque()  # when those began that wait for a connection
        self.lent = 0.0  # when somebody got a connection, or began to wait as the only one

    @property
    def is_busy(self) -> bool:
        """Whether all its connections are lent, so that another request would wait."""
        return self.checkedout() >= self.size()

    @property
    def waiting(self) -> int:
        """The number of those that wait for a connection, until it is free or made."""
        return len(self.waits)

    def connect(self) -> PoolProxiedConnection:
        """Return a connection, as soon as one is free or made.

        Raise PoolTimeoutError after the pool's timeout; at once where nobody got a connection for
        that long, and others wait already.
        """
        now = time.monotonic()
        if not self.waits:
            self.lent = now
        elif len(self.waits) >= self.size() and now - self.lent > self.timeout():
            raise PoolTimeoutError("too many requests wait for a connection")
        self.waits.append(now)
        try:
            connection = super().connect()
        finally:
            self.waits.remove(now)
        self.lent = time.monotonic()
        return connection


def create_engine(
    settings: Settings,
    *,
    url: URL | None = None,
    connector: Connector | None = None,
    size: int,
    **options: Any,
) -> AsyncEngine:
    """Return an engine with at most `size` connections; the caller disposes of it.

    `url` is that of the settings, if it is none of a replica.
    On PostgreSQL `connector` makes the connections; None leaves that to SQLAlchemy. Its own level
    is AUTOCOMMIT, since most sessions read: it is set once for a connection.
    On SQLite we begin transactions, not the driver: the driver commits before DDL, and then a
    revision that fails midway stays half applied.
    `options` go to `create_async_engine`.
    """
    url = url or async_url(settings.database_url)
    options |= {
        "poolclass": WatchedPool,
        "pool_size": size,
        "max_overflow": 0,
        "pool_timeout": settings.pool_timeout,
        "hide_parameters": True,
    }
    if url.get_backend_name() == "postgresql":
        options["connect_args"] = {
            "timeout": CONNECT_TIMEOUT,
            "connection_class": ServiceConnection,
            # SQLAlchemy keeps the prepared statements; asyncpg's own few get no name, which
            # another client of a pooler might use
            "statement_cache_size": 0,
        }
        engine = create_async_engine(url, **options)
        event.listen(engine.sync_engine, "do_connect", for_asyncpg)  # before the connector's
        close_without_waiting(engine, "terminate")
        if connector is not None:
            connector.attach(engine)
        return engine
    options["connect_args"] = {
        "timeout": SQLITE_BUSY_TIMEOUT,  # to wait for another's write lock
        "factory": SqliteConnection,
    }
    engine = create_async_engine(url, **options)
    close_without_waiting(engine, "stop")
    event.listen(engine.sync_engine, "do_connect", check_file)
    event.listen(engine.sync_engine, "connect", prepare_sqlite)
    event.listen(engine.sync_engine, "checkout", check_sqlite)
    event.listen(engine.sync_engine, "checkin", close_uncertain_sqlite)
    event.listen(engine.sync_engine, "begin", begin_sqlite)
    writers = WriteQueue(Path(str(url.database)))
    event.listen(engine.sync_engine, "engine_disposed", writers.close)
    return engine.execution_options(write_queue=writers)


def reading_size(settings: Settings) -> int:
    """Return how many connections of a pool are for lookups and lists."""
    return max(1, settings.pool_size // 3)


def postgresql_options(revision: str) -> dict[str, Any]:
    """Return the options of an engine for the build that knows `revision`."""
    # names with a schema, not a search_path: that would not hold behind every pooler
    schemas = {None: f"at_{revision}", "staging": "pg_temp"}
    return {
        "execution_options": {"schema_translate_map": schemas},
        "isolation_level": "AUTOCOMMIT",
    }


def service_connector(settings: Settings, revision: str, **parameters: str) -> Connector:
    """Return a connector for the build; `parameters` of PostgreSQL hold for its sessions, too."""
    milliseconds = str(round(settings.statement_timeout * 1000))
    return Connector(
        f"users@{revision}",
        {
            "statement_timeout": milliseconds,
            "idle_in_transaction_session_timeout": milliseconds,
            # a query ends soon after its request has, and gives its locks back
            "client_connection_check_interval": "1000",
            # a warning tells of a COMMIT that reached no standby; the role may have silenced it
            "client_min_messages": "notice",
            **parameters,
        },
    )


def close_without_waiting(engine: AsyncEngine, method: str) -> None:
    """Let a pool that gives up a connection call this method of the driver's, which waits for none.

    SQLAlchemy's own way waits, and where a request is cancelled meanwhile that has just got the
    connection, its place in the pool stays taken.
    """

    def close(connection: DBAPIConnection) -> None:
        getattr(cast("Any", connection).driver_connection, method)()

    engine.sync_engine.dialect.do_terminate = close  # type: ignore[assignment]  # no event replaces it


class SqliteConnection(sqlite3.Connection):
    """A connection to SQLite that gives its lock back when it is closed."""

    def close(self) -> None:
        """Roll back first: a statement that was not finished would keep the transaction open."""
        if self.in_transaction:
            self.rollback()
        super().close()


def check_file(_dialect: Dialect, _entry: ConnectionPoolEntry, file: list[Any], _: Any) -> None:
    """Raise here if SQLite's file can't be opened.

    Raised in aiosqlite's thread, the thread would outlive the event loop and end with a stack
    trace on standard error.
    """
    sqlite3.connect(*file).close()


def prepare_sqlite(connection: DBAPIConnection, _: ConnectionPoolEntry) -> None:
    """Leave BEGIN to `begin_sqlite`, and let readers read while one writes (WAL)."""
    connection.isolation_level = None
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode = WAL")
    cursor.execute("PRAGMA foreign_keys = 1")
    cursor.close()


def check_sqlite(
    connection: DBAPIConnection,
    entry: ConnectionPoolEntry,  # noqa: ARG001  # SQLAlchemy's signature
    proxy: PoolProxiedConnection,  # noqa: ARG001  # SQLAlchemy's signature
) -> None:
    """Raise DisconnectionError for a connection that must not be lent: it is replaced."""
    if not is_idle_sqlite(connection):
        raise DisconnectionError("its state is not certain")


def close_uncertain_sqlite(connection: DBAPIConnection | None, entry: ConnectionPoolEntry) -> None:
    """Close a connection that comes back within a transaction: the next request would be in it."""
    if connection is not None and not is_idle_sqlite(connection):
        entry.invalidate()


def is_idle_sqlite(connection: DBAPIConnection) -> bool:
    """Return whether a connection to SQLite is open and outside a transaction."""
    try:
        return not cast("Any", connection).driver_connection.in_transaction
    except ValueError:  # it is closed
        return False


def begin_sqlite(connection: Connection) -> None:
    """Begin with the write lock: taken after a read, it fails instead of waiting.

    The execution option `reading` leaves it out.
    """
    options = connection.get_execution_options()
    if options.get("reading", False):
        connection.exec_driver_sql("BEGIN")
        return
    writers: WriteQueue = options["write_queue"]
    await_only(writers.enter())
    try:
        connection.exec_driver_sql("BEGIN IMMEDIATE")
    finally:
        writers.leave()


class Database:
    """The service's sessions. An `AsyncSession` is a unit of work, on every path.

    Leaving `write` normally commits, raising rolls back; nothing else on a request's path does
    either. A connection is taken from the pool at a session's first statement.

    Reads have connections of their own: writes that wait for a lock, and transfers, which last
    long, can't take them all.
    """

    def __init__(self, settings: Settings, revision: str) -> None:
        """Connect as the build that knows `revision`, to its published version."""
        self.is_postgresql = async_url(settings.database_url).get_backend_name() == "postgresql"
        # seconds that a unit of work may take, if it is not a transfer
        self.timeout = settings.pool_timeout + settings.statement_timeout
        self.longest_silence = settings.statement_timeout + ROUND_TRIP  # seconds
        options: dict[str, Any] = {"execution_options": {"schema_translate_map": SQLITE_SCHEMAS}}
        self.connector: Connector | None = None
        if self.is_postgresql:
            options = postgresql_options(revision)
            self.connector = service_connector(settings, revision)
        read_size = reading_size(settings)
        write_size = max(1, settings.pool_size - read_size)
        self.reading = create_engine(settings, connector=self.connector, size=read_size, **options)
        self.writing = create_engine(settings, connector=self.connector, size=write_size, **options)
        if self.is_postgresql:
            readers = self.reading
            writers = self.writing.execution_options(isolation_level="READ COMMITTED")
            snapshots = self.writing.execution_options(isolation_level="REPEATABLE READ")
        else:
            readers = self.reading.execution_options(reading=True)
            writers = self.writing
            snapshots = self.writing.execution_options(reading=True)
        kind: dict[str, Any] = {"expire_on_commit": False, "sync_session_class": KnownSession}
        self.readers = async_sessionmaker(readers, **kind)
        self.writers = async_sessionmaker(writers, **kind)
        self.snapshots = async_sessionmaker(snapshots, **kind)
        self.answered = 0  # lookups, lists and exports that were read here
        self.has_replicas = bool(settings.read_database_url)
        # commits that end at the same time ask once for the position that covers all of them
        self.positions: Batcher[None, Position] = Batcher(
            self.ask_position,
            retry_alone=lambda _: False,
            limit=POSITION_LIMIT,
            patience=ROUND_TRIP,
        )

    @asynccontextmanager
    async def write(self, *, lasting: bool = False) -> AsyncIterator[AsyncSession]:
        """Yield a session in one transaction: commit at the end, roll back on an exception.

        On SQLite its first statement takes the write lock (BEGIN IMMEDIATE). Raise TimeoutError
        after `timeout` seconds, unless it is `lasting`; raise OutcomeUnknown where the answer to
        the commit was lost.
        Where there are replicas, `written(session)` then tells which of them have what was written.
        """
        async with returning(self.writers()) as session:
            async with self.in_time(None if lasting else self.timeout) as timeout:
                yield session
            deadline = timeout.when() or asyncio.get_running_loop().time() + self.timeout
            await commit(session, deadline)
        if self.has_replicas:
            session.info["written"] = await self.position_now()

    async def position_now(self) -> Position:
        """Return a position until which all was written that is committed already.

        Where it can't be told, that is UNREACHED. Raise OutcomeUnknown where the request is
        cancelled: it has committed, and must not be answered as one that stored nothing.
        """
        try:
            async with asyncio.timeout(ROUND_TRIP):
                return await self.positions.submit(None)
        except asyncio.CancelledError as error:
            raise OutcomeUnknown("the request's time was over as it was stored") from error
        except Exception:  # noqa: BLE001  # it is committed, whatever goes wrong from now on
            return UNREACHED

    async def ask_position(self, commits: Sequence[None]) -> list[Position]:
        """Return the primary's position, once for each commit."""
        async with self.read() as session:
            return [await written_position(session)] * len(commits)

    def read(self) -> AbstractAsyncContextManager[AsyncSession]:
        """Return a session that only reads, as a context manager.

        On PostgreSQL it is in AUTOCOMMIT mode: each statement is one round trip and sees what was
        committed before it. On SQLite all its statements see one snapshot.
        """
        return returning(self.readers())

    def snapshot(self) -> AbstractAsyncContextManager[AsyncSession]:
        """Return a session that reads for long, and whose statements all see one snapshot."""
        return returning(self.snapshots())

    async def query(
        self,
        work: Callable[Concatenate[AsyncSession, Arguments], Awaitable[Result]],
        *arguments: Arguments.args,
        **options: Arguments.kwargs,
    ) -> Result:
        """Return what `work` returns; it gets a session that only reads, then the arguments.

        It is done once more where its connection turns out to be dead, a plan to be stale, or the
        server not to be the primary any more. Raise TimeoutError after `timeout` seconds.
        """
        async with self.in_time(self.timeout):
            generation = self.generation
            try:
                async with self.read() as session:
                    result = await work(session, *arguments, **options)
                if self.generation == generation:
                    return result
            except Exception as error:
                if not (is_stale_plan(error) or was_lost(error)):
                    raise
            async with self.read() as session:
                return await work(session, *arguments, **options)

    @asynccontextmanager
    async def in_time(self, seconds: float | None) -> AsyncIterator[asyncio.Timeout]:
        """Raise TimeoutError if the block takes longer, and then trust no open connection.

        The server ends a statement sooner by itself: it is frozen, or its answers are lost.
        """
        try:
            async with asyncio.timeout(seconds) as timeout:
                yield timeout
        except TimeoutError:
            if timeout.expired() and self.connector is not None:
                self.connector.generation += 1
            raise

    @property
    def generation(self) -> int:
        """How often all connections were given up."""
        return 0 if self.connector is None else self.connector.generation

    @property
    def heard(self) -> float:
        """When the server last answered, by the monotonic clock; SQLite, which is none, always."""
        return time.monotonic() if self.connector is None else self.connector.heard

    @property
    def is_answering(self) -> bool:
        """Whether the server has answered lately what it was asked.

        It ends a statement by itself after the statement timeout.
        """
        asked = max(pool.lent for pool in self.pools)
        return time.monotonic() - max(self.heard, asked) < self.longest_silence

    @property
    def engines(self) -> tuple[AsyncEngine, AsyncEngine]:
        """The engines to read and to write."""
        return self.reading, self.writing

    @property
    def pools(self) -> tuple[WatchedPool, WatchedPool]:
        """The connection pools to read and to write; disposing of an engine replaces its own."""
        return cast("WatchedPool", self.reading.pool), cast("WatchedPool", self.writing.pool)

    async def close(self) -> None:
        """Close all connections."""
        for engine in self.engines:
            await engine.dispose()

    @asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        """Close all connections at the end of the block."""
        try:
            yield
        finally:
            await self.close()


def written(session: AsyncSession) -> Position | None:
    """Return the position that covers what the session has committed; None without replicas."""
    return session.info.get("written")


class KnownSession(Session):
    """A session that tells its connection in `info`, so that it can be closed in any case."""


@event.listens_for(KnownSession, "after_begin")
def remember_connection(
    session: Session,
    transaction: SessionTransaction,  # noqa: ARG001  # SQLAlchemy's signature
    connection: Connection,
) -> None:
    """Remember the connection that a session has just begun to use."""
    session.info["connection"] = connection


@asynccontextmanager
async def returning(session: AsyncSession) -> AsyncIterator[AsyncSession]:
    """Return the session's connection to the pool at the end of the block, whatever happens.

    After an exception the transaction is rolled back; where that fails, the connection is closed,
    and the exception is still the block's own.
    """
    # `async with session` closes it in a task of its own, which takes a tenth of a lookup's query
    try:
        yield session
    except BaseException:
        try:
            await session.close()
        except Exception:  # noqa: BLE001  # what went wrong before is what matters
            await session.run_sync(close_connection)
        except BaseException:
            await session.run_sync(close_connection)
            raise
        raise
    try:
        await session.close()
    except BaseException:
        await session.run_sync(close_connection)
        raise


def close_connection(session: Session) -> None:
    """Close the connection of a session that could not be closed.

    A session whose rollback fails has forgotten its connection, which would be missing in the pool
    until the garbage collector comes.
    """
    connection: Connection | None = session.info.pop("connection", None)
    if connection is not None and not connection.closed:
        connection.invalidate()
        connection.close()


async def commit(session: AsyncSession, deadline: float) -> None:
    """Commit by the `deadline` of the event loop's clock, or COMMIT_TIME later if that is later.

    Raise OutcomeUnknown where no answer came, for whatever reason, a cancellation of the request
    among them: the database may have committed.
    What the database itself refused is raised as it is: then nothing is stored.
    """
    deadline = max(deadline, asyncio.get_running_loop().time() + COMMIT_TIME)
    try:
        async with asyncio.timeout_at(deadline):
            await session.commit()
    except (Exception, asyncio.CancelledError) as error:
        if isinstance(error, Exception) and (was_never_sent(error) or not was_lost(error)):
            raise
        with suppress(Exception):
            await session.run_sync(close_connection)
        raise OutcomeUnknown("the database's answer to the commit was lost") from error
