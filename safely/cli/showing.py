"""A rehearsal on the screen: its progress, and its result. Needs the extra `rehearse`."""

import sys
import time
from typing import Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from safely.rehearsal.report import Latency, Report, RevisionResult, StepResult, in_one_line
from safely.rehearsal.values import AFTER_DOWNGRADE, AFTER_SECOND_UPGRADE
from safely.words import duration, size

WIDTH = 160  # columns where no terminal sets a limit
HEADINGS = (
    "revision", "up", "rows/s", "p50", "p99 before", "during", "longest wait", "served", "failed",
    "WAL", "space", "down", "longest wait", "undone",
)  # fmt: skip


class Showing:
    """Shows the progress: a table that is updated on a terminal, a line for each step elsewhere."""

    def __init__(self, *, quiet: bool) -> None:
        self.quiet = quiet
        self.began = time.monotonic()
        self.report: Report | None = None
        self.activity = ""
        self.console = Console(stderr=True, markup=False)
        self.live = Live(console=self.console, get_renderable=self.screen, transient=True)

    def __enter__(self) -> Self:
        if self.console.is_terminal and not self.quiet:
            self.live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.live.is_started:
            self.live.stop()

    def progress(self, report: Report, activity: str) -> None:
        """Show the report so far and what is being done now."""
        self.report, self.activity = report, activity
        if not (self.quiet or self.live.is_started):
            passed = time.monotonic() - self.began
            print(f"{passed:6.1f} s  {activity}", file=sys.stderr, flush=True)

    def screen(self) -> RenderableType:
        """Return what the terminal shows now."""
        line = Text(f"{time.monotonic() - self.began:.0f} s  {self.activity}", style="bold")
        return Group(table(self.report), line) if self.report else line


def print_summary(report: Report) -> None:
    """Print the result of a rehearsal."""
    console = Console(width=None if sys.stdout.isatty() else WIDTH, highlight=False, markup=False)
    if not report.revisions:
        console.print("nothing is pending: name a revision to begin at, such as --from base")
        return
    console.print(f"rehearsed on {report.source}, in {duration(report.ended - report.began)}")
    console.print(table(report))
    for result in report.revisions:
        print_statements(console, result)
    for name, reason in report.left_out.items():
        console.print(f"{name}: {reason}")
    for name, reason in report.unwritten.items():
        console.print(f"{name}: no client wrote to it, generated rows don't suit it: {reason}")
    for problem in report.problems:
        console.print(f"NO  {problem}", style="bold red")
    if not report.problems:
        console.print(f"YES  within all budgets; {undone_in_words(report)}", style="bold green")


def undone_in_words(report: Report) -> str:
    """Return what a rehearsal without problems shows about the way back."""
    remains = [f"{one.revision}: {one.leaves}" for one in report.revisions if one.leaves]
    words = f"but for what stays ({'; '.join(remains)})" if remains else "without a loss"
    not_downgraded = [one.revision for one in report.revisions if one.not_undone]
    beside = (
        f"; the downgrade of {', '.join(not_downgraded)} was not tried" if not_downgraded else ""
    )
    return f"undone and back {words}{beside}"


def table(report: Report) -> Table:
    """Return the table with a row for each revision."""
    rows = Table(*HEADINGS, box=None, pad_edge=False)
    for result in report.revisions:
        rows.add_row(*row(result))
    return rows


def row(result: RevisionResult) -> list[str]:
    """Return the cells of a revision: its upgrade, then its downgrade."""
    up, down = result.up, result.down
    name = f"{result.revision} {result.message}"
    if up is None or not up.ok:
        return [name, "failed" if up else "…"]
    return [
        name,
        duration(up.seconds),
        f"{up.rate:,.0f}" if up.rate else "",
        milliseconds(up.during, "p50"),
        milliseconds(up.before, "p99"),
        milliseconds(up.during, "p99"),
        longest_wait(up),
        f"{up.served:,}",
        f"{sum(step.failed for step in result.steps):,}",
        size(up.wal),
        size(up.space),
        duration(down.seconds) if down else "",
        longest_wait(down) if down else "",
        undone(result),
    ]


def undone(result: RevisionResult) -> str:
    """Return, in a word or two, whether the downgrade undid the revision."""
    if result.not_undone:
        return "not tried"
    states = (f"{AFTER_DOWNGRADE}:", f"{AFTER_SECOND_UPGRADE}:")
    if any(problem.startswith(states) for problem in result.problems):
        return "no"
    if result.again is None:
        return "no" if result.problems else "…"
    if result.leaves:
        return "but for values"
    return "yes, values back" if result.compared else "yes"


def milliseconds(latency: Latency | None, name: str) -> str:
    """Return one figure of a latency, such as its `p99`; empty where nothing was served."""
    return f"{getattr(latency, name) * 1000:.1f} ms" if latency else ""


def longest_wait(step: StepResult) -> str:
    """Return the longest wait for a lock of the migrator; very short ones are not observed."""
    return duration(step.longest_wait) if step.waits else "none seen"


def print_statements(console: Console, result: RevisionResult) -> None:
    """Print the statements of an upgrade, with the locks that each took."""
    console.print(f"\n{result.revision} {result.message}", style="bold")
    for statement in result.up.statements if result.up else ():
        locks = ", ".join(f"{mode} on {name}" for name, mode in statement.locks.items())
        times = f"{statement.times} times, " if statement.times > 1 else ""
        held = f"; {locks}, held for {duration(statement.held)}" if locks else ""
        console.print(
            f"  {in_one_line(statement.sql)}\n    {times}{duration(statement.seconds)}{held}"
        )
    if result.up and result.up.rewritten:
        console.print(f"  rewritten: {', '.join(result.up.rewritten)}")
    for sentence in result.up.effects if result.up else ():
        console.print(f"  effect: {sentence}")
    if result.leaves:
        console.print(f"  its downgrade leaves: {result.leaves}")
    if result.not_undone:
        console.print(f"  its downgrade was not tried: {result.not_undone}")
