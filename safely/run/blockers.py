"""Blockers: the sessions that hold the locks for which a step waits (PostgreSQL)."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from safely.ledger.ledger import Work

POLL = 0.02  # seconds; a step gives up a lock after some 100 ms
SECONDS_BETWEEN_LINES = 5.0

log = logging.getLogger("safely")

# The seconds that the session :pid has been waiting for a lock, and a description of each session
# that blocks it, the oldest transaction first; no row if it does not wait. A role without the right
# to see the age of a transaction and its query gets a description without them.
WAITING = text("""\
SELECT extract(epoch FROM clock_timestamp() - waitstart)::float AS seconds, ARRAY(
  SELECT concat_ws(': ',
           concat_ws(', ', format('pid %s', pid),
             coalesce(nullif(application_name, ''), 'an application without a name'),
             'in a transaction for '
               || round(extract(epoch FROM clock_timestamp() - xact_start), 1) || ' s'),
           nullif(left(regexp_replace(regexp_replace(query, $$'[^']*'$$, '''…''', 'g'),
                                      '\\s+', ' ', 'g'), 60), '<insufficient privilege>'))
  FROM pg_stat_activity WHERE pid IN (SELECT unnest(pg_blocking_pids(:pid)))
  ORDER BY xact_start NULLS LAST, pid LIMIT 5
) AS blockers
FROM pg_locks WHERE pid = :pid AND NOT granted AND waitstart IS NOT NULL LIMIT 1""")


@asynccontextmanager
async def watched(
    connection: AsyncConnection, monitor: AsyncConnection | None, work: Work
) -> AsyncIterator[None]:
    """Note in `work` for how long the connection waits, and for whom.

    `monitor` is a connection in AUTOCOMMIT mode that looks at it; None: nothing is noted. Long
    waits, such as that of CONCURRENTLY for old transactions, are logged.
    """
    if monitor is None:
        yield
        return
    raw = await connection.get_raw_connection()
    assert raw.driver_connection is not None  # noqa: S101  # it is connected
    over = asyncio.Event()
    pid = raw.driver_connection.get_server_pid()
    watcher = asyncio.create_task(watch(monitor, pid, work, over))
    try:
        yield
    finally:
        over.set()
        await watcher


async def watch(monitor: AsyncConnection, pid: int, work: Work, over: asyncio.Event) -> None:
    """Poll for the locks that a session waits for, until it is over."""
    logged = time.monotonic()
    while not over.is_set():
        row = (await monitor.execute(WAITING, {"pid": pid})).first()
        if row is not None:
            work.longest_wait = max(work.longest_wait, row.seconds)
            work.blocker = row.blockers[0] if row.blockers else work.blocker
            if row.seconds > SECONDS_BETWEEN_LINES < time.monotonic() - logged:
                logged = time.monotonic()
                log.info("waiting for %s", row.blockers[0] if row.blockers else "a lock")
        await happens(over, POLL)


async def happens(event: asyncio.Event, seconds: float) -> bool:
    """Return whether the event happens within so many seconds."""
    try:
        # not asyncio.wait_for: under Python 3.11 it may lose a cancellation
        async with asyncio.timeout(seconds):
            return await event.wait()
    except TimeoutError:
        return False
