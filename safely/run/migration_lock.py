"""The migration lock: one migrator at a time (PostgreSQL; on SQLite the write lock does it).

The lock is polled for, never waited for: a session that waits inside a statement would be one
more transaction that CREATE INDEX CONCURRENTLY has to wait for, and the two would deadlock.
The session that runs the steps holds it. The server's session of a migrator that was killed goes
on building an index to its end before it notices, and holds the lock until then.
"""

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from alembic.util import CommandError
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from safely.errors import NO_SESSION

POLL = 0.2  # seconds
POOLER_TIMEOUT = 5.0  # seconds
SECONDS_BETWEEN_LINES = 5.0

log = logging.getLogger("safely")

HOLDER = text("""\
SELECT pid, date_trunc('second', backend_start)::text AS since
FROM pg_locks LEFT JOIN pg_stat_activity USING (pid)
WHERE locktype = 'advisory' AND classid = 0 AND objid = :key AND granted
  AND pg_locks.database = (SELECT oid FROM pg_database WHERE datname = current_database())""")


@asynccontextmanager
async def migration_lock(
    engine: AsyncEngine, key: int, patience: float, lock_timeout: str
) -> AsyncIterator[tuple[AsyncConnection, AsyncConnection | None]]:
    """Hold the migration lock; raise CommandError where it is not free within `patience` seconds.

    Yield the connection that holds it, to migrate on, and one beside it in AUTOCOMMIT mode (None
    on SQLite). `lock_timeout` is that of the engine's connections.
    """
    async with engine.connect() as connection:
        if engine.dialect.name != "postgresql":
            yield connection, None
            return
        async with engine.execution_options(isolation_level="AUTOCOMMIT").connect() as monitor:
            await refuse_pooler(engine, monitor, lock_timeout)
            await acquire(connection, key, time.monotonic() + patience)
            yield connection, monitor


async def refuse_pooler(
    engine: AsyncEngine, connection: AsyncConnection, lock_timeout: str
) -> None:
    """Raise CommandError unless this connection is a session of its own.

    A transaction pooler gives it another server process as soon as another client has taken the
    last one: then strangers hold our locks, and get our timeouts. Any pooler may swallow the
    timeouts that we ask for when connecting.
    """
    if await connection.scalar(text("SHOW lock_timeout")) != lock_timeout:
        raise CommandError(NO_SESSION)
    pid = text("SELECT pg_backend_pid()")
    first = await connection.scalar(pid)
    async with engine.connect() as other:
        await other.scalar(pid)  # in a transaction, which keeps its server process
        try:
            async with asyncio.timeout(POOLER_TIMEOUT):
                second = await connection.scalar(pid)
        except TimeoutError:
            second = None  # the pooler has only one server process
    if first != second:
        raise CommandError(NO_SESSION)


async def acquire(connection: AsyncConnection, key: int, deadline: float) -> None:
    """Poll for the lock until the connection's session holds it."""
    attempt = text("SELECT pg_try_advisory_lock(:key)")
    logged = 0.0
    while True:
        is_ours = await connection.scalar(attempt, {"key": key})
        row = (await connection.execute(HOLDER, {"key": key})).first()
        await connection.rollback()  # the session keeps the lock, and has no transaction open
        if is_ours:
            return
        holder = f"pid {row.pid}, since {row.since}" if row else "somebody who just finished"
        if time.monotonic() > deadline:
            raise CommandError(f"another migrator is at work ({holder}); nothing was changed")
        if time.monotonic() - logged > SECONDS_BETWEEN_LINES:
            logged = time.monotonic()
            log.info("another migrator is at work (%s): waiting", holder)
        await asyncio.sleep(POLL)
