"""The migrator's engine, and why it can't be used, in one line."""

import asyncio
import socket
import sqlite3
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar, cast

import asyncpg
from alembic.util import CommandError
from sqlalchemy import URL, Connection, Dialect, NullPool, event
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import ConnectionPoolEntry
from sqlalchemy.util import immutabledict

from safely.addresses import AddressError, for_asyncpg, parse
from safely.errors import (
    first_line,
    note_migrators,
    why_failing,
    why_no_session,
    why_not_here,
    why_refused,
    why_unreachable,
)

APPLICATION_NAME = "migrations"  # of every migrator's connections
CONNECT_TIMEOUT = 5.0  # seconds until a server that doesn't respond is given up
LOCK_TIMEOUT = "100ms"  # how long clients may queue behind us; less than deadlock_timeout
SQLITE_BUSY_TIMEOUT = 5.0  # seconds a statement waits for another process's write lock
# a host that is gone is given up after 30 s, however long a statement may take: its kernel answers
# probes while PostgreSQL works. A name that this system doesn't have is left out
PROBES = {
    "TCP_KEEPIDLE": 10,  # seconds
    "TCP_KEEPINTVL": 5,  # seconds
    "TCP_KEEPCNT": 4,
    "TCP_USER_TIMEOUT": 30_000,  # milliseconds
}

Result = TypeVar("Result")


class Outage(CommandError):  # noqa: N818  # of the database, the network or a disk, not of code
    """The database, the network to it, or a disk has failed; the message says which, and how."""


class MigratorConnection(asyncpg.Connection):  # type: ignore[misc]  # asyncpg brings no types
    """A connection that notices a host that is gone, and a COMMIT that reached no standby."""

    wait_cancelled = False  # whether PostgreSQL has warned that a COMMIT reached no standby

    def __init__(self, protocol: Any, transport: asyncio.Transport, *arguments: Any) -> None:
        super().__init__(protocol, transport, *arguments)
        connected = transport.get_extra_info("socket")
        if connected is not None and connected.family != socket.AF_UNIX:
            connected.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            for name, value in PROBES.items():
                if hasattr(socket, name):
                    connected.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)

    def _process_log_message(self, fields: Mapping[str, str], last_query: str) -> None:
        """Notice by the function that warns, since its words are translated, a cancelled wait."""
        if fields.get("R") == "SyncRepWaitForLSN":
            self.wait_cancelled = True
        super()._process_log_message(fields, last_query)

    async def execute(self, query: str, *args: Any, timeout: float | None = None) -> str:  # noqa: ASYNC109  # asyncpg's signature
        """Execute a statement, such as the COMMIT of SQLAlchemy, and return its tag."""
        tag = cast("str", await super().execute(query, *args, timeout=timeout))
        self.require_standby()
        return tag

    def require_standby(self) -> None:
        """Raise where a COMMIT is stored on the primary alone: PostgreSQL reports success."""
        if self.wait_cancelled:
            raise asyncpg.TransactionResolutionUnknownError("the commit reached no standby")


def require_standby(connection: Connection, *_: Any) -> None:
    """Raise where a statement in autocommit has reached no standby; see `MigratorConnection`."""
    driver = connection.connection.driver_connection
    if isinstance(driver, MigratorConnection):
        driver.require_standby()


def usable(address: str | URL) -> URL:
    """Return the URL with the async driver that `safely` uses; see `addresses.parse`.

    Raise CommandError; the message never shows the URL, which may contain a password.
    """
    try:
        return parse(address)
    except AddressError as error:
        raise CommandError(f"the database's address {error}") from None


