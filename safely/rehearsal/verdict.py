"""The verdict: what a way cost, beside what it may."""

import re

from safely.rehearsal.report import Budgets, Way

STACK = re.compile(r": [\w.]+(Error|Exception)\b")


def judge(way: Way, budgets: Budgets, failure: str | None) -> list[str]:
    """Why it may not go to production like this, each with the statement to blame."""
    found = []
    if failure:
        # Alembic's own sentence says more than the error, but for one that it did not foresee
        found.append(way.broken if way.broken and STACK.search(failure) else failure)
    if way.longest_wait > budgets.max_wait:
        found.append(
            f"a client waited {seconds(way.longest_wait)} ({way.waits} waits; the budget is "
            f"{seconds(budgets.max_wait)}) for: {way.blame}"
        )
    if way.failed > budgets.max_failed:
        found.append(f"{way.failed} queries failed: {'; '.join(way.errors)}")
    if budgets.max_duration is not None and way.seconds > budgets.max_duration:
        found.append(
            f"it took {seconds(way.seconds)}, the budget is {seconds(budgets.max_duration)}"
        )
    for what, cost, budget in (
        ("of space on disk", way.space, budgets.max_space),
        ("of WAL", way.wal, budgets.max_wal),
    ):
        if budget is not None and cost > budget:
            found.append(f"it needed {size(cost)} {what}, the budget is {size(budget)}")
    return [f"{way.direction}: {words}" for words in found]


def seconds(value: float) -> str:
    """A time for people."""
    if value < 1:
        return f"{value * 1000:.0f} ms"
    return f"{value:.1f} s" if value < 60 else f"{value / 60:.1f} min"  # noqa: PLR2004  # a minute


def size(value: float) -> str:
    """Bytes for people."""
    for unit in ("B", "KiB", "MiB"):
        if value < 1024:  # noqa: PLR2004  # of the next unit
            return f"{value:.0f} {unit}"
        value /= 1024
    return f"{value:.1f} GiB"
