"""The dangerous revisions in tests/data/dangers: what each says about itself, and its SQL.

A file marks the line of its danger by `# <- RULE`. A comment `# lock: MODE on TABLE, …` names the
locks that PostgreSQL takes there, apart from those of reads; a comment `# not in the SQL: …` those
of tables that only the database knows, such as the views that a CASCADE reaches.

A comment `# rehearse: VERDICT, REASON` says what `rehearse` thinks of it: `no` or `cannot run` with
a part of the problem that it prints, or `yes` with why there is nothing to see.
"""

import re
from pathlib import Path
from typing import NamedTuple

import sqlalchemy as sa
from alembic.script import Script, ScriptDirectory
from sqlalchemy.dialects.postgresql import JSONB

from safely.lint.rendering import BEGIN, COMMIT, Statement, render
from safely.lint.source import read
from tests.paths import ROOT

DANGERS = ROOT / "tests/data/dangers"
HARMLESS = ROOT / "tests/data/harmless"
SCHEMA = "schema"  # the revision that creates the tables in use
MARK = re.compile(r"# <- (?P<rule>[\w-]+)$")
LOCKS = "# {}: (?P<locks>.*)$"
NO_LOCK = "no table"
REHEARSED = re.compile(
    r"^# rehearse: (?P<verdict>no|yes|cannot run), (?P<reason>.+)$", re.MULTILINE
)
OPTIONS = {"lock_timeout": "100ms"}  # of env.py

MODELS = sa.MetaData()  # of the tables in use, as an application would declare them
sa.Table(
    "customers",
    MODELS,
    sa.Column("id", sa.BigInteger, primary_key=True),
    sa.Column("email", sa.Text, nullable=False, unique=True),
    sa.Column("name", sa.String(100), nullable=False),
    sa.Column("phone", sa.Text, index=True),
    sa.Column("age", sa.Integer),
    sa.Column("preferences", JSONB, nullable=False),
    sa.Index("ix_customers_email", "email"),  # that of a danger
)
sa.Table(
    "products",
    MODELS,
    sa.Column("id", sa.BigInteger, primary_key=True),
    sa.Column("name", sa.Text),
)
sa.Table(
    "orders",
    MODELS,
    sa.Column("id", sa.BigInteger, primary_key=True),
    sa.Column(
        "customer_id",
        sa.ForeignKey("customers.id", name="fk_orders_customer_id"),
        nullable=False,
        index=True,
    ),
    sa.Column("product_id", sa.BigInteger, index=True),
    sa.Column("state", sa.Text, nullable=False),
    sa.Column("note", sa.Text),
    sa.Index("ix_orders_customer", "customer_id"),  # that of a danger
)
sa.Table(
    "payments",
    MODELS,
    sa.Column("id", sa.BigInteger, primary_key=True),
    sa.Column("order_id", sa.BigInteger, nullable=False),
    sa.Column("customer_id", sa.BigInteger),
)


class Verdict(NamedTuple):
    """The verdict of a rehearsal, as a file argues it."""

    word: str
    """`yes`, `no`, or `cannot run` where the upgrade needs something that isn't there."""
    reason: str
    """A part of the problem that it prints, with … for what is left out; of `yes`, any words."""

    def fits(self, problems: list[str]) -> bool:
        """Return whether these are the problems of a rehearsal with this verdict."""
        if self.word == "yes":
            return not problems
        pattern = re.escape(self.reason).replace("…", ".*")
        return any(re.search(pattern, problem) for problem in problems)


class Danger(NamedTuple):
    """A revision with one danger, and what must be said about it."""

    path: Path
    rule: str
    line: int
    locks: dict[str, str]
    """The lock mode for each table, as far as the SQL shows them."""
    hidden_locks: dict[str, str]
    """The lock mode for each table that only the database knows."""
    verdict: Verdict | None
    """The verdict of a rehearsal."""

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
    return Danger(path, *mark, locks(text, "lock"), locks(text, "not in the SQL"), rehearsed(text))


def rehearsed(text: str) -> Verdict | None:
    """Return the verdict of a rehearsal that a file names; None: it names none."""
    match = REHEARSED.search(text)
    return Verdict(match["verdict"], match["reason"]) if match else None


def locks(text: str, label: str) -> dict[str, str]:
    """Return the lock mode for each table in the comment with a label."""
    match = re.search(LOCKS.format(label), text, re.MULTILINE)
    if match is None or match["locks"] == NO_LOCK:
        return {}
    pairs = (lock.split(" on ") for lock in match["locks"].split(", "))
    return {table: mode for mode, table in pairs}


def script_directory(folder: Path) -> ScriptDirectory:
    """Return the revisions of a folder, and the one that creates the tables in use."""
    places = [DANGERS, *(path for path in [folder, *folder.iterdir()] if path.is_dir())]
    return ScriptDirectory(str(folder), version_locations=[*dict.fromkeys(map(str, places))])


def statements(script: ScriptDirectory, revision: Script) -> list[Statement]:
    """Return the SQL that the lines of a revision emit, first of its upgrade."""
    return [
        statement
        for up in (True, False)
        for statement in render(script, revision, MODELS, OPTIONS, up=up).statements
        if statement.text not in (BEGIN, COMMIT) and not statement.text.startswith("-- ")
    ]


def until(danger: Danger, emitted: list[Statement]) -> tuple[list[Statement], list[Statement]]:
    """Return the statements before the marked call, and those of that call."""
    call = read(danger.path).call_at(danger.line)
    first, last = call.lines if call else (danger.line, danger.line)
    if call and call.owner == "batch":  # it emits its SQL at once, by the line of its beginning
        return [], emitted[:1]
    lines = [(statement, statement.line or 0) for statement in emitted]
    return (
        [statement for statement, line in lines if line < first],
        [statement for statement, line in lines if first <= line <= last],
    )
