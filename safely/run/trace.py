"""The statements of a migration on PostgreSQL, and what each did: `alembic -x trace=FILE …`.

Each line of the file is a JSON object: a statement with the locks that it took, the rows that it
read and changed and the settings that it left, the end of a transaction (which releases the locks),
or a step that is done. `rehearse` reads it; people can.
"""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from alembic.util import CommandError
from sqlalchemy import Connection, ExceptionContext, event
from sqlalchemy.ext.asyncio import AsyncConnection

from safely.ledger.ledger import Work
from safely.run.table_locks import (
    APPLICATION_TABLES,
    ON_APPLICATION_TABLES,
    bookkeeping_tables,
    without_suffix,
)

# The counters are those of the transaction: rows that parallel workers read are not among them.
LOOK = f"""\
SELECT json_build_object(
  'transaction', extract(epoch FROM now()),
  'locks', (SELECT coalesce(json_agg(json_build_array(relname, mode)), '[]')
    FROM pg_locks JOIN pg_class ON pg_class.oid = relation
    WHERE pid = pg_backend_pid() AND {ON_APPLICATION_TABLES}),
  'advisory', (SELECT count(*) FROM pg_locks
    WHERE pid = pg_backend_pid() AND locktype = 'advisory'),
  'read', (SELECT coalesce(json_object_agg(relname, pg_stat_get_xact_tuples_returned(oid)), '{{}}')
    FROM pg_class WHERE {APPLICATION_TABLES}),
  'changed', (SELECT coalesce(json_object_agg(relname, pg_stat_get_xact_tuples_inserted(oid)
      + pg_stat_get_xact_tuples_updated(oid) + pg_stat_get_xact_tuples_deleted(oid)), '{{}}')
    FROM pg_class WHERE {APPLICATION_TABLES}),
  'settings', (SELECT json_object_agg(name, setting) FROM (
    SELECT name, setting FROM pg_settings WHERE source IN ('client', 'session')
    UNION ALL VALUES ('role', current_user), ('session_authorization', session_user)) AS own)
)::text"""

Lock = tuple[str, str]  # a table, and the mode


class Look(NamedTuple):
    """The locks, counters and settings of a connection at some moment."""

    locks: set[Lock]
    transaction: float  # when it began, in seconds since 1970
    advisory: int  # locks
    read: dict[str, int]  # rows, by table
    changed: dict[str, int]
    settings: dict[str, str]


class Trace:
    """Writes down what is executed on one connection. With an empty `path`: nothing."""

    def __init__(self, path: str, version_table: str = "alembic_version") -> None:
        self.path = Path(path) if path else None
        self.bookkeeping = bookkeeping_tables(version_table)
        self.held: set[Lock] = set()  # by the transaction that is open
        self.looked: Look | None = None  # before the next statement
        self.began = 0.0
        if self.path:
            try:
                self.path.touch(mode=0o600)  # a statement may hold what nobody else should read
            except OSError as error:
                raise CommandError(f"-x trace=…: can't write there: {error.strerror}") from error

    @contextmanager
    def of(self, connection: AsyncConnection) -> Iterator[None]:
        """Write down all statements that are executed on the connection meanwhile."""
        if self.path is None or connection.dialect.name != "postgresql":
            yield
            return
        sync = connection.sync_connection
        hooks: dict[str, Callable[..., None]] = {
            "before_cursor_execute": self.before,
            "after_cursor_execute": self.after,
            "commit": self.over,
            "rollback": self.over,
        }

        def failed(context: ExceptionContext) -> None:
            if context.connection is sync:
                self.failed(context)

        event.listen(connection.dialect, "handle_error", failed)
        for name, hook in hooks.items():
            event.listen(sync, name, hook)
        try:
            yield
        finally:
            event.remove(connection.dialect, "handle_error", failed)
            for name, hook in hooks.items():
                event.remove(sync, name, hook)

    def before(self, connection: Connection, *_: Any) -> None:
        """Note how things are when a statement begins (before_cursor_execute).

        Within a transaction that is how the statement before it left them: asking again would take
        time under its locks, and is refused after a statement that failed.
        """
        self.looked = self.looked or look(connection, self.bookkeeping)
        self.began = time.time()

    def after(self, connection: Connection, cursor: Any, statement: str, *_: Any) -> None:
        """Write down a statement that succeeded, with what it did."""
        ended, alone = time.time(), is_autocommit(connection)
        now = look(connection, self.bookkeeping)
        before, self.looked = self.looked or now, None if alone else now
        locks = set() if alone else now.locks
        self.write(
            "statement",
            sql=statement,
            began=self.began,
            seconds=ended - self.began,
            alone=alone,
            rows=cursor.rowcount if changes_rows(statement, self.bookkeeping) else 0,
            locks=sorted(locks - self.held),
            ends=not alone and before.transaction != now.transaction,
            advisory=max(0, now.advisory - before.advisory),
            read={} if alone else more(before.read, now.read),
            changed={} if alone else more(before.changed, now.changed),
            settings={
                name: (before.settings.get(name), now.settings.get(name))  # None: its default
                for name in sorted(before.settings.keys() | now.settings.keys())
                if before.settings.get(name) != now.settings.get(name)
            },
        )
        self.held |= locks

    def failed(self, context: ExceptionContext) -> None:
        """Write down a statement, or a COMMIT, that failed."""
        # its first line: the next ones may hold a row
        error = str(context.original_exception.__cause__ or context.original_exception)
        ended = time.time()
        self.write(
            "failed",
            sql=context.statement or "COMMIT",
            began=self.began,
            seconds=ended - self.began,
            error=error.partition("\n")[0],
        )

    def over(self, _: Connection) -> None:
        """Write down the end of a transaction, which releases its locks."""
        self.held.clear()
        self.looked = None
        self.write("over", at=time.time())

    def done(self, work: Work) -> None:
        """Write down that a step, or other work, is done."""
        self.write("done", rows=work.rows, attempts=work.attempts, longest_wait=work.longest_wait)

    def write(self, what: str, **values: Any) -> None:
        """Append a line."""
        if self.path:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps({"what": what, **values}) + "\n")


def is_autocommit(connection: Connection) -> bool:
    """Return whether each statement is a transaction of its own."""
    raw = connection.connection.dbapi_connection
    assert raw is not None  # noqa: S101  # it is connected
    return connection.dialect.detect_autocommit_setting(raw)


def look(connection: Connection, bookkeeping: list[str]) -> Look:
    """Return the locks, counters and settings of a connection now."""
    cursor = connection.connection.cursor()  # beside SQLAlchemy, which would call us again
    try:
        cursor.execute(LOOK, (bookkeeping,))
        (found,) = map(json.loads, *cursor.fetchall())
    finally:
        cursor.close()
    locks = {(table, without_suffix(mode)) for table, mode in found.pop("locks")}
    return Look(locks, **found)


def more(before: dict[str, int], now: dict[str, int]) -> dict[str, int]:
    """Return by how much each counter has grown, of those that have."""
    return {
        name: count - before.get(name, 0)
        for name, count in now.items()
        if count > before.get(name, 0)
    }


def changes_rows(statement: str, bookkeeping: list[str]) -> bool:
    """Return whether a statement changes rows in a table of the application."""
    words = statement.split(None, 3)
    return (
        bool(words)
        and words[0].upper() in {"INSERT", "UPDATE", "DELETE"}
        and not {word.rpartition(".")[2].strip('"') for word in words[1:3]} & set(bookkeeping)
    )
