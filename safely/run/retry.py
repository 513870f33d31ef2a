"""Attempts at a step, until no lock is in its way."""

import asyncio
import logging
import random
import time
from collections.abc import AsyncGenerator, Callable, Iterable
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Any

from alembic.util import CommandError
from sqlalchemy import Connection
from sqlalchemy.ext.asyncio import AsyncConnection

from safely import alembic_internals as alembic
from safely.alembic_internals import MigrationContext
from safely.errors import is_lock_timeout
from safely.ledger.ledger import Work
from safely.run.blockers import watched
from safely.run.trace import Trace

FIRST_PAUSE, LONGEST_PAUSE = 0.1, 2.0  # seconds between two attempts, doubled each time

log = logging.getLogger("safely")


class Overtaken(Exception):  # noqa: N818  # nothing is wrong
    """Another migrator has taken the step in the meantime: what is left must be planned again."""


class Step:
    """One attempt at a revision: `async with step as connection:`.

    What is done inside must configure Alembic's context with `options`. A lock timeout inside is
    not raised: the transaction is rolled back, and another attempt follows.
    """

    def __init__(
        self,
        connection: AsyncConnection,
        monitor: AsyncConnection | None,
        options: dict[str, Any],
        work: Work,
        trace: Trace,
    ) -> None:
        self.connection = connection
        self.monitor = monitor  # sees who blocks the connection; None on SQLite
        self.has_run = "fn" not in options  # other work than a command's is run by us
        self.options = options | ({} if self.has_run else {"fn": self.running(options["fn"])})
        self.work = work
        self.trace = trace
        self.is_done = False
        self.is_overtaken = False
        self.lock_timeout: BaseException | None = None
        self.context = AsyncExitStack()

    def running(self, fn: alembic.Work) -> alembic.Work:
        """Return the work of a command, noting that Alembic has called it."""

        def work(heads: Any, migration: MigrationContext) -> Iterable[alembic.Step]:
            self.has_run = True
            return fn(heads, migration)

        return work

    async def __aenter__(self) -> AsyncConnection:
        self.context.enter_context(self.trace.of(self.connection))
        await self.context.enter_async_context(watched(self.connection, self.monitor, self.work))
        return self.connection

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool:
        try:
            if error is None:
                self.is_done = self.has_run
            elif isinstance(error, Exception):
                await self.connection.rollback()
                self.is_overtaken = isinstance(error, Overtaken)
                if is_lock_timeout(error):
                    self.lock_timeout = error
        finally:
            await self.context.aclose()
        if isinstance(error, TypeError) and "multiple values for keyword argument" in str(error):
            name = str(error).rpartition(" ")[2]
            raise CommandError(
                f"env.py gives {name} to context.configure() beside the options of safely, which "
                "contain it: leave it out there"
            ) from error
        return self.lock_timeout is not None or self.is_overtaken

    def blocker(self) -> str:
        """Return the sentence that names the session that held the lock, if it was seen."""
        if self.connection.dialect.name != "postgresql":
            return "another process is writing"
        holder = self.work.blocker or "somebody who is gone by now"
        return f"a lock was held for too long by {holder}"


async def attempts(  # noqa: PLR0913  # each is said by its name
    connection: AsyncConnection,
    monitor: AsyncConnection | None,
    options: dict[str, Any],
    *,
    patience: float,
    trace: Trace,
    work: Work | None = None,
) -> AsyncGenerator[Step, None]:
    """Yield a step again and again until it is done, for at most `patience` seconds.

    The step is tried again, never the command: `+2` counted anew after a success would overshoot.
    """
    work = work or Work()
    deadline, pause = time.monotonic() + patience, FIRST_PAUSE
    while True:
        step = Step(connection, monitor, {**options, "work": work}, work, trace)
        yield step
        if step.is_done:
            trace.done(work)
        if step.is_done or step.is_overtaken:
            return
        if step.lock_timeout is None:
            raise CommandError(
                "env.py took a step without running it: `async with step as connection:` must "
                "await connection.run_sync(do_run_migrations, step.options)"
            )
        if time.monotonic() > deadline:
            raise CommandError(
                f"gave up after {patience:g} s: {step.blocker()}. Run the command again: "
                "it goes on from there"
            ) from step.lock_timeout
        log.info("%s; trying again", step.blocker())
        await asyncio.sleep(random.uniform(pause / 2, pause))  # noqa: S311  # not a secret
        pause = min(pause * 2, LONGEST_PAUSE)
        work.attempts += 1


async def attempt(  # noqa: PLR0913, PLR0917  # each is said by its name
    connection: AsyncConnection,
    monitor: AsyncConnection | None,
    action: Callable[[Connection, dict[str, Any]], None],
    options: dict[str, Any],
    patience: float,
    trace: Trace | None = None,
) -> Work:
    """Run an action, and again while a lock is in its way; return how that went."""
    work = Work()
    steps = attempts(
        connection, monitor, options, patience=patience, trace=trace or Trace(""), work=work
    )
    async for step in steps:
        async with step as own:
            await own.run_sync(action, step.options)
    return work
