"""lint: tell what a revision would do to the clients of a database in use."""

import argparse
import asyncio
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from textwrap import wrap

from alembic.script import Script, ScriptDirectory
from alembic.util import CommandError

from safely.cli import NO, WELL
from safely.database import LOCK_TIMEOUT
from safely.environment import Environment
from safely.lint import baseline, configuration, explanations, formats, lint, select, statistics
from safely.lint.changed_files import changed_files, repository_root
from safely.lint.edited import edited_files
from safely.lint.findings import Finding
from safely.lint.reports import Report, path_below, path_for_people, reports
from safely.lint.rules import Severity
from safely.lint.scratch_schema import ScratchSchema
from safely.lint.source import read_text
from safely.lint.statistics import Statistics
from safely.revisions import known, with_ancestors

WHAT = "which locks, losses and other harm the revisions would bring, and what to write instead"
NEEDS_DATABASE = False
WIDTH = 90  # columns, of the text that isn't meant to be pasted
LIVE = "live"
TEXT = "text"


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments that name the revisions, and that say how to judge and to print them."""
    parser.add_argument(
        "revisions",
        nargs="*",
        metavar="REV",
        help="the id of a revision (or its first characters), `head`, the path of its file, or A:B "
        "for the revisions that lead from A to B; default: all revisions",
    )
    parser.add_argument("--since", metavar="REV", help="only those that a database at REV lacks")
    parser.add_argument(
        "--diff",
        metavar="REF",
        help="only those whose files differ from where REF, such as origin/main, and HEAD part",
    )
    parser.add_argument(
        "--stats",
        metavar="FILE",
        help="judge by the sizes of the tables: those in a file of `stats`, or `live` for those of "
        "the configured database",
    )
    parser.add_argument(
        "--baseline",
        metavar="FILE",
        type=Path,
        help="leave out the findings in this file; default: the one that pyproject.toml names",
    )
    parser.add_argument(
        "--write-baseline", action="store_true", help="write all findings into that file"
    )
    parser.add_argument(
        "--format",
        choices=(TEXT, *formats.FORMATS),
        default=TEXT,
        help="text for people; json with all members; annotations for github; a report for "
        "gitlab's code quality; sarif 2.1.0. --json prints fewer members than json",
    )
    parser.add_argument("--explain", metavar="RULE", help="what a rule is about, with an example")


async def run(options: argparse.Namespace, environment: Environment) -> int:
    """Print the findings of the revisions; return the exit code."""
    if options.explain:
        print(explanations.explain(options.explain))
        return WELL
    script = environment.script
    settings = configuration.load(environment.config)
    revisions = selected(options, script)
    sizes = await statistics_of(options.stats, environment)
    findings = await all_findings(revisions, environment)
    path_of = path_for_people if is_for_people(options) else path_for_programs
    found: list[Report] = []
    for revision in revisions:
        of_file = settings.apply(findings[revision.revision], Path(revision.path))
        if sizes is not None:
            of_file = (statistics.judge(finding, sizes) for finding in of_file)
        source = read_text(Path(revision.path)).splitlines()
        found += reports(path_of(revision, script), revision.revision, source, of_file)
    file = options.baseline or settings.baseline
    if options.write_baseline:
        return write_baseline(file, found, revisions)
    shown = without_baseline(file, found, revisions, script) if file else found
    show(options, shown, len(revisions), hidden=len(found) - len(shown), knows_sizes=bool(sizes))
    return NO if any(report.finding.severity >= Severity.ERROR for report in shown) else WELL


def is_for_people(options: argparse.Namespace) -> bool:
    """Return whether somebody reads the output, or a program that runs where the findings are."""
    return options.json or options.format in (TEXT, "json")


def selected(options: argparse.Namespace, script: ScriptDirectory) -> list[Script]:
    """Return the revisions that all of the arguments name."""
    revisions = select(script, options.revisions)
    if options.since:
        older = with_ancestors(script, known(script, options.since))
        revisions = [revision for revision in revisions if revision.revision not in older]
    if options.diff:
        files = changed_files(Path(script.dir), options.diff)
        revisions = [revision for revision in revisions if Path(revision.path).resolve() in files]
    return revisions


async def statistics_of(source: str | None, environment: Environment) -> Statistics | None:
    """Return the sizes of the tables; None where nobody asks for them."""
    if source is None:
        return None
    if source != LIVE:
        return statistics.load(Path(source))
    if environment.unreachable:
        raise CommandError(f"--stats live: {environment.unreachable}")
    return await environment.read(statistics.read, environment.version_table)


async def all_findings(
    revisions: list[Script], environment: Environment
) -> dict[str, list[Finding]]:
    """Return the findings of each revision, those about the ledger first."""
    script, project = environment.script, environment.project
    env_options = {"lock_timeout": LOCK_TIMEOUT}

    def findings_with_scratch() -> dict[str, list[Finding]]:
        with ScratchSchema(script, project.tables, env_options, tell=tell) as scratch:
            return lint(
                script,
                revisions,
                project.tables,
                env_options,
                numbered=project.numbered,
                scratch=scratch,
            )

    # in a thread, since the body of a revision may run an event loop of its own
    findings = await asyncio.to_thread(findings_with_scratch)
    for revision_id, finding in (await compare_with_ledger(environment)).items():
        if revision_id in findings:
            findings[revision_id].insert(0, finding)
    return findings


def tell(message: str) -> None:
    """Print a message that is no finding."""
    print(message, file=sys.stderr)


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


def write_baseline(file: Path | None, found: list[Report], revisions: list[Script]) -> int:
    """Write all findings into a baseline; the entries of other revisions stay."""
    if file is None:
        raise CommandError("say where: lint --baseline FILE --write-baseline")
    linted = {revision.revision for revision in revisions}
    kept = baseline.read(file) if file.exists() else set()
    entries = {entry for entry in kept if entry.revision not in linted}
    entries |= baseline.entries_of(found)
    baseline.write(file, entries)
    print(f"{file} has {len(entries)} finding(s) now")
    return WELL


def without_baseline(
    file: Path, found: list[Report], revisions: list[Script], script: ScriptDirectory
) -> list[Report]:
    """Return the findings that a baseline does not have; print which entries are obsolete."""
    entries = baseline.read(file)
    linted = {revision.revision for revision in revisions}
    others = {revision.revision for revision in script.walk_revisions()} - linted
    for entry in baseline.obsolete(entries, found, others):
        print(
            f"{file}: {entry.rule} of {entry.revision} applies to nothing any more: write the file "
            "again (--write-baseline)",
            file=sys.stderr,
        )
    return [report for report in found if baseline.entry_of(report) not in entries]


def show(
    options: argparse.Namespace,
    shown: Sequence[Report],
    revisions: int,
    *,
    hidden: int,
    knows_sizes: bool,
) -> None:
    """Print the findings in the format that was asked for."""
    if options.json:
        print(json.dumps([formats.documented(report) for report in shown]))
    elif options.format != TEXT:
        if output := formats.FORMATS[options.format](shown):
            print(output)
    else:
        for report in shown:
            print(as_text(report), end="\n\n")
        for line in summary(shown, revisions, hidden=hidden, knows_sizes=knows_sizes):
            print(line)


def path_for_programs(revision: Script, script: ScriptDirectory) -> str:
    """Return the path of a revision's file from the root of the repository, with slashes."""
    root = repository_root(Path(script.dir).resolve())
    return path_below(Path(revision.path), (root or Path.cwd(), Path(script.dir).resolve().parent))


