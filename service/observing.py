"""Being watched: what is told of each request, in the access log, metrics and traces.

It stands around the whole app, so that what the framework refuses is seen too.
"""

import asyncio
import os
import re
import time
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import ExitStack, asynccontextmanager
from datetime import UTC, datetime
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, cast

from litestar.enums import ScopeType
from litestar.handlers import HTTPRouteHandler
from litestar.types import ASGIApp, Message, Receive, Scope, Send

from service import logs, metrics
from service.access_log import AccessLog, Line
from service.database import Database
from service.metrics import Metrics
from service.settings import Settings

if TYPE_CHECKING:
    from service.tracing import Tracing

GIVEN_ID = re.compile(rb"[A-Za-z0-9._:-]{1,128}")
METHODS = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT"}
OTHER = "other"  # methods and routes are labels: clients must not make new ones
UNMATCHED = "unmatched"
GONE = 499  # how an answer counts that nobody waited for
TICK = 1.0  # seconds that what is to be told is kept back, at most


class Answer:
    """What is sent, noted as it passes."""

    __slots__ = ("complete", "request_id", "send", "state", "status")

    def __init__(self, send: Send, request_id: str, state: Mapping[str, Any]) -> None:
        self.send = send
        self.request_id = request_id
        self.state = state
        self.status = 0  # until there is one
        self.complete = False

    async def __call__(self, message: Message) -> None:
        """Send it on, with the headers that every answer has."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            message["headers"] = [
                *message["headers"],
                (b"x-request-id", self.request_id.encode()),
                *self.state.get("headers", ()),
            ]
            await self.send(message)
        else:
            await self.send(message)
            self.complete = not cast("dict[str, Any]", message).get("more_body", False)


class Observed:
    """Watches what passes through an app."""

    def __init__(self, settings: Settings, database: Database) -> None:
        self.access_log = None if settings.access_log == "off" else AccessLog(settings)
        self.metrics = Metrics(database) if settings.metrics else None
        self.tracing = tracing_to(settings.otel_exporter_otlp_endpoint, database)
        self.running = 0
        self.timer: asyncio.TimerHandle | None = None

    @property
    def routes(self) -> Sequence[HTTPRouteHandler]:
        """The URLs that tell what was seen."""
        return metrics.ROUTES if self.metrics else ()

    @asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        """Tell, when the service ends, what is still to be told."""
        with ExitStack() as stack:
            if self.access_log is not None:
                stack.enter_context(self.access_log.open())
            try:
                yield
            finally:
                if self.timer is not None:
                    self.timer.cancel()
                if self.tracing is not None:
                    await self.tracing.close()

    def around(self, app: ASGIApp) -> ASGIApp:
        """The app, watched."""

        async def watched(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] != ScopeType.HTTP:
                await app(scope, receive, send)
                return
            began = time.perf_counter()
            method = scope["method"] if scope["method"] in METHODS else OTHER
            request_id = given_id(scope["headers"]) or os.urandom(8).hex()
            answer = Answer(send, request_id, scope["state"])
            self.begin()
            span = self.tracing and self.tracing.begin(method, scope["headers"], request_id)
            about = {"request_id": request_id}
            if span:
                about["trace_id"] = span.trace_id
            context = logs.about.set(about)
            unanswered = GONE
            try:
                await app(scope, receive, answer)
            except Exception:
                unanswered = HTTPStatus.INTERNAL_SERVER_ERROR
                raise
            finally:
                logs.about.reset(context)
                seconds = time.perf_counter() - began
                template = cast("dict[str, Any]", scope).get("path_template")
                status = answer.status or unanswered
                line = Line(
                    event="request",
                    level="info" if status < HTTPStatus.INTERNAL_SERVER_ERROR else "error",
                    logger="access",
                    timestamp=datetime.now(UTC),
                    method=method,
                    route=template or UNMATCHED,
                    status=status,
                    milliseconds=round(seconds * 1000, 3),
                    token=scope["state"].get("token"),
                    cut_off=not answer.complete,
                    **about,
                )
                self.end(line, seconds)
                if span:
                    span.end(template, status)

        return watched

    def begin(self) -> None:
        """A request has come."""
        self.running += 1
        if self.metrics is not None:
            self.metrics.running.inc()
        if self.timer is None:
            self.timer = asyncio.get_running_loop().call_later(TICK, self.tick)

    def end(self, line: Line, seconds: float) -> None:
        """A request is over."""
        self.running -= 1
        if self.metrics is not None:
            self.metrics.running.dec()
            self.metrics.observe(line.method, line.route, line.status, seconds)
        if self.access_log is not None:
            self.access_log.add(line)

    def tick(self) -> None:
        """Tell what is to be told; once more after the last request."""
        self.timer = None
        if self.running:
            self.timer = asyncio.get_running_loop().call_later(TICK, self.tick)
        if self.access_log is not None:
            self.access_log.flush()
        if self.metrics is not None:
            self.metrics.refresh()


def given_id(headers: Iterable[tuple[bytes, bytes]]) -> str | None:
    """The id that the client gave its request, if it is one."""
    for name, value in headers:
        if name == b"x-request-id":
            return value.decode() if GIVEN_ID.fullmatch(value) else None
    return None


def tracing_to(endpoint: str, database: Database) -> "Tracing | None":
    """Traces for the collector there, if there is one."""
    if not endpoint:
        return None
    from service.tracing import Tracing  # noqa: PLC0415  # only who traces waits for the import

    return Tracing(endpoint, database.engine)
