"""Paths with an encoded slash, or with two slashes together, lead nowhere."""

from collections.abc import Awaitable
from typing import Any, cast

from litestar.types import ASGIApp, Receive, Scope, Send

from service.errors import NotFound
from service.http.problems import refuse


class ExactPaths:
    """A layer that answers 404 where the framework would find the resource of another path.

    It joins slashes, and the server decodes `%2F`: what a proxy allows or forbids by its path would
    reach a resource that the proxy did not see.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        """Pass the request on, or refuse it."""
        path: bytes = cast("dict[str, Any]", scope).get("raw_path", b"/")
        # it is empty where the target is a host, as in `GET example.org`
        if not path or b"//" in path or (b"%" in path and b"%2f" in path.lower()):
            return refuse(scope, send, NotFound("there is nothing at this url"))
        return self.app(scope, receive, send)
