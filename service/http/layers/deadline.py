"""No request takes longer than REQUEST_TIMEOUT, no transfer longer than TRANSFER_TIMEOUT."""

import asyncio

from litestar.types import ASGIApp, Receive, Scope, Send

from service.errors import TimedOut


class Deadline:
    """A middleware of all routes that ends what takes too long.

    What was not committed by then is rolled back. A commit that is under way may still succeed, and
    so may a create in a batch: its client can't know, and repeats it under its Idempotency-Key.
    """

    def __init__(self, app: ASGIApp, request_timeout: float, transfer_timeout: float) -> None:
        self.app = app
        self.request_timeout = request_timeout
        self.transfer_timeout = transfer_timeout

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on; raise TimedOut when its time is over."""
        is_transfer = "is_transfer" in scope["route_handler"].opt
        seconds = self.transfer_timeout if is_transfer else self.request_timeout
        try:
            async with asyncio.timeout(seconds) as timeout:
                await self.app(scope, receive, send)
        except TimeoutError:
            if not timeout.expired():
                raise
            detail = f"this may take {seconds:g} seconds; whether it was done then is not known"
            raise TimedOut(detail) from None
