"""Traces: a span for each request and each query, sent to a collector as OTLP over HTTP.

Imported only where there is a collector: nobody else needs OpenTelemetry's SDK in memory.
A span tells the route's template and the statement, never a path or a value.
"""

import asyncio
import logging
import os
import re
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import Token
from http import HTTPStatus
from typing import Any, NamedTuple

from opentelemetry import context as contexts
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.propagate import extract
from opentelemetry.sdk.environment_variables import OTEL_EXPORTER_OTLP_TRACES_ENDPOINT
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.trace import Span, SpanKind, StatusCode, format_trace_id, set_span_in_context
from sqlalchemy import event
from sqlalchemy.engine import ExceptionContext
from sqlalchemy.exc import DBAPIError

from service.database import Database
from service.models import SCHEMA_REVISION

FLUSH_PATIENCE = 3.0  # seconds that the end of the service waits for the collector
COMPLAINT_INTERVAL = 60.0  # seconds between two warnings that it takes nothing
STATEMENT_LENGTH = 2000  # characters that are told; an INSERT of many rows has many more
METHOD_NAMES = {"other": "_OTHER"}  # what OpenTelemetry calls a method that nobody knows
OPERATION = re.compile(r"\w+")

log = logging.getLogger("service")


class Tracing:
    """Makes spans of what happens, and hands them to the collector in the background."""

    def __init__(self, endpoint: str, database: Database) -> None:
        """Trace requests, and the queries of a database; `endpoint` is the collector's base URL."""
        engine = database.engine
        self.collector = Collector(endpoint)
        self.provider = TracerProvider(resource=resource(), shutdown_on_exit=False)
        self.provider.add_span_processor(BatchSpanProcessor(self.collector))
        self.tracer = self.provider.get_tracer("service")
        self.system = engine.dialect.name  # both have the name that OpenTelemetry gives them
        event.listen(engine.sync_engine, "before_cursor_execute", self.begin_query)
        event.listen(engine.sync_engine, "after_cursor_execute", end_query)
        event.listen(engine.sync_engine, "handle_error", fail_query)

    def begin(
        self, method: str, headers: Iterable[tuple[bytes, bytes]], request_id: str
    ) -> "RequestSpan":
        """A request has come; its span continues the trace that its headers name (W3C)."""
        method = METHOD_NAMES.get(method, method)
        span = self.tracer.start_span(
            method,
            extract(carrier_of(headers)),
            SpanKind.SERVER,
            {"http.request.method": method, "request_id": request_id},
        )
        return RequestSpan(span, contexts.attach(set_span_in_context(span)), method)

    def begin_query(  # what SQLAlchemy hands over
        self, _: Any, __: Any, statement: str, ___: Any, context: Any, ____: Any
    ) -> None:
        """A query is sent."""
        context.span = self.span_of(statement)

    @contextmanager
    def query(self, statement: str) -> Iterator[None]:
        """Trace a query that goes past SQLAlchemy."""
        span = self.span_of(statement)
        try:
            yield
        except DBAPIError as error:
            fail(span, error.orig)
            raise
        finally:
            span.end()

    def span_of(self, statement: str) -> Span:
        """The span of a query; values are bound to it and not part of its text."""
        found = OPERATION.search(statement)
        operation = found.group().upper() if found else ""
        return self.tracer.start_span(
            operation,
            kind=SpanKind.CLIENT,
            attributes={
                "db.system.name": self.system,
                "db.operation.name": operation,
                "db.query.text": statement[:STATEMENT_LENGTH],
            },
        )

    async def close(self) -> None:
        """Send what is still to be sent, within FLUSH_PATIENCE."""
        # a thread of its own, which nobody waits for at the end: it may hang in a connection
        sending = threading.Thread(target=self.provider.shutdown, daemon=True)
        sending.start()
        await asyncio.to_thread(sending.join, FLUSH_PATIENCE)
        if sending.is_alive():
            self.collector.complain()
            self.collector.shutdown()


class RequestSpan(NamedTuple):
    """The span of a request, to which those of its queries belong."""

    span: Span
    outside: Token[Context]
    method: str

    @property
    def trace_id(self) -> str:
        """The trace's id, as `traceparent` has it."""
        return format_trace_id(self.span.get_span_context().trace_id)

    def end(self, template: str | None, status: int) -> None:
        """The request is over; `template` is its route's, if it had one."""
        if template:
            self.span.update_name(f"{self.method} {template}")
            self.span.set_attribute("http.route", template)
        self.span.set_attribute("http.response.status_code", status)
        if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            self.span.set_attribute("error.type", str(status))
            self.span.set_status(StatusCode.ERROR)
        self.span.end()
        contexts.detach(self.outside)


class Collector(SpanExporter):
    """The collector; where it can't be reached, that is said once in a while."""

    def __init__(self, endpoint: str) -> None:
        # OpenTelemetry has a variable for traces alone, which goes before the one for everything
        place = os.environ.get(OTEL_EXPORTER_OTLP_TRACES_ENDPOINT)
        self.exporter = OTLPSpanExporter(place or f"{endpoint.rstrip('/')}/v1/traces")
        self.complained = -COMPLAINT_INTERVAL
        # its own loggers tell of every attempt
        logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Send spans, or lose them."""
        result = self.exporter.export(spans)
        if result is not SpanExportResult.SUCCESS:
            self.complain()
        return result

    def complain(self) -> None:
        """Say that spans are lost, unless that was said not long ago."""
        now = time.monotonic()
        if now - self.complained >= COMPLAINT_INTERVAL:
            self.complained = now
            log.warning("traces are lost: the collector does not take them")

    def shutdown(self) -> None:
        """Give up what could not be sent."""
        self.exporter.shutdown()  # type: ignore[no-untyped-call]  # is so


def resource() -> Resource:
    """Who we are; OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES may say it otherwise."""
    ours = {"service.name": "users", "service.version": SCHEMA_REVISION}
    return Resource.create(ours).merge(OTELResourceDetector().detect())


def carrier_of(headers: Iterable[tuple[bytes, bytes]]) -> dict[str, list[str]]:
    """Headers as OpenTelemetry reads them."""
    carrier: dict[str, list[str]] = {}
    for name, value in headers:
        carrier.setdefault(name.decode("latin-1"), []).append(value.decode("latin-1"))
    return carrier


def end_query(  # what SQLAlchemy hands over
    _: Any, __: Any, ___: Any, ____: Any, context: Any, _____: Any
) -> None:
    """A query has been answered."""
    vars(context).pop("span").end()


def fail_query(failure: ExceptionContext) -> None:
    """A query failed."""
    query = failure.execution_context
    span: Span | None = None if query is None else vars(query).pop("span", None)
    if span is not None:  # there was a connection, and it didn't fail while rows were fetched
        fail(span, failure.original_exception)
        span.end()


def fail(span: Span, error: BaseException | None) -> None:
    """Only the kind of failure is told, since the words repeat values."""
    span.set_attribute("error.type", type(error).__name__)
    if state := getattr(error, "sqlstate", None):
        span.set_attribute("db.response.status_code", state)
    span.set_status(StatusCode.ERROR)
