"""A request is answered within REQUEST_TIMEOUT, a transfer within TRANSFER_TIMEOUT.

One whose client has gone ends sooner, and gives its connection to the database back.
"""

import asyncio
from typing import Any, cast

from litestar.types import ASGIApp, HTTPScope, Receive, Scope, Send

from service.errors import OutcomeUnknown, Refusal, RequestTimeout, TimedOut
from service.http.layers.unread_body import METHODS_WITH_BODY

MAY_GO_ON = {"POST"}  # a create, in a batch with others
PATIENCE = 0.25  # seconds; to watch the client of each request would cost the fast ones too much


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
        """Pass the request on.

        Raise TimedOut or OutcomeUnknown when its time is over, and RequestTimeout when its body
        does not come or its client has gone; a transfer watches its client itself.
        """
        method = cast("HTTPScope", scope)["method"]
        is_transfer = "is_transfer" in scope["route_handler"].opt
        seconds = self.transfer_timeout if is_transfer else self.request_timeout
        clock = asyncio.get_running_loop().time
        client = ClientWatch(receive)
        more = False  # whether the app waits for more of the body

        async def receive_and_begin_anew() -> Any:
            nonlocal more
            more = True
            client.end()
            if timeout.when() is None:
                timeout.reschedule(clock() + seconds)
            message = await receive()
            if message["type"] == "http.request" and not timeout.expired():
                more = message["more_body"]
                if more:
                    timeout.reschedule(clock() + seconds)
                else:
                    timeout.reschedule(None)
                    client.begin(timeout, clock() + seconds)
            return message

        try:
            is_complete = not is_transfer and method not in METHODS_WITH_BODY
            async with asyncio.timeout(None if is_complete else seconds) as timeout:
                if is_complete:
                    client.begin(timeout, clock() + seconds)
                await self.app(scope, receive if is_transfer else receive_and_begin_anew, send)
        except TimeoutError:
            if not timeout.expired():
                raise
            if client.has_gone:
                raise RequestTimeout("the client went away") from None
            if more:
                raise RequestTimeout(f"the body took longer than {seconds:g} s") from None
            raise too_slow(method, seconds) from None
        finally:
            client.end()


def too_slow(method: str, seconds: float) -> Refusal:
    """Return the refusal of a request of this method that took longer than so many seconds."""
    if method in MAY_GO_ON:
        return OutcomeUnknown(f"it was not done within {seconds:g} seconds, but may be yet")
    return TimedOut(f"this may take {seconds:g} seconds")


class ClientWatch:
    """Notices that a client has gone which still waits for its response after PATIENCE."""

    def __init__(self, receive: Receive) -> None:
        self.receive = receive
        self.timer: asyncio.TimerHandle | None = None
        self.task: asyncio.Task[None] | None = None
        self.has_gone = False

    def begin(self, deadline: asyncio.Timeout, when: float) -> None:
        """Let the deadline expire when the client goes, and at a time of the loop's clock.

        Nobody else may receive until `end`. The deadline is set after PATIENCE only: one timer is
        enough for the requests that are answered before.
        """
        loop = asyncio.get_running_loop()

        def watch() -> None:
            if not deadline.expired():
                deadline.reschedule(when)
                self.task = loop.create_task(self.watch(deadline))

        self.timer = loop.call_at(min(loop.time() + PATIENCE, when), watch)

    async def watch(self, deadline: asyncio.Timeout) -> None:
        """Return when the client has gone."""
        while (await self.receive())["type"] != "http.disconnect":
            pass
        self.has_gone = True
        if not deadline.expired():
            deadline.reschedule(0)  # it is over

    def end(self) -> None:
        """Watch no longer."""
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None
        if self.task is not None:
            self.task.cancel()
            self.task = None
