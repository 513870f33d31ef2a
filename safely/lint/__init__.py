"""Lint revisions: report what they would do to the clients of a database in use.

Each revision is rendered by itself as SQL, for squawk and for checks of our own, and its file is
checked for what no SQL shows. A finding names the line of the file, unless a comment there
suppresses it.
"""

import traceback
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import sqlalchemy as sa
from alembic.script import Script, ScriptDirectory
from alembic.util import CommandError

from safely.lint import file_checks, source, sql_checks, squawk, subjects
from safely.lint.directions import Direction
from safely.lint.findings import Finding, apply_suppressions, without_duplicates
from safely.lint.rendering import BEGIN, COMMIT, Failure, Rendering, Statement, render
from safely.lint.source import Source
from safely.lint.statements import changes


class Reading(NamedTuple):
    """A revision, parsed and rendered."""

    source: Source
    directions: list[Direction]
    """Upgrade and downgrade."""
    failures: list[Failure | None]
    """The error of each, where its body couldn't be rendered."""
    is_merge: bool


def select(script: ScriptDirectory, names: list[str]) -> list[Script]:
    """Return the revisions that are named, each after those it builds on; all without a name.

    A name is an id, the first characters of one, `head`, or `A:B` for the revisions that
    `alembic upgrade A:B` runs. Raise CommandError for a name that stands for no revision, and
    where a revision file can't be loaded.
    """
    revisions = load(script)
    if not revisions:
        raise CommandError("there is no revision to lint")
    if not names:
        return revisions
    wanted = {id_ for name in names for id_ in named(script, name)}
    return [revision for revision in revisions if revision.revision in wanted]


def load(script: ScriptDirectory) -> list[Script]:
    """Return all revisions, each after those it builds on.

    Raise CommandError for a file that can't be loaded, and for two files with one id.
    """
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("error", ".* is present more than once", UserWarning)
            return list(script.walk_revisions())[::-1]
    except CommandError:
        raise
    except Exception as error:
        raise CommandError(f"a revision file can't be loaded: {cause(error, script)}") from error


def cause(error: Exception, script: ScriptDirectory) -> str:
    """Return what is wrong with a revision file, and its name, in one line."""
    folders = [script.dir, *(script.version_locations or [])]
    paths = [Path(frame.filename) for frame in traceback.extract_tb(error.__traceback__)]
    files = [path for path in paths if any(path.is_relative_to(folder) for folder in folders)]
    prefix = f"{files[-1].name}: " if files else ""
    return f"{prefix}{type(error).__name__}: {error}"


def named(script: ScriptDirectory, name: str) -> set[str]:
    """Return the ids of the revisions for which a name stands; see `select`."""
    begin, colon, end = name.partition(":")
    if not colon:
        revisions = resolve(script, name)
        if not revisions:
            raise CommandError(f"{name} is no revision: base:head stands for all of them")
        return set(revisions)
    older, newer = resolve(script, begin or "base"), resolve(script, end or "heads")
    between = script.iterate_revisions(newer or "base", older or "base", implicit_base=True)
    ids = {revision.revision for revision in between}
    if not ids and older != newer:
        raise CommandError(
            f"{name} stands for no revision, since nothing leads up from {begin} to {end}: "
            "name the older one first"
        )
    return ids


def resolve(script: ScriptDirectory, name: str) -> tuple[str, ...]:
    """Return the id that Alembic finds for a name: several for `heads`, none for `base`."""
    return tuple(revision.revision for revision in script.get_revisions(name))


def lint(
    script: ScriptDirectory,
    revisions: list[Script],
    metadata: sa.MetaData,
    options: Mapping[str, Any],
    *,
    numbered: bool = False,
) -> dict[str, list[Finding]]:
    """Return the findings of each revision, by its id.

    `metadata` has the tables of the models. `options` are those that env.py passes to
    context.configure(): the operations of `safely` read them. `numbered` says whether the project
    numbers its revisions. Raise CommandError where squawk isn't installed.
    """
    readings = [
        read(script, revision, metadata, options, numbered=numbered) for revision in revisions
    ]
    directions = [direction for reading in readings for direction in reading.directions]
    remarks = iter(squawk.check(directions))
    findings_by_revision = {}
    for revision, reading in zip(revisions, readings, strict=True):
        findings = list(own_findings(reading, script))
        for direction in reading.directions:
            findings += squawk.findings(direction, next(remarks))
        findings_by_revision[revision.revision] = apply_suppressions(
            reading.source, without_duplicates(findings)
        )
    return findings_by_revision