def as_text(report: Report) -> str:
    """Return a finding for the terminal: the lines, why they hurt, and what to write instead."""
    finding = report.finding
    lines = [formats.one_line(report)]
    lines += [
        f"{number:>8} | {line}" for number, line in enumerate(report.lines, start=finding.line)
    ]
    lines += labelled("why:", wrap(finding.why, WIDTH))
    lines += labelled("safe:", (finding.safe or "").splitlines())
    return "\n".join(lines)


def labelled(label: str, lines: list[str]) -> list[str]:
    """Return the lines indented, the first one behind the label."""
    return [f"    {label if at == 0 else '':<6}{line}" for at, line in enumerate(lines)]


def summary(
    shown: Sequence[Report], revisions: int, *, hidden: int, knows_sizes: bool
) -> Iterator[str]:
    """Yield the last lines: how many findings there are, and what was assumed."""
    bad = len({report.revision for report in shown})
    of_baseline = f" ({hidden} of the baseline left out)" if hidden else ""
    if shown:
        yield f"{len(shown)} finding(s) in {bad} of {revisions} revision(s){of_baseline}"
    else:
        yield f"no finding in {revisions} revision(s){of_baseline}"
    if not knows_sizes and any(statistics.assumes_size(report.finding) for report in shown):
        yield (
            "Each table counts as large, since no sizes are known (--stats live, or --stats FILE)"
        )
