"""The SQL of one revision, each statement with the line of the file that emitted it.

Only the body of the revision runs, in Alembic's offline mode. So the SQL has nothing that the
migrator adds: no rows of the ledger, no published version, no timeouts. The line of a statement is
read from the call stack at the moment when Alembic writes it.
"""

import inspect
import io
import sys
from collections.abc import Mapping
from contextlib import redirect_stdout
from typing import Any, NamedTuple

import sqlalchemy as sa
from alembic.config import Config
from alembic.operations import Operations
from alembic.script import Script, ScriptDirectory

from safely.alembic_internals import EnvironmentContext, nested

SAFELY = "safely"
BEGIN, COMMIT = "BEGIN;", "COMMIT;"


class Statement(NamedTuple):
    """A piece of SQL that the revision emitted at once."""

    text: str
    line: int | None
    """The line of the revision file; None if Alembic emitted it by itself."""
    from_safely: bool
    """Whether an operation of `safely` emitted it; the tests of `safely` check what these do."""
    transaction: int
    """The statements of one transaction have the same number; negative if it was not rendered."""


class Failure(NamedTuple):
    """The error with which a body ended, and the line of the file that raised it."""

    error: Exception
    line: int | None


class Rendering(NamedTuple):
    """The SQL of one direction, up to the failure if there is one."""

    statements: list[Statement]
    failure: Failure | None = None


class Recorder(io.StringIO):
    """A stream to which Alembic writes SQL; it records which line emitted each statement."""

    def __init__(self, path: str) -> None:
        super().__init__()
        self.path = path
        self.statements: list[Statement] = []
        self.in_transaction, self.transaction = False, 0

    def write(self, text: str) -> int:
        """Record a statement; Alembic writes one at a time, also BEGIN and COMMIT."""
        text = text.strip()
        if text in (BEGIN, COMMIT):
            self.in_transaction = text == BEGIN
        if not self.in_transaction or text == BEGIN:  # in autocommit, each has its own transaction
            self.transaction += 1
        frame, callee = inspect.currentframe(), None
        while frame is not None and frame.f_code.co_filename != self.path:
            frame, callee = frame.f_back, frame
        line = None if frame is None else frame.f_lineno
        module = "" if callee is None else str(callee.f_globals["__name__"])
        from_safely = module.startswith(SAFELY)
        self.statements.append(Statement(text, line, from_safely, self.transaction))
        return len(text)


def render(
    script: ScriptDirectory,
    revision: Script,
    metadata: sa.MetaData,
    options: Mapping[str, Any],
    *,
    up: bool,
) -> Rendering:
    """Return the SQL of one direction of one revision, for PostgreSQL; needs no server.

    `options` are those that env.py passes to context.configure(); those that decide where the SQL
    goes are replaced.
    """
    body = getattr(revision.module, "upgrade" if up else "downgrade", None)
    if body is None:
        return Rendering([])
    recorder = Recorder(revision.path)
    offline = {
        "connection": None,
        "url": None,
        "dialect_name": "postgresql",
        "dialect_opts": {"paramstyle": "named"},
        "literal_binds": True,
        "transactional_ddl": True,
        "transaction_per_migration": True,
        "target_metadata": metadata,
        "output_buffer": recorder,
    }
    with (
        nested(EnvironmentContext(Config(), script, as_sql=True)) as environment,
        redirect_stdout(sys.stderr),  # a body may print; standard output is for the findings
    ):
        environment.configure(**{**options, **offline})
        migration = environment.get_context()
        migration.opts.update(revision=revision.revision, is_upgrade=up)
        try:
            with Operations.context(migration), migration.begin_transaction(_per_migration=True):
                body()
        except Exception as error:  # noqa: BLE001  # any error of the body becomes a finding
            recorder.write(COMMIT)  # or squawk would report that the transaction is left open
            return Rendering(recorder.statements, Failure(error, line_of(error, revision.path)))
    return Rendering(recorder.statements)


def line_of(error: BaseException, path: str) -> int | None:
    """Return the innermost line of the file in the traceback; None if the file isn't in it."""
    line, entry = None, error.__traceback__
    while entry is not None:
        if entry.tb_frame.f_code.co_filename == path:
            line = entry.tb_lineno
        entry = entry.tb_next
    return line
