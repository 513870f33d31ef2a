"""The engine and its sessions: one to write, one to read."""

import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, cast

from sqlalchemy import Connection, Dialect, Pool, event
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.ext.asyncio import (
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

from service.settings import Settings, async_url

CONNECT_TIMEOUT = 5.0  # seconds until a server that doesn't respond is given up
SQLITE_SCHEMAS = {"staging": "temp"}  # where SQLite has temporary tables
SQLITE_BUSY_TIMEOUT = 5.0  # seconds a statement waits for another process's write lock


class WatchedPool(AsyncAdaptedQueuePool):
    """A connection pool that counts who is waiting for a connection."""

    waiting = 0

    def connect(self) -> PoolProxiedConnection:
        """Return a connection, as soon as one is free or made."""
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
    **engine_options: Any,
) -> AsyncEngine:
    """Return an engine for either database; the caller disposes of it.

    `server_settings` hold for every connection (PostgreSQL only). `foreign_keys` says whether they
    are enforced (SQLite only). `engine_options` go to `create_async_engine`.
    On SQLite we begin transactions, not the driver: the driver commits before DDL, and then a
    revision that fails midway stays half applied.
    """
    url = async_url(settings.database_url)
    options: dict[str, Any] = {"poolclass": poolclass, "hide_parameters": True, **engine_options}
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
    options["connect_args"] = {"timeout": SQLITE_BUSY_TIMEOUT}
    engine = create_async_engine(url, **options)
    prepare = partial(prepare_sqlite, foreign_keys=foreign_keys)
    event.listen(engine.sync_engine, "do_connect", check_file)
    event.listen(engine.sync_engine, "connect", prepare)
    event.listen(engine.sync_engine, "begin", begin_sqlite)
    return engine


def check_file(_dialect: Dialect, _entry: ConnectionPoolEntry, file: list[Any], _: Any) -> None:
    """Raise here if SQLite's file can't be opened.

    Raised in aiosqlite's thread, the thread would outlive the event loop and end with a stack
    trace on standard error.
    """
    sqlite3.connect(*file).close()


def prepare_sqlite(
    connection: DBAPIConnection, _: ConnectionPoolEntry, *, foreign_keys: bool
) -> None:
    """Leave BEGIN to `begin_sqlite`, and let readers read while one writes (WAL)."""
    connection.isolation_level = None
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode = WAL")
    cursor.execute(f"PRAGMA foreign_keys = {foreign_keys:d}")
    cursor.close()


def begin_sqlite(connection: Connection) -> None:
    """Begin with the write lock: taken after a read, it fails instead of waiting.

    The execution option `reading` leaves it out.
    """
    reading = connection.get_execution_options().get("reading", False)
    connection.exec_driver_sql("BEGIN" if reading else "BEGIN IMMEDIATE")


class Database:
    """The service's sessions. An `AsyncSession` is a unit of work, on every path.

    Leaving `write` normally commits, raising rolls back; nothing else on a request's path does
    either. A connection is taken from the pool at a session's first statement.
    """

    def __init__(self, settings: Settings, revision: str) -> None:
        """Connect as the build that knows `revision`, to its published version."""
        milliseconds = str(round(settings.statement_timeout * 1000))
        self.is_postgresql = async_url(settings.database_url).get_backend_name() == "postgresql"
        options: dict[str, Any] = {"execution_options": {"schema_translate_map": SQLITE_SCHEMAS}}
        if self.is_postgresql:
            # names with a schema, not a search_path: that would not hold behind every pooler
            schemas = {None: f"at_{revision}", "staging": "pg_temp"}
            # the engine's own level, since most sessions read: it is set once for a connection
            options = {
                "execution_options": {"schema_translate_map": schemas},
                "isolation_level": "AUTOCOMMIT",
            }
        self.engine = create_engine(
            settings,
            application_name=f"users@{revision}",
            server_settings={
                "statement_timeout": milliseconds,
                "idle_in_transaction_session_timeout": milliseconds,
            },
            **options,
        )
        if self.is_postgresql:
            reading = self.engine
            writing = self.engine.execution_options(isolation_level="READ COMMITTED")
        else:
            reading = self.engine.execution_options(reading=True)
            writing = self.engine
        self.writers = async_sessionmaker(writing, expire_on_commit=False)
        self.readers = async_sessionmaker(reading, expire_on_commit=False)

    @asynccontextmanager
    async def write(self) -> AsyncIterator[AsyncSession]:
        """Yield a session in one transaction: commit at the end, roll back on an exception.

        On SQLite its first statement takes the write lock (BEGIN IMMEDIATE).
        """
        async with self.writers.begin() as session:
            yield session

    @asynccontextmanager
    async def read(self) -> AsyncIterator[AsyncSession]:
        """Yield a session that only reads.

        On PostgreSQL it is in AUTOCOMMIT mode: each statement is one round trip and sees what was
        committed before it. On SQLite all its statements see one snapshot.
        """
        session = self.readers()
        try:
            yield session
        finally:
            # `async with` closes it in a task of its own, which takes a tenth of a lookup's query;
            # here there is nothing to commit that a cancellation could interrupt
            try:
                await session.close()
            except BaseException:
                await session.invalidate()  # else the pool would miss the connection
                raise

    async def write_session(self) -> AsyncIterator[AsyncSession]:
        """Yield a session as `write` does: the dependency `session` of routes.

        Litestar commits by it before the response starts, so a failed commit reaches the client.
        """
        async with self.write() as session:
            yield session

    async def read_session(self) -> AsyncIterator[AsyncSession]:
        """Yield a session as `read` does: the dependency `reader` of routes."""
        async with self.read() as session:
            yield session

    @property
    def pool(self) -> WatchedPool:
        """The connection pool; disposing of the engine replaces it by another."""
        return cast("WatchedPool", self.engine.pool)

    @asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        """Close all connections at the end of the block."""
        try:
            yield
        finally:
            await self.engine.dispose()
