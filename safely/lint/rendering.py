"""A revision as SQL, by itself: each statement with the line of the file that emitted it.

Only the body runs, against Alembic's own offline context, set up as env.py sets it up. So nothing
that the migrator adds (the ledger's rows, the published version, timeouts) has to be told apart:
it isn't there. Who emitted a statement is read from the stack at the moment it is written.
"""

import inspect
import io
import sys
from collections.abc import Mapping
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any, NamedTuple

import sqlalchemy as sa
from alembic.config import Config
from alembic.operations import Operations
from alembic.runtime.environment import EnvironmentContext
from alembic.script import Script, ScriptDirectory

SAFELY = "safely"


class Statement(NamedTuple):
    """What was emitted at once."""

    text: str
    line: int | None  # of the revision's file; None: nobody there asked for it
    trusted: bool  # `safely` said it
    transaction: int  # those of one transaction share a number


class Failure(NamedTuple):
    """What a body raised instead of being printed."""

    error: Exception
    line: int | None


class Rendering(NamedTuple):
    """The SQL of one direction, as far as it could be printed."""

    statements: list[Statement]
    failure: Failure | None = None


class Tape(io.StringIO):
    """Where Alembic prints to; keeps who made it print."""

    def __init__(self, path: str) -> None:
        super().__init__()
        self.path = path
        self.statements: list[Statement] = []
        self.inside, self.number = False, 0

    def write(self, text: str) -> int:
        """Take a statement; Alembic hands over one at a time, with its BEGIN and COMMIT."""
        text = text.strip()
        if text in ("BEGIN;", "COMMIT;"):
            self.inside = text == "BEGIN;"
        if not self.inside or text == "BEGIN;":  # outside each statement is one of its own
            self.number += 1
        frame, called = inspect.currentframe(), None
        while frame is not None and frame.f_code.co_filename != self.path:
            frame, called = frame.f_back, frame
        line = None if frame is None else frame.f_lineno
        trusted = called is not None and str(called.f_globals["__name__"]).startswith(SAFELY)
        self.statements.append(Statement(text, line, trusted, self.number))
        return len(text)


def render(
    directory: ScriptDirectory,
    script: Script,
    metadata: sa.MetaData,
    options: Mapping[str, Any],
    *,
    up: bool,
) -> Rendering:
    """Return the SQL of one direction of one revision, for PostgreSQL; needs no server.

    `options` are those that env.py gives to context.configure(); what decides where the SQL goes
    is set here.
    """
    body = getattr(script.module, "upgrade" if up else "downgrade", None)
    tape = Tape(script.path)
    if body is None:
        return Rendering([])
    # what a body prints is not the report's
    with EnvironmentContext(Config(), directory, as_sql=True) as env, redirect_stdout(sys.stderr):
        offline = {
            "connection": None,
            "url": None,
            "dialect_name": "postgresql",
            "dialect_opts": {"paramstyle": "named"},
            "literal_binds": True,
            "transactional_ddl": True,
            "transaction_per_migration": True,
            "target_metadata": metadata,
            "output_buffer": tape,
        }
        env.configure(**{**options, **offline})
        migration = env.get_context()
        migration.opts.update(revision=script.revision, is_upgrade=up)
        try:
            with Operations.context(migration), migration.begin_transaction(_per_migration=True):
                body()
        except Exception as error:  # noqa: BLE001  # whatever it is, it is told
            tape.write("COMMIT;")  # a linter would find the transaction open
            return Rendering(tape.statements, Failure(error, line_of(error, script.path)))
    return Rendering(tape.statements)


def line_of(error: BaseException, path: str | Path) -> int | None:
    """The line of the file that raised, or that called who raised; None if it wasn't there."""
    found, step = None, error.__traceback__
    while step is not None:
        if step.tb_frame.f_code.co_filename == str(path):
            found = step.tb_lineno
        step = step.tb_next
    return found
