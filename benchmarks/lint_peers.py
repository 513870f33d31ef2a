"""Count the dangers in tests/data that lint names, and those that its peers name.

    python -m benchmarks.lint_peers

Lint names a danger only if the danger's own rule is found on its own line. For a peer any remark
about the statement or the line counts, apart from those that it makes about nearly every statement
(`GENERIC`); if it tells no line, any remark about the revision counts.

The exit code is 1 where a peer names as many as we do in a category.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

from alembic.script import Script, ScriptDirectory

from safely.lint import lint
from safely.lint.rendering import Statement, render
from safely.lint.source import read
from safely.lint.squawk import OPT_IN
from tests.dangers import (
    DANGERS,
    HARMLESS,
    MODELS,
    OPTIONS,
    SCHEMA,
    Danger,
    dangers,
    script_directory,
)
from tests.paths import ROOT

PEERS = ROOT / ".venv/lint-peers/bin"
ENV = """\
from alembic import context
from sqlalchemy import Column, MetaData, Table

from safely.env import Project, offline_options

metadata = MetaData()
Table("orders", metadata, Column("id"))
context.configure(
    dialect_name="postgresql",
    literal_binds=True,
    dialect_opts={"paramstyle": "named"},
    **offline_options(Project(name="shop", metadata=metadata)),
)
with context.begin_transaction():
    context.run_migrations()
"""
INI = "[alembic]\nscript_location = migrations\n"
GENERIC = {  # remarks of squawk that don't depend on what the statement does
    "prefer-robust-stmts",
    "require-lock-timeout",
    "require-statement-timeout",
    "require-table-schema",
    "transaction-nesting",
}
# Alembic writes these by itself into the script of an upgrade
VERSION_TABLE = ("INSERT INTO alembic_version", "UPDATE alembic_version", "-- Running")


class File(NamedTuple):
    """A revision, with what a peer needs to find a danger in it."""

    path: Path
    lines: range
    """The lines of the dangerous call; all lines of a harmless file."""
    sql: list[Statement]
    marked: list[Statement]
    """The statements that these lines emit."""
    fails: bool
    """Whether `alembic upgrade --sql` fails on it."""


Peer = Callable[[list[File], Path], set[str]]
"""Return the names of the files in which a peer names the danger."""


def files(folder: Path) -> list[File]:
    """Return the revisions of a folder, rendered."""
    script = script_directory(folder)
    marks = {danger.revision: danger for danger in dangers()}
    revisions = [one for one in script.walk_revisions() if one.revision != SCHEMA]
    return [file(script, one, marks.get(one.revision)) for one in revisions]


def file(script: ScriptDirectory, revision: Script, danger: Danger | None) -> File:
    """Return a revision, rendered in the direction in which its danger lies."""
    path = Path(revision.path)
    source = read(path)
    lines, up = range(1, len(source.lines) + 1), True
    if danger is not None:
        first, last = source.lines_at(danger.line)
        lines, up = range(first, last + 1), danger.line < source.first_line(up=False)[0]
    rendering = render(script, revision, MODELS, OPTIONS, up=up)
    marked = [statement for statement in rendering.statements if statement.line in lines]
    fails = bool(rendering.failure or rendering.reads or rendering.rewrites)
    return File(path, lines, rendering.statements, marked, fails)


def ours(folder: Path) -> set[str]:
    """Return the dangers that our own rule names; of harmless files those with any finding."""
    script = script_directory(folder)
    revisions = [one for one in script.walk_revisions() if one.revision != SCHEMA]
    findings = lint(script, revisions, MODELS, OPTIONS)
    if folder == HARMLESS:
        return {name for name, found in findings.items() if found}
    return {
        danger.revision
        for danger in dangers()
        if any(
            (finding.rule, finding.line) == (danger.rule, danger.line)
            for finding in findings[danger.revision]
        )
    }


def squawk_on(
    sql: dict[str, list[Statement]], directory: Path, *options: str
) -> dict[str, set[int]]:
    """Return the statements, by their number, about which squawk remarks something."""
    lines: dict[str, list[int]] = {}
    for name, statements in sql.items():
        with (directory / f"{name}.sql").open("w", encoding="utf-8") as out:
            lines[name] = []
            for number, statement in enumerate(statements):
                out.write(statement.text + "\n")
                lines[name] += [number] * (statement.text.count("\n") + 1)
    (directory / "empty.toml").touch()
    process = run(
        PEERS / "squawk",
        "--reporter=json",
        "--config=empty.toml",
        *options,
        *(f"{name}.sql" for name in sql),
        cwd=directory,
    )
    remarked: dict[str, set[int]] = {name: set() for name in sql}
    for remark in json.loads(process.stdout):
        name = Path(remark["file"]).stem
        if remark["rule_name"] not in GENERIC and lines[name]:
            remarked[name].add(lines[name][min(remark["line"], len(lines[name]) - 1)])
    return remarked


def squawk(*options: str) -> Peer:
    """Return squawk as a peer, on the SQL that `safely` renders, with these options."""

    def peer(revisions: list[File], directory: Path) -> set[str]:
        remarked = squawk_on({one.path.stem: one.sql for one in revisions}, directory, *options)
        return {
            one.path.stem
            for one in revisions
            if any(one.sql[number] in one.marked for number in remarked[one.path.stem])
        }

    return peer


def alembic_squawk(revisions: list[File], directory: Path) -> set[str]:
    """Run alembic-squawk on a project of the revisions that Alembic can print, and squawk on it."""
    printable = [one for one in revisions if not one.fails]
    project(directory, printable)
    run(PEERS / "alembic-squawk", f"--revisions={SCHEMA}:heads", "--out-dir=sql", cwd=directory)
    split = {
        path.stem: [
            Statement(path.read_text(encoding="utf-8"), None, from_safely=False, transaction=0)
        ]
        for path in (directory / "sql").glob("*.sql")
    }
    found = set()
    for one in printable:
        text = split[one.path.stem][0].text if one.path.stem in split else ""
        for number in remarked_lines(directory / "sql", one.path.stem) if text else ():
            line = text.splitlines()[number] if number < len(text.splitlines()) else ""
            if line.strip() and any(line in marked.text + ";" for marked in one.marked):
                found.add(one.path.stem)
    return found


def remarked_lines(directory: Path, name: str) -> set[int]:
    """Return the lines of a file about which squawk remarks something, run in a transaction."""
    (directory / "empty.toml").touch()
    process = run(
        PEERS / "squawk",
        "--reporter=json",
        "--config=empty.toml",
        "--assume-in-transaction",
        f"{name}.sql",
        cwd=directory,
    )
    return {
        remark["line"]
        for remark in json.loads(process.stdout)
        if remark["rule_name"] not in GENERIC
    }


def alembic_guard(revisions: list[File], directory: Path) -> set[str]:
    """Run alembic-guard on the files, their downgrades too."""
    project(directory, revisions)
    process = run(
        PEERS / "alembic-guard",
        "--format=json",
        "--include-downgrade",
        "migrations/versions",
        cwd=directory,
    )
    lines = {one.path.stem: one.lines for one in revisions}
    return {
        Path(remark["path"]).stem
        for remark in json.loads(process.stdout)
        if remark["line"] in lines.get(Path(remark["path"]).stem, ())
    }


def alembic_migration_linter(revisions: list[File], directory: Path) -> set[str]:
    """Run alembic-migration-linter, again without each revision that ends it with an error."""
    project(directory, revisions)
    ignored: list[str] = []
    while True:
        options = [f"--ignore-revision={name}" for name in ignored]
        process = run(PEERS / "alembic-lint", "--no-cache", *options, cwd=directory)
        failed = re.findall(r"versions/(\w+)\.py", process.stderr)
        if "*** Summary ***" in process.stdout or not failed:
            return set(
                re.findall(r"^\((\w+)\)\.\.\. (?:ERR|WARNING)", process.stdout, re.MULTILINE)
            )
        ignored.append(failed[-1])


def project(directory: Path, revisions: Iterable[File]) -> None:
    """Write a project with these revisions, and the one that they follow."""
    versions = directory / "migrations/versions"
    versions.mkdir(parents=True, exist_ok=True)
    (directory / "alembic.ini").write_text(INI, encoding="utf-8")
    (directory / "migrations/env.py").write_text(ENV, encoding="utf-8")
    for path in (DANGERS / f"{SCHEMA}.py", *(one.path for one in revisions)):
        shutil.copy(path, versions)


def run(*command: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run a peer in a directory."""
    environment = os.environ | {
        # alembic-squawk runs `alembic`, which needs what the revisions import
        "PATH": os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"])),
        "PYTHONPATH": os.pathsep.join((str(ROOT), sysconfig.get_path("purelib"))),
    }
    return subprocess.run(  # noqa: S603  # the peers
        [*map(str, command)],
        cwd=cwd,
        env=environment,
        capture_output=True,
        check=False,
        encoding="utf-8",
    )


