"""Trying again until it needs to make nobody wait."""

import asyncio
import logging
import random
import time
from collections.abc import Callable
from typing import Any

from alembic.util import CommandError
from sqlalchemy import Connection
from sqlalchemy.ext.asyncio import AsyncConnection

from safely.ledger.ledger import Work
from safely.run.blockers import watched
from service.database_errors import is_lock_timeout

FIRST_PAUSE, LONGEST_PAUSE = 0.1, 2.0  # seconds between two attempts, doubled each time

log = logging.getLogger("migrations")


async def attempt(
    connection: AsyncConnection,
    beside: AsyncConnection | None,
    action: Callable[[Connection, dict[str, Any]], None],
    options: dict[str, Any],
    patience: float,
) -> Work:
    """Try an action until nobody's lock is in its way, for at most `patience` seconds.

    Gives how it went.

    `beside` is a connection from which to see who is in the way.
    The step is tried again, never the command: `+2` counted anew after a success would overshoot.
    """
    deadline, pause, work = time.monotonic() + patience, FIRST_PAUSE, Work()
    while True:
        try:
            async with watched(connection, beside, work):
                await connection.run_sync(action, {**options, "work": work})
        except Exception as error:
            await connection.rollback()
            if not is_lock_timeout(error):
                raise
            blocker = blocked_by(connection, work)
            if time.monotonic() > deadline:
                raise CommandError(
                    f"gave up after {patience:g} s: {blocker}. The step was undone; "
                    "run the command again, it goes on from there"
                ) from error
            log.info("%s; trying again", blocker)
            await asyncio.sleep(random.uniform(pause / 2, pause))  # noqa: S311  # not a secret
            pause = min(pause * 2, LONGEST_PAUSE)
            work.attempts += 1
        else:
            return work


def blocked_by(connection: AsyncConnection, work: Work) -> str:
    """Who held the lock, as far as it was seen."""
    if connection.dialect.name != "postgresql":
        return "another process is writing"
    return f"a lock was held for too long by {work.blocker or 'somebody who is gone by now'}"
