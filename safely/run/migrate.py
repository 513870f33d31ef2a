"""A migration's way: the turn, a look at what is there, the steps, a fresh look at the result."""

import logging
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

from alembic import context
from alembic.runtime.migration import MigrationContext, RevisionStep
from alembic.util import CommandError
from sqlalchemy import Connection
from sqlalchemy.ext.asyncio import AsyncEngine

from safely.database import read
from safely.ledger import drift, ledger
from safely.run import published
from safely.run.metrics import Run
from safely.run.migration_lock import turn
from safely.run.retry import attempt
from safely.run.steps import (
    Command,
    Overtaken,
    Step,
    adopt,
    complete,
    half_of,
    perform,
    plan,
    undo,
    withdraw,
)
from safely.run.trace import Trace

log = logging.getLogger("migrations")

Attempted = Callable[[Callable[[Connection, dict[str, Any]], None]], Awaitable[None]]


async def planned(engine: AsyncEngine, fn: Command, options: dict[str, Any]) -> list[Step]:
    """What the command wants done, seen from where the database is now."""
    return await read(engine, plan, fn, options)


async def migrate(  # noqa: PLR0913  # each is said by its name
    engine: AsyncEngine,
    fn: Command,
    options: dict[str, Any],
    *,
    patience: float,
    accept: bool,
    run: Run,
    trace: Trace,
    first: Callable[[AsyncEngine], Awaitable[None]] | None,
) -> None:
    """Take the turn and do what is left to do by then; `accept` drift instead of refusing it.

    `patience`: seconds that a step is tried, and that the turn is waited for.
    `run` is told how long each step takes, `trace` what it says to the database.
    `first` is done before the first step, if there is one.
    """
    await read(engine, published.refuse_unknown_role, options["app_role"])
    stamping = fn.__name__ == "do_stamp"
    lock_timeout = options["lock_timeout"]
    async with turn(engine, patience, lock_timeout) as (connection, beside):

        async def attempted(action: Callable[[Connection, dict[str, Any]], None]) -> None:
            with trace.of(connection):
                trace.done(await attempt(connection, beside, action, options, patience))

        examine = partial(drift.examine, script=context.script, accept=accept)
        await attempted(ledger.prepare if stamping else examine)
        while True:
            todo = await planned(engine, fn, options)
            if first and (todo or await read(engine, ledger.unfinished) is not None):
                await first(engine)
                first = None
            try:
                await take(todo, engine, attempted, run)
            except Overtaken:
                continue
            break
        if not todo:
            await attempted(adopt if stamping else complete)
    if not todo and not stamping:
        log.info("nothing to do")
        return
    await confirm(engine, set(todo[-1].to_revisions) if todo else None)


async def take(todo: list[Step], engine: AsyncEngine, attempted: Attempted, run: Run) -> None:
    """Take the steps, one after the other, once nothing is left half done by an earlier run."""
    half = await read(engine, ledger.unfinished)
    if half and not (todo and isinstance(todo[0], RevisionStep) and half_of(todo[0]) == half):
        log.info(
            "%s %s was begun and not finished: undoing it first", half.direction, half.revision
        )
        await attempted(partial(undo, half))
    await withdraw_undone(engine, attempted)
    for step in todo:
        with run.timed(step):
            await attempted(partial(perform, step))
        await withdraw_undone(engine, attempted)


async def withdraw_undone(engine: AsyncEngine, attempted: Attempted) -> None:
    """Take back the published versions of revisions that were undone, now or by a killed run."""
    there = set(await read(engine, published.revisions))
    for revision in sorted(there & await read(engine, ledger.undone_revisions)):
        await attempted(partial(withdraw, revision))


async def confirm(engine: AsyncEngine, expected: set[str] | None) -> None:
    """Say where the database is, as a connection of its own sees it; raise if not as expected."""

    def heads(connection: Connection) -> set[str]:
        return set(MigrationContext.configure(connection).get_current_heads())

    found = await read(engine, heads)
    if expected is not None and found != expected:
        raise CommandError(
            f"the database is at {said(found)} instead of {said(expected)}: nothing was kept"
        )
    log.info("the database is at %s", said(found))


def said(heads: set[str]) -> str:
    """Revisions for a person."""
    return ", ".join(sorted(heads)) or "base"
