"""lint: tell what a revision would do to the clients of a database in use."""

import argparse
import asyncio
import json
import sys
from pathlib import Path
from textwrap import wrap
from typing import Any

from alembic.script import Script, ScriptDirectory
from alembic.util import CommandError

from safely.cli import NO, WELL
from safely.database import LOCK_TIMEOUT
from safely.environment import Environment
from safely.lint import lint, select
from safely.lint.edited import edited_files
from safely.lint.findings import Finding
from safely.lint.rules import Severity
from safely.lint.source import read_text

WHAT = "which locks, losses and other harm the revisions would bring, and what to write instead"
NEEDS_DATABASE = False
WIDTH = 90  # columns, of the text that isn't meant to be pasted


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the argument that names the revisions."""
    parser.add_argument(
        "revisions",
        nargs="*",
        metavar="REV",
        help="the id of a revision (or its first characters), `head`, or A:B for the revisions "
        "that lead from A to B; default: all revisions",
    )


async def run(options: argparse.Namespace, environment: Environment) -> int:
    """Print the findings of the revisions; return the exit code."""
    script, project = environment.script, environment.project
    revisions = select(script, options.revisions)
    env_options = {"lock_timeout": LOCK_TIMEOUT}
    # in a thread, since the body of a revision may run an event loop of its own
    findings_by_revision = await asyncio.to_thread(
        lint, script, revisions, project.tables, env_options, numbered=project.numbered
    )
    for revision_id, finding in (await compare_with_ledger(environment)).items():
        if revision_id in findings_by_revision:
            findings_by_revision[revision_id].insert(0, finding)
    findings = [
        (path_for_people(revision, script), revision, finding)
        for revision in revisions
        for finding in findings_by_revision[revision.revision]
    ]
    if options.json:
        print(json.dumps([as_json(path, finding) for path, _, finding in findings]))
    else:
        for path, revision, finding in findings:
            print(as_text(path, revision, finding), end="\n\n")
        bad = {revision for _, revision, _ in findings}
        print(summary(len(findings), len(bad), len(revisions)))
    return NO if any(finding.severity >= Severity.ERROR for *_, finding in findings) else WELL


async def compare_with_ledger(environment: Environment) -> dict[str, Finding]:
    """Return a finding for each applied file that was edited, by its revision.

    Print why there is nothing to compare with, where the database or its ledger is missing.
    """
    reason = environment.unreachable
    if not reason:
        try:
            return await edited_files(environment)
        except CommandError as error:
            reason = str(error)
    print(f"not compared with a ledger: {reason}", file=sys.stderr)
    return {}


def path_for_people(revision: Script, script: ScriptDirectory) -> str:
    """Return the path of a revision's file from the current directory if it is below that.

    Otherwise the path starts at the parent of the script directory, or is absolute where the file
    lies elsewhere.
    """
    path = Path(revision.path).resolve()
    for root in (Path.cwd(), Path(script.dir).resolve().parent):
        if path.is_relative_to(root):
            return str(path.relative_to(root))
    return str(path)


def as_json(path: str, finding: Finding) -> dict[str, Any]:
    """Return a finding as an object for `--json`."""
    return {
        "file": path,
        "line": finding.line,
        "rule": finding.rule,
        "message": finding.message,
        "why": finding.why,
        "safe": finding.safe,
    }


def as_text(path: str, revision: Script, finding: Finding) -> str:
    """Return a finding for the terminal: the lines, why they hurt, and what to write instead."""
    source = read_text(Path(revision.path)).splitlines()
    lines = [f"{path}:{finding.line}: {finding.severity}: {finding.rule}: {finding.message}"]
    numbers = range(finding.line, finding.last + 1)
    lines += [f"{number:>8} | {source[number - 1]}" for number in numbers]
    lines += labelled("why:", wrap(finding.why, WIDTH))
    lines += labelled("safe:", (finding.safe or "").splitlines())
    return "\n".join(lines)


def labelled(label: str, lines: list[str]) -> list[str]:
    """Return the lines indented, the first one behind the label."""
    return [f"    {label if at == 0 else '':<6}{line}" for at, line in enumerate(lines)]


def summary(findings: int, bad: int, revisions: int) -> str:
    """Return the last line: how many findings there are, and in how many revisions."""
    if not findings:
        return f"no finding in {revisions} revision(s)"
    return f"{findings} finding(s) in {bad} of {revisions} revision(s)"
