"""Faults of the way to PostgreSQL, made by the proxy."""

import asyncio
import random

from tests.chaos.proxy import Harm
from tests.chaos.run import Run, fault
from tests.chaos.worlds import proxied

COMMITTED = b"COMMIT\0"  # the end of the message with which PostgreSQL answers a COMMIT
COMMIT = b"COMMIT;\0"  # the end of the driver's message
CANCELLED = b"DO $$BEGIN RAISE query_canceled; END$$\0"

chance = random.Random(1)  # noqa: S311  # not a secret


@fault("cut off", "connections reset, and new ones refused, for 10 s", world=proxied)
async def cut_off(run: Run) -> None:
    await run.proxy.cut_off()
    await run.last(10)
    await run.proxy.accept_again()
    run.returned()


@fault("black-holed", "no byte arrives in either direction for 45 s", world=proxied)
async def black_holed(run: Run) -> None:
    run.proxy.passing.clear()
    await run.last(45)
    run.proxy.passing.set()
    run.returned()


@fault(
    "answers reset", "every 200th answer ends in its middle, by a reset, for 15 s", world=proxied
)
async def answers_reset(run: Run) -> None:
    await harm(run, lambda data: data[: len(data) // 2] if one_in(200) else None)


@fault("answers lost", "a reset instead of every 50th answer, for 15 s", world=proxied)
async def answers_lost(run: Run) -> None:
    await harm(run, lambda _: b"" if one_in(50) else None)


@fault(
    "the answer to COMMIT lost", "a reset instead of every 50th of them, for 15 s", world=proxied
)
async def commit_lost(run: Run) -> None:
    await harm(run, lambda data: b"" if COMMITTED in data and one_in(50) else None)


@fault(
    "connections reset every 100 ms", "all connections reset by the proxy, for 10 s", world=proxied
)
async def reset_again_and_again(run: Run) -> None:
    for _ in range(max(5, round(100 * run.size.scale))):
        run.proxy.reset_all()
        await asyncio.sleep(0.1)
    run.returned()


@fault(
    "COMMIT cancelled before it begins",
    "the proxy replaces every 50th of them by a statement that fails as a cancelled one does, "
    "which leaves the connection in a failed transaction; for 15 s",
    world=proxied,
)
async def commit_refused(run: Run) -> None:
    run.proxy.alter = lambda data: simple_query(CANCELLED) if commits(data) else data
    await run.last(15)
    run.proxy.alter = None
    run.returned()


def commits(data: bytes) -> bool:
    """Return whether a message of the driver is a COMMIT that the fault has chosen."""
    return data == simple_query(COMMIT) and one_in(50)


def simple_query(statement: bytes) -> bytes:
    """Return a message of PostgreSQL's protocol; the statement ends in a zero byte."""
    return b"Q" + (len(statement) + 4).to_bytes(4) + statement


async def harm(run: Run, function: Harm) -> None:
    """Harm what PostgreSQL sends, for a while."""
    run.proxy.harm = function
    await run.last(15)
    run.proxy.harm = None
    run.returned()


def one_in(number: int) -> bool:
    """Return True once in so many calls, by chance."""
    return chance.random() < 1 / number
