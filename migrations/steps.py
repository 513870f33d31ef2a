"""The steps that an Alembic command plans, each tried until it needs to make nobody wait."""

import asyncio
import logging
import random
import time
import warnings
from collections.abc import Callable, Collection, Iterable
from typing import Any

from alembic import context
from alembic.runtime.migration import MigrationContext, RevisionStep, StampStep
from alembic.util import CommandError
from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError, SAWarning
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from service.outages import is_lock_timeout

FIRST_PAUSE, LONGEST_PAUSE = 0.1, 2.0  # seconds between two attempts, doubled each time

log = logging.getLogger("migrations")

Step = RevisionStep | StampStep
Command = Callable[[Any, MigrationContext], Iterable[Step]]

BLOCKERS = text("""\
SELECT format('pid %s, %s, in a transaction for %s s: %s', pid,
              coalesce(nullif(application_name, ''), 'an application without a name'),
              round(extract(epoch FROM clock_timestamp() - xact_start), 1),
              left(regexp_replace(query, '\\s+', ' ', 'g'), 60))
FROM pg_stat_activity
WHERE pid <> pg_backend_pid() AND pid IN (
  SELECT pid FROM pg_locks JOIN pg_class ON pg_class.oid = relation
  WHERE granted AND relnamespace = current_schema::regnamespace
    AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
)
ORDER BY xact_start LIMIT 1""")


class Overtaken(Exception):  # noqa: N818  # nothing is wrong
    """Another migrator has taken the step in the meantime; plan again."""


def command() -> Command:
    """What Alembic was called to do; to be asked first, since configuring a step overwrites it."""
    context.configure(dialect_name="sqlite")  # any will do
    fn: Command = context.get_context().opts["fn"]
    return fn


def plan(connection: Connection, fn: Command, options: dict[str, Any]) -> list[Step]:
    """What the command wants done now; commands that do their work while planning do it here."""
    steps: list[Step] = []

    def planned(heads: Any, migration: MigrationContext) -> list[Step]:
        refuse_unknown(heads)
        steps.extend(fn(heads, migration))
        return []

    # Alembic would make its table already here, before it is our turn, and eight would collide
    configure(connection, {**options, "fn": planned, "dont_mutate": True})
    run()
    connection.rollback()  # planning reads; who reads on would be an old transaction to outwait
    return steps


def refuse_unknown(heads: Collection[str]) -> None:
    """Refuse a database that is ahead of these files, in words."""
    known = {script.revision for script in context.script.walk_revisions()}
    if unknown := sorted(set(heads) - known):
        raise CommandError(
            f"the database is at {', '.join(unknown)}, which these files don't have: it is ahead "
            f"of this build, which knows {max(known, default='none')}. There is nothing to "
            "migrate; a service of this build is ready on it as it is"
        )


def perform(connection: Connection, step: Step, options: dict[str, Any]) -> None:
    """Take one step, in its transaction."""

    def only_this(heads: Collection[str], _: MigrationContext) -> list[Step]:
        if set(heads) != set(step.from_revisions):
            raise Overtaken
        return [step]

    configure(connection, {**options, "fn": only_this, "dont_mutate": False})
    run()


def configure(connection: Connection, options: dict[str, Any]) -> None:
    """Set Alembic up on a connection that has no transaction yet."""
    if connection.in_transaction():
        raise CommandError(
            "a statement ran before context.configure(): Alembic would take its transaction for "
            "somebody else's, and roll everything back at the end"
        )
    context.configure(connection=connection, **options)


def run() -> None:
    """Run what is configured."""
    with warnings.catch_warnings():
        # SQLite's expression indexes can't be reflected; Alembic leaves them alone, and says so
        warnings.filterwarnings("ignore", "Skipped unsupported reflection", SAWarning)
        warnings.filterwarnings("ignore", "autogenerate skipping .* expression-based", UserWarning)
        with context.begin_transaction():
            context.run_migrations()


async def take(
    engine: AsyncEngine, steps: list[Step], options: dict[str, Any], patience: float
) -> None:
    """Take the steps, one after the other; raise Overtaken, or CommandError, at the first failure.

    The step is tried again, never the command: `+2` counted anew after a success would overshoot.
    """
    async with engine.connect() as connection:
        for step in steps:
            await attempt(connection, step, options, patience)


async def attempt(
    connection: AsyncConnection, step: Step, options: dict[str, Any], patience: float
) -> None:
    """Try a step until nobody's lock is in its way, for at most `patience` seconds."""
    deadline, pause = time.monotonic() + patience, FIRST_PAUSE
    while True:
        try:
            await connection.run_sync(perform, step, options)
        except DBAPIError as error:
            await connection.rollback()
            if not is_lock_timeout(error):
                raise
            blocker = await blocker_on(connection)
            if time.monotonic() > deadline:
                raise CommandError(
                    f"gave up after {patience:g} s: {blocker}. The step was undone; "
                    "run the command again, it goes on from there"
                ) from error
            log.info("%s; trying again", blocker)
            await asyncio.sleep(random.uniform(pause / 2, pause))  # noqa: S311  # not a secret
            pause = min(pause * 2, LONGEST_PAUSE)
        else:
            return


async def blocker_on(connection: AsyncConnection) -> str:
    """Who held the lock, as far as it can still be told."""
    if connection.dialect.name != "postgresql":
        return "another process is writing"
    blocker = await connection.scalar(BLOCKERS)
    await connection.rollback()
    return f"a lock was held for too long by {blocker or 'somebody who is gone by now'}"
