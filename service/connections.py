"""Connections to PostgreSQL: how they are made, and when one may be lent to the next request.

A pool lends a connection again only while its state is certain: open, idle, outside a transaction,
with the settings with which it was made, on a server that plays the part it played then.

A pooler such as PgBouncer may give each transaction of a connection another server. Then nothing
may be left on a server for later: no prepared statement, no setting. `Connector` notices it.
"""

import re
import secrets
import time
from collections.abc import Mapping, Sequence
from itertools import count
from typing import Any, cast

import asyncpg
from sqlalchemy import Connection, Dialect, event
from sqlalchemy.engine import ExceptionContext
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import DisconnectionError
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlalchemy.pool import ConnectionPoolEntry, PoolProxiedConnection

from service.database_errors import is_from_database, is_read_only, was_lost

CONNECT_TIMEOUT = 1.5  # seconds until a server that doesn't respond is given up
HOPEFUL = 0.25  # seconds after which an attempt to connect is taken to wait in vain
READ_ONLY_AGE = 1.0  # seconds; a connection that is younger met the server that answers now
# what the server reports of a session whenever it changes: to compare it costs no round trip
PART = ("default_transaction_read_only", "in_hot_standby")  # since PostgreSQL 14
SESSION = ("is_superuser", "search_path", "session_authorization")  # search_path since 18
# a statement that begins otherwise may change its session for later ones, as SET and DO do
PASSING = re.compile(
    r"""\s* (?:
        (?: SELECT | INSERT | UPDATE | DELETE | WITH | COPY | ANALYZE | SHOW
          | BEGIN | COMMIT | ROLLBACK | SAVEPOINT | RELEASE
          | SET \s+ (?: LOCAL | TRANSACTION | CONSTRAINTS )
          | CREATE \s+ TEMPORARY \s+ TABLE \b .* \b ON \s+ COMMIT \s+ DROP
        ) \b
        | $  # nothing, after the last semicolon
    )""",
    re.IGNORECASE | re.DOTALL | re.VERBOSE,
)
# one that begins as those do may do it by these
LASTING = re.compile(
    r"""\b set_config \( (?! (?: (?! set_config ) [^;] )* ,\ true\) )  # but for the transaction
        | \b pg_ (?: try_ )? advisory_lock
        | \b pg_settings \b
        | \b INTO \s+ TEMP
    """,
    re.IGNORECASE | re.VERBOSE,
)


class ServiceConnection(asyncpg.Connection):  # type: ignore[misc]  # asyncpg brings no types
    """A connection that remembers whether a statement changed its session for later ones."""

    session_changed = False
    wait_cancelled = False  # whether PostgreSQL has warned that a commit reached no standby

    def _process_log_message(self, fields: Mapping[str, str], last_query: str) -> None:
        """Notice by the function that warns, since its words are translated, a cancelled wait."""
        if fields.get("R") == "SyncRepWaitForLSN":
            self.wait_cancelled = True
        super()._process_log_message(fields, last_query)

    def note(self, query: str) -> None:
        """Remember a statement whose effect may outlast its transaction."""
        if LASTING.search(query) or not all(map(PASSING.match, query.split(";"))):
            self.session_changed = True

    async def execute(self, query: str, *args: Any, timeout: float | None = None) -> str:  # noqa: ASYNC109  # asyncpg's signature
        """Execute a statement, or several without parameters, and return the last one's tag.

        Raise TransactionResolutionUnknownError where a COMMIT is stored on the primary alone.
        """
        self.note(query)
        tag = cast("str", await super().execute(query, *args, timeout=timeout))
        if self.wait_cancelled:  # PostgreSQL reports success: a failover may lose it all the same
            raise asyncpg.TransactionResolutionUnknownError("the commit reached no standby")
        return tag

    async def prepare(self, query: str, **options: Any) -> Any:
        """Return the prepared statement; SQLAlchemy prepares each of its statements once."""
        self.note(query)
        return await super().prepare(query, **options)

    async def _execute(self, query: str, *arguments: Any, **options: Any) -> Any:
        """Run a query for `fetch` and its like."""
        self.note(query)
        return await super()._execute(query, *arguments, **options)

    def reported(self, names: Sequence[str]) -> list[str | None]:
        """Return the values of these settings, as the server reported them last."""
        settings = self.get_settings()
        return [getattr(settings, name, None) for name in names]

    def is_idle(self) -> bool:
        """Return whether it is open and neither in a transaction nor waiting for a cancellation.

        asyncpg takes a transaction whose BEGIN failed for one that goes on (`_top_xact`).
        """
        return not (
            self.is_closed()
            or self.is_in_transaction()
            or self._top_xact is not None
            or self._protocol._is_cancelling()  # noqa: SLF001  # asyncpg's pool asks it, too; there is no public way
        )


