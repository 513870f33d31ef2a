"""Whatever a client sends, it gets no 5xx and no silence, and the next client is served."""

import asyncio
import json
import re
from http import HTTPStatus

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests import forkserver
from tests.abuse.raw_requests import exchange, request
from tests.servers import free_port, listening_event

FAIR = 30  # examples in the suite
MANY = 20_000  # with --full
SERVER_ERROR, UNKNOWN_CODING = 500, 501

NASTY = st.sampled_from(
    [
        "", "0", "-1", "1e400", "NaN", "9" * 5000, "*", '"', "\\", "a:b", "[", "[::1", "@", "%",
        "%00", "%ff", "%f0%9f", "..", "//", "#", "\x00", "\x85", "\x1b[31m", "\xff", "\xe9",
        "\u2028", "\ud800", "\u0131", "\ufb03", "W/", 'W/"a"', "q=", ";q=nan", ";;", ",,", "{",
        "[" * 500, "00-", "a=b;" * 99,
    ]
)  # fmt: skip
TEXTS = st.lists(NASTY | st.text(max_size=8), max_size=4).map("".join)


def wire(text: str) -> bytes:
    """Return the text as bytes that may stand in a header or a request target."""
    return re.sub(rb"[\r\n\0 ]", b"+", text.encode("utf-8", "surrogatepass"))


QUERY_NAMES = st.sampled_from(
    ["name", "email", "sort", "limit", "after", "format", "on_conflict", "refresh", "x"]
)
QUERIES = st.lists(st.tuples(QUERY_NAMES, TEXTS), max_size=3).map(
    lambda pairs: "&".join(f"{name}={value}" for name, value in pairs)
)
PATHS = st.sampled_from(
    [
        "/users", "/users/1", "/users/export", "/users/import", "/health/live", "/health/ready",
        "/metrics", "/evolution", "/evolution.json", "/docs", "/openapi.json", "/", "*",
    ]
) | TEXTS.map("/users/{}".format) | TEXTS.map("/{}".format) | TEXTS  # fmt: skip
TARGETS = st.builds(lambda path, query: wire(f"{path}?{query}" if query else path), PATHS, QUERIES)
METHODS = st.sampled_from(
    [b"GET", b"HEAD", b"POST", b"PATCH", b"DELETE", b"PUT", b"OPTIONS", b"TRACE", b"CONNECT"]
) | st.from_regex(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,12}", fullmatch=True)
MEDIA_TYPES = st.sampled_from(
    [
        "application/json", "application/merge-patch+json", "application/x-ndjson", "text/csv",
        "multipart/form-data; boundary=a", "application/x-www-form-urlencoded",
        "application/msgpack", "application/json; charset=utf-16", 'text/csv; header="',
    ]
) | TEXTS  # fmt: skip
HEADER_NAMES = st.sampled_from(
    [
        b"Accept", b"Accept-Encoding", b"Authorization", b"Cookie", b"Content-Encoding", b"Expect",
        b"Host", b"Idempotency-Key", b"If-Match", b"If-None-Match", b"Origin", b"Range",
        b"Access-Control-Request-Method", b"Access-Control-Request-Headers", b"Upgrade",
        b"X-Forwarded-For", b"X-HTTP-Method-Override", b"X-Request-ID", b"traceparent",
        b"tracestate", b"baggage",
    ]
)  # fmt: skip
FRAMING = st.sampled_from([b"Content-Length", b"Transfer-Encoding", b"Connection"])
HEADERS = st.lists(st.tuples(HEADER_NAMES, TEXTS.map(wire)), max_size=4)

VALUES = st.recursive(
    TEXTS | st.none() | st.booleans() | st.integers() | st.floats(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=6,
)
USERS = st.dictionaries(
    st.sampled_from(["full_name", "email", "age", "id"]) | TEXTS, VALUES, max_size=4
)
CELLS = TEXTS | st.sampled_from(["full_name", "Ada", "ada@example.org", '"Ada\nLovelace"', '"'])
CSV = st.lists(st.lists(CELLS, max_size=4).map(",".join), max_size=5).map(
    lambda lines: "full_name,email,age\n" + "\n".join(lines)
)
DOCUMENTS = st.one_of(
    USERS.map(json.dumps),
    VALUES.map(json.dumps),
    st.lists(USERS.map(json.dumps)).map("\n".join),
    CSV,
)
BODIES = DOCUMENTS.map(lambda text: text.encode("utf-8", "surrogatepass")) | st.binary()


def chunked(body: bytes) -> bytes:
    return b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body) if body else b"0\r\n\r\n"


@st.composite
def requests(draw: st.DrawFn) -> bytes:
    """Return a request whose framing is right, whatever is in it."""
    headers = [*draw(HEADERS), (b"Content-Type", wire(draw(MEDIA_TYPES)))]
    body = draw(BODIES)
    host = wire(draw(TEXTS)) if draw(st.booleans()) else b"test"
    if draw(st.booleans()):
        headers.append((b"Transfer-Encoding", b"chunked"))
        head = request(draw(METHODS), draw(TARGETS), *headers, host=host)
        return head + chunked(body)
    return request(draw(METHODS), draw(TARGETS), *headers, body=body, host=host)


@st.composite
def broken_requests(draw: st.DrawFn) -> bytes:
    """Return a request with another framing, and some bytes cut out, doubled, or replaced."""
    name, value = draw(FRAMING), wire(draw(TEXTS | st.integers().map(str)))
    data = draw(requests()).replace(b"\r\n", b"\r\n%s: %s\r\n" % (name, value), 1)
    for _ in range(draw(st.integers(1, 3))):
        start = draw(st.integers(0, len(data)))
        end = draw(st.integers(start, min(len(data), start + 20)))
        middle = draw(st.one_of(st.binary(max_size=8), st.just(data[start:end] * 2)))
        data = data[:start] + middle + data[end:]
    return data


def survives(port: int, data: bytes, *, is_complete: bool) -> None:
    """Check that the bytes get no 5xx but of their coding, and the next request its response."""
    response = exchange(port, data, end=not is_complete)
    assert response.status < SERVER_ERROR or response.status == UNKNOWN_CODING, response
    if is_complete:
        assert response.status
        if b"application/problem+json" in response.head and not data.startswith(b"HEAD "):
            assert json.loads(response.body)["status"] == response.status
    assert exchange(port, request(b"GET", b"/health/live")).status == HTTPStatus.OK


KINDS = {
    "requests": requests(),
    "broken requests": broken_requests(),
    "bytes": st.binary(max_size=2000),
}


@pytest.mark.parametrize("kind", KINDS)
async def test_no_request_gets_a_5xx_or_stops_the_service(
    url: str, kind: str, *, full: bool
) -> None:
    port = free_port()

    @settings(
        max_examples=MANY if full else FAIR,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow],
    )
    @given(KINDS[kind])
    def fuzz(data: bytes) -> None:
        survives(port, data, is_complete=kind == "requests")

    quiet = {"ACCESS_LOG": "off", "LOG_FORMAT": "json"}
    async with forkserver.service(DATABASE_URL=url, PORT=str(port), **quiet) as service:
        await listening_event(service)
        await asyncio.to_thread(fuzz)
        service.terminate()
        _, errors = await service.communicate()
    assert [line for line in errors.splitlines() if b'"level": "error"' in line] == []
