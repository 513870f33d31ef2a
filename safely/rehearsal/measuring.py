"""What a step did, from what it wrote down and from what was seen beside it."""

import json
import re
import time
from collections.abc import Sequence
from pathlib import Path

from safely.rehearsal.locks import Line, blame, statements
from safely.rehearsal.report import Latency, Way, short
from safely.rehearsal.traffic import Failed, Served
from safely.rehearsal.witness import Size, Witness

SCANS = re.compile(r"CREATE (UNIQUE )?INDEX|VALIDATE CONSTRAINT", re.IGNORECASE)


def measure(  # noqa: PLR0913  # each is another witness
    direction: str,
    trace: Path,
    witness: Witness,
    *,
    served: Sequence[Served],
    failed: Sequence[Failed],
    since: float,
    rewritten: list[str],
    rows: dict[str, int],
) -> Way:
    """What a step did, from what it wrote down and from what was seen beside it.

    From `since` until it said something, all was calm.
    """
    lines = lines_of(trace)
    said = [line for line in lines if line["what"] in {"statement", "failed"}]
    began = said[0]["began"] if said else time.time()
    ended = max((line["began"] + line["seconds"] for line in said), default=began)
    calm = (since, began)
    done = [line for line in lines if line["what"] == "done"]
    waits = [wait for wait in witness.waits.values() if began <= wait.began <= ended]
    longest = max(waits, key=lambda wait: wait.seconds, default=None)
    during = between(served, began, ended)
    wal, space = taken(witness.sizes, began, ended, calm)
    return Way(
        direction=direction,
        began=began,
        ended=ended,
        seconds=ended - began,
        attempts=max((line["attempts"] for line in done), default=1),
        rows=sum(line["rows"] for line in lines if "rows" in line) + scanned(said, rows),
        statements=statements(said, lines, witness.held),
        rewritten=rewritten,
        served=len(during),
        failed=len(failed),
        errors=list(dict.fromkeys(f"at_{one.version}: {one.error}" for one in failed))[:5],
        before=Latency.of(between(served, *calm)),
        during=Latency.of(during),
        longest_wait=longest.seconds if longest else 0.0,
        waits=len(waits),
        blame=blame(longest, said, lines) if longest else None,
        broken=broken(said),
        wal=wal,
        space=space,
    )


def lines_of(trace: Path) -> list[Line]:
    """What the migrator wrote down, line by line."""
    if not trace.exists():
        return []
    return [json.loads(line) for line in trace.read_text(encoding="utf-8").splitlines()]


def broken(said: list[Line]) -> str | None:
    """The error that a step ended with; one that a later statement followed was overcome."""
    if not said or "error" not in said[-1]:
        return None
    return f"{said[-1]['error']}; it came from {short(said[-1]['sql'])}"


def between(served: Sequence[Served], began: float, ended: float) -> list[Served]:
    """The queries that were under way then."""
    return [s for s in served if s.due < ended and began < s.due + s.seconds]


def scanned(said: list[Line], rows: dict[str, int]) -> int:
    """The rows that building indexes and checking rules went over."""
    found = 0
    for line in said:
        if SCANS.search(line["sql"]):
            tables = [name for name in rows if re.search(rf"\b{name}\b", line["sql"])]
            found += max((rows[name] for name in tables), default=0)
    return found


def taken(
    sizes: Sequence[Size], began: float, ended: float, calm: tuple[float, float]
) -> tuple[int, int]:
    """Bytes of WAL that the step wrote, about, and bytes on disk that it needed at the most."""
    during = [size for size in sizes if began - 0.2 <= size.at <= ended + 0.2]
    before = [size for size in sizes if calm[0] <= size.at <= calm[1]]
    if len(during) < 2 or len(before) < 2:  # noqa: PLR2004  # a difference is of two
        return 0, 0
    rate = (before[-1].wal - before[0].wal) / (before[-1].at - before[0].at)
    clients = rate * (during[-1].at - during[0].at)
    wal = during[-1].wal - during[0].wal - clients
    space = max(size.disk for size in during) - during[0].disk
    return max(0, int(wal)), max(0, space)
