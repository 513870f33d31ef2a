"""Each limit answers by itself, in time, before another layer's, and its response arrives."""

import asyncio
import http.client
import json
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from http import HTTPStatus

import httpx
import pytest

from tests import forkserver
from tests.servers import free_port, wait_until_ready
from tests.slow_clients import HALF_HEAD
from tests.slow_transfers import HEADERS, HTTP2_PREFACE, SETTINGS, connected, frame, head, hpack

pytestmark = pytest.mark.only("sqlite")

REQUEST_TIMEOUT = 2
END_OF_HEADERS = 0x4
HALF = b'{"full_name": "'
JSON = {"Content_Type": "application/json", "Content_Length": "1000"}
FIELDS = {":scheme": "http", ":authority": "x", "content-type": "application/json"}
BIG = 30 * 1024 * 1024  # bytes; more than the buffers between a client and the service hold


def http2_head(method: str, path: str, **headers: str) -> bytes:
    """Return the beginning of a connection by HTTP/2, with the head of a request with a body."""
    fields = FIELDS | {":method": method, ":path": path} | headers
    fields = dict(sorted(fields.items(), key=lambda field: field[0][0] != ":"))
    return (
        HTTP2_PREFACE
        + frame(SETTINGS, 0, 0, b"")
        + frame(HEADERS, END_OF_HEADERS, 1, hpack(fields))
    )


HALF_SENT = {
    "a create": head("POST", "/users", **JSON) + HALF,
    "a create with a key": head("POST", "/users", Idempotency_Key="half", **JSON) + HALF,
    "a change": head("PATCH", "/users/1", **JSON) + HALF,
    "nothing of a body": head("POST", "/users", **JSON),
    "a chunk": head(
        "POST", "/users", Content_Type=JSON["Content_Type"], Transfer_Encoding="chunked"
    )
    + b"f\r\n"
    + HALF,
    "a create by HTTP/2": http2_head("POST", "/users"),
    "a change by HTTP/2": http2_head("PATCH", "/users/1"),
}


@asynccontextmanager
async def served(url: str, **settings: str) -> AsyncIterator[tuple[int, forkserver.Running]]:
    """Run the service; yield its port and its process."""
    port = free_port()
    settings = {"LOG_FORMAT": "json", **settings}
    async with forkserver.service(DATABASE_URL=url, PORT=str(port), **settings) as process:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client:
            await wait_until_ready(client)
        yield port, process


async def until_response(port: int, request: bytes) -> tuple[bytes, float]:
    """Send the bytes; return what comes until nothing comes for a second, and when it began."""
    async with connected("127.0.0.1", port) as (reader, writer):
        writer.write(request)
        began = time.monotonic()
        received, seconds = b"", 0.0
        async with asyncio.timeout(30):
            while b"urn:problem" not in received:
                piece = await reader.read(65536)
                if not piece:
                    break
                received += piece
                seconds = time.monotonic() - began
    return received, seconds


async def test_a_request_that_is_not_sent_to_its_end_gets_408_in_time(url: str) -> None:
    async with served(url, REQUEST_TIMEOUT=str(REQUEST_TIMEOUT)) as (port, process):
        bodies = [until_response(port, request) for request in HALF_SENT.values()]
        *answers, (late_head, seconds) = await asyncio.gather(
            *bodies, until_response(port, HALF_HEAD)
        )
        for name, (answer, taken) in zip(HALF_SENT, answers, strict=True):
            assert b"urn:problem:request-timeout" in answer, name
            assert b"the body took longer than 2 s" in answer, name
            assert taken < 2 * REQUEST_TIMEOUT, name
        assert late_head.startswith(b"HTTP/1.1 408 ")
        assert b"urn:problem:request-timeout" in late_head
        assert seconds < 12  # 5, and two looks of 2
        process.terminate()
        _, errors = await process.communicate()
    lines = [json.loads(line) for line in errors.splitlines()]
    assert {line["level"] for line in lines} == {"info"}
    assert "connections ended whose request head took longer than 5 s: 1" in [
        line["event"] for line in lines
    ]


