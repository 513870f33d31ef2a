"""One migrator at a time (PostgreSQL; on SQLite the write lock does it).

The lock is polled for, never waited for: a session that waits inside a statement would be one
more transaction that CREATE INDEX CONCURRENTLY has to outwait, and the two would deadlock.
The session that takes the steps holds it: that of a migrator which was killed goes on building
an index to the end before it notices, and until then it is not over.
"""

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from alembic.util import CommandError
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

KEY = 0x75736572  # "user", in every database its own lock
POLL = 0.2  # seconds
POOLER_TIMEOUT = 5.0  # seconds
NO_SESSION = (
    "DATABASE_URL leads through a pooler, and migrating needs a session of its own (for locks, "
    "timeouts and the turn): connect to PostgreSQL directly. Nothing was changed"
)
SECONDS_BETWEEN_LINES = 5.0

log = logging.getLogger("migrations")

HOLDER = text("""\
SELECT format('pid %s, since %s', pid, date_trunc('second', backend_start))
FROM pg_locks JOIN pg_stat_activity USING (pid)
WHERE locktype = 'advisory' AND classid = 0 AND objid = :key AND granted
  AND pg_locks.database = (SELECT oid FROM pg_database WHERE datname = current_database())""")


@asynccontextmanager
async def turn(
    engine: AsyncEngine, patience: float, lock_timeout: str
) -> AsyncIterator[tuple[AsyncConnection, AsyncConnection | None]]:
    """Hold the right to migrate; raise CommandError after `patience` seconds of asking for it.

    Yields the connection to migrate on, which holds it, and one beside it that commits by itself
    (None on SQLite).
    """
    async with engine.connect() as connection:
        if engine.dialect.name != "postgresql":
            yield connection, None
            return
        async with engine.execution_options(isolation_level="AUTOCOMMIT").connect() as beside:
            await refuse_pooler(engine, beside, lock_timeout)
            await ask_for_it(connection, time.monotonic() + patience)
            yield connection, beside


async def refuse_pooler(
    engine: AsyncEngine, connection: AsyncConnection, lock_timeout: str
) -> None:
    """Raise CommandError unless this connection is a session of its own.

    A transaction pooler gives it another server process as soon as somebody else has taken the
    last one: then locks are held by strangers, and timeouts are set for them. Any pooler may
    swallow the timeouts that we ask for when connecting.
    """
    if await connection.scalar(text("SHOW lock_timeout")) != lock_timeout:
        raise CommandError(NO_SESSION)
    pid = text("SELECT pg_backend_pid()")
    mine = await connection.scalar(pid)
    async with engine.connect() as other:
        await other.scalar(pid)  # in a transaction, which keeps its server process
        try:
            again = await asyncio.wait_for(connection.scalar(pid), POOLER_TIMEOUT)
        except TimeoutError:
            again = None  # the pooler has only one
    if again != mine:
        raise CommandError(NO_SESSION)


async def ask_for_it(connection: AsyncConnection, deadline: float) -> None:
    """Poll until it is ours."""
    taken = text("SELECT pg_try_advisory_lock(:key)")
    said = 0.0
    while True:
        is_ours = await connection.scalar(taken, {"key": KEY})
        holder = await connection.scalar(HOLDER, {"key": KEY}) or "somebody who just finished"
        await connection.rollback()  # the session keeps the lock; nobody has to outwait us
        if is_ours:
            return
        if time.monotonic() > deadline:
            raise CommandError(f"another migrator is at work ({holder}); nothing was changed")
        if time.monotonic() - said > SECONDS_BETWEEN_LINES:
            said = time.monotonic()
            log.info("another migrator is at work (%s): waiting", holder)
        await asyncio.sleep(POLL)
