"""What takes too long is ended, and nothing of that is left behind."""

import asyncio
from contextlib import suppress

import pytest

from service.http.layers.deadline import LateError, within

SOON, LONG = 0.01, 60.0  # seconds


def cancelling() -> int:
    """How many requests to cancel this task are open."""
    task = asyncio.current_task()
    assert task is not None
    return task.cancelling()


async def stubborn() -> str:
    """Does not let itself be cancelled."""
    with suppress(asyncio.CancelledError):
        await asyncio.sleep(LONG)
    return "done"


async def broken() -> None:
    """Fails when it is cancelled."""
    try:
        await asyncio.sleep(LONG)
    finally:
        raise OSError("the connection is gone")


async def test_what_is_in_time_gives_its_result() -> None:
    assert await within(LONG, asyncio.sleep(0, "result")) == "result"


async def test_what_is_late_is_ended_each_time() -> None:
    for _ in range(2):
        with pytest.raises(LateError):
            await within(SOON, asyncio.sleep(LONG))
        assert cancelling() == 0


async def test_who_swallows_the_end_or_fails_at_it_leaves_nothing_behind() -> None:
    assert await within(SOON, stubborn()) == "done"
    assert cancelling() == 0
    with pytest.raises(OSError, match="gone"):
        await within(SOON, broken())
    assert cancelling() == 0
    with pytest.raises(LateError):
        await within(SOON, asyncio.sleep(LONG))


async def test_of_two_the_earlier_ends_it() -> None:
    with pytest.raises(LateError):
        await within(LONG, within(SOON, asyncio.sleep(LONG)))
    with pytest.raises(LateError):
        await within(SOON, within(LONG, asyncio.sleep(LONG)))
    assert cancelling() == 0


async def test_who_is_cancelled_by_somebody_else_is_not_late() -> None:
    task = asyncio.create_task(within(LONG, asyncio.sleep(LONG)))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
