"""Seeing from beside: who waits for the migrator, what it holds, and what it takes."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import NamedTuple

import asyncpg

POLL = 0.02  # seconds
POLL_SIZE = 0.1

# waitstart tells how long it has been waiting, however seldom we look
WAITS = """\
SELECT client.pid, extract(epoch FROM waitstart)::float, clock_timestamp() - waitstart AS since,
       relation::regclass::text, mode, migrator.query
FROM pg_locks JOIN pg_stat_activity AS client USING (pid)
CROSS JOIN LATERAL (SELECT query FROM pg_stat_activity AS holder
                    WHERE holder.application_name = 'migrations'
                      AND holder.pid = ANY (pg_blocking_pids(client.pid)) LIMIT 1) AS migrator
WHERE NOT granted AND waitstart IS NOT NULL AND client.application_name ^@ 'users@'"""

HELD = """\
SELECT extract(epoch FROM query_start)::float, query, relname, mode
FROM pg_stat_activity JOIN pg_locks USING (pid) JOIN pg_class ON pg_class.oid = relation
WHERE application_name = 'migrations' AND granted AND locktype = 'relation' AND state = 'active'
  AND relkind IN ('r', 'p') AND relpersistence <> 't' AND relnamespace <> 'pg_catalog'::regnamespace
  AND relname NOT IN ('alembic_version', 'migration_log')"""

SIZES = """\
SELECT pg_current_wal_insert_lsn() - '0/0'::pg_lsn, pg_database_size(current_database())
  + (SELECT coalesce(sum(size), 0) FROM pg_ls_tmpdir())"""


class Wait(NamedTuple):
    """A client's wait for a lock that the migrator holds, or queues for ahead of it."""

    began: float  # seconds since 1970
    seconds: float
    table: str | None  # None: for a row, which is waited for by its transaction
    mode: str
    query: str  # what the migrator said last


class Held(NamedTuple):
    """A lock that the migrator had while a statement ran."""

    began: float  # of the statement
    query: str
    table: str
    mode: str


class Size(NamedTuple):
    """What was written until then, and what lies on disk."""

    at: float
    wal: int  # bytes
    disk: int  # bytes, temporary files and all


class Witness:
    """Looks again and again."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.waits: dict[tuple[int, float], Wait] = {}
        self.held: set[Held] = set()
        self.sizes: list[Size] = []

    @asynccontextmanager
    async def watching(self) -> AsyncIterator[None]:
        """Look meanwhile."""
        over = asyncio.Event()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self.look(over))
            tasks.create_task(self.measure(over))
            try:
                yield
            finally:
                over.set()

    async def look(self, over: asyncio.Event) -> None:
        """Who waits, and for what."""
        connection = await asyncpg.connect(self.url)
        try:
            while not await happened(over, POLL):
                for pid, began, since, table, mode, query in await connection.fetch(WAITS):
                    known = self.waits.get((pid, began))
                    said = known.query if known else query  # what it said when the wait began
                    self.waits[pid, began] = Wait(began, since.total_seconds(), table, mode, said)
                self.held.update(Held(*row) for row in await connection.fetch(HELD))
        finally:
            await connection.close()

    async def measure(self, over: asyncio.Event) -> None:
        """How much is written."""
        connection = await asyncpg.connect(self.url)
        try:
            while not await happened(over, POLL_SIZE):
                wal, disk = await connection.fetchrow(SIZES)
                self.sizes.append(Size(time.time(), int(wal), int(disk)))
        finally:
            await connection.close()


async def happened(event: asyncio.Event, seconds: float) -> bool:
    """Whether it happens within so many seconds."""
    try:
        await asyncio.wait_for(event.wait(), seconds)
    except TimeoutError:
        return False
    return True