RUNS: dict[str, Peer] = {
    "squawk": squawk("--pg-version=18"),
    "squawk, opt-in too": squawk("--pg-version=18", *(f"--include={rule}" for rule in OPT_IN)),
    "alembic-squawk": alembic_squawk,
    "alembic-guard": alembic_guard,
    "alembic-migration-linter": alembic_migration_linter,
}


def main() -> int:
    """Print the table; return the exit code."""
    categories: dict[str, set[str]] = {}
    for danger in dangers():
        categories.setdefault(danger.category, set()).add(danger.revision)
    named = {"lint": ours(DANGERS)}
    alarms = {"lint": ours(HARMLESS)}
    dangerous, harmless = files(DANGERS), files(HARMLESS)
    for name, peer in RUNS.items():
        for found, revisions in ((named, dangerous), (alarms, harmless)):
            with tempfile.TemporaryDirectory() as directory:
                found[name] = peer(revisions, Path(directory))
    print("|", " | ".join(["dangers", "files", *named]), "|")
    print("|---|--:|", "--:|" * len(named), sep="")
    for category, members in categories.items():
        row(category, members, named)
    row("all", {danger.revision for danger in dangers()}, named)
    row("harmless files with a finding", {one.path.stem for one in harmless}, alarms)
    behind = {
        category: name
        for category, members in categories.items()
        for name, found in named.items()
        if name != "lint" and len(members & found) >= len(members & named["lint"])
    }
    return 1 if behind else 0


def row(title: str, members: set[str], found_by: dict[str, set[str]]) -> None:
    """Print how many of the files each names."""
    counts = [len(members), *(len(members & found) for found in found_by.values())]
    print(f"| {title} |", " | ".join(map(str, counts)), "|")


if __name__ == "__main__":
    sys.exit(main())
