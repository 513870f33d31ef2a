"""Lint revisions: report what they would do to the clients of a database in use.

Each revision is rendered by itself as SQL, for squawk and for checks of our own, and its file is
checked for what no SQL shows. A finding names the line of the file, unless a comment there
suppresses it.
"""

import traceback
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import sqlalchemy as sa
from alembic.script import Script, ScriptDirectory
from alembic.util import CommandError

from safely.errors import first_line
from safely.lint import source, squawk
from safely.lint.checks import files, indexes, kinds, order, rights, settings, subjects, tables
from safely.lint.directions import Direction
from safely.lint.findings import Finding, apply_suppressions, without_duplicates
from safely.lint.outside import Prevented
from safely.lint.rendering import BEGIN, COMMIT, Rendering, render
from safely.lint.source import Source
from safely.lint.sql_text import unqualified
from safely.lint.stand_in import GivenUp, NoAnswer
from safely.lint.statement_kinds import ACCESS_EXCLUSIVE, CREATE_TABLE
from safely.lint.statements import changes
from safely.lint.views import View, view
from safely.operations.connection import Refused

ON_SCRATCH = (
    "Lint ran the body on a scratch database with the tables of the revision before, and without "
    "rows."
)
WITHOUT_ROWS = (
    "On a scratch database, whose tables have no rows, this line raises {error}. So lint judged "
    "each later statement by itself."
)
WITHOUT_SCRATCH = (
    "Lint has no scratch database here (pip install 'safely[rehearse]'), so it judged every "
    "statement of the file, whatever the condition before it."
)

PARTS = (  # of a table, which are dropped with it
    "drop column", "drop constraint", "drop index", "drop policy", "drop rule", "drop trigger",
    "no default",
)  # fmt: skip


class Scratch(Protocol):
    """A scratch database, with which bodies are rendered that read it."""

    def render(self, revision: Script, *, up: bool) -> Rendering | None:
        """Return the SQL of one direction of a revision; None where there is no such database."""


SQL_CHECKS = (tables, kinds, settings, rights, indexes, order)


class Reading(NamedTuple):
    """A revision, parsed and rendered."""

    source: Source
    directions: list[Direction]
    """Upgrade and downgrade."""
    views: list[View]
    """How each was rendered."""


def select(script: ScriptDirectory, names: list[str]) -> list[Script]:
    """Return the revisions that are named, each after those it builds on; all without a name.

    A name is an id, the first characters of one, `head`, the path of a revision file, or `A:B` for
    the revisions that `alembic upgrade A:B` runs. Raise CommandError for a name that stands for no
    revision, and where a revision file can't be loaded.
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
    if name.endswith(".py"):
        return {of_file(script, Path(name))}
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


def of_file(script: ScriptDirectory, path: Path) -> str:
    """Return the id of the revision in a file; raise CommandError where it has none of ours."""
    for revision in script.walk_revisions():
        if Path(revision.path).resolve() == path.resolve():
            return revision.revision
    raise CommandError(f"{path} is no revision file of {script.dir}")


def resolve(script: ScriptDirectory, name: str) -> tuple[str, ...]:
    """Return the id that Alembic finds for a name: several for `heads`, none for `base`."""
    return tuple(revision.revision for revision in script.get_revisions(name))


def lint(  # noqa: PLR0913  # what is linted, what env.py says, and what answers bodies
    script: ScriptDirectory,
    revisions: list[Script],
    metadata: sa.MetaData,
    options: Mapping[str, Any],
    *,
    numbered: bool = False,
    with_squawk: bool = True,
    scratch: Scratch | None = None,
) -> dict[str, list[Finding]]:
    """Return the findings of each revision, by its id.

    `metadata` has the tables of the models. `options` are those that env.py passes to
    context.configure(): the operations of `safely` read them. `numbered` says whether the project
    numbers its revisions. `scratch` answers the revisions that read the database. Raise
    CommandError where squawk isn't installed, unless it is left out.
    """
    readings: dict[str, Reading] = {}
    findings: dict[str, list[Finding]] = {}
    for revision in revisions:
        try:
            reading = read(script, revision, metadata, options, numbered=numbered, scratch=scratch)
            findings[revision.revision] = list(own_findings(reading, script))
            readings[revision.revision] = reading
        except Exception as error:  # noqa: BLE001  # a file that lint can't judge hides no other
            stopped = f" Lint itself failed: {description(error)}."
            findings[revision.revision] = [Finding.of("unseen", (1, 1), stopped=stopped)]
    directions = [direction for reading in readings.values() for direction in reading.directions]
    remarks = iter(
        squawk.check(directions) if with_squawk and directions else [[] for _ in directions]
    )
    for id_, reading in readings.items():
        for direction in reading.directions:
            findings[id_] += squawk.findings(direction, next(remarks))
            findings[id_] = direction.with_locks(findings[id_])
        findings[id_] = apply_suppressions(reading.source, without_duplicates(findings[id_]))
    return findings


def read(  # noqa: PLR0913  # likewise
    script: ScriptDirectory,
    revision: Script,
    metadata: sa.MetaData,
    options: Mapping[str, Any],
    *,
    numbered: bool,
    scratch: Scratch | None = None,
) -> Reading:
    """Parse a revision's file, and render both of its directions."""
    parsed = source.read(Path(revision.path))
    views: dict[bool, View] = {}
    for up in (True, False):
        rendering = render(script, revision, metadata, options, up=up)
        if rendering.reads and scratch is not None:
            rendering = scratch.render(revision, up=up) or rendering
        views[up] = view(
            script, revision, metadata, options, source=parsed, rendering=rendering, up=up
        )
    gone = {up: dropped_with_tables(parsed, seen, metadata) for up, seen in views.items()}
    dead = views[True].dead | views[False].dead | gone[True] | gone[False]
    parsed = parsed._replace(calls=[call for call in parsed.calls if call.lines[0] not in dead])
    upgrade = views[True]
    # with a database's answers, a table that only another branch would create is there already
    certain = upgrade.rendering if upgrade.rendering.is_answered else upgrade
    new_tables: set[str] = set()
    for change in [one for statement in certain.statements for one in changes(statement.text)]:
        if change.kind in CREATE_TABLE:
            new_tables.add(change.table)
        elif change.kind == "rename table" and change.table in new_tables:
            new_tables.add(change.node.newname)
    directions = [
        Direction(
            source=parsed,
            revision=revision.revision,
            statements=[
                statement for statement in seen.statements if statement.line not in gone[up]
            ],
            new_tables=new_tables,
            up=up,
            metadata=metadata,
            numbered=numbered,
            opposite=views[not up].statements,
            spellings={},
        )
        for up, seen in views.items()
    ]
    return Reading(parsed, directions, list(views.values()))


