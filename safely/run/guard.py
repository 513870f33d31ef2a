"""Grave findings of lint stop a migration before its first step.

Only the steps that are due are judged, in the direction in which they are taken, and by the sizes
of the tables in the database. Lint prints a revision as SQL and reads that; it runs nothing.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from alembic.config import Config
from alembic.script import ScriptDirectory
from alembic.util import CommandError

from safely import invocation
from safely.alembic_internals import RevisionStep, Step, operations_kept
from safely.database import LOCK_TIMEOUT
from safely.ledger.ledger import Half
from safely.lint import configuration, lint, statistics
from safely.lint.findings import Finding
from safely.lint.formats import one_line
from safely.lint.rendering import render
from safely.lint.reports import Report, path_for_people, reports
from safely.lint.rules import RULES, Severity
from safely.lint.source import read_text
from safely.lint.statements import changes
from safely.lint.statistics import Statistics
from safely.project import Project

OPTIONS = {"lock_timeout": LOCK_TIMEOUT}  # those of env.py that operations of `safely` read
MOST = 20  # findings that are shown


@dataclass(frozen=True, kw_only=True)
class Guard:
    """Judges the steps of a command."""

    config: Config
    script: ScriptDirectory
    project: Project
    dialect: str

    def grave(
        self, steps: Iterable[Step], sizes: Statistics | None = None
    ) -> dict[Half, list[Report]]:
        """Return the grave findings of each step that has some; without `sizes` all tables count.

        Raise CommandError for a setting that is wrong. It must not run in an event loop, since the
        body of a revision may run one of its own.
        """
        due = [step for step in steps if isinstance(step, RevisionStep)]
        revisions = list({step.revision.revision: step.revision for step in due}.values())
        settings = configuration.load(self.config)
        with operations_kept():
            findings = lint(
                self.script,
                revisions,
                self.project.tables,
                OPTIONS,
                numbered=self.project.numbered,
                with_squawk=False,
            )
        found = {}
        for step in due:
            file = Path(step.revision.path)
            own = [f for f in findings[step.revision.revision] if f.up in (None, step.is_upgrade)]
            found[half_of(step)] = list(settings.apply(own, file))
        if sizes is not None:
            every = [finding for own in found.values() for finding in own]
            if any(statistics.lacks_table(sizes, finding) for finding in every):
                sizes = self.with_new_names(due, sizes)
            found = {
                half: [statistics.judge(finding, sizes) for finding in own]
                for half, own in found.items()
            }
        grave = {}
        for step in due:
            stopping = list(filter(self.stops, found[half_of(step)]))
            if stopping:
                source = read_text(Path(step.revision.path)).splitlines()
                path = path_for_people(step.revision, self.script)
                grave[half_of(step)] = list(reports(path, step.revision.revision, source, stopping))
        return grave

    def stops(self, finding: Finding) -> bool:
        """Return whether a finding stops a migration.

        On SQLite only a loss does: there no client waits for a table alone, and no older build runs
        beside a newer one.
        """
        loses = finding.rule in RULES and RULES[finding.rule].loses
        return finding.severity is Severity.GRAVE and (self.dialect != "sqlite" or loses)

    def with_new_names(self, steps: Sequence[RevisionStep], sizes: Statistics) -> Statistics:
        """Return the sizes also by the names that tables get on the way."""
        for step in steps:
            with operations_kept():
                rendering = render(
                    self.script, step.revision, self.project.tables, OPTIONS, up=step.is_upgrade
                )
            for statement in rendering.statements:
                for change in changes(statement.text):
                    if change.kind == "rename table":
                        sizes = sizes.renamed(change.parts["table"], change.parts["new"])
        return sizes


def half_of(step: RevisionStep) -> Half:
    """Return the ledger's name of a step."""
    return Half(step.revision.revision, "upgrade" if step.is_upgrade else "downgrade")


def refusal(
    grave: dict[Half, list[Report]], config: Config, begun: Step | None = None
) -> CommandError:
    """Return the error that shows the findings, a line each, and the ways out.

    `begun`: the step that a killed run left half done, which may be finished by itself.
    """
    lines = [one_line(report) for of_step in grave.values() for report in of_step]
    number = len(lines)
    if number > MOST:
        lines = [*lines[:MOST], f"… and {number - MOST} more"]
    command, target = invocation.typed(config)
    program, _, verb = command.partition(" ")
    again = f'{program or "alembic"} -x unsafe="REASON" {verb or "…"} {target}'.strip()
    revisions = " ".join(dict.fromkeys(half.revision for half in grave))
    alone = ""
    if isinstance(begun, RevisionStep):
        half, reached = half_of(begun), ", ".join(begun.to_revisions) or "base"
        end = half.revision if begun.is_upgrade else reached
        alone = (
            f". {half.direction} {half.revision} is begun: `alembic {half.direction} {end}` goes "
            "on with it, and ends there"
        )
    return CommandError(
        "\n  ".join([f"{number} grave finding(s), so nothing was changed:", *lines])
        + f"\n`python -m safely lint {revisions}` says why, and what to write instead. Or argue a "
        f"line away in its file (# lint: RULE: REASON), or run it all the same: {again}{alone}"
    )


def note(reason: str, of_step: Sequence[Report]) -> str:
    """Return the words in which the ledger keeps why a step with grave findings was run."""
    rules = ", ".join(dict.fromkeys(report.finding.rule for report in of_step))
    return f"{reason} ({rules})"
