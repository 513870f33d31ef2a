"""The SQL of one revision, each statement with the line of the file that emitted it.

Only the body of the revision runs, and its operations are rendered as in Alembic's offline mode. So
the SQL has nothing that the migrator adds: no rows of the ledger, no published version, no
timeouts. The line of a statement is read from the call stack at the moment when Alembic writes it.

A body may ask for a connection: it gets one that records what the body executes, and that answers
nothing (stand_in.py), or one to a scratch database with the schema of the revision before
(scratch_schema.py), on which the operations are executed too.
"""

import inspect
import io
import sys
import traceback
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from types import FrameType
from typing import Any, NamedTuple, Protocol

import greenlet  # type: ignore[import-untyped]  # it has no types
import sqlalchemy as sa
from alembic.config import Config
from alembic.ddl.postgresql import PostgresqlImpl
from alembic.operations import BatchOperations, Operations
from alembic.script import Script, ScriptDirectory
from sqlalchemy.exc import CompileError

from safely.alembic_internals import EnvironmentContext, MigrationContext, nested
from safely.lint import outside, stand_in

SAFELY, LINT = "safely", "safely.lint"
BEGIN, COMMIT = "BEGIN;", "COMMIT;"
ERRORS = (Exception, SystemExit, stand_in.GivenUp)  # any error of a body becomes a finding
MOST_STATEMENTS = 1_000  # of one line, which may loop until a database says that it is done
MOST_READS = 20  # that nothing answers, of a body that catches the error and tries again


class Statement(NamedTuple):
    """A piece of SQL that the revision emitted at once."""

    text: str
    line: int | None
    """The line of the revision file; None if Alembic emitted it by itself."""
    from_safely: bool
    """Whether an operation of `safely` emitted it; the tests of `safely` check what these do."""
    transaction: int
    """The statements of one transaction have the same number; negative if it was not rendered."""
    values: Mapping[str, Any] = {}  # nobody changes it
    """The local variables of the function on that line, by which a loop is spelled."""
    from_alembic: bool = False
    """Whether Alembic begins or ends its own transaction by it."""


class Failure(NamedTuple):
    """An error of a body, and the line of the file that raised it."""

    error: BaseException
    line: int | None


class Rewrite(NamedTuple):
    """A batch that makes its table anew."""

    table: str
    line: int


class Rendering(NamedTuple):
    """The SQL of one direction, up to the failure if there is one."""

    statements: list[Statement]
    failure: Failure | None = None
    """The error with which the body ended."""
    reads: Sequence[int] = ()
    """The lines on which it asked the database for something."""
    unprintable: Sequence[Failure] = ()
    """Statements that Alembic can't print with their values, though the body went on."""
    prevented: Sequence[Failure] = ()
    """The actions outside of its database that lint has kept the body from."""
    rewrites: Sequence[Rewrite] = ()
    """The batches that make their table anew."""
    lines: frozenset[int] = frozenset()
    """The lines of the file that ran."""
    is_answered: bool = False
    """Whether a scratch database answered the reads."""


class Place(NamedTuple):
    """The line of the revision file that runs, and what is known about it."""

    line: int | None
    from_safely: bool
    values: Mapping[str, Any]


class Executing(Protocol):
    """A scratch database on which the rendered statements are executed, too."""

    connection: sa.Connection
    record: Callable[[str], None]
    """A function that is called with each statement that the body executes on the connection."""

    def execute(self, statement: str) -> None:
        """Execute a statement; what it refuses changes nothing."""


