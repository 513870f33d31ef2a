"""Traces: a span for each request and each query, sent to a collector as OTLP over HTTP.

OpenTelemetry's instrumentations of ASGI and SQLAlchemy create the spans. They record more than may
leave this process: hosts, database names, and the messages of drivers, which repeat the values of
rows. So the instrumentation of ASGI gets a scope without path and query, and every span passes
RedactingProcessor, which keeps the attributes on its allow-list only.
This module is imported only where there is a collector: OpenTelemetry's SDK takes memory. (Litestar
imports the instrumentation of ASGI, without the SDK, wherever it is installed.)
"""

import asyncio
import logging
import os
import re
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from litestar.types import ASGIApp, Receive, Scope, Send
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.instrumentation.asgi import OpenTelemetryMiddleware
from opentelemetry.instrumentation.sqlalchemy.engine import EngineTracer
from opentelemetry.metrics import NoOpMeterProvider
from opentelemetry.propagate import get_global_textmap
from opentelemetry.sdk.environment_variables import OTEL_EXPORTER_OTLP_TRACES_ENDPOINT
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.trace import Span, SpanKind, Status, StatusCode, format_trace_id
from sqlalchemy import event
from sqlalchemy.engine import ExceptionContext
from sqlalchemy.ext.asyncio import AsyncEngine

from service.models import SCHEMA_REVISION
from service.observability.logs import RateLimitedWarning
from service.observability.request_context import (
    CLIENT_CLOSED_REQUEST,
    OTHER_METHOD,
    SERVER_ERROR,
    current_request,
)

FLUSH_TIMEOUT = 3.0  # seconds that the shutdown waits for the collector
STATEMENT_LENGTH = 2000  # characters; the INSERT of a batch has many more
REQUEST_ATTRIBUTES = (  # allowed to leave this process, like those of queries
    "http.request.method",
    "http.response.status_code",
    "error.type",
    "request_id",
)
QUERY_ATTRIBUTES = ("db.system.name", "db.query.text", "db.response.status_code", "error.type")
OPERATION = re.compile(r"\w+")
METHOD_NAMES = {OTHER_METHOD: "_OTHER"}  # OpenTelemetry's name for an unknown method
APP_SCOPE = "service.scope"  # where the reduced scope keeps the app's own


class Tracing:
    """Creates the spans of an app, and exports them in the background."""

    def __init__(self, endpoint: str, engines: Sequence[AsyncEngine]) -> None:
        """Trace the queries of the engines; `endpoint` is the base URL of the collector."""
        self.exporter = WarningExporter(endpoint)
        provider = TracerProvider(resource=resource(), shutdown_on_exit=False)
        provider.add_span_processor(RedactingProcessor(self.exporter))
        self.provider = provider
        self.tracer = provider.get_tracer("service")
        connections = NoOpMeterProvider().get_meter("service").create_up_down_counter("unused")
        for engine in engines:
            # listeners run in this order, and EngineTracer's ends the span
            event.listen(engine.sync_engine, "handle_error", record_error)
            with stable_attribute_names():
                # not by SQLAlchemyInstrumentor: it would trace every engine of this process, and
                # each checkout of a connection as a span
                EngineTracer(self.tracer, engine.sync_engine, connections)  # type: ignore[no-untyped-call]  # it has no types

    def middleware(self, app: ASGIApp) -> ASGIApp:
        """Return the app in a server span per request, which continues the client's trace.

        The caller must set `current_request` first.
        """
        fields = {field.encode() for field in get_global_textmap().fields}

        async def run_app(reduced: dict[str, Any], receive: Receive, send: Send) -> None:
            await app(reduced[APP_SCOPE], receive, send)

        traced: Any = OpenTelemetryMiddleware(  # its ASGI types are not those of Litestar
            run_app,
            default_span_details=lambda reduced: (reduced["method"], {}),
            server_request_hook=connect_span,
            tracer=self.tracer,
            meter_provider=NoOpMeterProvider(),
            exclude_spans=["receive", "send"],
        )

        async def trace(scope: Scope, receive: Receive, send: Send) -> None:
            method = current_request.get().method
            # the middleware raises UnicodeDecodeError for a query or a header that is not UTF-8,
            # before it calls the app; what it does not get can neither fail nor be recorded
            headers = [
                (name, value)
                for name, value in scope["headers"]
                if name in fields and value.isascii()
            ]
            reduced = {
                "type": "http",
                "method": METHOD_NAMES.get(method, method),
                "headers": headers,
                APP_SCOPE: scope,
            }
            await traced(reduced, receive, send)

        return trace

    async def close(self) -> None:
        """Export the remaining spans, for at most FLUSH_TIMEOUT."""
        # a daemon thread, so that the process ends even where a connection hangs
        shutdown = threading.Thread(target=self.provider.shutdown, daemon=True)
        shutdown.start()
        await asyncio.to_thread(shutdown.join, FLUSH_TIMEOUT)
        if shutdown.is_alive():
            self.exporter.lost.log()
            self.exporter.shutdown()


