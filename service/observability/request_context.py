"""The request that is being served, for logs, metrics and traces."""

import random
import re
import time
from collections.abc import Iterable, Mapping
from contextvars import ContextVar
from http import HTTPStatus
from typing import Any

METHODS = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT"}
OTHER_METHOD = "other"  # the method is a label of metrics: clients must not add values to it
SERVER_ERROR = HTTPStatus.INTERNAL_SERVER_ERROR.value
CLIENT_CLOSED_REQUEST = 499  # nginx's status for a client that closed the connection early
VALID_REQUEST_ID = re.compile(rb"[A-Za-z0-9._:-]{1,128}")


class RequestContext:
    """A request, and what is known of its response so far."""

    __slots__ = (
        "complete", "failed", "method", "request_id", "scope", "started", "status", "trace_id",
    )  # fmt: skip

    def __init__(self, scope: Mapping[str, Any]) -> None:
        """Start the clock; `scope` is that of ASGI."""
        self.started = time.perf_counter()
        self.scope = scope
        self.method = scope["method"] if scope["method"] in METHODS else OTHER_METHOD
        # random, but not hard to guess: an id of a request is no secret
        self.request_id = client_request_id(scope["headers"]) or f"{random.getrandbits(64):016x}"
        self.trace_id: str | None = None
        self.status = 0  # until the response starts
        self.complete = False  # the last part of the response was sent
        self.failed = False  # the app raised an exception

    @property
    def template(self) -> str | None:
        """The path template of the route; None before routing, and where no route matches."""
        return self.scope.get("path_template") or None

    @property
    def outcome(self) -> int:
        """The status of the response; without a response, 500 or 499."""
        return self.status or (SERVER_ERROR if self.failed else CLIENT_CLOSED_REQUEST)


def client_request_id(headers: Iterable[tuple[bytes, bytes]]) -> str | None:
    """Return the value of X-Request-ID, or None where it is missing or invalid."""
    for name, value in headers:
        if name == b"x-request-id":
            return value.decode() if VALID_REQUEST_ID.fullmatch(value) else None
    return None


current_request: ContextVar[RequestContext] = ContextVar("current_request")
