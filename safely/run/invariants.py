"""Invariants of a step: its body breaks no build, and touches nothing that the engine owns.

Published versions keep their views, with their columns, rights and policies; the triggers that
keep older builds going stand and are enabled; what is set aside, the ledger and the version table
stay as they are. The operations of `safely` change some of that; other statements must not.

All of it is compared with how it was before the body: before each COMMIT inside the body, and at
its end. To name the statement that broke something, it is also looked at after each statement
that is not an operation's; the transaction's counters tell whether a look is worth it. Such a
statement in an `autocommit_block` gets a transaction, so that it can be rolled back. PostgreSQL
refuses that for some (CREATE INDEX CONCURRENTLY, VACUUM, a CALL that commits): of those, it can
only be said what they broke.
"""

import inspect
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from alembic.script import Script, ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import ExecutionContext, event

from safely.alembic_internals import MigrationContext
from safely.operations import connection as operations_connection
from safely.operations.connection import literal, run
from safely.revisions import in_order
from safely.run.broken import Change, Statement, Words
from safely.run.owned import COMPARE, KEEP, SCRIPT_FUNCTION, Facts, Owned, is_kept
from safely.run.trace import is_autocommit

# a revision may import `run` of that file, which is no operation
RUNS_TEXT = operations_connection.__file__
OPERATIONS = str(Path(RUNS_TEXT).parent)

# what no operation changes, whatever a function does that its arguments call
ABSOLUTE = ("version", "view", "columns", "rights", "reach")

# what PostgreSQL refuses in a transaction, and what ends the transaction that it gets
NEEDS_NO_TRANSACTION = re.compile(
    r"\s*(?:BEGIN|START|COMMIT|END|ROLLBACK|ABORT|VACUUM|CALL|REINDEX|CLUSTER|ALTER\s+SYSTEM"
    r"|(?:CREATE|ALTER|DROP)\s+(?:DATABASE|TABLESPACE|SUBSCRIPTION))\b"
    r"|.*\b(?:CONCURRENTLY|COMMIT|ROLLBACK)\b",
    re.IGNORECASE | re.DOTALL,
)
COMMITS = re.compile(r"\s*(?:COMMIT|END)\b", re.IGNORECASE)
ROLLS_BACK = re.compile(r"\s*(?:ROLLBACK|ABORT)\b", re.IGNORECASE)

Execute = Callable[[], None]


@contextmanager
def invariants_kept(migration: MigrationContext, script: Script) -> Iterator[None]:
    """Raise CommandError, before anything is committed, where a body breaks an invariant.

    Under `--sql` print statements that raise where the script breaks published versions; what the
    body of a step has committed on its way stays then.
    """
    if migration.as_sql:
        with published_versions_compared(migration):
            yield
        return
    watch = Watch(migration, script)
    with watch.listening():
        yield
    watch.verify(is_end=True)


@contextmanager
def published_versions_compared(migration: MigrationContext) -> Iterator[None]:
    """Print how published versions are compared with how they were before (PostgreSQL)."""
    if migration.dialect.name != "postgresql":
        yield
        return
    run(KEEP.format(function=SCRIPT_FUNCTION))
    yield
    revision = literal(migration.opts["revision"])
    run(COMPARE.format(function=SCRIPT_FUNCTION, revision=revision))