class Recorder(io.StringIO):
    """A stream to which Alembic writes SQL; it records which line emitted each statement."""

    connection: sa.Connection
    migration: MigrationContext

    def __init__(self, path: str, scratch: Executing | None = None) -> None:
        super().__init__()
        self.path = path
        self.scratch = scratch
        self.values: Mapping[str, Any] = {}
        """The variables of code that stands in no function."""
        self.statements: list[Statement] = []
        self.reads: list[int] = []
        self.unprintable: list[Failure] = []
        self.rewrites: list[Rewrite] = []
        self.prevented: list[Failure] = []
        self.in_transaction, self.transaction = False, 0
        self.is_alembics = False
        """Whether Alembic begins or ends its own transaction."""
        self.queued: Place | None = None
        self.numbers: Counter[int | None] = Counter()
        """How many statements each line has emitted."""

    def use(self, connection: sa.Connection) -> None:
        """Let `op` and the body have this connection; what `op` itself does is rendered."""
        self.connection = connection
        self.migration.connection = self.migration.impl.connection = connection
        self.migration.dialect = connection.dialect

    def write(self, text: str) -> int:
        """Record a statement; Alembic writes one at a time, also BEGIN and COMMIT."""
        text = text.strip()
        if text in (BEGIN, COMMIT):
            self.in_transaction = text == BEGIN
        self.record(text, text == BEGIN)
        if self.scratch is not None and text not in (BEGIN, COMMIT):
            self.scratch.execute(text)
        return len(text)

    def executed(self, text: str) -> None:
        """Record a statement that the body executes on the connection."""
        if stand_in.is_looking_first(text):
            return
        if stand_in.CATALOGUE not in text:
            self.record(f"{text.strip().rstrip(';')};")
        if stand_in.is_reading(text):
            self.reads.append(self.place().line or 1)
            if self.scratch is None and len(self.reads) > MOST_READS:
                raise stand_in.GivenUp

    def wait(self) -> None:
        """Don't sleep, and end the body if it waits for a database to answer."""
        if self.reads and self.scratch is None:
            raise stand_in.GivenUp

    def note(self, error: outside.Prevented) -> None:
        """Note what the body would do outside of its database."""
        self.prevented.append(Failure(error, self.place().line))

    def record(self, text: str, begins: bool = False) -> None:  # noqa: FBT001, FBT002  # private
        """Record a statement of the line that runs."""
        if not self.in_transaction or begins:  # in autocommit, each has its own transaction
            self.transaction += 1
        place = self.place()
        self.numbers[place.line] += 1
        if self.numbers[place.line] > MOST_STATEMENTS and place.line is not None:
            raise stand_in.GivenUp
        self.statements.append(
            Statement(
                text,
                place.line,
                place.from_safely,
                self.transaction,
                place.values,
                self.is_alembics,
            )
        )

    def place(self) -> Place:
        """Return the innermost line of the revision file in the call stack.

        While a batch emits its operations, it is the line of each.
        """
        if self.queued is not None:
            return self.queued
        callee = None
        for frame in call_stack():
            if frame.f_code.co_filename == self.path:
                module = "" if callee is None else str(callee.f_globals["__name__"])
                is_interpreted = frame.f_code.co_name == "<module>"
                values = self.values if is_interpreted else dict(frame.f_locals)
                from_safely = module.startswith(SAFELY) and not module.startswith(LINT)
                return Place(frame.f_lineno, from_safely, values)
            callee = frame
        return Place(None, from_safely=False, values={})


def call_stack() -> Iterator[FrameType]:
    """Yield the frames that lead here, the innermost first, also those of outer greenlets.

    The code of op.run_async() is such an outer one.
    """
    frame, running = inspect.currentframe(), greenlet.getcurrent()
    while frame is not None:
        yield frame
        frame = frame.f_back
        if frame is None and running.parent is not None:
            running = running.parent
            frame = running.gr_frame


class Queue(list[Any]):
    """The operations of a batch, which it emits at its end, each with the line that called it."""

    def __init__(self, recorder: Recorder) -> None:
        super().__init__()
        self.recorder = recorder
        self.places: list[Place] = []

    def append(self, item: Any) -> None:
        """Add an operation, and note the line that runs."""
        super().append(item)
        self.places.append(self.recorder.place())

    def __iter__(self) -> Iterator[Any]:
        """Yield the operations; what each emits belongs to its line."""
        before = self.recorder.queued
        try:
            for item, place in zip(super().__iter__(), self.places, strict=True):
                self.recorder.queued = place
                yield item
        finally:
            self.recorder.queued = before


def replace_batches(operations: Operations, recorder: Recorder) -> None:
    """Let the operations of each batch keep their lines.

    On PostgreSQL, each is an ALTER TABLE of its own, unless the table is to be made anew.
    """

    @contextmanager
    def batch_alter_table(
        table_name: str, *arguments: Any, **options: Any
    ) -> Iterator[BatchOperations]:
        if options.get("recreate") == "always":
            options["recreate"] = "never"
            recorder.rewrites.append(Rewrite(table_name, recorder.place().line or 1))
        # Alembic's proxy calls what the instance has, and the class has the original
        with Operations.batch_alter_table(operations, table_name, *arguments, **options) as batch:
            batch.impl.batch = Queue(recorder)
            yield batch

    operations.batch_alter_table = batch_alter_table  # type: ignore[method-assign]  # see above


def replace_run_async(operations: Operations, recorder: Recorder) -> None:
    """Let `op.run_async` work where a scratch database gives it its connection."""

    def run_async(*arguments: Any, **options: Any) -> Any:
        recorder.reads.append(recorder.place().line or 1)
        if recorder.scratch is None:
            raise stand_in.NoAnswer("there is no database to answer this")
        return Operations.run_async(operations, *arguments, **options)

    operations.run_async = run_async  # type: ignore[method-assign]  # likewise


class RecordingImpl(PostgresqlImpl):
    """Alembic's rendering for PostgreSQL, also of values that have no literal in SQLAlchemy."""

    recorder: Recorder

    def emit_begin(self) -> None:
        """Emit the BEGIN of Alembic's own transaction."""
        self.recorder.is_alembics = True
        super().emit_begin()
        self.recorder.is_alembics = False

    def emit_commit(self) -> None:
        """Emit the COMMIT of Alembic's own transaction."""
        self.recorder.is_alembics = True
        super().emit_commit()
        self.recorder.is_alembics = False

    def _exec(self, construct: Any, *arguments: Any, **options: Any) -> None:
        """Emit a statement; if a value has no literal, note that, and write it as a string."""
        try:
            super()._exec(construct, *arguments, **options)
        except (CompileError, NotImplementedError) as error:
            self.recorder.unprintable.append(Failure(error, self.recorder.place().line))
            self.static_output(f"{compiled(construct)};")


