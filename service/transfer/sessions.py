"""The sessions of imports and exports, which last long and therefore are few."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager

from sqlalchemy import func, select, true
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncSession

from service.database import Database, close_connection
from service.database_errors import is_from_database
from service.replicas import Behind, Replica
from service.settings import Settings

CHECK_INTERVAL = 0.5  # seconds between two checks of the database during a transfer
CHECK_TIMEOUT = 1.0  # seconds that the database has for an answer
TURNS = 20  # of the event loop: where this process is busy, the answer may lie unread
CHECKS = 2  # that fail one after the other before the transfer ends

Guard = Callable[[AsyncSession], AbstractAsyncContextManager[None]]


class Transfers:
    """Opens the sessions of imports and exports, which take at most half of the pool.

    The other half of the connections is left to all other requests.
    """

    def __init__(self, settings: Settings, database: Database) -> None:
        self.database = database
        self.size = max(1, settings.pool_size // 2)
        self.slots = asyncio.Semaphore(self.size)
        self.waiting = 0  # for a slot
        self.granted = 0.0  # when somebody got a slot, or began to wait as the only one
        self.slot_timeout = settings.pool_timeout  # seconds
        self.longest_silence = settings.statement_timeout + CHECK_INTERVAL  # seconds
        self.lock_timeout = settings.pool_timeout  # seconds
        self.transaction_timeout = settings.transfer_timeout  # seconds

    @asynccontextmanager
    async def import_session(self, guard: Guard | None = None) -> AsyncIterator[AsyncSession]:
        """Yield a session in one transaction, which commits at the end.

        `guard` is entered inside the transaction, as its first statement if it executes any, and
        left after the transaction has ended: what it locks stays locked until the commit is done.
        On SQLite the transaction is begun deferred, and takes the write lock in `staging.staged`.
        Raise PoolTimeoutError where all slots are taken for too long, and TimeoutError when the
        database stops answering.
        """
        async with (
            self.slot(),
            AsyncExitStack() as after_commit,
            self.database.write(lasting=True) as session,
            # not around the commit: its outcome would not be known
            self.while_answering(session, self.database),
        ):
            if not self.database.is_postgresql:
                # BEGIN instead of BEGIN IMMEDIATE: others write while the client still sends
                await session.connection(execution_options={"reading": True})
            if guard is not None:
                await after_commit.enter_async_context(guard(session))
            await self.allow_time(session)
            yield session

    @asynccontextmanager
    async def export_session(self, replica: Replica | None = None) -> AsyncIterator[AsyncSession]:
        """Yield a session, of the replica if one is named, whose statements all see one snapshot.

        Raise PoolTimeoutError where all slots are taken for too long, and TimeoutError when the
        database stops answering.
        """
        server = self.database if replica is None else replica
        async with (
            self.slot(),
            server.snapshot() as session,
            self.while_answering(session, server),
        ):
            await self.allow_time(session)
            yield session
        server.answered += 1

    @asynccontextmanager
    async def slot(self) -> AsyncIterator[None]:
        """Hold one of the slots; raise PoolTimeoutError where none becomes free in time.

        It is raised at once where nobody got one for that long, and others wait already.
        """
        now = time.monotonic()
        if not self.waiting:
            self.granted = now
        elif self.waiting >= self.size and now - self.granted > self.slot_timeout:
            raise PoolTimeoutError("too many imports and exports wait already")
        self.waiting += 1
        try:
            async with asyncio.timeout(self.slot_timeout):
                await self.slots.acquire()
        except TimeoutError:
            raise PoolTimeoutError("as many imports and exports as there may be") from None
        finally:
            self.waiting -= 1
        self.granted = time.monotonic()
        try:
            yield
        finally:
            self.slots.release()

    @asynccontextmanager
    async def while_answering(
        self, session: AsyncSession, server: Database | Replica
    ) -> AsyncIterator[None]:
        """Raise TimeoutError when the session's server stops answering during the block.

        How long a statement of a transfer takes shows nothing: a merge may need minutes, and a
        frozen server is as silent. Other queries, which are answered at once, show the difference.
        Only on PostgreSQL; SQLite is no server.
        """
        if not self.database.is_postgresql:
            yield
            return

        async def check_at_intervals() -> None:
            await asyncio.sleep(CHECK_INTERVAL)  # most transfers are over by then
            while await self.answers(server):  # noqa: ASYNC110  # there is no event to wait for
                await asyncio.sleep(CHECK_INTERVAL)
            timeout.reschedule(0)  # it is over

        try:
            async with asyncio.timeout(None) as timeout:
                checking = asyncio.create_task(check_at_intervals())
                try:
                    yield
                finally:
                    checking.cancel()
        except TimeoutError:
            if timeout.expired():
                # a rollback would wait for the server, too
                await session.run_sync(close_connection)
            raise

    async def answers(self, server: Database | Replica) -> bool:
        """Return whether a server answers at least one of some queries in time.

        A refusal is an answer. Where no connection is free, it counts when the last answer came.
        """
        for _ in range(CHECKS):
            asking = asyncio.create_task(self.ask(server))
            # not `wait_for`, which would also wait for a connection that does not close
            await asyncio.wait({asking}, timeout=CHECK_TIMEOUT)
            for _ in range(TURNS):
                if not asking.done():
                    await asyncio.sleep(0)
            if asking.done():
                error = asking.exception()
                if isinstance(error, PoolTimeoutError):
                    return time.monotonic() - server.heard < self.longest_silence
                if error is None or isinstance(error, Behind) or is_from_database(error):
                    return True
            asking.cancel()
        return False

    async def ask(self, server: Database | Replica) -> None:
        """Run a query that needs nothing but a server that works."""
        async with server.read() as session:
            await session.execute(select(1))

    async def allow_time(self, session: AsyncSession) -> None:
        """Let this transaction last as long as a transfer may.

        It waits for a lock no longer than for a connection: with a slot, these are three waits.
        Only on PostgreSQL; SQLite has no such limits.
        """
        if self.database.is_postgresql:
            milliseconds = str(round(self.transaction_timeout * 1000))
            values = {
                "statement_timeout": milliseconds,
                "idle_in_transaction_session_timeout": milliseconds,
                "lock_timeout": str(round(self.lock_timeout * 1000)),
            }
            settings = (func.set_config(name, value, true()) for name, value in values.items())
            await session.execute(select(*settings))
