"""Observes, on connections of its own, the migrator's locks, who waits for them, and disk use."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import NamedTuple

from safely.database import APPLICATION_NAME
from safely.rehearsal.connection import CopyAddress
from safely.run.blockers import happens
from safely.run.table_locks import ON_APPLICATION_TABLES

POLL = 0.02  # seconds between two looks at the locks
POLL_SIZES = 0.1

# $1: how the application_name of a client begins. `waitstart` says when the wait began, so a long
# interval between two looks doesn't shorten it. A wait for a row has no relation.
WAITS = f"""\
SELECT client.pid, extract(epoch FROM waitstart)::float, clock_timestamp() - waitstart AS since,
       relname, mode, migrator.query
FROM pg_locks JOIN pg_stat_activity AS client USING (pid)
LEFT JOIN pg_class ON pg_class.oid = relation
CROSS JOIN LATERAL (SELECT query FROM pg_stat_activity AS holder
                    WHERE holder.application_name = '{APPLICATION_NAME}'
                      AND holder.pid = ANY (pg_blocking_pids(client.pid)) LIMIT 1) AS migrator
WHERE NOT granted AND waitstart IS NOT NULL AND client.application_name ^@ $1"""

HELD = f"""\
SELECT extract(epoch FROM query_start)::float, query, relname, mode
FROM pg_stat_activity JOIN pg_locks USING (pid) JOIN pg_class ON pg_class.oid = relation
WHERE application_name = '{APPLICATION_NAME}' AND granted AND state = 'active'
  AND {ON_APPLICATION_TABLES}"""

SIZES = """\
SELECT pg_current_wal_insert_lsn() - '0/0'::pg_lsn, pg_database_size(current_database())
  + (SELECT coalesce(sum(size), 0) FROM pg_ls_tmpdir())"""


class Wait(NamedTuple):
    """A client's wait for a lock that the migrator holds, or waits for ahead of the client."""

    began: float  # seconds since 1970
    seconds: float
    table: str | None  # None: the wait is for a row
    mode: str
    query: str  # of the migrator, when the wait was first seen


class HeldLock(NamedTuple):
    """A lock that the migrator held while a statement ran."""

    began: float  # of the statement, in seconds since 1970
    query: str
    table: str
    mode: str


class Sizes(NamedTuple):
    """How much WAL was written until some time, and how much is on disk."""

    at: float  # seconds since 1970
    wal: int  # bytes
    disk: int  # bytes, with temporary files


class Observer:
    """The observations so far.

    `clients`: how their application_name begins; `bookkeeping`: tables that only migrations use.
    """

    def __init__(self, address: CopyAddress, clients: str, bookkeeping: list[str]) -> None:
        self.address = address
        self.clients = clients
        self.bookkeeping = bookkeeping
        self.waits: dict[tuple[int, float], Wait] = {}  # by process and beginning
        self.held_locks: set[HeldLock] = set()
        self.sizes: list[Sizes] = []

    @asynccontextmanager
    async def observing(self) -> AsyncIterator[None]:
        """Observe until the end of the block."""
        over = asyncio.Event()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self.observe_locks(over))
            tasks.create_task(self.observe_sizes(over))
            try:
                yield
            finally:
                over.set()

    async def observe_locks(self, over: asyncio.Event) -> None:
        """Note waits and held locks until it is over."""
        connection = await self.address.connect()
        try:
            while not await happens(over, POLL):
                rows = await connection.fetch(WAITS, self.clients)
                for pid, began, since, table, mode, query in rows:
                    known = self.waits.get((pid, began))
                    first = known.query if known else query
                    self.waits[pid, began] = Wait(began, since.total_seconds(), table, mode, first)
                rows = await connection.fetch(HELD, self.bookkeeping)
                self.held_locks.update(HeldLock(*row) for row in rows)
        finally:
            await connection.close()

    async def observe_sizes(self, over: asyncio.Event) -> None:
        """Note how much WAL is written, and how much is on disk, until it is over."""
        connection = await self.address.connect()
        try:
            while not await happens(over, POLL_SIZES):
                wal, disk = await connection.fetchrow(SIZES)
                self.sizes.append(Sizes(time.time(), int(wal), int(disk)))
        finally:
            await connection.close()
