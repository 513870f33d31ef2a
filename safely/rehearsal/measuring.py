"""The figures of a step, from the migrator's trace, the observer and the clients."""

import json
import re
import time
from collections.abc import Sequence
from pathlib import Path

from safely.rehearsal.locks import Line, statement_to_blame, statements
from safely.rehearsal.observer import Observer, Sizes
from safely.rehearsal.report import Latency, StepResult, in_one_line
from safely.rehearsal.traffic import FailedQuery, ServedQuery

SCANS = re.compile(r"CREATE (UNIQUE )?INDEX|VALIDATE CONSTRAINT", re.IGNORECASE)
MOST_ERRORS = 5
MARGIN = 0.2  # seconds around a step in which sizes count as those of its beginning and end


def measure(  # noqa: PLR0913  # each comes from another source
    direction: str,
    lines: list[Line],
    observer: Observer,
    *,
    served: Sequence[ServedQuery],
    failed: Sequence[FailedQuery],
    since: float,
    rewritten: list[str],
    effects: list[str],
    rows: dict[str, int],
) -> StepResult:
    """Return the figures of a step.

    The time from `since` to the migrator's first statement is what the step is compared with.
    `rows`: the estimated number of rows, by table.
    """
    statement_lines = [line for line in lines if line["what"] in {"statement", "failed"}]
    began = statement_lines[0]["began"] if statement_lines else time.time()
    ended = max((line["began"] + line["seconds"] for line in statement_lines), default=began)
    calm = (since, began)
    done = [line for line in lines if line["what"] == "done"]
    waits = [wait for wait in observer.waits.values() if began <= wait.began <= ended]
    longest = max(waits, key=lambda wait: wait.seconds, default=None)
    during = between(served, began, ended)
    wal, space = wal_and_space(observer.sizes, began, ended, calm)
    errors = dict.fromkeys(f"{query.version}: {query.error}" for query in failed)
    return StepResult(
        direction=direction,
        began=began,
        ended=ended,
        seconds=ended - began,
        attempts=max((line["attempts"] for line in done), default=1),
        rows=sum(line["rows"] for line in lines if "rows" in line)
        + rows_scanned(statement_lines, rows),
        statements=statements(statement_lines, lines, observer.held_locks, observer.bookkeeping),
        rewritten=rewritten,
        effects=effects,
        served=len(during),
        failed=len(failed),
        errors=list(errors)[:MOST_ERRORS],
        before=Latency.of(between(served, *calm)),
        during=Latency.of(during),
        longest_wait=longest.seconds if longest else 0.0,
        waits=len(waits),
        blame=statement_to_blame(longest, statement_lines, lines) if longest else None,
        broken=last_error(statement_lines),
        wal=wal,
        space=space,
    )


def lines_of(trace: Path) -> list[Line]:
    """Return the lines that the migrator wrote."""
    if not trace.exists():
        return []
    return [json.loads(line) for line in trace.read_text(encoding="utf-8").splitlines()]


def last_error(statement_lines: list[Line]) -> str | None:
    """Return the error of the last statement; an earlier one did not end the step."""
    if not statement_lines or "error" not in statement_lines[-1]:
        return None
    return f"{statement_lines[-1]['error']}; it came from {in_one_line(statement_lines[-1]['sql'])}"


def between(served: Sequence[ServedQuery], began: float, ended: float) -> list[ServedQuery]:
    """Return the queries that were due, or under way, between two times."""
    return [query for query in served if query.due < ended and began < query.due + query.seconds]


def rows_scanned(statement_lines: list[Line], rows: dict[str, int]) -> int:
    """Return the number of rows that building indexes and checking constraints read."""
    total = 0
    for line in statement_lines:
        if SCANS.search(line["sql"]):
            tables = [name for name in rows if re.search(rf"\b{re.escape(name)}\b", line["sql"])]
            total += max((rows[name] for name in tables), default=0)
    return total


def wal_and_space(
    sizes: Sequence[Sizes], began: float, ended: float, calm: tuple[float, float]
) -> tuple[int, int]:
    """Return about how many bytes of WAL a step wrote, and how many on disk it needed at most.

    What the clients wrote is taken off, at their rate in the calm before.
    """
    during = [size for size in sizes if began - MARGIN <= size.at <= ended + MARGIN]
    before = [size for size in sizes if calm[0] <= size.at <= calm[1]]
    if len(during) < 2 or len(before) < 2:  # noqa: PLR2004  # a difference needs two
        return 0, 0
    rate = (before[-1].wal - before[0].wal) / (before[-1].at - before[0].at)
    clients = rate * (during[-1].at - during[0].at)
    wal = during[-1].wal - during[0].wal - clients
    space = max(size.disk for size in during) - during[0].disk
    return max(0, int(wal)), max(0, space)
