"""Traces, as a collector receives them."""

import asyncio
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from http import HTTPStatus
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from tests.app import serving
from tests.chain import HEAD
from tests.collector import Collector, collecting
from tests.databases import UNREACHABLE_URL, writes_blocked
from tests.log_lines import log_lines
from tests.paths import ROOT

TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


@pytest.fixture
def collector() -> Iterator[Collector]:
    with collecting() as server:
        yield server


def values_of(attributes: Any) -> dict[str, Any]:
    return {
        pair.key: getattr(pair.value, str(pair.value.WhichOneof("value"))) for pair in attributes
    }


async def test_a_request_and_its_queries_are_spans_without_values(
    url: str, collector: Collector
) -> None:
    async with serving(database_url=url, otel_exporter_otlp_endpoint=collector.endpoint) as client:
        ada = {"full_name": "Ada Lovelace", "email": "ada@example.org"}
        created = await client.post("/users", json=ada)
        await client.get(created.headers["Location"])
        await client.get("/users", params={"name": "ada"})

    span = collector.named("POST /users")
    assert span.kind == Span.SPAN_KIND_SERVER
    assert values_of(span.attributes) == {
        "http.request.method": "POST",
        "http.route": "/users",
        "http.response.status_code": HTTPStatus.CREATED,
        "request_id": created.headers["X-Request-ID"],
    }
    assert span.status.code == Status.STATUS_CODE_UNSET

    (query,) = [
        other
        for other in collector.spans
        if other.parent_span_id == span.span_id and other.name == "INSERT"
    ]
    assert query.kind == Span.SPAN_KIND_CLIENT
    attributes = values_of(query.attributes)
    text = attributes.pop("db.query.text")
    assert text.startswith("INSERT INTO ")
    assert attributes == {
        "db.system.name": url.partition(":")[0],
        "db.operation.name": "INSERT",
    }
    assert span.start_time_unix_nano < query.start_time_unix_nano
    assert query.end_time_unix_nano < span.end_time_unix_nano

    assert collector.named("GET /users/{user_id}").kind == Span.SPAN_KIND_SERVER
    resource = values_of(collector.received[0].resource_spans[0].resource.attributes)
    assert (resource["service.name"], resource["service.version"]) == ("users", HEAD)
    everything = str(collector.received).lower()
    assert "lovelace" not in everything
    assert "example.org" not in everything
    assert "/users/1" not in everything


