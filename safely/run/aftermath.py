"""Where a run that failed has left the database, in words for the operator."""

import asyncio
import logging
import re
from collections.abc import Collection
from dataclasses import dataclass

from sqlalchemy import Connection, text

from safely import invocation
from safely.alembic_internals import Step
from safely.environment import Environment
from safely.ledger import ledger

SECONDS = 5.0  # until a database that does not tell is given up
POLL = 0.1  # seconds
RELATIVE = re.compile(r".*[+-]\d+")  # a target such as +1, which a second run would overshoot

log = logging.getLogger("safely")


@dataclass
class Progress:
    """The progress that a migration run has noted: the heads it saw last, and the step it began."""

    heads: Collection[str] = ()  # where it saw the database last
    step: Step | None = None  # the one that it was taking
    target: Collection[str] = ()  # where the command leads
    is_ours: bool = False  # whether it has, or had, the migration lock


async def aftermath(environment: Environment, progress: Progress, *, when: str) -> str:
    """Return what is kept, and what to type `when` the cause is mended.

    A new connection looks, once the session that failed is over. Where it can't, the sentence says
    what was seen last, and that the outcome of the step is not known.
    """
    again = what_to_type(environment, progress)
    if not progress.is_ours:
        return f"Nothing was changed. Run {again} again {when}"
    try:
        async with asyncio.timeout(SECONDS):
            heads, half = await settled(environment)
    except Exception as error:  # noqa: BLE001  # the reason why the run failed is raised already
        log.debug("the database does not tell where it is: %s", type(error).__name__)
        kept = f"It was last seen at {place(progress.heads)}"
        if progress.step is not None:
            kept += f", and whether the {name_of(progress.step)} was committed since is not known"
    else:
        kept = f"The database is at {place(heads)}"
        if half is not None:
            kept += f", and {half.direction} {half.revision} is begun: what it committed is kept"
    return f"{kept}. Run {again} {when}: it goes on from there"


async def ways_out(environment: Environment, progress: Progress) -> str:
    """Return both ways out where a step has failed and a part of it is committed; else nothing.

    Nothing also where the database does not tell: the reason of the failure is what matters then.
    """
    if progress.step is None:
        return ""
    try:
        async with asyncio.timeout(SECONDS):
            heads, half = await settled(environment)
    except Exception as error:  # noqa: BLE001  # the reason why the run failed is raised already
        log.debug("the database does not tell where it is: %s", type(error).__name__)
        return ""
    if half is None:
        return ""
    back = f"upgrade {place(heads)}" if heads else "downgrade base"
    return (
        f"{half.direction} {half.revision} is begun: what it committed is kept. When that is "
        f"mended, run {what_to_type(environment, progress)} again: it goes on from there. Or undo "
        f"the half of it: `alembic {back}`"
    )


async def settled(environment: Environment) -> tuple[Collection[str], ledger.Half | None]:
    """Return the heads of the database, and the step that is half done, if any.

    PostgreSQL may still be at work for the session that failed, and commit what it does: that is
    over when the migration lock is free.
    """
    attempt = text("SELECT pg_try_advisory_lock(:key)")
    is_postgresql = environment.engine.dialect.name == "postgresql"
    async with environment.engine.execution_options(reading=True).connect() as connection:
        while is_postgresql:
            if await connection.scalar(attempt, {"key": environment.project.lock_key}):
                break
            await asyncio.sleep(POLL)

        def look(connection: Connection) -> tuple[Collection[str], ledger.Half | None]:
            heads = environment.migration(connection).get_current_heads()
            return heads, ledger.unfinished_if_any(connection)

        return await connection.run_sync(look)


def what_to_type(environment: Environment, progress: Progress) -> str:
    """Return the command that brings the database where this one would have."""
    command, target = invocation.typed(environment.config)
    if not command:
        return "the same command"
    if progress.is_ours and RELATIVE.fullmatch(target):
        target = place(progress.target)
    return f"`{command} {target}`"


def place(heads: Collection[str]) -> str:
    """Return heads in words."""
    return ", ".join(sorted(heads)) or "base"


def name_of(step: Step) -> str:
    """Return a step in words, such as `step to 0007`."""
    return f"step to {place(step.to_revisions)}"
