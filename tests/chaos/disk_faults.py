"""Full disks; small ones, so that they are full soon."""

import asyncio
from contextlib import suppress

import asyncpg

from tests.chaos.run import Run, fault
from tests.chaos.worlds import full, small_data_disk, small_wal_disk, sqlite_on_small_disk

MESSAGE = "SELECT pg_logical_emit_message(false, 'chaos', repeat('x', 1000000))"  # in the log only


@fault(
    "the disk of PostgreSQL's data full",
    "a file fills a small disk for 10 s",
    world=small_data_disk,
)
async def data_disk_full(run: Run) -> None:
    with full(run.disk):
        await run.last(10)
    run.returned()


@fault(
    "the disk of PostgreSQL's log full",
    "a file fills the small disk of the write-ahead log, and messages the segments of the log "
    "that are there already; 10 s; started again where PostgreSQL has ended",
    world=small_wal_disk,
)
async def log_disk_full(run: Run) -> None:
    with full(run.disk):
        await use_up_log(run)
        await run.last(10)
    if not await asyncio.to_thread(run.postgresql.runs):
        await asyncio.to_thread(run.postgresql.start)
    await run.connectable()
    run.returned()


@fault("the disk of SQLite full", "a file fills a small disk for 10 s", world=sqlite_on_small_disk)
async def sqlite_disk_full(run: Run) -> None:
    with full(run.disk):
        await run.last(10)
    run.returned()


async def use_up_log(run: Run) -> None:
    """Write to the write-ahead log until PostgreSQL can't, and ends the connection."""
    with suppress(OSError, asyncpg.PostgresError):
        async with run.administrator() as administrator:
            while True:
                await administrator.execute(MESSAGE)
