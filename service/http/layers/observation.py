"""The outermost layer: the access log, metrics, traces and the id of each request.

It wraps the whole app, so that it also sees the requests that the framework itself refuses.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, nullcontext
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, cast

from litestar.enums import ScopeType
from litestar.types import ASGIApp, Message, Receive, Scope, Send
from sqlalchemy.ext.asyncio import AsyncEngine

from service.database import Database
from service.observability.access_log import AccessLog, Line
from service.observability.metrics import Metrics
from service.observability.request_context import SERVER_ERROR, RequestContext, current_request
from service.replicas import Replicas
from service.settings import Settings

if TYPE_CHECKING:
    from service.auth.access import Admission
    from service.observability.tracing import Tracing

UNMATCHED = "unmatched"  # the route is a label of metrics: clients must not add values to it
FLUSH_INTERVAL = 1.0  # seconds that a line of the access log is buffered at most


class Observation:
    """Writes the access log, metrics and traces of an app, and adds X-Request-ID to responses."""

    def __init__(self, settings: Settings, database: Database, replicas: Replicas) -> None:
        """Observe requests as `settings` say, and the connections and queries of all servers."""
        self.access_log = None if settings.access_log == "off" else AccessLog(settings)
        self.metrics = (
            Metrics(database, replicas, lambda: self.running) if settings.metrics else None
        )
        self.tracing = create_tracing(
            settings.otel_exporter_otlp_endpoint, [*database.engines, *replicas.engines]
        )
        self.running = 0
        self.flush_timer: asyncio.TimerHandle | None = None

    @asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        """Flush the access log and the traces at the end."""
        with nullcontext() if self.access_log is None else self.access_log.open():
            try:
                yield
            finally:
                if self.flush_timer is not None:
                    self.flush_timer.cancel()
                if self.tracing is not None:
                    await self.tracing.close()

    def __call__(self, app: ASGIApp) -> ASGIApp:
        """Return the app inside this layer."""
        traced = app if self.tracing is None else self.tracing.middleware(app)

        async def observe(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] != ScopeType.HTTP:
                await app(scope, receive, send)
                return
            request = RequestContext(scope)

            async def send_with_id(message: Message) -> None:
                if message["type"] == "http.response.start":
                    request.status = message["status"]
                    message["headers"] = [
                        *message["headers"],
                        (b"x-request-id", request.request_id.encode()),
                    ]
                    await send(message)
                else:
                    await send(message)
                    request.complete = not cast("dict[str, Any]", message).get("more_body", False)

            self.running += 1
            if self.metrics is not None:
                self.metrics.request_started()
            if self.flush_timer is None:
                self.flush_timer = asyncio.get_running_loop().call_later(FLUSH_INTERVAL, self.flush)
            context = current_request.set(request)
            try:
                await traced(scope, receive, send_with_id)
            except Exception:
                request.failed = True
                raise
            finally:
                current_request.reset(context)
                self.running -= 1
                self.record(request)

        return observe

    def record(self, request: RequestContext) -> None:
        """Add a finished request to the metrics and the access log."""
        seconds = time.perf_counter() - request.started
        route = request.template or UNMATCHED
        status = request.outcome
        admission: Admission | None = request.scope.get("auth")
        if self.metrics is not None:
            self.metrics.request_finished(request.method, route, status, seconds)
        if self.access_log is not None:
            self.access_log.add(
                Line(
                    event="request",
                    level="info" if status < SERVER_ERROR else "error",
                    logger="access",
                    timestamp=datetime.now(UTC),
                    method=request.method,
                    route=route,
                    status=status,
                    milliseconds=round(seconds * 1000, 3),
                    token=admission.token if admission else None,
                    cut_off=not request.complete,
                    request_id=request.request_id,
                    trace_id=request.trace_id,
                )
            )

    def flush(self) -> None:
        """Write the buffered lines, and update the gauges that other workers read.

        While requests are running, this repeats every FLUSH_INTERVAL. It runs once more after the
        last request has finished.
        """
        self.flush_timer = None
        if self.running:
            self.flush_timer = asyncio.get_running_loop().call_later(FLUSH_INTERVAL, self.flush)
        if self.access_log is not None:
            self.access_log.flush()
        if self.metrics is not None:
            self.metrics.update_gauges()


def create_tracing(endpoint: str, engines: Sequence[AsyncEngine]) -> "Tracing | None":
    """Return Tracing for the collector at `endpoint`, or None without an endpoint."""
    if not endpoint:
        return None
    from service.observability.tracing import Tracing  # noqa: PLC0415  # OpenTelemetry's SDK takes memory and a slow import

    return Tracing(endpoint, engines)
