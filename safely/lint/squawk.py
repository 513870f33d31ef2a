"""Run squawk, the SQL linter, on each direction of a revision, and make findings of its remarks."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from alembic.util import CommandError

from safely.lint.directions import Direction
from safely.lint.findings import Finding
from safely.lint.rendering import Statement

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
# rules of squawk for which checks/tables.py has one of our own, which knows the tables in use
OWN = {
    "adding-foreign-key-constraint",
    "adding-not-nullable-field",
    "adding-required-field",
    "adding-serial-primary-key-field",
    "ban-alter-domain-with-add-constraint",
    "ban-alter-identity",
    "ban-concurrent-index-creation-in-transaction",
    "ban-drop-column",
    "ban-drop-database",
    "ban-drop-default",
    "ban-drop-domain",
    "ban-drop-extension",
    "ban-drop-function",
    "ban-drop-generated-expression",
    "ban-drop-schema",
    "ban-drop-sequence",
    "ban-drop-table",
    "ban-drop-type",
    "ban-drop-view",
    "ban-drop-trigger",
    "ban-set-schema",
    "ban-truncate-cascade",
    "changing-column-type",
    "constraint-missing-not-valid",
    "ban-uncommitted-transaction",
    "disallowed-unique-constraint",
    "prefer-identity",
    "prefer-repack",
    "prefer-timestamp-tz",
    "renaming-object",
    "require-concurrent-index-creation",
    "require-concurrent-index-deletion",
    "require-concurrent-partition-detach",
    "require-concurrent-reindex",
    "syntax-error",
    "transaction-nesting",
}

# rules of squawk that are off unless somebody asks for them: our own rule that holds in their
# place, or why none does
OPT_IN = {
    "ban-add-composite-attribute": "alter-type",
    "ban-alter-database-options": "alter-system",
    "ban-alter-extension": "extension",
    "ban-alter-function-options": "replace-function",
    "ban-alter-generated-expression": "rewrite",
    "ban-alter-policy-condition": "policy",
    "ban-alter-policy-roles": "policy",
    "ban-alter-role-options": "alter-role",
    "ban-alter-row-level-security": "row-security",
    "ban-alter-sequence-values": "alter-sequence",
    "ban-alter-system-options": "alter-system",
    "ban-alter-view-options": "brief-lock",
    "ban-create-policy": "policy",
    "ban-detach-inheritance": "inherit",
    "ban-disable-trigger": "disable-trigger",
    "ban-drop-index": "plain-index-drop",
    "ban-drop-policy": "policy",
    "ban-drop-trigger": "drop-trigger",
    "ban-replace-view-function": "replace-view",
    "ban-replica-identity": "brief-lock",
    "ban-revoke": "revoke",
    "ban-add-column": "older builds don't see a new column; `required-column` reports what they do",
    "ban-add-enum-value": "`raw-op` proposes safely.change_enum, which older builds can read",
    "ban-new-write-restriction": "the rules about constraints and NOT NULL say which builds fail",
    "ban-set-default": "`raw-op` reports it; older builds that leave the column out go on working",
    "require-table-schema": "the connection sets the schema of the project's tables",
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
    """Yield a finding for each remark of a rule that only squawk has."""
    ignored = {*IGNORED, *OWN, *(() if direction.up else IGNORED_IN_DOWNGRADES)}
    for remark in remarks:
        if remark.rule not in ignored:
            _, lines = direction.location(remark.statement)
            yield Finding(remark.rule, *lines, remark.message, remark.help or "", None)
