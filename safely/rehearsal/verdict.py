"""The verdict: what a step cost, compared with the budgets."""

import re

from safely.rehearsal.report import Budgets, StepResult
from safely.words import count, duration, size

MANY_ROWS = 1_000  # a table with fewer is written in an instant
STACK_TRACE = re.compile(r": [\w.]+(Error|Exception)\b")


def problems_of(
    step: StepResult, budgets: Budgets, failure: str | None, rewritten: dict[str, int]
) -> list[str]:
    """Return why a step may not go to production, each time with the statement to blame.

    `failure`: Alembic's last line, where the step failed. `rewritten`: by table, the rows of those
    that have a new file.
    """
    problems = []
    if failure:
        # Alembic's own sentence says more than the error does, unless it is the end of a stack
        _, origin, statement = (step.broken or "").partition("; it came from ")
        is_unforeseen = step.broken and STACK_TRACE.search(failure)
        sentence = step.broken if step.broken and is_unforeseen else failure + origin + statement
        problems.append(sentence)
    if step.longest_wait > budgets.max_wait:
        problems.append(
            f"a client waited {duration(step.longest_wait)} ({step.waits} waits; the budget is "
            f"{duration(budgets.max_wait)}) for: {step.blame}"
        )
    if step.failed > budgets.max_failed:
        problems.append(f"{step.failed} queries failed: {'; '.join(step.errors)}")
    problems += [
        f"all of {table} was written anew, or emptied, under a lock that stops everybody "
        f"({count(rows, 'row')}; it takes the longer, the more there are)"
        for table, rows in rewritten.items()
        if rows >= MANY_ROWS
    ]
    if budgets.max_duration is not None and step.seconds > budgets.max_duration:
        problems.append(
            f"it took {duration(step.seconds)}, the budget is {duration(budgets.max_duration)}"
        )
    for what, cost, budget in (
        ("of space on disk", step.space, budgets.max_space),
        ("of WAL", step.wal, budgets.max_wal),
    ):
        if budget is not None and cost > budget:
            problems.append(f"it needed {size(cost)} {what}, the budget is {size(budget)}")
    return [f"{step.direction}: {problem}" for problem in problems]