async def test_the_span_continues_the_trace_of_the_client(
    collector: Collector, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    log = tmp_path / "access.log"
    headers = {"traceparent": f"00-{TRACE}-{PARENT}-01", "tracestate": "vendor=opaque"}
    async with serving(
        database_url=UNREACHABLE_URL,
        otel_exporter_otlp_endpoint=collector.endpoint,
        access_log=str(log),
    ) as client:
        await client.get("/health/live", headers=headers)
    span = collector.named("GET /health/live")
    assert (span.trace_id.hex(), span.parent_span_id.hex()) == (TRACE, PARENT)
    assert span.trace_state == "vendor=opaque"
    assert [line["trace_id"] for line in log_lines(log)] == [TRACE]
    assert not caplog.messages


async def test_a_trace_that_the_client_does_not_sample_is_not_exported(
    collector: Collector,
) -> None:
    headers = {"traceparent": f"00-{TRACE}-{PARENT}-00"}
    async with serving(
        database_url=UNREACHABLE_URL, otel_exporter_otlp_endpoint=collector.endpoint
    ) as client:
        await client.get("/health/live", headers=headers)
    assert collector.spans == []


async def test_failed_requests_and_queries_are_marked(empty_url: str, collector: Collector) -> None:
    async with serving(
        database_url=empty_url, otel_exporter_otlp_endpoint=collector.endpoint
    ) as client:
        response = await client.get("/users")
        assert response.status_code == HTTPStatus.SERVICE_UNAVAILABLE
        await client.request("BREW", "/no/such/url")
    request, query = collector.named("GET /users"), collector.named("SELECT")
    assert request.status.code == query.status.code == Status.STATUS_CODE_ERROR
    assert values_of(request.attributes)["error.type"] == "503"
    assert values_of(query.attributes)["error.type"] in ("OperationalError", "UndefinedTableError")
    assert (query.status.message, query.events) == ("", [])
    odd = collector.named("_OTHER")
    assert "http.route" not in values_of(odd.attributes)
    assert odd.status.code == Status.STATUS_CODE_UNSET


async def test_a_failed_query_is_exported_with_its_error_type_and_without_the_drivers_message(
    url: str, collector: Collector
) -> None:
    ada = {"full_name": "Ada Lovelace", "email": "ada@example.org"}
    async with serving(database_url=url, otel_exporter_otlp_endpoint=collector.endpoint) as client:
        await client.post("/users", json=ada)
        created = await client.post("/users", json={"full_name": "Grace Hopper"})
        refused = await client.patch(created.headers["Location"], json={"email": "ada@example.org"})
        assert refused.status_code == HTTPStatus.CONFLICT
    query = collector.named("UPDATE")
    assert query.status == Status(code=Status.STATUS_CODE_ERROR)
    assert not query.events
    attributes = values_of(query.attributes)
    if url.startswith("postgresql"):
        assert attributes["error.type"] == "UniqueViolationError"
        assert attributes["db.response.status_code"] == "23505"
    else:
        assert attributes["error.type"] == "IntegrityError"
    everything = str(collector.received).lower()
    assert "example.org" not in everything
    assert "hopper" not in everything


async def test_headers_are_not_exported_even_if_the_environment_asks_for_them(
    collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    for direction in ("REQUEST", "RESPONSE"):
        monkeypatch.setenv(f"OTEL_INSTRUMENTATION_HTTP_CAPTURE_HEADERS_SERVER_{direction}", ".*")
    monkeypatch.setenv("OTEL_PYTHON_INSTRUMENTATION_HTTP_CAPTURE_ALL_METHODS", "true")
    headers = {"Authorization": "Bearer usr_secret", "User-Agent": "ada@example.org"}
    async with serving(
        database_url=UNREACHABLE_URL, otel_exporter_otlp_endpoint=collector.endpoint
    ) as client:
        await client.request("LOVELACE", "/users/ada?name=lovelace", headers=headers)
    assert [span.name for span in collector.spans] == ["_OTHER"]
    everything = str(collector.received).lower()
    for secret in ("usr_secret", "example.org", "lovelace", "/users"):
        assert secret not in everything


@pytest.mark.parametrize("name", ["User-Agent", "traceparent"])
async def test_a_header_that_is_not_utf_8_does_not_fail_a_request(
    collector: Collector, name: str
) -> None:
    async with serving(
        database_url=UNREACHABLE_URL, otel_exporter_otlp_endpoint=collector.endpoint
    ) as client:
        headers = [(name.encode(), b"\xff\\x")]
        response = await client.get("/health/live", headers=headers)
        assert response.status_code == HTTPStatus.OK
    assert not collector.named("GET /health/live").parent_span_id


@pytest.mark.only("postgresql")  # on SQLite a request that was cancelled waits for the lock
async def test_a_request_whose_client_disconnected_is_exported_with_status_499(
    url: str, collector: Collector
) -> None:
    async with (
        serving(database_url=url, otel_exporter_otlp_endpoint=collector.endpoint) as client,
        writes_blocked(url),
    ):
        with suppress(TimeoutError):
            async with asyncio.timeout(0.2):
                await client.post("/users", json={"full_name": "Ada Lovelace"})
    span = collector.named("POST /users")
    assert values_of(span.attributes)["http.response.status_code"] == 499
    assert span.status.code == Status.STATUS_CODE_UNSET


async def test_a_collector_that_refuses_spans_is_logged_once(
    collector: Collector, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "10")  # milliseconds
    collector.status = HTTPStatus.BAD_REQUEST
    async with serving(
        database_url=UNREACHABLE_URL, otel_exporter_otlp_endpoint=collector.endpoint
    ) as client:
        async with asyncio.timeout(30):
            while len(collector.received) < 3:
                await client.get("/health/live")
    assert caplog.messages == ["traces are lost: the collector does not take them"]


@pytest.fixture(params=["silent", "missing"])
def no_collector(request: pytest.FixtureRequest) -> Iterator[str]:
    """The address of a collector that accepts connections and never answers, or of none."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1] if request.param == "silent" else 1
        yield f"http://127.0.0.1:{port}"


async def test_the_service_runs_and_stops_without_its_collector(
    no_collector: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "60")  # seconds that the exporter tries
    async with asyncio.timeout(30):
        async with serving(
            database_url=UNREACHABLE_URL, otel_exporter_otlp_endpoint=no_collector
        ) as client:
            for _ in range(100):
                assert (await client.get("/health/live")).status_code == HTTPStatus.OK
    assert caplog.messages == ["traces are lost: the collector does not take them"]


def test_without_an_endpoint_opentelemetry_is_not_loaded() -> None:
    code = (
        "import sys; from service.app import create_app; from service.settings import Settings; "
        f"create_app(Settings(database_url={UNREACHABLE_URL!r})); "
        "print([name for name in sys.modules if name.startswith(('opentelemetry.sdk', "
        "'opentelemetry.exporter', 'opentelemetry.instrumentation.sqlalchemy', 'google.protobuf', "
        "'requests'))])"
    )
    process = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert process.stdout == "[]\n"