class RedactingProcessor(BatchSpanProcessor):
    """Queues spans for export, without paths, values, events and messages."""

    def on_end(self, span: ReadableSpan) -> None:
        """Queue a copy of the span that has the attributes on the allow-list only."""
        is_request = span.kind is SpanKind.SERVER
        recorded = span.attributes or {}
        attributes: dict[str, Any] = {
            name: value
            for name in (REQUEST_ATTRIBUTES if is_request else QUERY_ATTRIBUTES)
            if (value := recorded.get(name)) is not None
        }
        status = span.status.status_code
        name = describe_request(attributes, status) if is_request else describe_query(attributes)
        super().on_end(
            ReadableSpan(
                name=name,
                context=span.context,
                parent=span.parent,
                resource=span.resource,
                attributes=attributes,
                kind=span.kind,
                status=Status(status),
                start_time=span.start_time,
                end_time=span.end_time,
                instrumentation_scope=span.instrumentation_scope,
            )
        )


class WarningExporter(SpanExporter):
    """Exports spans as OTLP over HTTP; logs a warning while the collector does not take them."""

    def __init__(self, endpoint: str) -> None:
        # the variable for traces alone goes before the one for every signal
        traces_endpoint = os.environ.get(OTEL_EXPORTER_OTLP_TRACES_ENDPOINT)
        self.exporter = OTLPSpanExporter(traces_endpoint or f"{endpoint.rstrip('/')}/v1/traces")
        self.lost = RateLimitedWarning("traces are lost: the collector does not take them")
        # OpenTelemetry logs each failed attempt
        logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Send spans; where the collector does not take them, they are lost."""
        result = self.exporter.export(spans)
        if result is not SpanExportResult.SUCCESS:
            self.lost.log()
        return result

    def shutdown(self) -> None:
        """Stop retrying; spans that were not sent are lost."""
        self.exporter.shutdown()  # type: ignore[no-untyped-call]  # it has no types


def resource() -> Resource:
    """Return the service's name and version; OTEL_SERVICE_NAME and the like override them."""
    defaults = {"service.name": "users", "service.version": SCHEMA_REVISION}
    return Resource.create(defaults).merge(OTELResourceDetector().detect())


@contextmanager
def stable_attribute_names() -> Iterator[None]:
    """Choose stable attribute names such as `db.query.text` for instrumentations created inside.

    The instrumentations read this choice from the environment once per process, and the default
    is the names of 2021. The variable is restored, so that child processes get the operator's.
    """
    name = "OTEL_SEMCONV_STABILITY_OPT_IN"
    before = os.environ.get(name)
    os.environ[name] = "http,database"
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before


def connect_span(span: Span, _scope: dict[str, Any]) -> None:
    """Give the current request the id of its trace, and its span the id of the request."""
    request = current_request.get()
    request.trace_id = format_trace_id(span.get_span_context().trace_id)
    span.set_attribute("request_id", request.request_id)


def record_error(failure: ExceptionContext) -> None:
    """Set the kind of a query's failure on its span: the instrumentation records the message only.

    The span is the one that EngineTracer keeps on the execution context.
    """
    span: Span | None = getattr(failure.execution_context, "_otel_span", None)
    if span is not None and span.is_recording():  # it has ended where fetching rows failed
        error = failure.original_exception
        # asyncpg's own class says more than the DBAPI class in which SQLAlchemy wraps it
        error = getattr(error, "driver_exception", None) or error
        span.set_attribute("error.type", type(error).__name__)
        if sqlstate := getattr(error, "sqlstate", None):
            span.set_attribute("db.response.status_code", sqlstate)


def describe_request(attributes: dict[str, Any], status: StatusCode) -> str:
    """Add the route, and the status where no response started; return the span's name.

    The instrumentation knows routes of FastAPI only. It ends the span in the request's context.
    """
    if "http.response.status_code" not in attributes:
        failed = status is StatusCode.ERROR
        attributes["http.response.status_code"] = SERVER_ERROR if failed else CLIENT_CLOSED_REQUEST
        if failed:
            attributes["error.type"] = str(SERVER_ERROR)
    method: str = attributes["http.request.method"]
    template = current_request.get().template
    if template is None:
        return method
    attributes["http.route"] = template
    return f"{method} {template}"


def describe_query(attributes: dict[str, Any]) -> str:
    """Shorten the statement, and add its operation; return the operation as the span's name.

    The instrumentation's own operation has the database's name, which is a path on SQLite.
    """
    statement: str = attributes["db.query.text"]
    attributes["db.query.text"] = statement[:STATEMENT_LENGTH]
    match = OPERATION.search(statement)
    operation = match.group().upper() if match else ""
    attributes["db.operation.name"] = operation
    return operation
