"""The layer that tells clients where their writes are, for their next reads."""

from typing import Any, cast

from litestar.status_codes import HTTP_500_INTERNAL_SERVER_ERROR
from litestar.types import ASGIApp, Message, Receive, Scope, Send

from service.http.parameters import READ_AFTER
from service.http.read_after import COOKIE, SCOPE_KEY
from service.positions import UNREACHED

COOKIE_AGE = 600  # seconds, much longer than replicas in use lag
WRITES = {"POST", "PATCH", "DELETE"}


class ReadAfter:
    """Adds the position of a write to its response, as a header and as a cookie.

    Where the outcome of a write is not known, its client's next reads are the primary's: they are
    asked to find out.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, and add the position to the response of a write."""
        if cast("dict[str, Any]", scope).get("method") not in WRITES:
            await self.app(scope, receive, send)
            return

        async def send_with_position(message: Message) -> None:
            if message["type"] == "http.response.start":
                position = cast("dict[str, Any]", scope).get(SCOPE_KEY)
                if position is None and message["status"] >= HTTP_500_INTERNAL_SERVER_ERROR:
                    position = UNREACHED
                if position is not None:
                    value = str(position).encode()
                    cookie = b"%s=%s; Max-Age=%d; Path=/; HttpOnly; SameSite=Lax" % (
                        COOKIE.encode(), value, COOKIE_AGE,
                    )  # fmt: skip
                    message["headers"] = [
                        *message["headers"],
                        (READ_AFTER.key, value),
                        (b"set-cookie", cookie),
                    ]
            await send(message)

        await self.app(scope, receive, send_with_position)
