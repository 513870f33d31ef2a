"""Being watched: what is told of each request, in the access log, metrics and traces.

It stands around the whole app, so that what the framework refuses is seen too.
"""

import asyncio
import random
import re
import time
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager, nullcontext
from datetime import UTC, datetime
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, cast

from litestar.enums import ScopeType
from litestar.types import ASGIApp, HTTPScope, Message, Receive, Scope, Send

from service.database import Database
from service.observability import logs
from service.observability.access_log import AccessLog, Line
from service.observability.metrics import Metrics
from service.settings import Settings

if TYPE_CHECKING:
    from service.observability.tracing import RequestSpan, Tracing

GIVEN_ID = re.compile(rb"[A-Za-z0-9._:-]{1,128}")
METHODS = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT"}
OTHER = "other"  # methods and routes are labels: clients must not make new ones
UNMATCHED = "unmatched"
SERVER_ERROR = HTTPStatus.INTERNAL_SERVER_ERROR.value
GONE = 499  # how an answer counts that nobody waited for
TICK = 1.0  # seconds that what is to be told is kept back, at most


class Exchange:
    """A request and its answer, noted as they pass."""

    __slots__ = ("about", "began", "complete", "failed", "method", "scope", "send", "status")

    def __init__(self, scope: HTTPScope, send: Send) -> None:
        self.began = time.perf_counter()
        self.scope = cast("dict[str, Any]", scope)
        self.send = send
        self.method = scope["method"] if scope["method"] in METHODS else OTHER
        self.about = {"request_id": given_id(scope["headers"]) or new_id()}
        self.status = 0  # until there is one
        self.complete = False
        self.failed = False

    async def answer(self, message: Message) -> None:
        """Send it on, with the headers that every answer has."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            message["headers"] = [
                *message["headers"],
                (b"x-request-id", self.about["request_id"].encode()),
                *self.scope["state"].get("headers", ()),
            ]
            await self.send(message)
        else:
            await self.send(message)
            self.complete = not cast("dict[str, Any]", message).get("more_body", False)

    @property
    def template(self) -> str | None:
        """That of the route, once it was found."""
        return self.scope.get("path_template") or None

    @property
    def route(self) -> str:
        """The template, or a word for there being none."""
        return self.template or UNMATCHED

    @property
    def outcome(self) -> int:
        """The status, or what stands for one where none was sent."""
        return self.status or (SERVER_ERROR if self.failed else GONE)

    def line(self, seconds: float) -> Line:
        """What there is to tell."""
        outcome, about = self.outcome, self.about
        return Line(
            event="request",
            level="info" if outcome < SERVER_ERROR else "error",
            logger="access",
            timestamp=datetime.now(UTC),
            method=self.method,
            route=self.route,
            status=outcome,
            milliseconds=round(seconds * 1000, 3),
            token=self.scope["state"].get("token"),
            cut_off=not self.complete,
            request_id=about["request_id"],
            trace_id=about.get("trace_id"),
        )


class Observation:
    """Watches what passes through an app."""

    def __init__(self, settings: Settings, database: Database) -> None:
        self.access_log = None if settings.access_log == "off" else AccessLog(settings)
        self.metrics = Metrics(database, lambda: self.running) if settings.metrics else None
        self.tracing = tracing_to(settings.otel_exporter_otlp_endpoint, database)
        self.running = 0
        self.timer: asyncio.TimerHandle | None = None

    @asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        """Tell, when the service ends, what is still to be told."""
        with nullcontext() if self.access_log is None else self.access_log.open():
            try:
                yield
            finally:
                if self.timer is not None:
                    self.timer.cancel()
                if self.tracing is not None:
                    await self.tracing.close()

    def __call__(self, app: ASGIApp) -> ASGIApp:
        """The app, watched."""

        async def watched(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] != ScopeType.HTTP:
                await app(scope, receive, send)
                return
            exchange = Exchange(scope, send)
            span = self.begin(exchange)
            before = logs.about.set(exchange.about)
            try:
                await app(scope, receive, exchange.answer)
            except Exception:
                exchange.failed = True
                raise
            finally:
                logs.about.reset(before)
                self.end(exchange, span)

        return watched

    def begin(self, exchange: Exchange) -> "RequestSpan | None":
        """A request has come."""
        self.running += 1
        if self.metrics is not None:
            self.metrics.begin()
        if self.timer is None:
            self.timer = asyncio.get_running_loop().call_later(TICK, self.tick)
        if self.tracing is None:
            return None
        request_id, headers = exchange.about["request_id"], exchange.scope["headers"]
        span = self.tracing.begin(exchange.method, headers, request_id)
        exchange.about["trace_id"] = span.trace_id
        return span

    def end(self, exchange: Exchange, span: "RequestSpan | None") -> None:
        """A request is over."""
        seconds = time.perf_counter() - exchange.began
        self.running -= 1
        if self.metrics is not None:
            self.metrics.end(exchange.method, exchange.route, exchange.outcome, seconds)
        if self.access_log is not None:
            self.access_log.add(exchange.line(seconds))
        if span is not None:
            span.end(exchange.template, exchange.outcome)

    def tick(self) -> None:
        """Tell what is to be told; once more after the last request."""
        self.timer = None
        if self.running:
            self.timer = asyncio.get_running_loop().call_later(TICK, self.tick)
        if self.access_log is not None:
            self.access_log.flush()
        if self.metrics is not None:
            self.metrics.refresh()


def new_id() -> str:
    """An id that no other request has; it need not be hard to guess."""
    return f"{random.getrandbits(64):016x}"


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
    from service.observability.tracing import Tracing  # noqa: PLC0415  # only who traces waits for the import

    return Tracing(endpoint, database)
