"""A refusal before the body was read waits until the client has sent it, within limits.

A client that is answered and cut off while it sends sees a broken connection, not the response.
"""

import asyncio
from collections.abc import Awaitable
from contextlib import suppress
from http import HTTPStatus
from typing import Any, cast

from litestar.types import ASGIApp, Message, Receive, Scope, Send

BODY_LIMIT = 16 * 1024 * 1024  # bytes
TIMEOUT = 5  # seconds
METHODS_WITH_BODY = {"POST", "PATCH", "PUT", "DELETE"}


class UnreadBody:
    """A layer that reads what the app left unread of a request's body before it refuses it."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        """Pass the request on; one without a body untouched."""
        if cast("dict[str, Any]", scope).get("method") not in METHODS_WITH_BODY:
            return self.app(scope, receive, send)
        more = True

        async def receive_and_note() -> Any:
            nonlocal more
            message = await receive()
            more = message["type"] == "http.request" and message["more_body"]
            return message

        async def read_the_rest() -> None:
            left = BODY_LIMIT
            while more and left > 0:
                message = await receive_and_note()
                left -= len(message.get("body", b""))

        async def send_after_the_body(message: Message) -> None:
            refused = message["type"] == "http.response.start" and (
                message["status"] >= HTTPStatus.BAD_REQUEST
                # a client that was too slow gets no more time
                and message["status"] != HTTPStatus.REQUEST_TIMEOUT
            )
            if more and refused:
                with suppress(TimeoutError):
                    await asyncio.wait_for(read_the_rest(), TIMEOUT)
            await send(message)

        return self.app(scope, receive_and_note, send_after_the_body)
