"""The sessions of imports and exports, which last long and therefore are few."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager

from sqlalchemy import func, select, true
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncSession

from service.database import Database
from service.settings import Settings

Guard = Callable[[AsyncSession], AbstractAsyncContextManager[None]]


class Transfers:
    """Opens the sessions of imports and exports, which take at most half of the pool.

    A client may send or read slowly for as long as it likes: the other half of the connections is
    left to all other requests.
    """

    def __init__(self, settings: Settings, database: Database) -> None:
        self.database = database
        self.slots = asyncio.Semaphore(max(1, settings.pool_size // 2))
        self.slot_timeout = settings.pool_timeout  # seconds
        self.transaction_timeout = settings.transfer_timeout  # seconds

    @asynccontextmanager
    async def import_session(self, guard: Guard | None = None) -> AsyncIterator[AsyncSession]:
        """Yield a session in one transaction, which commits at the end.

        `guard` is entered inside the transaction, as its first statement if it executes any, and
        left after the transaction has ended: what it locks stays locked until the commit is done.
        On SQLite the transaction is begun deferred, and takes the write lock in `staging.staged`.
        Raise PoolTimeoutError where all slots are taken for too long.
        """
        async with (
            self.slot(),
            AsyncExitStack() as after_commit,
            self.database.write(lasting=True) as session,
        ):
            if not self.database.is_postgresql:
                # BEGIN instead of BEGIN IMMEDIATE: others write while the client still sends
                await session.connection(execution_options={"reading": True})
            if guard is not None:
                await after_commit.enter_async_context(guard(session))
            await self.allow_time(session)
            yield session

    @asynccontextmanager
    async def export_session(self) -> AsyncIterator[AsyncSession]:
        """Yield a session whose statements all see one snapshot.

        Raise PoolTimeoutError where all slots are taken for too long.
        """
        async with self.slot(), self.database.snapshot() as session:
            await self.allow_time(session)
            yield session

    @asynccontextmanager
    async def slot(self) -> AsyncIterator[None]:
        """Hold one of the slots; raise PoolTimeoutError where none becomes free in time."""
        try:
            await asyncio.wait_for(self.slots.acquire(), self.slot_timeout)
        except TimeoutError:
            raise PoolTimeoutError("as many imports and exports as there may be") from None
        try:
            yield
        finally:
            self.slots.release()

    async def allow_time(self, session: AsyncSession) -> None:
        """Let this transaction last as long as a transfer may, but end soon after its client has.

        Only on PostgreSQL; SQLite has no such limits.
        """
        if self.database.is_postgresql:
            milliseconds = str(round(self.transaction_timeout * 1000))
            values = {
                "statement_timeout": milliseconds,
                "idle_in_transaction_session_timeout": milliseconds,
                "client_connection_check_interval": "1000",
            }
            settings = (func.set_config(name, value, true()) for name, value in values.items())
            await session.execute(select(*settings))