class Connector:
    """Makes the connections of the engines that it is attached to, and watches over them."""

    def __init__(self, application_name: str, settings: Mapping[str, str]) -> None:
        """Name every session, and let `settings` (PostgreSQL's, by name) hold for it."""
        self.application_name = application_name
        self.settings = settings
        self.generation = 0  # connections of an earlier generation are not lent any more
        self.heard = time.monotonic()  # when the server last answered, if only by an error
        self.is_shared = False  # whether the last connection met a pooler
        self.is_failing = False  # whether the last attempt to connect failed
        self.attempts: list[float] = []  # when those began that are under way
        # names that no other process uses: a pooler that goes unnoticed may then lose a prepared
        # statement, but never run another one in its place
        prefix, number = secrets.token_hex(8), count()
        self.statement_name = lambda: f"users_{prefix}_{next(number)}"

    def attach(self, engine: AsyncEngine) -> None:
        """Make and watch the connections of an engine."""
        sync_engine = engine.sync_engine
        event.listen(sync_engine, "do_connect", self.connect)
        event.listen(sync_engine, "connect", self.end_set_up)
        event.listen(sync_engine, "checkout", self.check_before)
        event.listen(sync_engine, "checkin", self.check_after)
        event.listen(sync_engine, "close", abort)
        event.listen(sync_engine, "handle_error", self.give_up)
        event.listen(sync_engine, "engine_connect", self.use_transactions)
        event.listen(sync_engine, "begin", self.set_for_transaction)

    def connect(
        self,
        dialect: Dialect,
        entry: ConnectionPoolEntry,
        arguments: Sequence[Any],
        options: dict[str, Any],
    ) -> DBAPIConnection:
        """Return a new connection, made as a server needs it, or as a pooler does.

        Raise TimeoutError at once where another attempt is waiting in vain, after one that
        failed: not everybody needs to wait to learn that the database does not answer.
        """
        now = time.monotonic()
        if self.is_failing and self.attempts and now - self.attempts[0] > HOPEFUL:
            raise TimeoutError("it does not answer in time")
        generation = self.generation
        self.attempts.append(now)
        try:
            connection, shared = self.connection(dialect, arguments, options)
            self.is_shared, self.is_failing = shared, False
        except Exception:
            self.is_failing = True
            raise
        finally:
            self.attempts.remove(now)
        entry.info.update(
            new=True,
            shared=shared,
            generation=generation,
            made=time.monotonic(),
            part=driver_of(connection).reported(PART),
            session=driver_of(connection).reported(SESSION),
        )
        return connection

    def connection(
        self, dialect: Dialect, arguments: Sequence[Any], options: Mapping[str, Any]
    ) -> tuple[DBAPIConnection, bool]:
        """Return a new connection, and whether a pooler is in between; where it is, begin anew.

        Other attempts that are under way may change `is_shared`: this one keeps to its own.
        """
        shared = self.is_shared
        try:
            connection = self.attempt(dialect, arguments, options, shared=shared)
        except dialect.loaded_dbapi.Error as error:
            if shared or "startup parameter" not in str(error):
                raise
            shared = True  # PgBouncer refuses what it can't keep for each client
            connection = self.attempt(dialect, arguments, options, shared=shared)
        try:
            if is_shared(connection) is not shared:
                shared = not shared
                driver_of(connection).terminate()
                connection = self.attempt(dialect, arguments, options, shared=shared)
            if shared:  # what is asked while it is set up must be one server's business
                run(connection, "BEGIN")
        except BaseException:
            driver_of(connection).terminate()
            raise
        return connection, shared

    def attempt(
        self,
        dialect: Dialect,
        arguments: Sequence[Any],
        options: Mapping[str, Any],
        *,
        shared: bool,
    ) -> DBAPIConnection:
        """Return a connection, made for a server or, if it is `shared`, for a pooler."""
        name = {"application_name": self.application_name}
        if shared:
            # without a name, a statement is gone with the next one
            own = {
                "server_settings": name,
                "prepared_statement_cache_size": 0,
                "prepared_statement_name_func": lambda: "",
            }
        else:
            own = {
                "server_settings": {**name, **self.settings},
                "prepared_statement_name_func": self.statement_name,
            }
        return dialect.connect(*arguments, **options, **own)

    def end_set_up(self, connection: DBAPIConnection, entry: ConnectionPoolEntry) -> None:
        """End the transaction of a pooler's connection after SQLAlchemy has set it up."""
        if entry.info["shared"]:
            run(connection, "COMMIT")

    def use_transactions(self, connection: Connection) -> None:
        """Read in a transaction behind a pooler, too.

        A statement is prepared and executed by two messages, which may else reach two servers.
        """
        if connection.info.get("shared"):
            connection.execution_options(isolation_level="READ COMMITTED")

    def set_for_transaction(self, connection: Connection) -> None:
        """Set for a transaction what else holds for a session; behind a pooler none lasts."""
        if connection.info.get("shared"):
            values = ", ".join(
                f"set_config('{name}', '{value}', true)" for name, value in self.settings.items()
            )
            connection.exec_driver_sql(f"SELECT {values}")

    def check_before(
        self,
        connection: DBAPIConnection,
        entry: ConnectionPoolEntry,
        proxy: PoolProxiedConnection,  # noqa: ARG002  # SQLAlchemy's signature
    ) -> None:
        """Raise DisconnectionError for a connection that must not be lent: it is replaced."""
        if entry.info.pop("new", False):  # made for this checkout, whatever happened meanwhile
            return
        if not self.may_be_lent(connection, entry):
            raise DisconnectionError("its state is not certain")

    def check_after(self, connection: DBAPIConnection | None, entry: ConnectionPoolEntry) -> None:
        """Close a connection that must not be lent again; all, if its server plays another part.

        A primary that became read-only is no primary any more: its answers may be out of date.
        """
        if connection is None:
            return
        driver = driver_of(connection)
        if driver.is_idle():
            self.heard = time.monotonic()
        if (
            entry.info["generation"] == self.generation
            and not (driver.is_closed() or entry.info["shared"])
            and entry.info["part"] != driver.reported(PART)
        ):
            self.generation += 1
        if not self.may_be_lent(connection, entry):
            entry.invalidate()

    def may_be_lent(self, connection: DBAPIConnection, entry: ConnectionPoolEntry) -> bool:
        """Return whether the next request may have the connection."""
        driver = driver_of(connection)
        return (
            driver.is_idle()
            and not driver.session_changed
            and entry.info["generation"] == self.generation
            # a pooler's servers may differ in them
            and (entry.info["shared"] or entry.info["session"] == driver.reported(SESSION))
        )

    def give_up(self, context: ExceptionContext) -> None:
        """Close a connection whose state an error left uncertain, and those that are like it.

        After a read-only server has refused a write, the address may lead to another server: all
        connections are made anew, unless this one was made a moment ago.
        """
        error = context.original_exception
        if was_lost(error):
            context.is_disconnect = True
            return
        if is_from_database(error):
            self.heard = time.monotonic()
        if is_read_only(error) and context.connection is not None:
            made = context.connection.info.get("made", 0.0)
            if time.monotonic() - made > READ_ONLY_AGE:
                self.generation += 1


def driver_of(connection: DBAPIConnection) -> ServiceConnection:
    """Return asyncpg's connection inside SQLAlchemy's."""
    return cast("ServiceConnection", cast("Any", connection).driver_connection)


def run(connection: DBAPIConnection, statement: str) -> None:
    """Execute a statement past SQLAlchemy, by one message."""
    cast("Any", connection).run_async(lambda driver: driver.execute(statement))


def is_shared(connection: DBAPIConnection) -> bool:
    """Return whether a pooler answers: the server process that answers is not the one that began.

    A pooler can't pass on a process's number when a connection begins, since it has none yet.
    """

    async def backend(driver: ServiceConnection) -> bool:
        async with driver.transaction():
            pid = await driver.fetchval("SELECT pg_catalog.pg_backend_pid()")
        return bool(pid != driver.get_server_pid())

    return bool(cast("Any", connection).run_async(backend))


def abort(connection: DBAPIConnection, entry: ConnectionPoolEntry) -> None:  # noqa: ARG001  # SQLAlchemy's signature
    """Cut a connection that is being closed.

    SQLAlchemy would say goodbye first, and wait for two seconds where nobody answers.
    """
    driver_of(connection).terminate()
