"""HEAD, wherever there is GET: the same answer without its body.

Litestar knows HEAD only where it is written out beside each GET, and its answer to OPTIONS names
the methods of the first handler of a URL alone.
"""

from collections.abc import Awaitable, Iterable
from typing import Any, cast

from litestar.types import ASGIApp, Message, Receive, Scope, Send


def with_head(app: ASGIApp) -> ASGIApp:
    """The app, answering HEAD as it would GET, and to OPTIONS all that a URL answers.

    It finds `head` in the scope, for answers whose body would be work for nothing.
    """

    def answering(scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        request = cast("dict[str, Any]", scope)
        if request.get("method") not in {"HEAD", "OPTIONS"}:
            return app(scope, receive, send)

        async def without_body(message: Message) -> None:
            if message["type"] == "http.response.start":
                await send(message)
                await send({"type": "http.response.body", "body": b"", "more_body": False})

        async def with_all_methods(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [
                    (name, allow(methods_of(request)).encode() if name == b"allow" else value)
                    for name, value in message["headers"]
                ]
            await send(message)

        if request["method"] == "OPTIONS":
            return app(scope, receive, with_all_methods)
        request.update(method="GET", head=True)
        return app(scope, receive, without_body)

    return answering


def methods_of(request: dict[str, Any]) -> set[str]:
    """What the URL of a request is there for."""
    template = request["path_template"]
    routes = (route for route in request["litestar_app"].routes if route.path_format == template)
    return {method for route in routes for method in route.methods}


def allow(methods: Iterable[str]) -> str:
    """The value of `Allow`: HEAD, too, where it names GET."""
    named = set(methods)
    if "GET" in named:
        named.add("HEAD")
    return ", ".join(sorted(named))
