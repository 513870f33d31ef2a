"""A response that comes before the whole body was read reaches a client that still sends.

Many clients send their whole body before they read the response. Where the connection is closed
while they send, they see a broken connection instead.
"""

import asyncio
from collections.abc import Awaitable, Iterable
from contextlib import suppress
from http import HTTPStatus
from typing import Any, cast

from litestar.types import ASGIApp, Message, Receive, Scope, Send

BODY_LIMIT = 256 * 1024 * 1024  # bytes
TIMEOUT = 30.0  # seconds for all of them
SILENCE = 5.0  # seconds between two pieces of the body
LAST_SILENCE = 0.5  # seconds, for a client that was too slow before
METHODS_WITH_BODY = {"POST", "PATCH", "PUT", "DELETE"}
METHODS_WITHOUT_BODY = {"GET", "HEAD", "OPTIONS"}


class UnreadBody:
    """A layer that reads what the app left unread of a request's body, once the response is sent.

    A client that reads meanwhile has the response at once, and may stop sending.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        """Pass the request on; one without a body untouched."""
        request = cast("dict[str, Any]", scope)
        may_lack_body = request.get("method", "GET") in METHODS_WITHOUT_BODY
        if may_lack_body and not announces_body(request.get("headers", ())):
            return self.app(scope, receive, send)
        return self.read_to_the_end(scope, receive, send)

    async def read_to_the_end(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, then read the rest of its body, within limits."""
        body = Body(receive)
        silence = SILENCE

        async def send_and_note(message: Message) -> None:
            nonlocal silence
            if cast("dict[str, Any]", message).get("status") == HTTPStatus.REQUEST_TIMEOUT:
                silence = LAST_SILENCE
            await send(message)

        await self.app(scope, body.receive_and_note, send_and_note)
        # a client that waits for 100 Continue sends nothing after another response
        if body.more and (body.begun or not expects_continue(scope)):
            await body.read(silence)


class Body:
    """A request's body, and how far it was read."""

    def __init__(self, receive: Receive) -> None:
        self.receive = receive
        self.begun = False
        self.more = True

    async def receive_and_note(self) -> Any:
        """Return the next message."""
        message = await self.receive()
        self.begun = True
        self.more = message["type"] == "http.request" and message["more_body"]
        return message

    async def read(self, silence: float) -> None:
        """Read the rest; give up after a `silence`, in seconds, and at the limits."""
        left = BODY_LIMIT
        with suppress(TimeoutError):
            async with asyncio.timeout(TIMEOUT):
                while self.more and left > 0:
                    message = await asyncio.wait_for(self.receive_and_note(), silence)
                    left -= len(message.get("body", b""))


def announces_body(headers: Iterable[tuple[bytes, bytes]]) -> bool:
    """Return whether a head says that a body follows."""
    for name, value in headers:
        if name == b"transfer-encoding" or (name == b"content-length" and value != b"0"):
            return True
    return False


def expects_continue(scope: Scope) -> bool:
    """Return whether the client asks for leave to send its body."""
    headers = cast("dict[str, Any]", scope)["headers"]
    return any(name == b"expect" for name, _ in headers)
