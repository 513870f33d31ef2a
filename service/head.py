"""HEAD, wherever there is GET: the same answer without its body.

Litestar knows HEAD only where it is written out beside each GET, and its answer to OPTIONS names
the methods of the first handler of a URL alone.
"""

from collections.abc import Iterable
from http import HTTPStatus
from typing import Any, cast

from litestar.types import ASGIApp, Message, Receive, Scope, Send

Headers = Iterable[tuple[bytes, bytes]]


def with_head(app: ASGIApp) -> ASGIApp:
    """The app, answering HEAD as it would GET, and naming in `Allow` all that it answers.

    It finds `head` in the scope, for answers whose body would be work for nothing.
    """

    async def answering(scope: Scope, receive: Receive, send: Send) -> None:
        request = cast("dict[str, Any]", scope)
        method = request.get("method")
        head = method == "HEAD"
        if head:
            request.update(method="GET", head=True)

        async def passed_on(message: Message) -> None:
            if message["type"] == "http.response.start":
                if method == "OPTIONS":
                    message["headers"] = [*allowing(message["headers"], methods_of(request))]
                elif message["status"] == HTTPStatus.METHOD_NOT_ALLOWED:
                    message["headers"] = [*allowing(message["headers"], set())]
                await send(message)
                if head:
                    await send({"type": "http.response.body", "body": b"", "more_body": False})
            elif not head:
                await send(message)

        await app(scope, receive, passed_on)

    return answering


def methods_of(request: dict[str, Any]) -> set[str]:
    """What the URL of a request is there for, as far as it was found."""
    template = request.get("path_template")
    routes = (route for route in request["litestar_app"].routes if route.path_format == template)
    return {method for route in routes for method in route.methods}


def allowing(headers: Headers, methods: set[str]) -> Headers:
    """The headers; `Allow` also names these methods, and HEAD where it names GET."""
    for name, value in headers:
        if name.lower() != b"allow":
            yield name, value
            continue
        named = methods | {method.strip() for method in value.decode().split(",")}
        if "GET" in named:
            named.add("HEAD")
        yield name, ", ".join(sorted(named)).encode()
