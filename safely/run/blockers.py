"""What a step waits for, seen from beside it (PostgreSQL)."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

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
           nullif(left(regexp_replace(query, '\\s+', ' ', 'g'), 60), '<insufficient privilege>'))
  FROM pg_stat_activity WHERE pid IN (SELECT unnest(pg_blocking_pids(:pid)))
  ORDER BY xact_start NULLS LAST, pid LIMIT 5
) AS blockers
FROM pg_locks WHERE pid = :pid AND NOT granted AND waitstart IS NOT NULL LIMIT 1""")


@asynccontextmanager
async def watched(
    connection: AsyncConnection, beside: AsyncConnection | None, work: Work
) -> AsyncIterator[None]:
    """Note in `work` what the connection waits for, seen from one that commits by itself.

    Long waits, such as that of CONCURRENTLY for old transactions, are told in the log.
    """
    if beside is None:
        yield
        return
    raw = await connection.get_raw_connection()
    assert raw.driver_connection is not None  # noqa: S101  # it is connected
    over = asyncio.Event()
    watcher = asyncio.create_task(watch(beside, raw.driver_connection.get_server_pid(), work, over))
    try:
        yield
    finally:
        over.set()
        await watcher


async def watch(beside: AsyncConnection, pid: int, work: Work, over: asyncio.Event) -> None:
    """Ask again and again until it is over."""
    said = time.monotonic()
    while not over.is_set():
        row = (await beside.execute(WAITING, {"pid": pid})).first()
        if row is not None:
            work.longest_wait = max(work.longest_wait, row.seconds)
            work.blocker = row.blockers[0] if row.blockers else work.blocker
            if row.seconds > SECONDS_BETWEEN_LINES < time.monotonic() - said:
                said = time.monotonic()
                log.info("waiting for %s", row.blockers[0] if row.blockers else "a lock")
        with suppress(TimeoutError):
            await asyncio.wait_for(over.wait(), POLL)
