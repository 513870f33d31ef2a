"""One direction as lint sees it: the SQL of the body, and that of its other branches."""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import sqlalchemy as sa
from alembic.script import Script, ScriptDirectory

from safely.lint.interpreter import UNKNOWN, Interpreter
from safely.lint.parsing import statements
from safely.lint.rendering import BEGIN, COMMIT, Failure, Recorder, Rendering, Statement, recording
from safely.lint.source import EXECUTING, Call, Source
from safely.lint.stand_in import NoAnswer

# operations that emit nothing by themselves
SILENT = {
    "batch_alter_table",
    "f",
    "get_bind",
    "get_context",
    "implementation_for",
    "inline_literal",
    "invoke",
    "nothing_to_undo",
    "register_operation",
    "run_async",
}


class View(NamedTuple):
    """The effects of one direction of a revision, in every branch."""

    rendering: Rendering
    statements: list[Statement]
    """The statements of the rendering, and of the branches that it didn't take."""
    unseen: dict[int, BaseException | None]
    """The lines of calls whose effect can't be told, and what they raise."""
    dead: set[int]
    """The lines of calls that PostgreSQL doesn't come to."""


def view(  # noqa: PLR0913  # what lint knows of a project, and what it has read of a revision
    script: ScriptDirectory,
    revision: Script,
    metadata: sa.MetaData,
    options: Mapping[str, Any],
    *,
    source: Source,
    rendering: Rendering,
    up: bool,
) -> View:
    """Add to a rendering what the lines of the file would do that didn't run."""
    emitted = {statement.line for statement in rendering.statements if statement.line}
    silent = [
        call
        for call in source.calls
        if call.function in source.reached(up=up)
        and emits(call)
        and emitted.isdisjoint(range(call.lines[0], call.lines[1] + 1))
    ]
    if not silent and rendering.failure is None and not rendering.reads:
        return View(rendering, rendering.statements, {}, set())
    recorder = Recorder(revision.path)
    with recording(script, revision, metadata, options, recorder, up=up) as migration:
        interpreter = Interpreter(source.tree, revision.module, recorder)
        with migration.begin_transaction(_per_migration=True):
            interpreter.run("upgrade" if up else "downgrade")
    ran = rendering.lines if rendering.failure is None else rendering.lines - {failing(rendering)}
    merged, at = list(rendering.statements), 1
    unseen: dict[int, BaseException | None] = {}
    for recorded in recorder.statements:
        # an unknown value, and not the letter as a string
        statement = recorded._replace(text=recorded.text.replace(f"'{UNKNOWN}'", UNKNOWN))
        if statement.text in (BEGIN, COMMIT) or statement.line is None:
            continue
        lines = lines_of(source, statement.line)
        if not emitted.isdisjoint(lines):
            # what comes next stands after it, in the order in which the body would emit them
            at = max(at, *(i for i, other in enumerate(merged, 1) if other.line in lines))
        elif source.call_at(statement.line) is not None or statement.line not in ran:
            if is_readable(statement):
                merged.insert(at, statement)
                at += 1
            else:
                unseen[lines[0]] = None
    judged = {statement.line for statement in merged if statement.line}
    for error, line in [*recorder.prevented, *errors(interpreter, source)]:
        if line and line not in ran and judged.isdisjoint(lines_of(source, line)):
            unseen[lines_of(source, line)[0]] = error
    if rendering.failure and not isinstance(rendering.failure.error, NoAnswer):
        # the error with which the body ended has a finding of its own
        unseen.pop(lines_of(source, failing(rendering))[0], None)
    dead = {
        call.lines[0]
        for call in source.calls
        if call.function in source.reached(up=up)
        and call.lines[0] not in interpreter.visited | rendering.lines
        and judged.isdisjoint(lines_of(source, call.lines[0]))
    }
    return View(rendering, merged, unseen, dead)


def emits(call: Call) -> bool:
    """Return whether a call that runs emits a statement."""
    if call.owner == "sql":
        return call.name in EXECUTING and bool(call.node.args)
    return call.name not in SILENT


def failing(rendering: Rendering) -> int:
    """Return the line on which the body ended with an error; 0 if none is known."""
    return (rendering.failure and rendering.failure.line) or 0


def lines_of(source: Source, line: int) -> range:
    """Return the lines of the call on a line."""
    first, last = source.lines_at(line)
    return range(first, last + 1)


def is_readable(statement: Statement) -> bool:
    """Return whether PostgreSQL can parse a statement although something in it is unknown."""
    return UNKNOWN not in statement.text or all(
        parsed.node is not None for parsed in statements(statement.text)
    )


def errors(interpreter: Interpreter, source: Source) -> Iterator[Failure]:
    """Yield the errors of operations that can't be judged, and of code that may write."""
    for failed in interpreter.errors:
        call = source.call_at(failed.line)
        if failed.has_effect or (call is not None and emits(call)):
            yield Failure(failed.error, failed.line)
