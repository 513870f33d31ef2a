"""Requests that two servers could read as different requests are refused (RFC 9112)."""

from collections.abc import Awaitable

from litestar.types import ASGIApp, HTTPScope, Receive, Scope, Send

from service.errors import BadRequest
from service.http.layers.connection_close import CLOSE
from service.http.problems import MEDIA_TYPE, problem_of
from service.schemas import encode


class UnambiguousFraming:
    """A layer that refuses a request whose end, or whose host, is a matter of interpretation.

    The server in front of it refuses most of them: differing lengths, folded lines, bare CRs. It
    accepts those below. Where a request has Content-Length as well as Transfer-Encoding, it drops
    the former and closes the connection after the response, so that nothing behind the request is
    taken for another one; the app can't know of it.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        """Pass the request on, or refuse it and close the connection."""
        encodings = hosts = 0
        for name, value in scope.get("headers", ()):
            if name == b"host":
                hosts += 1
            elif name == b"transfer-encoding":
                encodings += 1 if value.lower() == b"chunked" else 2  # 2: refused
        if encodings > 1:
            return refuse(scope, send, "Transfer-Encoding may be chunked, and nothing else")
        if hosts > 1:
            return refuse(scope, send, "the request has more than one Host")
        return self.app(scope, receive, send)


async def refuse(scope: Scope, send: Send, detail: str) -> None:
    """Send the problem document of a request that was not understood."""
    http_scope: HTTPScope = scope  # type: ignore[assignment]  # only these have headers
    body = encode(problem_of(BadRequest(detail), http_scope["path"]))
    headers = [
        (b"content-type", MEDIA_TYPE.encode()),
        (b"cache-control", b"no-store"),
        (b"content-length", str(len(body)).encode()),
        CLOSE,
    ]
    status = BadRequest.status.value
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body, "more_body": False})
