"""Linting revisions: what one would do to those who use the database meanwhile.

Each is rendered by itself, as SQL, for squawk and for checks of our own; and its file is read for
what no SQL shows. Trouble is told once, by its line, unless a comment argues it away.
"""

import traceback
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

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


def chosen(directory: ScriptDirectory, given: list[str]) -> list[Script]:
    """The revisions that are named, oldest first; all of them where none is.

    A name is a number, `head`, or `A:B`: what leads from A to B, as `alembic upgrade A:B` goes.
    Raises CommandError for one that doesn't exist or stands for none, and where a file can't be
    loaded.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", UserWarning)  # two files with one number
            known = {script.revision: script for script in directory.walk_revisions()}
    except CommandError:
        raise
    except Exception as error:
        raise CommandError(f"a revision file can't be loaded: {where(error)}") from error
    if not known:
        raise CommandError("there is no revision to lint")
    numbers = list(known)[::-1]
    wanted = {number for name in given for number in named(name, numbers)} if given else numbers
    return [known[number] for number in numbers if number in wanted]


def where(error: Exception) -> str:
    """What went wrong, and in which file, in one line."""
    frames = traceback.extract_tb(error.__traceback__)
    files = [Path(frame.filename).name for frame in frames if "versions" in frame.filename]
    place = f"{files[-1]}: " if files else ""
    return f"{place}{type(error).__name__}: {error}"


def named(name: str, numbers: list[str]) -> list[str]:
    """The numbers that a name stands for; `numbers` are all there are, in their order."""

    def place(text: str) -> int:
        """How many revisions there are up to this one."""
        if text == "base":
            return 0
        if text == "head":
            return len(numbers)
        if text not in numbers:
            raise CommandError(f"there is no revision {text}")
        return numbers.index(text) + 1

    begin, colon, end = name.partition(":")
    first, last = begin or "base", end or "head"
    if not colon:
        if name == "base":
            raise CommandError("base is no revision: base:head is for all that lead there")
        return numbers[place(name) - 1 : place(name)]
    if place(first) > place(last):
        raise CommandError(
            f"{name} stands for no revision, since nothing leads up from {first} to {last}: "
            "name the older one first, as in 0003:0005"
        )
    return numbers[place(first) : place(last)]  # none where nothing came since: no trouble either


def lint(directory: ScriptDirectory, scripts: list[Script]) -> dict[str, list[Finding]]:
    """What is wrong with each revision, by its number; raise CommandError without squawk."""
    drafts = [draft(directory, script) for script in scripts]
    remarks = iter(squawk.ask([way for draft in drafts for way in draft.ways]))
    judged = {}
    for script, each in zip(scripts, drafts, strict=True):
        own = list(own_findings(each))
        heard = [f for way in each.ways for f in squawk.findings(way, next(remarks))]
        judged[script.revision] = unsuppressed(each.source, once([*own, *heard]))
    return judged


def draft(directory: ScriptDirectory, script: Script) -> Draft:
    """Read a revision's file and render both of its ways."""
    read = source.read(Path(script.path))
    rendered = [render(directory, script, up=up) for up in (True, False)]
    made = {
        change.table
        for statement in rendered[0].statements
        for change in changes(statement.text)
        if change.kind == "create table"
    }
    ways = [
        Way(
            read,
            script.revision,
            [*rendering.statements, *unheard(read, rendering, up=up)],
            made,
            up,
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


def own_findings(draft: Draft) -> Iterator[Finding]:
    """Everything but what squawk says."""
    for way, failure in zip(draft.ways, draft.failures, strict=True):
        yield from sql_checks.check(way)
        if failure is not None:
            yield from unrendered(way, failure)
    yield from file_checks.check(draft.source, draft.ways[0].made, idle=idle(draft))
    yield from subjects.check(draft.source, draft.ways[0].revision)


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