def read(
    script: ScriptDirectory,
    revision: Script,
    metadata: sa.MetaData,
    options: Mapping[str, Any],
    *,
    numbered: bool,
) -> Reading:
    """Parse a revision's file, and render both of its directions."""
    parsed = source.read(Path(revision.path))
    renderings = {up: render(script, revision, metadata, options, up=up) for up in (True, False)}
    new_tables = {
        change.table
        for statement in renderings[True].statements
        for change in changes(statement.text)
        if change.kind == "create table"
    }
    directions = [
        Direction(
            source=parsed,
            revision=revision.revision,
            statements=[*rendering.statements, *skipped_sql(parsed, rendering, up=up)],
            new_tables=new_tables,
            up=up,
            metadata=metadata,
            numbered=numbered,
        )
        for up, rendering in renderings.items()
    ]
    failures = [rendering.failure for rendering in renderings.values()]
    return Reading(parsed, directions, failures, revision.is_merge_point)


def skipped_sql(parsed: Source, rendering: Rendering, *, up: bool) -> Iterator[Statement]:
    """Yield the SQL in the file that the rendering lacks, since its line didn't run."""
    rendered_lines = {statement.line for statement in rendering.statements}
    for call in parsed.calls:
        if call.name in source.EXECUTING and call.up == up and call.node.args:
            first, last = call.lines
            text = parsed.text(call.node.args[0])
            if text and rendered_lines.isdisjoint(range(first, last + 1)):
                yield Statement(f"{text};", first, from_safely=False, transaction=-first)


def own_findings(reading: Reading, script: ScriptDirectory) -> Iterator[Finding]:
    """Yield the findings of all checks but squawk's."""
    for direction, failure in zip(reading.directions, reading.failures, strict=True):
        yield from sql_checks.check(direction)
        if failure is not None:
            yield unrendered(direction, failure)
    upgrade, downgrade = reading.directions
    yield from file_checks.check(
        upgrade, downgrade, script, is_merge=reading.is_merge, is_undone=is_undone(reading)
    )
    yield from subjects.check(upgrade)


def is_undone(reading: Reading) -> bool:
    """Return whether the downgrade printed something, failed, or has nothing to undo."""
    upgrade, downgrade = reading.directions
    _, failure = reading.failures
    return prints_something(downgrade) or failure is not None or not prints_something(upgrade)


def prints_something(direction: Direction) -> bool:
    """Return whether the rendering has a statement between BEGIN and COMMIT."""
    return any(
        statement.transaction > 0 and statement.text not in (BEGIN, COMMIT)
        for statement in direction.statements
    )


def unrendered(direction: Direction, failure: Failure) -> Finding:
    """Return a finding about a body that raised an error while it was rendered."""
    parsed, error = direction.source, failure.error
    call = parsed.call_at(failure.line) if failure.line else None
    lines = parsed.first_line(up=direction.up)
    if failure.line:
        lines = call.lines if call else (failure.line, failure.line)
    message = str(error).partition("\n")[0]
    if isinstance(error, CommandError):
        return Finding.of("refused", lines, error=message)
    get_bind = next(
        (
            call
            for call in parsed.calls
            if call.owner == "op" and call.name == "get_bind" and call.up == direction.up
        ),
        None,
    )
    if get_bind and isinstance(error, AttributeError):  # get_bind() returns None without a server
        stopped = f" Nothing after line {failure.line} was rendered."
        return Finding.of("unseen", get_bind.lines, stopped=stopped)
    return Finding.of("unrendered", lines, error=f"{type(error).__name__}: {message}")
