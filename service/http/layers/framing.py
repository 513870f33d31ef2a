"""Requests that two servers could read as different requests are refused (RFC 9112)."""

import re
from collections.abc import Awaitable
from functools import lru_cache

from litestar.types import ASGIApp, Receive, Scope, Send

from service.errors import BadRequest, UnknownCoding
from service.http.layers.connection_close import CLOSE
from service.http.problems import refuse

HOST = re.compile(rb"(\[[0-9A-Fa-f:.]+\]|([-._~0-9A-Za-z!$&'()*+,;=]|%[0-9A-Fa-f]{2})+)(:[0-9]*)?")


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
        hosts: list[bytes] = []
        codings: list[bytes] = []
        for name, value in scope.get("headers", ()):
            if name == b"host":
                hosts.append(value)
            elif name == b"transfer-encoding":
                codings += value.lower().replace(b" ", b"").replace(b"\t", b"").split(b",")
        if codings and codings != [b"chunked"]:
            detail = "Transfer-Encoding may be chunked, and nothing else"
            is_known = all(coding in {b"chunked", b""} for coding in codings)
            refusal = BadRequest(detail) if is_known else UnknownCoding(detail)
            return refuse(scope, send, refusal, CLOSE)
        if len(hosts) > 1:
            return refuse(scope, send, BadRequest("the request has more than one Host"), CLOSE)
        if hosts and not is_host(hosts[0]) and (hosts[0] or requires_host(scope)):
            refusal = BadRequest("the request has no Host, or one that is no host")
            return refuse(scope, send, refusal, CLOSE)
        return self.app(scope, receive, send)


@lru_cache(maxsize=256)
def is_host(value: bytes) -> bool:
    """Return whether the value of Host is a host, and perhaps a port (RFC 9110, 7.2)."""
    return HOST.fullmatch(value) is not None


def requires_host(scope: Scope) -> bool:
    """Return whether the request's version of HTTP requires a Host.

    Where there is none, the server adds an empty one.
    """
    return scope.get("http_version") not in {"1", "1.0"}  # servers spell it in two ways
