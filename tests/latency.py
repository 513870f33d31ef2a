"""Measure how long clients wait during a migration, and how much of it for the migrator."""

import asyncio
import os
import time
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NamedTuple

import asyncpg

from tests import forkserver
from tests.paths import ROOT

POLL = 0.02  # seconds
LONGEST_WAIT = 0.25  # seconds that a migration may make a client wait

# waitstart gives the whole duration of a wait, however seldom we poll
BLOCKED = """\
SELECT pid, extract(epoch FROM waitstart)::float AS began,
       extract(epoch FROM clock_timestamp() - waitstart)::float AS seconds,
       concat_ws(' ', mode, locktype, relation::regclass) AS what
FROM pg_locks JOIN pg_stat_activity AS client USING (pid)
WHERE NOT granted AND waitstart IS NOT NULL AND client.application_name LIKE 'users@%'
  AND EXISTS (SELECT FROM pg_stat_activity AS migrator
              WHERE migrator.application_name = 'migrations'
                AND migrator.pid = ANY (pg_blocking_pids(client.pid)))"""

LEDGER = """\
SELECT revision, direction, extract(epoch FROM started)::float, duration
FROM migration_log WHERE state = 'done' ORDER BY id"""


class Timing(NamedTuple):
    """When a query or a request began, and how long its response took."""

    began: float  # seconds since 1970
    seconds: float
    what: str
    pid: int | None = None  # of the backend; None for a request to the service

    @property
    def ended(self) -> float:
        return self.began + self.seconds


class LockWait(NamedTuple):
    """A client's wait for a lock that the migrator holds, or waits for ahead of the client."""

    pid: int
    began: float  # seconds since 1970
    seconds: float
    what: str

    def during(self, timing: Timing) -> bool:
        mine = timing.pid in {None, self.pid}
        return mine and self.began < timing.ended and timing.began < self.began + self.seconds


class Step(NamedTuple):
    """A step of the ledger, and the time until the next one began."""

    name: str
    began: float
    ended: float
    seconds: float | None  # None if the ledger has no duration


class LatencyMonitor:
    """Records how long clients waited, and for which of it a migrator was the reason."""

    def __init__(self) -> None:
        self.timings: list[Timing] = []
        self.waits: dict[tuple[int, float], LockWait] = {}
        self.unrelated: list[
            Timing
        ] = []  # these touched no table: slow only when the machine is slow

    @asynccontextmanager
    async def watching(self, url: str) -> AsyncIterator[None]:
        finished = asyncio.Event()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self.watch(url, finished))
            try:
                yield
            finally:
                finished.set()

    async def watch(self, url: str, finished: asyncio.Event) -> None:
        connection = await asyncpg.connect(url)
        while not finished.is_set():
            began = time.time()
            for row in await connection.fetch(BLOCKED):
                self.waits[row["pid"], row["began"]] = LockWait(*row)
            self.unrelated.append(Timing(began, time.time() - began, "watch"))
            await asyncio.sleep(POLL)
        await connection.close()

    def record(self, began: float, what: str, pid: int | None = None) -> None:
        """Record a query that began at `began` and has just been answered."""
        self.timings.append(Timing(began, time.time() - began, what, pid))

    def blocked(self, timing: Timing) -> float:
        """Return its seconds of waiting for the migrator; without a pid, of any backend's."""
        seconds: dict[int, float] = {}
        for wait in self.waits.values():
            if wait.during(timing):
                seconds[wait.pid] = seconds.get(wait.pid, 0.0) + wait.seconds
        return max(seconds.values(), default=0.0)

    def slow(self) -> list[Timing]:
        return [timing for timing in self.timings if timing.seconds > LONGEST_WAIT]

    def slowed_by_migration(self) -> list[tuple[Timing, float]]:
        """Return those that waited too long for the migrator, and how long."""
        slow = [(timing, self.blocked(timing)) for timing in self.slow()]
        return [(timing, seconds) for timing, seconds in slow if seconds > LONGEST_WAIT]

    def table(self, steps: Iterable[Step]) -> str:
        """Return a line for each step: its duration, and how long clients waited."""
        heading = f"{'':24}{'seconds':>9}{'served':>9}{'longest':>10}{'for the migration':>20}"
        return "\n".join([heading, *(self.line(step) for step in steps)])

    def line(self, step: Step) -> str:
        served = [s.seconds for s in self.timings if step.began < s.began + s.seconds <= step.ended]
        waits = [w.seconds for w in self.waits.values() if step.began <= w.began < step.ended]
        longest, blocked = (
            f"{max(durations, default=0) * 1000:.0f} ms" for durations in (served, waits)
        )
        seconds = step.ended - step.began if step.seconds is None else step.seconds
        return f"{step.name:24}{seconds:>9.2f}{len(served):>9}{longest:>10}{blocked:>20}"

    def explanation(self) -> str:
        """Explain what took long."""
        longest = sorted(self.waits.values(), key=lambda wait: -wait.seconds)[:5]
        slow = self.slow()
        return "\n".join(
            [
                "the longest waits for a lock of the migrator:",
                *(f"  {wait.seconds * 1000:.0f} ms for {wait.what}" for wait in longest),
                f"{len(self.timings)} served, of which {len(slow)} took longer than "
                f"{LONGEST_WAIT * 1000:.0f} ms",
                *(self.why(timing) for timing in slow[:20]),
            ]
        )

    def why(self, slow: Timing) -> str:
        others = [
            o.seconds for o in self.unrelated if o.began < slow.ended and slow.began < o.ended
        ]
        return (
            f"  {slow.seconds * 1000:.0f} ms, of which {self.blocked(slow) * 1000:.0f} ms for the "
            f"migrator; who touched no table waited {max(others, default=0) * 1000:.0f} ms then: "
            f"{slow.what}"
        )


async def steps_since(url: str, began: float) -> list[Step]:
    """Return the steps of the ledger since `began`, each until the next one began."""
    connection = await asyncpg.connect(url)
    rows = [tuple(row) for row in await connection.fetch(LEDGER)]
    await connection.close()
    return list(spans([row for row in rows if row[2] >= began], time.time()))


def spans(rows: list[tuple[str, str, float, float]], end: float) -> Iterator[Step]:
    for number, (revision, direction, began, seconds) in enumerate(rows):
        until = rows[number + 1][2] if number + 1 < len(rows) else end
        yield Step(f"{direction} {revision}", began, until, seconds)


async def run_migration(url: str, *command: str, cwd: Path = ROOT) -> None:
    """Run a command without blocking the event loop; fail with its output if it fails."""
    environment = {**os.environ, "DATABASE_URL": url}
    process = await forkserver.start(*command, cwd=cwd, environment=environment, merged=True)
    output, _ = await process.communicate()
    assert process.returncode == 0, output.decode()
