"""Run squawk, the SQL linter, on each direction of a revision, and make findings of its remarks."""

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
from safely.lint.directions import Direction
from safely.lint.findings import Finding
from safely.lint.rendering import Statement
from safely.lint.statements import Change, changes, unqualified

OLDEST_POSTGRESQL = "15"  # that `safely` supports; what squawk reports depends on it

# rules of squawk that are ignored, and why
IGNORED = {
    "require-lock-timeout": "the migration's connection has one, which the SQL doesn't show",
    "require-statement-timeout": "it would cancel a long index build",
    "prefer-robust-stmts": "a revision is one transaction, or `safely` can resume it; "
    "`raw-op` reports the rest",
    "adding-field-with-default": "it takes -1 and CURRENT_DATE for values that differ from row to "
    "row; `volatile-default` knows which functions do",
    "prefer-bigint-over-int": "whether 2^31 is enough depends on the values",
    "prefer-bigint-over-smallint": "whether 2^15 is enough depends on the values",
    "prefer-text-field": "safely.change_type widens a varchar without a long lock",
    "renaming-column": "older builds use a published version, which keeps the old name",
    "renaming-table": "older builds use a published version, which keeps the old name",
    "ban-drop-constraint": "older builds write nothing that the constraint forbade",
    "ban-drop-not-null": "older builds write no NULL; whether they can read one, no SQL shows",
}
IGNORED_IN_DOWNGRADES = {"ban-drop-default", "ban-drop-view", "ban-drop-function", "ban-drop-type"}
OWN_RULES = {  # for a rule of squawk: our own rule for each kind of change
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
    "renaming-object": {"rename constraint": ""},  # sql_checks.py reports it
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
SAFE_CODE: dict[str, Callable[[Change], str | None]] = {  # where that of the call doesn't help
    "drop-default": lambda _: None,
    "prefer-identity": lambda _: (
        'sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), sa.Identity())'
    ),
    "prefer-timestamp-tz": lambda _: "sa.DateTime(timezone=True)",
    "required-column": plain_sql.add_required_column,
}


class Remark(NamedTuple):
    """A remark of squawk about a statement."""

    rule: str
    statement: Statement
    message: str
    help: str | None


def check(directions: list[Direction]) -> list[list[Remark]]:
    """Return the remarks about each direction, from one run of squawk.

    Raise CommandError where squawk isn't installed or fails.
    """
    with tempfile.TemporaryDirectory(prefix="safely-lint-") as name:
        directory = Path(name)
        files = [directory / f"{number}.sql" for number in range(len(directions))]
        statements_by_line = [
            write(file, direction.statements)
            for file, direction in zip(files, directions, strict=True)
        ]
        # without it squawk would read a configuration file of the user's
        (directory / "empty.toml").touch()
        report = run(directory, [file.name for file in files])
    remarks: list[list[Remark]] = [[] for _ in directions]
    for entry in report:
        number = int(Path(entry["file"]).stem)
        lines = statements_by_line[number]
        statement = lines[min(entry["line"], len(lines) - 1)]
        remark = Remark(entry["rule_name"], statement, entry["message"], entry["help"])
        remarks[number].append(remark)
    return remarks


def write(file: Path, statements: list[Statement]) -> list[Statement]:
    """Write the SQL to a file; return the statement of each line."""
    lines: list[Statement] = []
    with file.open("w", encoding="utf-8") as out:
        for statement in statements:
            # squawk's own comments need no reason, and nothing would report an unused one
            text = statement.text.replace("squawk-ignore", "squawk ignore")
            out.write(text + "\n")
            lines += [statement] * (text.count("\n") + 1)
    return lines


def run(directory: Path, files: list[str]) -> list[dict[str, Any]]:
    """Run squawk on files in a directory; return its report."""
    path = os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)))
    program = shutil.which("squawk", path=path)
    if program is None:
        raise CommandError(
            "squawk, which checks the SQL, is not installed: pip install 'safely[lint]'"
        )
    options = ["--reporter=json", f"--pg-version={OLDEST_POSTGRESQL}", "--config=empty.toml"]
    process = subprocess.run(  # noqa: S603  # squawk, on files that `check` has written
        [program, *options, *files],
        cwd=directory,
        capture_output=True,
        check=False,
        encoding="utf-8",
    )
    try:
        report: list[dict[str, Any]] = json.loads(process.stdout)
    except ValueError:
        output = (process.stderr or process.stdout).strip().splitlines()
        reason = output[-1] if output else f"exit code {process.returncode}"
        raise CommandError(f"squawk failed: {reason}") from None
    return report


def findings(direction: Direction, remarks: list[Remark]) -> Iterator[Finding]:
    """Yield a finding for each remark that matters: of a rule of ours, or of squawk's own."""
    for remark in remarks:
        rule, statement = remark.rule, remark.statement
        if rule in IGNORED or (rule in IGNORED_IN_DOWNGRADES and not direction.up):
            continue
        own_rules = OWN_RULES.get(rule, {})
        relevant = [change for change in changes(statement.text) if change.kind in own_rules]
        for change in relevant:
            own_rule = own_rules[change.kind]
            if own_rule and hurts(direction, change):
                if own_rule == "plain-drop" and not direction.up:
                    own_rule = "lossy-downgrade"
                finding = direction.finding(own_rule, statement, change)
                if own_rule in SAFE_CODE:
                    finding = finding._replace(safe=SAFE_CODE[own_rule](change))
                yield finding
        if not relevant:
            _, lines = direction.location(statement)
            yield Finding(rule, *lines, remark.message, remark.help or "", None)


def hurts(direction: Direction, change: Change) -> bool:
    """Return whether a change hurts; on a new table it doesn't, nor with NOT VALID."""
    if change.kind == "create table":  # the remark is about a column's type
        return True
    if change.kind == "no default":
        return not is_nullable(direction, change)
    not_valid = "NOT VALID" in change.parts.get("rest", "").upper()
    return direction.in_use(change.table) and not not_valid


def is_nullable(direction: Direction, change: Change) -> bool:
    """Return whether the models say that the column may be NULL."""
    name = unqualified(change.parts["column"])
    return any(
        bool(table.columns[name].nullable)
        for table in direction.metadata.tables.values()
        if table.name == change.table and name in table.columns
    )