def engine_for(
    address: str | URL, *, lock_timeout: str = LOCK_TIMEOUT, schema: str | None = None
) -> AsyncEngine:
    """Return an engine for migrating; the caller disposes of it.

    Its timeouts are arguments of the connection, so they hold from the first statement on.
    `schema`: where unqualified names are looked for first (PostgreSQL).
    On SQLite we begin transactions, not the driver: the driver commits before DDL, and then a
    revision that fails midway stays half applied. Foreign keys are off there: `rebuild` says why.
    """
    url = usable(address)
    options: dict[str, Any] = {"poolclass": NullPool, "hide_parameters": True}
    if url.get_backend_name() == "postgresql":
        settings = {
            "application_name": APPLICATION_NAME,
            "lock_timeout": lock_timeout,
            "statement_timeout": "0",  # a role's own would cut long index builds
            "idle_in_transaction_session_timeout": "0",
            # rows that a policy hides from us are an error: a backfill would leave them out
            "row_security": "off",
            # a warning tells of a COMMIT that reached no standby; a role may have silenced it
            "client_min_messages": "notice",
        }
        if schema:
            quoted = schema.replace('"', '""')
            settings["search_path"] = f'"{quoted}", "$user", public'
        arguments = {
            "timeout": CONNECT_TIMEOUT,
            "server_settings": settings,
            "connection_class": MigratorConnection,
        }
        engine = create_async_engine(url, connect_args=arguments, **options)
        event.listen(engine.sync_engine, "do_connect", for_asyncpg)
        event.listen(engine.sync_engine, "handle_error", note_migrators)
        event.listen(engine.sync_engine, "after_cursor_execute", require_standby)
        return engine
    engine = create_async_engine(url, connect_args={"timeout": SQLITE_BUSY_TIMEOUT}, **options)
    event.listen(engine.sync_engine, "handle_error", note_migrators)
    event.listen(engine.sync_engine, "do_connect", check_file)
    event.listen(engine.sync_engine, "connect", prepare_sqlite)
    event.listen(engine.sync_engine, "begin", begin_sqlite)
    return engine


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
    cursor.execute("PRAGMA foreign_keys = 0")
    cursor.close()


def begin_sqlite(connection: Connection) -> None:
    """Begin with the write lock: taken after a read, it fails instead of waiting.

    The execution option `reading` leaves it out.
    """
    reading = connection.get_execution_options().get("reading", False)
    connection.exec_driver_sql("BEGIN" if reading else "BEGIN IMMEDIATE")


@asynccontextmanager
async def connected(address: str | URL, *, schema: str | None = None) -> AsyncIterator[AsyncEngine]:
    """Yield an engine for migrating, and dispose of it; see `in_words` for its errors."""
    engine = engine_for(address, schema=schema)
    try:
        async with in_words(engine):
            yield engine
    finally:
        await engine.dispose()


@asynccontextmanager
async def in_words(engine: AsyncEngine) -> AsyncIterator[None]:
    """Raise what the server refuses, or why it can't be reached, as CommandError of one line."""
    try:
        yield
    except CommandError:
        raise  # it has its words already, whatever caused it
    except Exception as error:
        if reason := why_refused(error):
            raise CommandError(reason) from error
        if reason := why_no_session(error, has_options="options" in engine.url.query):
            raise CommandError(reason) from error
        if reason := outage(error, place_of(engine)):
            raise Outage(reason) from error
        if isinstance(error, IntegrityError) and error.statement is None:
            raise CommandError(
                "the COMMIT was refused, so nothing of this step is kept: "
                f"{first_line(error.orig or error)}"
            ) from error
        raise


def outage(error: Exception, place: str) -> str | None:
    """Return in a sentence what has failed, if no code has; None for any other error."""
    if reason := why_unreachable(error):
        return f"can't reach {place}: {reason}"
    if reason := why_failing(error):
        return f"{place} {reason}"
    if reason := why_not_here(error):
        return f"this machine can't go on: {reason}"
    return None


def place_of(engine: AsyncEngine) -> str:
    """Return the engine's address for people: without user, password and parameters."""
    url = engine.url
    several = url.query.get("host", "")
    if "," in several:
        return f"{url.drivername}://{several}/{url.database}"
    return url._replace(query=immutabledict(), username=None, password=None).render_as_string()


def is_there(engine: AsyncEngine) -> bool:
    """Return whether there may be a database: False for an SQLite file that does not exist."""
    return engine.dialect.name != "sqlite" or Path(str(engine.url.database)).exists()


async def read(engine: AsyncEngine, look: Callable[..., Result], *arguments: Any) -> Result:
    """Return what a function that only reads finds on a connection of its own."""

    async def reading() -> Result:
        async with engine.execution_options(reading=True).connect() as connection:
            return await connection.run_sync(look, *arguments)

    if engine.dialect.name != "sqlite":
        return await reading()
    task = asyncio.ensure_future(reading())
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        # aiosqlite's thread would report to an event loop that is closed, with a stack trace
        await asyncio.wait([task])
        raise


def as_literal(value: str) -> str:
    """Return a text as SQL, for a query outside of a revision that takes no parameters."""
    return "'{}'".format(value.replace("'", "''"))
