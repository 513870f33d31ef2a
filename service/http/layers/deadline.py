"""No request takes longer than REQUEST_TIMEOUT, no transfer longer than TRANSFER_TIMEOUT."""

import asyncio
from collections.abc import Awaitable
from typing import TypeVar, cast

from litestar.types import ASGIApp, Receive, Scope, Send

from service.errors import TimedOut

Result = TypeVar("Result")


class LateError(TimeoutError):
    """What was to be done within some time was not."""


async def within(seconds: float, work: Awaitable[Result]) -> Result:
    """What `work` gives; raises LateError if that takes longer.

    As asyncio.timeout does it, which takes a tenth of the time of a lookup.
    """
    task = cast("asyncio.Task[None]", asyncio.current_task())
    before = task.cancelling()
    late = False

    def end() -> None:
        nonlocal late
        late = task.cancel()

    timer = asyncio.get_running_loop().call_later(seconds, end)
    try:
        return await work
    except asyncio.CancelledError:
        if not late or task.cancelling() - 1 > before:  # somebody else cancels it, too
            raise
        raise LateError from None
    finally:
        timer.cancel()
        if late:
            task.uncancel()


class Deadline:
    """Ends what takes too long.

    What was not committed by then is rolled back. A commit that is under way may still succeed, and
    so may a create that others go together with: its client can't know, and asks again under its
    Idempotency-Key.
    """

    def __init__(self, app: ASGIApp, request_timeout: float, transfer_timeout: float) -> None:
        self.app = app
        self.request_timeout = request_timeout
        self.transfer_timeout = transfer_timeout

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, with an eye on the clock; raises TimedOut."""
        takes_long = "takes_long" in scope["route_handler"].opt
        seconds = self.transfer_timeout if takes_long else self.request_timeout
        try:
            await within(seconds, self.app(scope, receive, send))
        except LateError:
            detail = f"this may take {seconds:g} seconds; whether it was done then is not known"
            raise TimedOut(detail) from None
