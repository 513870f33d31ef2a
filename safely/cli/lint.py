"""lint: telling what a revision would do to those who use the database meanwhile."""

import argparse
import asyncio
import json
import sys
from pathlib import Path
from textwrap import wrap

from alembic.script import Script, ScriptDirectory
from alembic.util import CommandError

from safely.cli import NO, WELL
from safely.lint import chosen, lint
from safely.lint.edited import edited
from safely.lint.findings import Finding

WHAT = "which locks, losses and other trouble the revisions would bring, and what to write instead"
WIDTH = 90  # of what isn't to be pasted


def arguments(parser: argparse.ArgumentParser) -> None:
    """Which revisions."""
    parser.add_argument(
        "revisions",
        nargs="*",
        metavar="REV",
        help="a number, `head`, or A:B for what leads from A to B; all of them where none is given",
    )


async def run(options: argparse.Namespace, directory: ScriptDirectory) -> int:
    """Print what is wrong with the revisions."""
    scripts = chosen(directory, options.revisions)
    findings = await asyncio.to_thread(
        lint, directory, scripts
    )  # bodies may run loops of their own
    try:
        for revision, finding in (await edited(directory)).items():
            if revision in findings:
                findings[revision].insert(0, finding)
    except CommandError as error:
        print(f"not compared with a ledger: {error}", file=sys.stderr)
    root = Path(directory.dir).parent
    told = [(script, finding) for script in scripts for finding in findings[script.revision]]
    if options.json:
        print(json.dumps([as_object(script, finding, root) for script, finding in told]))
    else:
        for script, finding in told:
            print(in_words(script, finding, root), end="\n\n")
        print(summed_up(len(told), len({script for script, _ in told}), len(scripts)))
    return NO if told else WELL


def as_object(script: Script, finding: Finding, root: Path) -> dict[str, str | int | None]:
    """A finding for machines."""
    return {
        "file": file_of(script, root),
        "line": finding.line,
        "rule": finding.rule,
        "message": finding.message,
        "why": finding.why,
        "safe": finding.safe,
    }


def in_words(script: Script, finding: Finding, root: Path) -> str:
    """A finding for people: the place, the lines, why it hurts, and what to write instead."""
    source = Path(script.path).read_text(encoding="utf-8").splitlines()
    shown = [
        f"{number:>8} | {source[number - 1]}" for number in range(finding.line, finding.last + 1)
    ]
    parts = [f"{file_of(script, root)}:{finding.line}: {finding.rule}: {finding.message}", *shown]
    parts += beside("why:", wrap(finding.why, WIDTH))
    parts += beside("safe:", (finding.safe or "").splitlines())
    return "\n".join(parts)


def beside(head: str, lines: list[str]) -> list[str]:
    """Lines behind a word, or none."""
    return [f"    {head if at == 0 else '':<6}{line}" for at, line in enumerate(lines)]


def file_of(script: Script, root: Path) -> str:
    """A revision's file as it is found from the project's directory."""
    return str(Path(script.path).relative_to(root))


def summed_up(findings: int, bad: int, revisions: int) -> str:
    """The last line."""
    if not findings:
        return f"no finding in {revisions} revision(s)"
    return f"{findings} finding(s) in {bad} of {revisions} revision(s)"
