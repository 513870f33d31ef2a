"""Full disks; small ones, so that they are full soon."""

import asyncio

from tests.chaos.run import Run, fault
from tests.chaos.worlds import full, small_data_disk, small_wal_disk, sqlite_on_small_disk


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
    "a file fills the small disk of the write-ahead log for 10 s; "
    "where PostgreSQL has ended, it is started again",
    world=small_wal_disk,
)
async def log_disk_full(run: Run) -> None:
    with full(run.disk):
        await run.last(10)
    if not await asyncio.to_thread(run.postgresql.runs):
        await asyncio.to_thread(run.postgresql.start)
    run.returned()


@fault("the disk of SQLite full", "a file fills a small disk for 10 s", world=sqlite_on_small_disk)
async def sqlite_disk_full(run: Run) -> None:
    with full(run.disk):
        await run.last(10)
    run.returned()
