"""A request is answered within REQUEST_TIMEOUT, a transfer within TRANSFER_TIMEOUT."""

import asyncio
from typing import Any, cast

from litestar.types import ASGIApp, HTTPScope, Receive, Scope, Send

from service.errors import OutcomeUnknown, TimedOut

MAY_GO_ON = {"POST"}  # a create, in a batch with others


class Deadline:
    """A middleware of all routes that ends what takes too long.

    The time begins anew with each piece of the body that arrives, except for a transfer.
    What was not committed by then is rolled back. A create in a batch may still succeed: its client
    can't know, and repeats it under its Idempotency-Key.
    """

    def __init__(self, app: ASGIApp, request_timeout: float, transfer_timeout: float) -> None:
        self.app = app
        self.request_timeout = request_timeout
        self.transfer_timeout = transfer_timeout

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on; raise TimedOut or OutcomeUnknown when its time is over."""
        is_transfer = "is_transfer" in scope["route_handler"].opt
        seconds = self.transfer_timeout if is_transfer else self.request_timeout
        clock = asyncio.get_running_loop().time

        async def receive_and_begin_anew() -> Any:
            message = await receive()
            if message["type"] == "http.request" and not timeout.expired():
                timeout.reschedule(clock() + seconds)
            return message

        try:
            async with asyncio.timeout(seconds) as timeout:
                await self.app(scope, receive if is_transfer else receive_and_begin_anew, send)
        except TimeoutError:
            if not timeout.expired():
                raise
            if cast("HTTPScope", scope)["method"] in MAY_GO_ON:
                detail = f"it was not done within {seconds:g} seconds, but may be yet"
                raise OutcomeUnknown(detail) from None
            raise TimedOut(f"this may take {seconds:g} seconds") from None
