"""No request takes longer than REQUEST_TIMEOUT, but imports and exports."""

import asyncio

from litestar.types import ASGIApp, Receive, Scope, Send

from service.errors import TimedOut


class Deadline:
    """Ends what takes too long; its transaction is rolled back, as by any other refusal."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, with an eye on the clock; raises TimedOut."""
        if scope["route_handler"].opt.get("takes_long"):
            await self.app(scope, receive, send)
            return
        seconds = scope["litestar_app"].state.settings.request_timeout
        try:
            async with asyncio.timeout(seconds) as deadline:
                await self.app(scope, receive, send)
        except TimeoutError:
            if not deadline.expired():
                raise
            raise TimedOut(f"a request may take {seconds:g} seconds") from None