def dropped_with_tables(parsed: Source, seen: View, metadata: sa.MetaData) -> set[int]:
    """Return the lines that drop parts of tables which the body then drops.

    Who waits and what is lost is said about the table. An operation of `safely` keeps the table
    with all of its parts, so it counts as no drop here.
    """
    indexes = {
        str(index.name): table.name for table in metadata.tables.values() for index in table.indexes
    }
    tables, lines = set(), set()
    for statement in reversed(seen.statements):
        every = list(changes(statement.text))
        tables |= {change.table for change in every if change.kind == "drop table"}
        call = parsed.call_at(statement.line) if statement.line else None
        of_call = parsed.table(call) if call and call.name == "drop_index" else None
        owners = {
            change.table or of_call or indexes.get(unqualified(change.parts.get("name", "")), "")
            for change in every
        }
        if every and owners <= tables and all(change.kind in PARTS for change in every):
            lines.add(statement.line or 0)
    return lines


def own_findings(reading: Reading, script: ScriptDirectory) -> Iterator[Finding]:
    """Yield the findings of all checks but squawk's."""
    for direction, seen in zip(reading.directions, reading.views, strict=True):
        for module in SQL_CHECKS:
            yield from module.check(direction)
        for finding in of_body(direction, seen):
            yield finding._replace(up=direction.up)
    upgrade, downgrade = reading.directions
    yield from files.check(upgrade, downgrade, script, is_undone=is_undone(reading))
    yield from subjects.check(upgrade)


def is_undone(reading: Reading) -> bool:
    """Return whether the downgrade prints something, failed, or has nothing to undo."""
    upgrade, downgrade = reading.directions
    has_failed = reading.views[1].rendering.failure is not None
    return prints_something(downgrade) or has_failed or not prints_something(upgrade)


def prints_something(direction: Direction) -> bool:
    """Return whether there is a statement between BEGIN and COMMIT."""
    return any(statement.text not in (BEGIN, COMMIT) for statement in direction.statements)


def of_body(direction: Direction, seen: View) -> Iterator[Finding]:
    """Yield the findings about what lint can't see in a body, and what `--sql` can't print."""
    parsed, rendering = direction.source, seen.rendering
    if rendering.failure is not None and not isinstance(
        rendering.failure.error, NoAnswer | GivenUp | Prevented
    ):
        yield failed(direction, rendering)
    for error, line in rendering.prevented:
        yield Finding.of("acts-outside", parsed.lines_at(line or 1), act=str(error))
    if rendering.reads:
        how = ON_SCRATCH if rendering.is_answered else WITHOUT_SCRATCH
        yield Finding.of("reads-database", parsed.lines_at(rendering.reads[0]), how=how)
    for rewrite in rendering.rewrites:
        if direction.in_use(rewrite.table):
            lines = (rewrite.line, rewrite.line)
            locks = ((rewrite.table, ACCESS_EXCLUSIVE),)
            finding = Finding.of("batch-rewrite", lines, table=rewrite.table)
            yield finding._replace(locks=locks, up=direction.up)
    for error, line in rendering.unprintable:
        yield Finding.of("unrendered", parsed.lines_at(line or 1), error=description(error))
    for line, reason in seen.unseen.items():
        if isinstance(reason, Prevented):
            yield Finding.of("acts-outside", parsed.lines_at(line), act=str(reason))
        else:
            stopped = ""
            if reason is not None and not isinstance(reason, NoAnswer):
                stopped = f" It raises {description(reason)}."
            yield Finding.of("unseen", parsed.lines_at(line), stopped=stopped)


def failed(direction: Direction, rendering: Rendering) -> Finding:
    """Return a finding about the error with which a body ended."""
    assert rendering.failure is not None  # noqa: S101  # the caller has looked
    error, at = rendering.failure
    parsed = direction.source
    lines = parsed.lines_at(at) if at else parsed.first_line(up=direction.up)
    message = description(error)
    if isinstance(error, Refused):
        return Finding.of("refused", lines, error=first_line(error))
    if rendering.is_answered:
        return Finding.of("reads-database", lines, how=WITHOUT_ROWS.format(error=message))
    return Finding.of("unrendered", lines, error=message)


def description(error: BaseException) -> str:
    """Return an error in one line."""
    return f"{type(error).__name__}: {first_line(error)}".removesuffix(": ")
