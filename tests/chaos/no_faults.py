"""Load without a fault, where each request must succeed."""

import time
from http import HTTPStatus

from tests.chaos.request_log import sample
from tests.chaos.run import Run, fault
from tests.chaos.worlds import sqlite


@fault("no fault", "for comparison: 10 s of load")
async def undisturbed(run: Run) -> None:
    await all_succeed(run)


@fault(
    "no fault, SQLite and `WORKERS=8`",
    "for comparison: 10 s of load by eight processes on one file",
    world=sqlite,
    WORKERS="8",
)
async def many_sqlite_writers(run: Run) -> None:
    await all_succeed(run)


async def all_succeed(run: Run) -> None:
    """Let the load go on for a while, and complain of each 503."""
    began = time.monotonic()
    await run.last(10)
    run.returned()
    failed = [entry for entry in run.since(began) if entry.status == HTTPStatus.SERVICE_UNAVAILABLE]
    run.complaints += sample(failed)