class Watch:
    """Watches the statements of a revision's body, by events of the connection."""

    def __init__(self, migration: MigrationContext, script: Script) -> None:
        self.script = script
        self.directory: ScriptDirectory = migration.opts["script"]
        self.owned = Owned(migration)
        self.connection = self.owned.connection
        self.refused = self.connection.dialect.loaded_dbapi.Error
        self.before = self.owned.facts()
        self.changes: dict[tuple[str, str, str], Change] = {}
        # as of the statement before; None where it is not known
        self.known: Facts | None = self.before
        self.counted: dict[str, int] | None = None

    @contextmanager
    def listening(self) -> Iterator[None]:
        """See each statement and each COMMIT of the connection."""
        hooks: list[tuple[Any, str, Callable[..., Any]]] = [
            (self.connection.dialect, "do_execute", self.do_execute),
            (self.connection.dialect, "do_execute_no_params", self.do_execute_no_params),
            (self.connection.dialect, "do_executemany", self.do_executemany),
            (self.connection, "commit", self.committing),
        ]
        for hook in hooks:
            event.listen(*hook)
        try:
            yield
        finally:
            for hook in hooks:
                event.remove(*hook)

    def do_execute(
        self, cursor: Any, statement: str, parameters: Any, context: ExecutionContext
    ) -> bool:
        """Execute a statement in the place of the dialect; return False for it to do so."""
        run = context.dialect.do_execute
        return self.watched(statement, context, lambda: run(cursor, statement, parameters, context))

    def do_executemany(
        self, cursor: Any, statement: str, parameters: Any, context: ExecutionContext
    ) -> bool:
        """Do what `do_execute` does, for several rows of parameters."""
        run = context.dialect.do_executemany
        return self.watched(statement, context, lambda: run(cursor, statement, parameters, context))

    def do_execute_no_params(self, cursor: Any, statement: str, context: ExecutionContext) -> bool:
        """Do what `do_execute` does, without parameters."""
        run = context.dialect.do_execute_no_params
        return self.watched(statement, context, lambda: run(cursor, statement, context))

    def committing(self, _: Any) -> None:
        """Raise before a COMMIT of something that is broken."""
        self.verify()
        self.counted = None  # the counters are those of a transaction

    def watched(self, text: str, context: ExecutionContext, execute: Execute) -> bool:
        """Execute a statement of the revision's own, and note what it changes.

        Return whether it was executed: one of an operation or of another connection was not.
        """
        if context.root_connection is not self.connection:
            return False
        statement = self.statement(text)
        if statement is None:
            self.known = self.counted = None
            return False
        if COMMITS.match(text):
            self.verify()
        raw = self.connection.connection.dbapi_connection
        if not (self.owned.on_postgresql and raw and is_autocommit(self.connection)):
            self.execute(statement, execute)
        elif NEEDS_NO_TRANSACTION.match(text):
            self.counted = None
            self.execute(statement._replace(is_committed=True), execute)
            self.verify()
        else:
            with self.own_transaction():
                self.execute(statement, execute)
                self.verify()
        return True

    def statement(self, text: str) -> Statement | None:
        """Return a statement with the line that executes it; None for one of an operation."""
        frame, of_operation = inspect.currentframe(), False
        while frame and frame.f_code.co_filename != self.script.path:
            file = frame.f_code.co_filename
            of_operation |= file.startswith(OPERATIONS) and file != RUNS_TEXT
            frame = frame.f_back
        if of_operation:
            return None
        return Statement(frame.f_lineno if frame else None, text)

    @contextmanager
    def own_transaction(self) -> Iterator[None]:
        """Give a statement a transaction, where the connection has none."""
        self.control("BEGIN")
        self.counted = None
        try:
            yield
        except Exception:
            self.known = None
            with suppress(self.refused):  # as where the connection is lost
                self.control("ROLLBACK")
            raise
        self.control("COMMIT")
        self.counted = None

    def control(self, text: str) -> None:
        """Execute a statement beside SQLAlchemy."""
        self.connection.connection.cursor().execute(text)

    def execute(self, statement: Statement, execute: Execute) -> None:
        """Execute a statement, and note what it changes."""
        try:
            known = self.owned.facts() if self.known is None else self.known
            counted = self.owned.written(known) if self.counted is None else self.counted
        except self.refused:
            execute()  # in a transaction that has failed, and takes nothing but a ROLLBACK
            return
        self.known = self.counted = None
        execute()
        if ROLLS_BACK.match(statement.text):
            return
        counted_now = self.owned.written(known)
        touched = {id_ for id_, number in counted_now.items() if number > counted.get(id_, 0)}
        now = known
        if "" in touched or statement.is_committed:
            now = self.owned.facts()
        self.note(known, now, statement)
        for fact in self.owned.rows_of(known, touched, statement.text):
            self.changes.setdefault(fact.key, Change(fact, statement))
        self.known, self.counted = now, counted_now

    def note(self, known: Facts, now: Facts, statement: Statement) -> None:
        """Note what a statement has changed: what was there before, and the statement."""
        if now is known:
            return
        for key, fact in known.items():
            if not is_kept(fact, now.get(key)):
                self.changes.setdefault(key, Change(fact, statement))
        for key, fact in now.items():
            if key not in known and fact.kind == "version":
                self.changes.setdefault(key, Change(fact, statement, is_new=True))

    def verify(self, *, is_end: bool = False) -> None:
        """Raise CommandError where something is broken that no later statement has mended."""
        if not self.changes and not is_end:
            return
        try:
            now = self.owned.facts()
        except self.refused:
            if self.owned.on_postgresql:
                return  # the transaction has failed, so nothing of it can be committed
            raise
        broken = [change for change in self.changes.values() if change.lasts(now)]
        broken += [
            Change(fact, None)
            for key, fact in self.before.items()
            if fact.kind in ABSOLUTE and fact.version and key not in self.changes
            if not is_kept(fact, now.get(key))
        ]
        if broken:
            self.changes.clear()
            words = Words(self.script, self.owned, self.before, now)
            raise CommandError(words.of(broken, in_order(self.directory)))
