"""Linting revisions: what one would do to those who use the database meanwhile.

Each is rendered by itself, as SQL, for squawk and for checks of our own; and its file is read for
what no SQL shows. Trouble is told once, by its line, unless a comment argues it away.
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
from safely.lint.findings import Finding, found, once, unsuppressed
from safely.lint.rendering import Failure, Rendering, Statement, render
from safely.lint.source import Source
from safely.lint.statements import changes
from safely.lint.ways import Way


class Draft(NamedTuple):
    """A revision, read and rendered."""

    source: Source
    ways: list[Way]  # up, and down
    failures: list[Failure | None]  # of each


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
    folders = script.version_locations or [str(Path(script.dir, "versions"))]
    frames = traceback.extract_tb(error.__traceback__)
    files = [Path(f.filename) for f in frames if f.filename.startswith(tuple(folders))]
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

    `metadata` has the tables of the models; `options` are those that env.py gives to
    context.configure(), which `safely` needs while it prints SQL; `numbered` says whether the
    revisions are numbered. Raise CommandError where squawk isn't installed.
    """
    drafts = [
        draft(script, revision, metadata, options, numbered=numbered) for revision in revisions
    ]
    remarks = iter(squawk.ask([way for draft in drafts for way in draft.ways]))
    judged = {}
    for revision, each in zip(revisions, drafts, strict=True):
        own = list(own_findings(each, script, revision))
        heard = [f for way in each.ways for f in squawk.findings(way, next(remarks))]
        judged[revision.revision] = unsuppressed(each.source, once([*own, *heard]))
    return judged


def draft(
    script: ScriptDirectory,
    revision: Script,
    metadata: sa.MetaData,
    options: Mapping[str, Any],
    *,
    numbered: bool,
) -> Draft:
    """Read a revision's file and render both of its ways."""
    read = source.read(Path(revision.path))
    rendered = [render(script, revision, metadata, options, up=up) for up in (True, False)]
    made = {
        change.table
        for statement in rendered[0].statements
        for change in changes(statement.text)
        if change.kind == "create table"
    }
    ways = [
        Way(
            read,
            revision.revision,
            [*rendering.statements, *unheard(read, rendering, up=up)],
            made,
            up,
            metadata,
            numbered,
        )
        for rendering, up in zip(rendered, (True, False), strict=True)
    ]
    return Draft(read, ways, [rendering.failure for rendering in rendered])


def unheard(read: Source, rendering: Rendering, *, up: bool) -> Iterator[Statement]:
    """The SQL that stands in the file and was not rendered, since its line wasn't come by."""
    heard = {statement.line for statement in rendering.statements}
    for call in read.calls:
        if call.name in source.EXECUTING and call.up == up and call.node.args:
            text = read.text(call.node.args[0])
            if text and not heard & set(range(call.lines[0], call.lines[1] + 1)):
                yield Statement(
                    f"{text};", call.lines[0], trusted=False, transaction=-call.lines[0]
                )


def own_findings(draft: Draft, script: ScriptDirectory, revision: Script) -> Iterator[Finding]:
    """Everything but what squawk says."""
    for way, failure in zip(draft.ways, draft.failures, strict=True):
        yield from sql_checks.check(way)
        if failure is not None:
            yield from unrendered(way, failure)
    up, merge = draft.ways[0], revision.is_merge_point
    yield from file_checks.check(up, script, merge=merge, idle=idle(draft))
    yield from subjects.check(up)


def idle(draft: Draft) -> bool:
    """Whether the way up printed something and the way down not even a `nothing to undo`."""
    up, down = (any(map(rendered, way.statements)) for way in draft.ways)
    return up and not down and draft.failures[1] is None


def rendered(statement: Statement) -> bool:
    """Whether it was printed by running the body, and not read from the file."""
    return statement.transaction > 0 and statement.text not in ("BEGIN;", "COMMIT;")


def unrendered(way: Way, failure: Failure) -> Iterator[Finding]:
    """What a body raised instead of being printed."""
    read = way.source
    call = read.call_at(failure.line) if failure.line else None
    line = failure.line or read.head(up=way.up)[0]
    lines = call.lines if call else (line, line)
    words = str(failure.error).partition("\n")[0]
    looks = [c for c in read.calls if c.by == "op" and c.name == "get_bind" and c.up == way.up]
    if isinstance(failure.error, CommandError):
        yield found("refused", lines, words=words)
    elif looks and isinstance(failure.error, AttributeError):  # there is no connection to ask
        stopped = f" Behind line {failure.line} nothing was rendered at all."
        yield found("unseen", looks[0].lines, stopped=stopped)
    else:
        yield found("unrendered", lines, words=f"{type(failure.error).__name__}: {words}")
