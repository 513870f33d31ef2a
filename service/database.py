"""The engine, and the ways to a connection: to change something, and to read."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import (
    AbstractAsyncContextManager,
    AbstractContextManager,
    asynccontextmanager,
    nullcontext,
    suppress,
)
from functools import partial
from typing import Any, cast

from asyncpg.exceptions import IntegrityConstraintViolationError
from sqlalchemy import Connection, Dialect, Pool, event, text
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import (
    AsyncConnection,
    AsyncEngine,
    AsyncSession,
    async_sessionmaker,
    create_async_engine,
)
from sqlalchemy.pool import (
    AsyncAdaptedQueuePool,
    ConnectionPoolEntry,
    PoolProxiedConnection,
)
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.selectable import TypedReturnsRows
from sqlalchemy.util import greenlet_spawn

from service.settings import Settings, async_url

CONNECT_TIMEOUT = 5.0  # seconds until a server that doesn't answer is given up
SQLITE_PATIENCE = 5.0  # seconds a statement waits for another process's write lock

Query = TypedReturnsRows[*tuple[Any, ...]]
Rows = Sequence[Sequence[Any]]


class WatchedPool(AsyncAdaptedQueuePool):
    """A pool that knows how many are waiting for a connection."""

    waiting = 0

    def connect(self) -> PoolProxiedConnection:
        """A connection, as soon as one is free or made."""
        self.waiting += 1
        try:
            return super().connect()
        finally:
            self.waiting -= 1


def create_engine(
    settings: Settings,
    *,
    application_name: str,
    server_settings: dict[str, str] | None = None,
    foreign_keys: bool = True,
    poolclass: type[Pool] = WatchedPool,
) -> AsyncEngine:
    """An engine for either database; the caller disposes of it.

    `server_settings` hold for every connection (PostgreSQL only); `foreign_keys` says whether
    they are enforced (SQLite only).
    On SQLite a transaction is begun by us, not by the driver: the driver commits before DDL,
    and then a revision that fails midway stays half applied.
    """
    url = async_url(settings.database_url)
    options: dict[str, Any] = {"poolclass": poolclass, "hide_parameters": True}
    if poolclass is WatchedPool:
        options |= {
            "pool_size": settings.pool_size,
            "max_overflow": 0,
            "pool_timeout": settings.pool_timeout,
        }
    if url.get_backend_name() == "postgresql":
        options["connect_args"] = {
            "timeout": CONNECT_TIMEOUT,
            "server_settings": {"application_name": application_name, **(server_settings or {})},
        }
        return create_async_engine(url, **options)
    options["connect_args"] = {"timeout": SQLITE_PATIENCE}
    engine = create_async_engine(url, **options)
    prepare = partial(prepare_sqlite, foreign_keys=foreign_keys)
    event.listen(engine.sync_engine, "do_connect", open_first)
    event.listen(engine.sync_engine, "connect", prepare)
    event.listen(engine.sync_engine, "begin", begin_sqlite)
    return engine


def open_first(_dialect: Dialect, _entry: ConnectionPoolEntry, file: list[Any], _: Any) -> None:
    """Raise here if the file can't be opened.

    In aiosqlite's thread it would be raised too, but the thread would go on after the event loop,
    and end with a stack trace on standard error.
    """
    sqlite3.connect(*file).close()


def prepare_sqlite(
    connection: DBAPIConnection, _: ConnectionPoolEntry, *, foreign_keys: bool
) -> None:
    """Leave BEGIN to us, and let readers read while one writes (WAL)."""
    connection.isolation_level = None
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode = WAL")
    cursor.execute(f"PRAGMA foreign_keys = {foreign_keys:d}")
    cursor.close()


def begin_sqlite(connection: Connection) -> None:
    """Take the write lock at once: taken later, it fails instead of waiting."""
    reading = connection.get_execution_options().get("reading", False)
    connection.exec_driver_sql("BEGIN" if reading else "BEGIN IMMEDIATE")


class Database:
    """The service's connections.

    Who has one leaves normally and commits, or raises and rolls back; nothing else on a request's
    way does either.
    """

    def __init__(self, settings: Settings, revision: str) -> None:
        """Connections for a build that knows `revision`, through its published version."""
        milliseconds = str(round(settings.statement_timeout * 1000))
        self.engine = create_engine(
            settings,
            application_name=f"users@{revision}",
            server_settings={
                "statement_timeout": milliseconds,
                "idle_in_transaction_session_timeout": milliseconds,
            },
        )
        self.is_postgresql = self.engine.dialect.name == "postgresql"
        if self.is_postgresql:
            # explicit names and no search_path, so that it holds behind any pooler
            self.published = {None: f"at_{revision}", "staging": "pg_temp"}
            self.writing = self.engine.execution_options(schema_translate_map=self.published)
            reading = self.writing.execution_options(isolation_level="AUTOCOMMIT")
        else:
            self.writing = self.engine.execution_options(schema_translate_map={"staging": "temp"})
            reading = self.engine.execution_options(reading=True)
        self.compiled: dict[Query, SQLCompiler] = {}
        self.watched: Callable[[str], AbstractContextManager[None]] = lambda _: nullcontext()
        self.pool_timeout = settings.pool_timeout
        # half of the connections at most: clients who dawdle shall not lock the others out
        self.transfers = asyncio.Semaphore(max(1, settings.pool_size // 2))
        self.transactions = async_sessionmaker(self.writing, expire_on_commit=False)
        self.reading = reading
        self.readers = async_sessionmaker(reading, expire_on_commit=False)

    async def rows(self, query: Query, values: Mapping[str, Any]) -> Rows:
        """The rows that a query gives, on PostgreSQL straight from the driver, in one round trip.

        SQLAlchemy's way through a session, a cursor and a result takes more time than all the rest
        of a request. What it does besides is done here: the query is compiled, once; it is told to
        who watches; a connection that was lost is not used again; errors have its kind, without
        values. Queries are kept by identity: build each once.
        """
        if not self.is_postgresql:
            async with self.reading.connect() as connection:
                return (await connection.execute(query, values)).all()
        compiled = self.compiled.get(query) or self.compile(query)
        given = compiled.params | values
        arguments = [given[name] for name in compiled.positiontup or ()]
        async with self.driver() as driver:
            with self.watched(compiled.string):
                try:
                    rows: Rows = await driver.fetch(compiled.string, *arguments)
                except Exception as error:
                    broken = isinstance(error, IntegrityConstraintViolationError)
                    kind = IntegrityError if broken else DBAPIError
                    raise kind(compiled.string, None, error, hide_parameters=True) from error
        return rows

    @asynccontextmanager
    async def driver(self) -> AsyncIterator[Any]:
        """A connection of the pool, as asyncpg knows it.

        It is given up where it was lost, or where somebody gave up waiting for it: whether it will
        ever answer is not known.
        """
        pooled = await self.engine.raw_connection()
        driver: Any = pooled.driver_connection
        given_up, lost = True, False
        try:
            yield driver
            given_up = False
        except Exception:
            given_up = lost = driver.is_closed()
            raise
        finally:
            await greenlet_spawn(pooled.invalidate if given_up else pooled.close)
            if lost:
                await self.look_at_the_others()

    async def look_at_the_others(self) -> None:
        """Let SQLAlchemy see that a connection was lost: it gives up those made before, too."""
        with suppress(Exception):  # whoever asks next is told
            async with self.reading.connect() as connection:
                await connection.execute(text("SELECT 1"))

    def compile(self, query: Query) -> SQLCompiler:
        """The query's text, and the order of its values."""
        compiled = query.compile(
            dialect=self.engine.dialect,
            schema_translate_map=self.published,
            render_schema_translate=True,
        )
        self.compiled[query] = compiled
        return compiled

    @property
    def pool(self) -> WatchedPool:
        """The connections; another pool takes its place once they were closed."""
        return cast("WatchedPool", self.engine.pool)

    def changing(self, *, alone: bool) -> AbstractAsyncContextManager[AsyncConnection]:
        """A connection to change something: in one transaction, or by one statement alone.

        On PostgreSQL that is a transaction by itself, and one round trip.
        """
        return self.reading.connect() if alone and self.is_postgresql else self.writing.begin()

    @asynccontextmanager
    async def write(self) -> AsyncIterator[AsyncSession]:
        """Yield a session in one transaction: commit at the end, roll back on an exception.

        The connection is taken at the first statement. On SQLite that statement takes the write
        lock (BEGIN IMMEDIATE).
        """
        async with self.transactions.begin() as session:
            yield session

    @asynccontextmanager
    async def read(self) -> AsyncIterator[AsyncSession]:
        """Yield a session that only reads.

        On PostgreSQL it is in AUTOCOMMIT mode: each statement is one round trip and sees what was
        committed before it. On SQLite all its statements see one snapshot.
        """
        async with self.readers() as session:
            yield session

    async def reader(self) -> AsyncIterator[AsyncSession]:
        """A session that only reads: on PostgreSQL each statement is one round trip."""
        async with self.readers() as session:
            yield session

    @asynccontextmanager
    async def transfer(self, *, reading: bool = False) -> AsyncIterator[AsyncSession]:
        """A session for an import, which begins its transactions itself, or for an export.

        They are on one connection, where its temporary table is. Raises PoolTimeoutError when
        others transfer for too long.
        """
        try:
            await asyncio.wait_for(self.transfers.acquire(), self.pool_timeout)
        except TimeoutError:
            raise PoolTimeoutError("as many imports and exports as there may be") from None
        try:
            async with self.writing.connect() as connection:
                await connection.execution_options(reading=reading)
                async with AsyncSession(connection) as session:
                    yield session
        finally:
            self.transfers.release()

    @asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        """Close the connections when the service ends."""
        try:
            yield
        finally:
            await self.engine.dispose()