REFUSED = {
    "too large": ("POST", "/users", "application/json", HTTPStatus.REQUEST_ENTITY_TOO_LARGE),
    "a change that is too large": (
        *("PATCH", "/users/1", "application/json"),
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    ),
    "another type": ("POST", "/users/import", "text/html", HTTPStatus.UNSUPPORTED_MEDIA_TYPE),
    "a wrong parameter": (
        *("POST", "/users/import?on_conflict=x", "text/csv"),
        HTTPStatus.UNPROCESSABLE_ENTITY,
    ),
    "a read with a body": ("GET", "/users?limit=x", "text/csv", HTTPStatus.UNPROCESSABLE_ENTITY),
    "no such method": ("PUT", "/users", "text/csv", HTTPStatus.METHOD_NOT_ALLOWED),
}


def send_all_first(port: int, method: str, path: str, kind: str, size: int) -> tuple[int, bytes]:
    """Send the whole body before the response is read; return its status and content."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        connection.request(method, path, body=b"x" * size, headers={"Content-Type": kind})
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


async def test_a_refusal_reaches_a_client_that_sends_its_whole_body_first(
    url: str, *, full: bool
) -> None:
    async with served(url) as (port, _):
        for name, (method, path, kind, status) in REFUSED.items():
            answer = await asyncio.to_thread(send_all_first, port, method, path, kind, BIG)
            assert answer[0] == status, name
            assert b"urn:problem:" in answer[1], name
        async with httpx.AsyncClient(http1=False, http2=True, timeout=60) as client:
            for name, (method, path, kind, status) in REFUSED.items():
                response = await client.request(
                    method,
                    f"http://127.0.0.1:{port}{path}",
                    content=b"x" * (BIG if full else BIG // 10),
                    headers={"Content-Type": kind},
                )
                assert response.status_code == status, name
                assert b"urn:problem:" in response.content, name


REFUSED_BY_HEAD: list[tuple[str, str, dict[str, str], int]] = [
    ("POST", "/users", {"Content_Type": "text/plain"}, 415),
    ("POST", "/users", {"Content_Type": "application/json", "Idempotency_Key": ""}, 422),
    ("PATCH", "/users/x", {"Content_Type": "application/json"}, 404),
    ("PATCH", "/users/1", {"Content_Type": "application/json", "If_Match": "x"}, 422),
    ("PATCH", "/users/1?a=1", {"Content_Type": "application/json"}, 422),
    ("DELETE", "/users/1", {"If_Match": ""}, 422),
    ("POST", "/users/import", {"Content_Type": "text/csv", "Idempotency_Key": "é"}, 422),
    ("POST", "/users/import?on_conflict=x", {"Content_Type": "text/csv"}, 422),
    ("POST", "/users/import", {"Content_Type": "text/csv; charset=no"}, 415),
]


async def test_a_client_that_asks_before_it_sends_is_refused_by_its_head(url: str) -> None:
    """Its body is not asked for: there is no `100 Continue`."""
    large = {"Content_Length": str(BIG), "Expect": "100-continue"}
    with_type = {"Content_Type": "application/json", "Expect": "100-continue"}
    async with served(url) as (port, _):
        for method, path, kind, status in REFUSED.values():
            request = head(method, path, Content_Type=kind, **large)
            answer, _ = await until_response(port, request)
            assert answer.startswith(f"HTTP/1.1 {status.value} ".encode())
        for method, path, headers, code in REFUSED_BY_HEAD:
            request = head(method, path, Content_Length="20", Expect="100-continue", **headers)
            answer, _ = await until_response(port, request)
            assert answer.startswith(f"HTTP/1.1 {code} ".encode()), request
        body = b'{"full_name": "Ada"}'
        with socket.create_connection(("127.0.0.1", port), timeout=30) as client:
            client.sendall(head("POST", "/users", Content_Length=str(len(body)), **with_type))
            assert (await asyncio.to_thread(client.recv, 4096)).startswith(b"HTTP/1.1 100 ")
            client.sendall(body)
            assert (await asyncio.to_thread(client.recv, 4096)).startswith(b"HTTP/1.1 201 ")
