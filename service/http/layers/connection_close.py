"""`Connection: close` on each response of a service that is about to stop."""

from collections.abc import Awaitable

from litestar.types import ASGIApp, Message, Receive, Scope, Send

from service.draining import Draining

CLOSE = (b"connection", b"close")


class ConnectionClose:
    """A layer that makes keep-alive clients leave during the drain, between two requests.

    Otherwise they would meet the end of their connection at the end of the drain, perhaps with a
    request on the way. HTTP/2 has no such header; its clients are told when the drain ends.
    """

    def __init__(self, app: ASGIApp, draining: Draining) -> None:
        self.app = app
        self.draining = draining

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        """Pass the request on; untouched unless the service is about to stop."""
        if not self.draining or not scope.get("http_version", "").startswith("1"):
            return self.app(scope, receive, send)

        async def send_with_close(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], CLOSE]
            await send(message)

        return self.app(scope, receive, send_with_close)
