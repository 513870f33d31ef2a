"""The statements of a migration on PostgreSQL, with their locks: `alembic -x trace=FILE …`.

Each line of the file is a JSON object: a statement with the locks on tables that it took, the end
of a transaction (which lets them go), or a step that is done. `rehearse` reads it; people can.
"""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from alembic.util import CommandError
from sqlalchemy import Connection, ExceptionContext, event
from sqlalchemy.ext.asyncio import AsyncConnection

from safely.ledger.ledger import Work
from safely.run.table_locks import ON_APPLICATION_TABLES, bookkeeping_tables, without_suffix

LOCKS = f"""\
SELECT relname, mode FROM pg_locks JOIN pg_class ON pg_class.oid = relation
WHERE pid = pg_backend_pid() AND {ON_APPLICATION_TABLES}"""

Lock = tuple[str, str]  # a table, and the mode


class Trace:
    """Writes down what is executed on one connection. With an empty `path`: nothing."""

    def __init__(self, path: str, version_table: str = "alembic_version") -> None:
        self.path = Path(path) if path else None
        self.bookkeeping = bookkeeping_tables(version_table)
        self.held: set[Lock] = set()  # by the transaction that is open
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
        hooks = {
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

    def before(self, *_: Any) -> None:
        """Note when a statement begins (before_cursor_execute)."""
        self.began = time.time()

    def after(self, connection: Connection, cursor: Any, statement: str, *_: Any) -> None:
        """Write down a statement that succeeded, with the locks that it took."""
        ended, alone = time.time(), is_autocommit(connection)
        locks = set() if alone else locks_of(connection, self.bookkeeping)
        self.write(
            "statement",
            sql=statement,
            began=self.began,
            seconds=ended - self.began,
            alone=alone,
            rows=cursor.rowcount if changes_rows(statement, self.bookkeeping) else 0,
            locks=sorted(locks - self.held),
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


def locks_of(connection: Connection, bookkeeping: list[str]) -> set[Lock]:
    """Return the locks on tables that the open transaction holds."""
    cursor = connection.connection.cursor()  # beside SQLAlchemy, which would call us again
    try:
        cursor.execute(LOCKS, (bookkeeping,))
        return {(table, without_suffix(mode)) for table, mode in cursor.fetchall()}
    finally:
        cursor.close()


def changes_rows(statement: str, bookkeeping: list[str]) -> bool:
    """Return whether a statement changes rows in a table of the application."""
    words = statement.split(None, 3)
    return (
        bool(words)
        and words[0].upper() in {"INSERT", "UPDATE", "DELETE"}
        and not {word.rpartition(".")[2].strip('"') for word in words[1:3]} & set(bookkeeping)
    )
