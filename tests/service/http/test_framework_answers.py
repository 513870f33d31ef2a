"""Answers of the server and the framework: paths, methods, hosts, transfer codings."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator

import pytest

from service.http.layers.head import METHODS, allow_header
from tests import forkserver
from tests.abuse.raw_requests import RawResponse, exchange
from tests.openapi import SNAPSHOT, operations
from tests.protocols import PROTOCOLS, Answer
from tests.servers import free_port, listening_event

pytestmark = pytest.mark.only("sqlite")  # no request reaches the database, or changes it

ALL_METHODS = (
    b"GET", b"HEAD", b"POST", b"PUT", b"PATCH", b"DELETE", b"OPTIONS", b"TRACE", b"BREW", b"get",
)  # fmt: skip
DOCUMENTED = [
    tuple(name.split(" ")) for name in operations(json.loads(SNAPSHOT.read_text(encoding="utf-8")))
]
PATHS = sorted({path.replace("{user_id}", "1") for _, path in DOCUMENTED})
PAGES = ["/", "/docs", "/openapi.json", "/docs/assets/swagger-ui.css"]
UNKNOWN = [
    "/nothing",
    "/users/1/x",
    "/docs/x",
    "/docs/assets",
    "/docs/assets/x",
    "/docs/assets/x/y",
]
TYPE = b"Content-Type: application/json\r\n"
BODY = b'{"full_name": "Ada"}'
CHUNK = b"%x\r\n%s\r\n" % (len(BODY), BODY)


@pytest.fixture
async def port(url: str) -> AsyncIterator[int]:
    """Yield the port of a running service."""
    port = free_port()
    async with forkserver.service(
        DATABASE_URL=url, PORT=str(port), ACCESS_LOG="off", LOG_FORMAT="json"
    ) as running:
        await listening_event(running)
        yield port


def allowed(path: str) -> set[str]:
    """Return the methods that the OpenAPI document and its page have at the path."""
    methods = {method for method, each in DOCUMENTED if each.replace("{user_id}", "1") == path}
    methods |= {"OPTIONS"} if methods else {"GET", "OPTIONS"}
    return methods | {"HEAD"} if "GET" in methods else methods


def other_spellings() -> Iterator[str]:
    """Yield paths that look like those of resources, and are none."""
    for path in [*PATHS, *PAGES[1:]]:
        yield f"/{path}"
        yield f"{path}//"
        yield f"{path}%2F"
        yield f"{path}%2f?limit=1"
        yield f"/%2F{path[1:]}"
        yield f"/.{path}"
        yield f"/x/%2e%2e{path}"
        if "/" in path[1:]:
            first, _, last = path.rpartition("/")
            for separator in ("//", "%2F", "%2f", "/%2F", "\\", "%5C", "/./"):
                yield f"{first}{separator}{last}"


@pytest.mark.parametrize("protocol", PROTOCOLS)
async def test_an_unknown_path_is_404_whatever_the_method(port: int, protocol: str) -> None:
    send = PROTOCOLS[protocol]

    def wrong() -> list[tuple[bytes, str, int]]:
        return [
            (method, path, answer.status)
            for path in UNKNOWN
            for method in ALL_METHODS
            if (answer := send(port, method, path.encode(), [], b"")).status != 404
        ]

    assert await asyncio.to_thread(wrong) == []


@pytest.mark.parametrize("protocol", PROTOCOLS)
async def test_another_spelling_of_a_path_reaches_nothing(port: int, protocol: str) -> None:
    send = PROTOCOLS[protocol]

    def wrong() -> list[tuple[bytes, str, int]]:
        return [
            (method, path, answer.status)
            for path in other_spellings()
            for method in (b"GET", b"DELETE")
            if (answer := send(port, method, path.encode(), [], b"")).status != 404
        ]

    assert await asyncio.to_thread(wrong) == []


@pytest.mark.parametrize("protocol", PROTOCOLS)
async def test_405_and_options_name_the_methods(port: int, protocol: str) -> None:
    send = PROTOCOLS[protocol]

    def check() -> None:
        for path in [*PATHS, *PAGES]:
            methods = allow_header(allowed(path)).encode()
            for method in {*ALL_METHODS} - {each.encode() for each in allowed(path)}:
                answer = send(port, method, path.encode(), [], b"")
                assert (answer.status, answer.headers[b"allow"]) == (405, methods), (method, path)
            options = send(port, b"OPTIONS", path.encode(), [], b"")
            assert (options.status, options.headers[b"allow"]) == (204, methods), path
        everything = send(port, b"OPTIONS", b"*", [], b"")
        assert everything.status == 204
        assert everything.headers[b"allow"] == allow_header(METHODS).encode()

    await asyncio.to_thread(check)


def test_options_of_the_service_names_the_methods_of_all_routes() -> None:
    assert {*METHODS} == {method for method, _ in DOCUMENTED} | {"OPTIONS"}


HOSTS = {  # the lines of the head, and the status
    b"": 400,
    b"Host:\r\n": 400,
    b"Host: \r\n": 400,
    b"Host: a\r\nHost: a\r\n": 400,
    b"Host: a\r\nHost: b\r\n": 400,
    b"Host: a\r\nHost:\r\n": 400,
    b"Host: a b\r\n": 400,
    b"Host: a/b\r\n": 400,
    b"Host: u@a\r\n": 400,
    b"Host: a:b\r\n": 400,
    b"Host: a:1:2\r\n": 400,
    b"Host: [::1\r\n": 400,
    b"Host: [a]x\r\n": 400,
    b"Host: %zz\r\n": 400,
    b"Host: \xc3\xa9\r\n": 400,
    b"Host: a\r\n": 200,
    b"Host: A_b-c.example:\r\n": 200,
    b"Host: 127.0.0.1:8000\r\n": 200,
    b"Host: [2001:db8::1]:80\r\n": 200,
    b"Host: xn--bcher-kva.example:65535\r\n": 200,
}


def read(answer: RawResponse | Answer) -> str:
    """Return the kind of problem that an answer has."""
    return str(json.loads(answer.body)["type"]).rpartition(":")[2]


async def test_a_request_has_one_host(port: int) -> None:
    def check() -> None:
        for lines, status in HOSTS.items():
            head = b"GET /users HTTP/1.1\r\nConnection: close\r\n" + lines + b"\r\n"
            answer = exchange(port, head)
            assert answer.status == status, lines
            assert status == 200 or read(answer) == "bad-request"
        assert exchange(port, b"GET /users HTTP/1.0\r\n\r\n").status == 200

    await asyncio.to_thread(check)


async def test_a_request_has_one_host_over_http2(port: int) -> None:
    send = PROTOCOLS["HTTP/2"]

    def check() -> None:
        for hosts in ([b"a", b"b"], [b"a", b"a"], [b""], [b"a b"], [b"u@a"]):
            answer = send(port, b"GET", b"/users", [(b"host", host) for host in hosts], b"")
            assert (answer.status, read(answer)) == (400, "bad-request"), hosts
        assert send(port, b"GET", b"/users", [], b"").status == 200

    await asyncio.to_thread(check)


def with_body(method: bytes, target: bytes, coding: bytes, body: bytes) -> bytes:
    """Return a request with these lines of Transfer-Encoding."""
    lines = b"".join(b"Transfer-Encoding: " + each + b"\r\n" for each in coding.split(b"|"))
    head = method + b" " + target + b" HTTP/1.1\r\nHost: a\r\nConnection: close\r\n"
    return head + TYPE + lines + b"\r\n" + body


CODINGS = {  # lines of Transfer-Encoding, each ended by |; the status
    b"chunked": 201,
    b"Chunked": 201,
    b"gzip, chunked": 501,
    b"gzip|chunked": 501,
    b"foo,chunked": 501,
    b"identity, chunked": 501,
    b"foo;a=b, chunked": 501,
    b"chunked, chunked": 400,
    b"chunked|chunked": 400,
    # without chunked at the end there is no telling where the body ends (RFC 9112, 6.3)
    b"gzip": 400,
    b"chunked, foo": 400,
}


async def test_an_unknown_transfer_coding_is_501(port: int) -> None:
    def check() -> None:
        for coding, status in CODINGS.items():
            request = with_body(b"POST", b"/users", coding, CHUNK + b"0\r\n\r\n")
            answer = exchange(port, request)
            assert answer.status == status, coding
            assert status != 501 or read(answer) == "unknown-coding"

    await asyncio.to_thread(check)


BROKEN = {
    "a size that is no number": b"z\r\n" + BODY,
    "a negative size": b"-1\r\n" + BODY,
    "a size in Python": b"0x14\r\n" + BODY,
    "no size": b"\r\n" + BODY,
    "a size beyond 64 bits": b"f" * 17 + b"\r\n" + BODY,
    "a chunk that is longer": b"5\r\n" + BODY + b"\r\n0\r\n\r\n",
    "a chunk without an end": CHUNK[:-2] + b"XX0\r\n\r\n",
    "a broken second chunk": CHUNK + b"z\r\n",
    "a broken trailer": CHUNK + b"0\r\nX y\r\n\r\n",
}
WITH_BODY = [
    (b"POST", b"/users"), (b"PATCH", b"/users/1"), (b"DELETE", b"/users/1"),
    (b"POST", b"/users/import"),
]  # fmt: skip


async def test_a_broken_chunk_is_400_and_nothing_is_done(port: int) -> None:
    def check() -> None:
        send = PROTOCOLS["HTTP/1.1"]
        json_type = [(b"Content-Type", b"application/json")]
        assert send(port, b"POST", b"/users", json_type, BODY).status == 201
        before = send(port, b"GET", b"/users", [], b"").body
        for method, target in WITH_BODY:
            for case, body in BROKEN.items():
                request = with_body(method, target, b"chunked", body)
                if target.endswith(b"import"):
                    request = request.replace(b"application/json", b"application/x-ndjson")
                answer = exchange(port, request)
                assert (answer.status, read(answer)) == (400, "bad-request"), (target, case)
        assert send(port, b"GET", b"/users", [], b"").body == before

    await asyncio.to_thread(check)


async def test_a_body_that_breaks_off_is_400_and_nothing_is_done(port: int) -> None:
    def check() -> None:
        for method, target in WITH_BODY[:-1]:
            head = method + b" " + target + b" HTTP/1.1\r\nHost: a\r\nContent-Length: 99\r\n" + TYPE
            answer = exchange(port, head + b"\r\n" + BODY, end=True)
            assert answer.status in {400, 0}, target
        users = PROTOCOLS["HTTP/1.1"](port, b"GET", b"/users", [], b"")
        assert json.loads(users.body)["items"] == []

    await asyncio.to_thread(check)
