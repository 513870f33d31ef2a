"""The dangerous revisions in tests/data/dangers: what each says about itself, and its SQL.

A file marks the line of its danger by `# <- RULE`, and has a comment `# lock: MODE on TABLE, …`
with the locks that PostgreSQL takes there, those of ordinary reads left out.
"""

import re
from pathlib import Path
from typing import NamedTuple

import sqlalchemy as sa
from alembic.script import Script, ScriptDirectory

from safely.lint.rendering import BEGIN, COMMIT, Statement, render
from safely.lint.source import read
from tests.paths import ROOT

DANGERS = ROOT / "tests/data/dangers"
HARMLESS = ROOT / "tests/data/harmless"
SCHEMA = "schema"  # the revision that creates the tables in use
MARK = re.compile(r"# <- (?P<rule>[\w-]+)$")
LOCK = re.compile(r"^# lock: (?P<locks>.*)$", re.MULTILINE)
NO_LOCK = "no table"
OPTIONS = {"lock_timeout": "100ms"}  # of env.py


class Danger(NamedTuple):
    """A revision with one danger, and what must be said about it."""

    path: Path
    rule: str
    line: int
    locks: dict[str, str]
    """The lock mode for each table."""

    @property
    def category(self) -> str:
        """The folder of the file."""
        return self.path.parent.name

    @property
    def revision(self) -> str:
        """The id of the revision."""
        return self.path.stem


def dangers() -> list[Danger]:
    """Return all dangers, by category and name."""
    return [read_danger(path) for path in sorted(DANGERS.glob("*/*.py"))]


def read_danger(path: Path) -> Danger:
    """Read what a file says about its danger; fail where it doesn't say it, or says it twice."""
    text = path.read_text(encoding="utf-8")
    (mark,) = (
        (match["rule"], line)
        for line, code in enumerate(text.splitlines(), start=1)
        if (match := MARK.search(code))
    )
    (locks,) = LOCK.findall(text)
    pairs = [] if locks == NO_LOCK else [lock.split(" on ") for lock in locks.split(", ")]
    return Danger(path, *mark, {table: mode for mode, table in pairs})


def script_directory(folder: Path) -> ScriptDirectory:
    """Return the revisions of a folder, and the one that creates the tables in use."""
    locations = [str(DANGERS), *(str(path) for path in [folder, *folder.iterdir()])]
    return ScriptDirectory(
        str(folder),
        version_locations=[place for place in dict.fromkeys(locations) if Path(place).is_dir()],
    )


def statements(script: ScriptDirectory, revision: Script) -> list[Statement]:
    """Return the SQL of a revision's upgrade, without BEGIN and COMMIT."""
    rendering = render(script, revision, sa.MetaData(), OPTIONS, up=True)
    return [each for each in rendering.statements if each.text not in (BEGIN, COMMIT)]


def until(danger: Danger, emitted: list[Statement]) -> tuple[list[Statement], list[Statement]]:
    """Return the statements before the marked call, and those of that call."""
    call = read(danger.path).call_at(danger.line)
    first, last = call.lines if call else (danger.line, danger.line)
    if call and call.owner == "batch":  # it emits its SQL at once, by the line of its beginning
        return [], emitted
    before = [each for each in emitted if each.line is not None and each.line < first]
    return before, [
        each for each in emitted if each.line is not None and first <= each.line <= last
    ]
