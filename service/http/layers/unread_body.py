"""Refusing before the body was read: the client may first finish sending, within reason.

Answered and cut off while it sends, it would see a broken connection and not our answer.
"""

import asyncio
from collections.abc import Awaitable
from contextlib import suppress
from http import HTTPStatus
from typing import Any, cast

from litestar.types import ASGIApp, Message, Receive, Scope, Send

LIMIT = 16 * 1024 * 1024  # bytes
PATIENCE = 5  # seconds
SENDING = {"POST", "PATCH", "PUT"}


def reading_the_rest(app: ASGIApp) -> ASGIApp:
    """The app, whose refusals wait for what it has not read."""

    def answering(scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        if cast("dict[str, Any]", scope).get("method") not in SENDING:
            return app(scope, receive, send)
        more = True

        async def noted() -> Any:
            nonlocal more
            message = await receive()
            more = message["type"] == "http.request" and message["more_body"]
            return message

        async def read_the_rest() -> None:
            left = LIMIT
            while more and left > 0:
                message = await noted()
                left -= len(message.get("body", b""))

        async def patient(message: Message) -> None:
            refused = message["type"] == "http.response.start" and (
                message["status"] >= HTTPStatus.BAD_REQUEST
            )
            if more and refused:
                with suppress(TimeoutError):
                    await asyncio.wait_for(read_the_rest(), PATIENCE)
            await send(message)

        return app(scope, noted, patient)

    return answering
