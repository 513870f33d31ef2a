"""HEAD wherever there is GET, and OPTIONS with all methods of a URL.

Litestar knows HEAD only where it is written out beside each GET, and its response to OPTIONS names
the methods of a URL's first handler alone.
"""

from collections.abc import Awaitable, Iterable
from typing import Any, cast

from litestar.types import ASGIApp, Message, Receive, Scope, Send

METHODS = ("DELETE", "GET", "OPTIONS", "PATCH", "POST")  # of all routes


class HeadAndOptions:
    """A layer that answers HEAD as GET without the body, and completes `Allow` for OPTIONS.

    It sets `scope["head"]`, so that an export need not run for a body that nobody gets.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        """Pass the request on; those with other methods untouched."""
        request = cast("dict[str, Any]", scope)
        method = request.get("method")
        if method == "HEAD":
            request.update(method="GET", head=True)
            return self.app(scope, receive, without_body(send))
        if method == "OPTIONS" and request["path"] == "*":
            return name_all_methods(send)
        if method == "OPTIONS":
            return self.app(scope, receive, with_all_methods(send, request))
        return self.app(scope, receive, send)


async def name_all_methods(send: Send) -> None:
    """Answer OPTIONS of the service as a whole, which has no route."""
    headers = [(b"allow", allow_header(METHODS).encode())]
    await send({"type": "http.response.start", "status": 204, "headers": headers})
    await send({"type": "http.response.body", "body": b"", "more_body": False})


def without_body(send: Send) -> Send:
    """Return a `send` that leaves out the body."""

    async def send_head(message: Message) -> None:
        if message["type"] == "http.response.start":
            await send(message)
            await send({"type": "http.response.body", "body": b"", "more_body": False})

    return send_head


def with_all_methods(send: Send, request: dict[str, Any]) -> Send:
    """Return a `send` that names all methods of the URL in `Allow`."""

    async def send_allow(message: Message) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [
                (name, allow_header(methods_of(request)).encode() if name == b"allow" else value)
                for name, value in message["headers"]
            ]
        await send(message)

    return send_allow


def methods_of(request: dict[str, Any]) -> set[str]:
    """Return the methods of the URL that a request was routed to."""
    template = request["path_template"]
    routes = (route for route in request["litestar_app"].routes if route.path_format == template)
    return {method for route in routes for method in route.methods}


def allow_header(methods: Iterable[str]) -> str:
    """Return the value of `Allow`: with HEAD where there is GET."""
    names = set(methods)
    if "GET" in names:
        names.add("HEAD")
    return ", ".join(sorted(names))
