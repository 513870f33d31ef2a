"""Measuring what clients notice of a migration: what they waited, and who made them wait."""

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

# waitstart tells how long it has been waiting, however seldom we look
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


class Served(NamedTuple):
    """A query or a request that was answered."""

    began: float  # seconds since 1970
    seconds: float
    what: str
    pid: int | None = None  # of the backend; None where a service is in between

    @property
    def ended(self) -> float:
        return self.began + self.seconds


class Blocked(NamedTuple):
    """A client's wait for a lock that the migrator holds, or queues for ahead of it."""

    pid: int
    began: float  # seconds since 1970
    seconds: float
    what: str

    def during(self, served: Served) -> bool:
        mine = served.pid in {None, self.pid}
        return mine and self.began < served.ended and served.began < self.began + self.seconds


class Step(NamedTuple):
    """A step as the ledger tells of it, until the next one began."""

    name: str
    began: float
    ended: float
    seconds: float | None  # None where it is no step


class Witness:
    """Sees what clients waited, and which of it for the migrator."""

    def __init__(self) -> None:
        self.served: list[Served] = []
        self.waits: dict[tuple[int, float], Blocked] = {}
        self.others: list[Served] = []  # what touched no table: slow when the machine is

    @asynccontextmanager
    async def watching(self, url: str) -> AsyncIterator[None]:
        over = asyncio.Event()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self.watch(url, over))
            try:
                yield
            finally:
                over.set()

    async def watch(self, url: str, over: asyncio.Event) -> None:
        connection = await asyncpg.connect(url)
        while not over.is_set():
            began = time.time()
            for row in await connection.fetch(BLOCKED):
                self.waits[row["pid"], row["began"]] = Blocked(*row)
            self.others.append(Served(began, time.time() - began, "watch"))
            await asyncio.sleep(POLL)
        await connection.close()

    def note(self, began: float, what: str, pid: int | None = None) -> None:
        """A query that began then was answered just now."""
        self.served.append(Served(began, time.time() - began, what, pid))

    def blocked(self, served: Served) -> float:
        """Seconds of it that its backend waited for the migrator (without pid: any of them)."""
        seconds: dict[int, float] = {}
        for wait in self.waits.values():
            if wait.during(served):
                seconds[wait.pid] = seconds.get(wait.pid, 0.0) + wait.seconds
        return max(seconds.values(), default=0.0)

    def slow(self) -> list[Served]:
        return [served for served in self.served if served.seconds > LONGEST_WAIT]

    def slowed_by_the_migration(self) -> list[tuple[Served, float]]:
        """Those that the migrator kept waiting for too long, and for how long."""
        found = [(served, self.blocked(served)) for served in self.slow()]
        return [(served, seconds) for served, seconds in found if seconds > LONGEST_WAIT]

    def table(self, steps: Iterable[Step]) -> str:
        """A line for each step: how long it took, and how clients fared."""
        heading = f"{'':24}{'seconds':>9}{'served':>9}{'longest':>10}{'for the migration':>20}"
        return "\n".join([heading, *(self.line(step) for step in steps)])

    def line(self, step: Step) -> str:
        served = [s.seconds for s in self.served if step.began < s.began + s.seconds <= step.ended]
        waits = [w.seconds for w in self.waits.values() if step.began <= w.began < step.ended]
        longest, blocked = (f"{max(found, default=0) * 1000:.0f} ms" for found in (served, waits))
        seconds = step.ended - step.began if step.seconds is None else step.seconds
        return f"{step.name:24}{seconds:>9.2f}{len(served):>9}{longest:>10}{blocked:>20}"

    def says(self) -> str:
        """What took long, and why."""
        longest = sorted(self.waits.values(), key=lambda wait: -wait.seconds)[:5]
        slow = self.slow()
        return "\n".join(
            [
                "the longest waits for a lock of the migrator:",
                *(f"  {wait.seconds * 1000:.0f} ms for {wait.what}" for wait in longest),
                f"{len(self.served)} served, of which {len(slow)} took longer than "
                f"{LONGEST_WAIT * 1000:.0f} ms",
                *(self.why(served) for served in slow[:20]),
            ]
        )

    def why(self, slow: Served) -> str:
        others = [o.seconds for o in self.others if o.began < slow.ended and slow.began < o.ended]
        return (
            f"  {slow.seconds * 1000:.0f} ms, of which {self.blocked(slow) * 1000:.0f} ms for the "
            f"migrator; who touched no table waited {max(others, default=0) * 1000:.0f} ms then: "
            f"{slow.what}"
        )


async def steps_since(url: str, began: float) -> list[Step]:
    """The steps that the ledger has, each until the next one began."""
    connection = await asyncpg.connect(url)
    rows = [tuple(row) for row in await connection.fetch(LEDGER)]
    await connection.close()
    return list(spans([row for row in rows if row[2] >= began], time.time()))


def spans(rows: list[tuple[str, str, float, float]], end: float) -> Iterator[Step]:
    for number, (revision, direction, began, seconds) in enumerate(rows):
        until = rows[number + 1][2] if number + 1 < len(rows) else end
        yield Step(f"{direction} {revision}", began, until, seconds)


async def migrated(url: str, *command: str, cwd: Path = ROOT) -> None:
    """The command has run, and nobody was held up by waiting for it."""
    environment = {**os.environ, "DATABASE_URL": url}
    process = await forkserver.start(*command, cwd=cwd, environment=environment, merged=True)
    output, _ = await process.communicate()
    assert process.returncode == 0, output.decode()