def compiled(construct: sa.ClauseElement) -> str:
    """Return a statement as SQL, each of its values as a literal."""
    result = construct.compile(dialect=stand_in.DIALECT)
    names: Iterable[str] = getattr(result, "positiontup", None) or ()
    return stand_in.with_literals(str(result), [(result.params or {})[name] for name in names])


@contextmanager
def recording(  # noqa: PLR0913  # what lint knows of a project and its revision
    script: ScriptDirectory,
    revision: Script,
    metadata: sa.MetaData,
    options: Mapping[str, Any],
    recorder: Recorder,
    *,
    up: bool,
) -> Iterator[MigrationContext]:
    """Let `op` and `alembic.context` work in the block, and record what they emit.

    `options` are those that env.py passes to context.configure(); those that decide where the SQL
    goes are replaced.
    """
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
    allowed = ""
    if recorder.scratch is None:
        connection = stand_in.connection(recorder.executed)
    else:
        connection = recorder.scratch.connection
        recorder.scratch.record = recorder.executed
        allowed = str(connection.engine.url.query.get("host", ""))
    with (
        nested(EnvironmentContext(Config(), script, as_sql=True)) as environment,
        redirect_stdout(io.StringIO()),  # a body may print; standard output is for the findings
        outside.prevented(recorder.note, recorder.wait, allowed),
    ):
        environment.configure(**{**options, **offline})
        # the body that a migration runs is judged, and not what `--sql` would print instead of it
        environment.is_offline_mode = lambda: False  # type: ignore[method-assign]  # of this one
        migration = environment.get_context()
        migration.opts.update(revision=revision.revision, is_upgrade=up)
        migration.impl = RecordingImpl(
            migration.dialect,
            connection,
            as_sql=True,
            transactional_ddl=True,
            output_buffer=recorder,
            context_opts=migration.opts,
        )
        migration.impl.recorder = recorder
        recorder.migration = migration
        recorder.use(connection)
        with Operations.context(migration) as operations:
            replace_batches(operations, recorder)
            replace_run_async(operations, recorder)
            yield migration
    if recorder.scratch is None:
        connection.close()


def render(  # noqa: PLR0913  # likewise
    script: ScriptDirectory,
    revision: Script,
    metadata: sa.MetaData,
    options: Mapping[str, Any],
    *,
    up: bool,
    scratch: Executing | None = None,
) -> Rendering:
    """Return the SQL of one direction of one revision, for PostgreSQL.

    It needs no server. With a `scratch` database, the body may read that, and the operations are
    executed there as well.
    """
    body = getattr(revision.module, "upgrade" if up else "downgrade", None)
    if body is None:
        return Rendering([])
    recorder, failure = Recorder(revision.path, scratch), None
    with (
        recording(script, revision, metadata, options, recorder, up=up) as migration,
        traced(revision.path) as lines,
    ):
        try:
            with migration.begin_transaction(_per_migration=True):
                refuse_coroutine(body())
        except ERRORS as error:
            recorder.write(COMMIT)  # or squawk would report that the transaction is left open
            failure = Failure(error, line_of(error, revision.path))
    return Rendering(
        recorder.statements,
        failure,
        recorder.reads,
        recorder.unprintable,
        recorder.prevented,
        recorder.rewrites,
        frozenset(lines),
        is_answered=scratch is not None,
    )


def refuse_coroutine(result: Any) -> None:
    """Raise TypeError for the result of an async function, which Alembic never awaits."""
    if inspect.iscoroutine(result):
        result.close()
        raise TypeError("Alembic calls an async function and never awaits it: nothing happens")


@contextmanager
def traced(path: str) -> Iterator[set[int]]:
    """Yield a set to which each line of the file is added that runs in the block."""
    lines: set[int] = set()

    def trace_line(frame: FrameType, event: str, _: Any) -> Any:
        if event == "line":
            lines.add(frame.f_lineno)
        return trace_line

    def trace_call(frame: FrameType, _event: str, _: Any) -> Any:
        return trace_line if frame.f_code.co_filename == path else None

    before = sys.gettrace()
    sys.settrace(trace_call)
    try:
        yield lines
    finally:
        sys.settrace(before)


def line_of(error: BaseException, path: str) -> int | None:
    """Return the innermost line of the file in the traceback; None if the file isn't in it."""
    lines = [
        line
        for frame, line in traceback.walk_tb(error.__traceback__)
        if frame.f_code.co_filename == path
    ]
    return lines[-1] if lines else None
