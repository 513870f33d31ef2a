"""squawk, the SQL linter: asked about each direction by itself, and put into our words."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from alembic.util import CommandError

from safely.lint import plain_sql
from safely.lint.findings import Finding
from safely.lint.rendering import Statement
from safely.lint.statements import Change, bare, changes
from safely.lint.ways import Way

OLDEST = "15"  # the PostgreSQL that the project still runs on

# what isn't asked, and why
OFF = {
    "require-lock-timeout": "env.py sets it when it connects, which no SQL shows",
    "require-statement-timeout": "likewise; and one would cut a long index build",
    "prefer-robust-stmts": "a revision is one transaction, or `safely` bears to be run again; "
    "`raw-op` tells of what doesn't",
    "adding-field-with-default": "takes -1 and CURRENT_DATE for values that differ from row to "
    "row; `volatile-default` asks which functions are called",
    "prefer-bigint-over-int": "whether 2^31 is enough is a question of the subject: ages are below",
    "prefer-bigint-over-smallint": "likewise",
    "prefer-text-field": "a matter of taste where safely.change_type widens without a long lock",
    "renaming-column": "published versions follow a rename, so older builds don't notice",
    "renaming-table": "likewise",
    "ban-drop-constraint": "what a rule forbade is allowed from then on, which breaks nobody",
    "ban-drop-not-null": "likewise; that readers learn of NULL first, no SQL shows",
}
ON_THE_WAY_UP = {"ban-drop-default", "ban-drop-view", "ban-drop-function", "ban-drop-type"}
OURS = {  # their rules: what we call them, for the changes that they are about
    "require-concurrent-index-creation": {"create index": "plain-index"},
    "require-concurrent-index-deletion": {"drop index": "plain-index-drop"},
    "ban-concurrent-index-creation-in-transaction": {"create index": "concurrently-in-transaction"},
    "adding-not-nullable-field": {"not null": "not-null-at-once"},
    "adding-required-field": {"add column": "required-column"},
    "adding-serial-primary-key-field": {
        "primary key": "primary-key-at-once",
        "add column": "primary-key-at-once",
    },
    "changing-column-type": {"type": "type-change"},
    "adding-foreign-key-constraint": {"foreign key": "foreign-key-at-once"},
    "disallowed-unique-constraint": {"unique": "unique-at-once"},
    "constraint-missing-not-valid": {
        "check": "check-at-once",
        "foreign key": "foreign-key-at-once",
        "primary key": "primary-key-at-once",
        "unique": "unique-at-once",
        "validate": "check-and-validate",
    },
    "ban-drop-column": {"drop column": "plain-drop"},
    "ban-drop-table": {"drop table": "plain-drop"},
    "ban-drop-default": {"no default": "drop-default"},
    "prefer-identity": {"create table": "prefer-identity", "add column": "prefer-identity"},
    "prefer-timestamp-tz": {
        "create table": "prefer-timestamp-tz",
        "add column": "prefer-timestamp-tz",
        "type": "prefer-timestamp-tz",
    },
}
SAFE: dict[str, Callable[[Change], str | None]] = {  # where it isn't that of the call
    "drop-default": lambda _: None,
    "prefer-identity": lambda _: (
        'sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), sa.Identity())'
    ),
    "prefer-timestamp-tz": lambda _: "sa.DateTime(timezone=True)",
    "required-column": plain_sql.add_required,
}


class Remark(NamedTuple):
    """What squawk says of a statement."""

    rule: str
    statement: Statement
    message: str
    help: str | None


def ask(ways: list[Way]) -> list[list[Remark]]:
    """What squawk says of each, in one run; raise CommandError where it can't be asked."""
    with tempfile.TemporaryDirectory(prefix="safely-lint-") as name:
        directory = Path(name)
        files = [directory / f"{number}.sql" for number in range(len(ways))]
        lines = [write(file, way.statements) for file, way in zip(files, ways, strict=True)]
        (directory / "none.toml").touch()  # somebody's own settings are not the project's
        answer = run(directory, [file.name for file in files])
    remarks: list[list[Remark]] = [[] for _ in ways]
    for said in answer:
        number = int(Path(said["file"]).stem)
        statement = lines[number][min(said["line"], len(lines[number]) - 1)]
        remarks[number].append(Remark(said["rule_name"], statement, said["message"], said["help"]))
    return remarks


def write(file: Path, statements: list[Statement]) -> list[Statement]:
    """Write the SQL; return the statement that each line belongs to."""
    lines: list[Statement] = []
    with file.open("w", encoding="utf-8") as out:
        for statement in statements:
            # squawk's own comments would suppress without a reason, and unseen
            text = statement.text.replace("squawk-ignore", "squawk ignore")
            out.write(text + "\n")
            lines += [statement] * (text.count("\n") + 1)
    return lines


def run(directory: Path, files: list[str]) -> list[dict[str, Any]]:
    """Run the program on files; return its findings."""
    where = os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)))
    program = shutil.which("squawk", path=where)
    if program is None:
        raise CommandError(
            "squawk, which checks the SQL, is not installed: pip install 'safely[lint]'"
        )
    arguments = ["--reporter=json", f"--pg-version={OLDEST}", "--config=none.toml", *files]
    process = subprocess.run(  # noqa: S603  # the program that was just found, and our own files
        [program, *arguments], cwd=directory, capture_output=True, check=False, encoding="utf-8"
    )
    try:
        found: list[dict[str, Any]] = json.loads(process.stdout)
    except ValueError:
        said = (process.stderr or process.stdout).strip().splitlines()
        raise CommandError(f"squawk failed: {said[-1] if said else process.returncode}") from None
    return found


def findings(way: Way, remarks: list[Remark]) -> Iterator[Finding]:
    """The remarks in our words where we have a safe spelling, and else in its own."""
    for remark in remarks:
        rule, statement = remark.rule, remark.statement
        if rule in OFF or (rule in ON_THE_WAY_UP and not way.up):
            continue
        known = OURS.get(rule, {})
        about = [change for change in changes(statement.text) if change.kind in known]
        for change in about:
            ours = known[change.kind]
            if applies(way, change):
                if ours == "plain-drop" and not way.up:
                    ours = "lossy-downgrade"
                finding = way.finding(ours, statement, change)
                yield finding._replace(safe=SAFE[ours](change) if ours in SAFE else finding.safe)
        if not about:
            _, lines = way.place(statement)
            yield Finding(rule, *lines, remark.message, remark.help or "", None)


def applies(way: Way, change: Change) -> bool:
    """Whether it matters here: nobody uses a new table yet, and NOT VALID looks at no row."""
    if change.kind == "create table":
        return True
    if change.kind == "no default":
        return not nullable(way, change)
    return way.in_use(change.table) and "NOT VALID" not in change.parts.get("rest", "").upper()


def nullable(way: Way, change: Change) -> bool:
    """Return whether the models say that the column may be NULL."""
    name = bare(change.parts["column"])
    return any(
        bool(table.columns[name].nullable)
        for table in way.metadata.tables.values()
        if table.name == change.table and name in table.columns
    )
