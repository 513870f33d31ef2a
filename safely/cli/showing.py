"""A rehearsal on the screen: how far it is, and what was found."""

import sys
import time
from typing import Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from safely.rehearsal.report import Latency, Rehearsed, Report, Way, short
from safely.rehearsal.verdict import seconds, size

WHEN = ("after the way down:", "up again:")
WIDE = 160  # where no terminal sets a limit
HEADINGS = (
    "revision", "up", "rows/s", "p50", "p99 before", "during", "longest wait", "served", "failed",
    "WAL", "space", "down", "longest wait", "undone",
)  # fmt: skip


class Showing:
    """Live on a terminal, a line for each step elsewhere."""

    def __init__(self, *, quiet: bool) -> None:
        self.quiet = quiet
        self.began = time.monotonic()
        self.report: Report | None = None
        self.doing = ""
        self.console = Console(stderr=True, markup=False)
        self.live = Live(console=self.console, get_renderable=self.shown, transient=True)

    def __enter__(self) -> Self:
        if self.console.is_terminal and not self.quiet:
            self.live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.live.is_started:
            self.live.stop()

    def progress(self, report: Report, doing: str) -> None:
        """Show how far it is."""
        self.report, self.doing = report, doing
        if not (self.quiet or self.live.is_started):
            passed = time.monotonic() - self.began
            print(f"{passed:6.1f} s  {doing}", file=sys.stderr, flush=True)

    def shown(self) -> RenderableType:
        """What stands on the terminal now."""
        line = Text(f"{time.monotonic() - self.began:.0f} s  {self.doing}", style="bold")
        return Group(table(self.report), line) if self.report else line


def summary(report: Report) -> None:
    """Print what was found."""
    wide = None if sys.stdout.isatty() else WIDE
    console = Console(width=wide, highlight=False, markup=False)
    if not report.revisions:
        console.print("nothing is pending: name where to begin, such as --from base")
        return
    console.print(f"rehearsed on {report.source}, in {seconds(report.ended - report.began)}")
    console.print(table(report))
    for one in report.revisions:
        statements(console, one)
    for name, rule in report.unwritten.items():
        console.print(f"nobody wrote to {name}: made up rows break its rule {rule}", markup=False)
    for words in report.problems:
        console.print(f"NO  {words}", style="bold red", markup=False)
    if not report.problems:
        stays = [f"{one.revision}: {one.leaves}" for one in report.revisions if one.leaves]
        words = f"but for what stays ({'; '.join(stays)})" if stays else "without a loss"
        console.print(f"YES  within all budgets; undone and back {words}", style="bold green")


def table(report: Report) -> Table:
    """A line for each revision."""
    found = Table(*HEADINGS, box=None, pad_edge=False)
    for one in report.revisions:
        found.add_row(*row(one))
    return found


def row(one: Rehearsed) -> list[str]:
    """A revision: the way up, then the way down."""
    up, down = one.up, one.down
    if up is None or not up.ok:
        return [f"{one.revision} {one.message}", "failed" if up else "…"]
    return [
        f"{one.revision} {one.message}",
        seconds(up.seconds),
        f"{up.rate:,.0f}" if up.rate else "",
        latency(up.during, "p50"),
        latency(up.before, "p99"),
        latency(up.during, "p99"),
        waited(up),
        f"{up.served:,}",
        f"{sum(way.failed for way in one.ways):,}",
        size(up.wal),
        size(up.space),
        seconds(down.seconds) if down else "",
        waited(down) if down else "",
        undone(one),
    ]


def undone(one: Rehearsed) -> str:
    """How the way down went."""
    if any(when in words for words in one.problems for when in WHEN):
        return "no"
    if one.again is None:
        return "no" if one.problems else "…"
    if one.leaves:
        return "but for values"
    return "yes, values back" if one.compared else "yes"


def latency(found: Latency | None, name: str) -> str:
    """A time of it."""
    return f"{getattr(found, name) * 1000:.1f} ms" if found else ""


def waited(way: Way) -> str:
    """The longest wait for a lock of the migrator; shorter ones than are looked for go unseen."""
    return seconds(way.longest_wait) if way.waits else "none seen"


def statements(console: Console, one: Rehearsed) -> None:
    """What was said on the way up, with the locks that it took."""
    console.print(f"\n{one.revision} {one.message}", style="bold", markup=False)
    for statement in one.up.statements if one.up else ():
        locks = ", ".join(f"{mode} on {name}" for name, mode in statement.locks.items())
        times = f"{statement.times} times, " if statement.times > 1 else ""
        held = f"; {locks}, held for {seconds(statement.held)}" if locks else ""
        console.print(
            f"  {short(statement.sql)}\n    {times}{seconds(statement.seconds)}{held}", markup=False
        )
    if one.up and one.up.rewritten:
        console.print(f"  rewritten: {', '.join(one.up.rewritten)}", markup=False)
    if one.leaves:
        console.print(f"  its way down leaves: {one.leaves}", markup=False)
