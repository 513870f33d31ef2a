"""Connections of a real server: idle ones, half-sent requests, and bytes that are ambiguous."""

import asyncio
import json
import socket
import time
from collections.abc import AsyncIterator
from http import HTTPStatus

import httpx
import pytest

from tests.servers import free_port, listening_event, service_process
from tests.slow_clients import (
    GET,
    HALF_BODY,
    HALF_HEAD,
    HTTP2_HALF_BODY,
    connections,
    drip,
    ended,
    idle_connections,
    until_ended,
)

pytestmark = pytest.mark.only("sqlite")

SOON = 10  # seconds in which a half-sent request ends: 5, and the time between two looks
HEAD = b" /users HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
ADA = b'{"full_name":"Ada"}'
CHUNKS = b"13\r\n" + ADA + b"\r\n0\r\n\r\n"


async def seconds_until_a_response(port: int) -> float:
    """Return how long a new client waits for its response."""
    start = time.monotonic()
    async with httpx.AsyncClient(timeout=60) as client:
        response = await client.get(f"http://127.0.0.1:{port}/users")
    assert response.status_code == HTTPStatus.OK
    return time.monotonic() - start


async def test_idle_and_half_open_connections_change_nothing_for_others(
    url: str, *, full: bool
) -> None:
    port = free_port()
    async with service_process(
        DATABASE_URL=url, PORT=str(port), ACCESS_LOG="off", TRANSFER_RATE="1"
    ) as service:
        await listening_event(service)
        with (
            idle_connections(port, 10_000 if full else 1100) as idle,
            connections(port, 1100, HALF_HEAD) as heads,
            connections(port, 1100, HALF_BODY) as bodies,
        ):
            dripping = asyncio.create_task(drip([*heads, *bodies]))
            importing = asyncio.create_task(import_for(10, port))
            assert await seconds_until_a_response(port) < 1
            await until_ended([*heads, *bodies], SOON)
            dripping.cancel()
            assert ended(idle) == 0
            for client in idle[:100]:
                client.sendall(GET)
            for client in idle[:100]:
                client.settimeout(SOON)
                assert client.recv(4096).startswith(b"HTTP/1.1 200 ")
            assert (await importing).status_code == HTTPStatus.OK


async def import_for(seconds: float, port: int) -> httpx.Response:
    """Return the response to an import whose lines come one after the other for this long."""

    async def lines() -> AsyncIterator[bytes]:
        yield b"full_name\n"
        for _ in range(round(seconds)):
            await asyncio.sleep(1)  # the pace is the point
            yield b"Ada\n"

    async with httpx.AsyncClient(timeout=60) as client:
        return await client.post(
            f"http://127.0.0.1:{port}/users/import",
            content=lines(),
            headers={"Content-Type": "text/csv"},
        )


async def test_a_half_sent_body_gets_408(url: str) -> None:
    port = free_port()
    async with service_process(DATABASE_URL=url, PORT=str(port)) as service:
        await listening_event(service)
        with (
            connections(port, 1, HALF_BODY) as [one],
            connections(port, 1, HTTP2_HALF_BODY) as [two],
        ):
            one.settimeout(SOON)
            head, body = (await asyncio.to_thread(read_all, one)).split(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 408 ")
            assert json.loads(body)["type"] == "urn:problem:request-timeout"
            two.settimeout(1)
            assert b"urn:problem:request-timeout" in await asyncio.to_thread(read_all, two)


async def test_where_connections_become_scarce_idle_ones_end_soon(url: str) -> None:
    port = free_port()
    async with service_process(400, DATABASE_URL=url, PORT=str(port)) as service:
        await listening_event(service)
        with connections(port, 120, b""):  # the worker accepts 104
            assert await seconds_until_a_response(port) < 2 * SOON


def read_all(client: socket.socket) -> bytes:
    """Return what the service sends until it closes the connection, or the socket times out."""
    received = b""
    try:
        while data := client.recv(65536):
            received += data
    except TimeoutError:
        pass
    return received


AMBIGUOUS = {
    "two lengths": b"POST" + HEAD + b"Content-Length: 19\r\nContent-Length: 5\r\n\r\n" + ADA,
    "a list of lengths": b"POST" + HEAD + b"Content-Length: 19, 19\r\n\r\n" + ADA,
    "a signed length": b"POST" + HEAD + b"Content-Length: +19\r\n\r\n" + ADA,
    "another encoding": b"POST" + HEAD + b"Transfer-Encoding: gzip\r\n\r\n" + CHUNKS,
    "two encodings": b"POST" + HEAD + b"Transfer-Encoding: gzip, chunked\r\n\r\n" + CHUNKS,
    "chunked twice": b"POST" + HEAD + b"Transfer-Encoding: chunked, chunked\r\n\r\n" + CHUNKS,
    "two lines of encodings": (
        b"POST"
        + HEAD
        + b"Transfer-Encoding: identity\r\nTransfer-Encoding: chunked\r\n\r\n"
        + CHUNKS
    ),
    "a space before the colon": b"POST" + HEAD + b"Transfer-Encoding : chunked\r\n\r\n" + CHUNKS,
    "a folded line": b"GET" + HEAD + b"X-A: a\r\n b\r\n\r\n",
    "a bare CR": b"GET" + HEAD + b"X-A: a\rContent-Length: 19\r\n\r\n",
    "a NUL": b"GET" + HEAD + b"X-A: a\0b\r\n\r\n",
    "two hosts": b"GET" + HEAD + b"Host: y\r\n\r\n",
}
TOO_LARGE = {
    "a long header": b"GET" + HEAD + b"X-A: " + b"a" * 200_000 + b"\r\n\r\n",
    "many headers": b"GET" + HEAD + b"X-A: a\r\n" * 1000 + b"\r\n",
    "a long URL": b"GET /users?name=" + b"a" * 200_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
}


async def test_ambiguous_and_oversized_heads_are_refused_and_nothing_after_them_is_read(
    url: str,
) -> None:
    port = free_port()
    async with service_process(DATABASE_URL=url, PORT=str(port)) as service:
        await listening_event(service)
        for name, request in (AMBIGUOUS | TOO_LARGE).items():
            with connections(port, 1, request + GET) as [client]:
                client.settimeout(SOON)
                response = await asyncio.to_thread(read_all, client)
            allowed = (b"400", b"414", b"431") if name in TOO_LARGE else (b"400", b"501")
            assert response.startswith(tuple(b"HTTP/1.1 " + code for code in allowed)), name
            assert response.count(b"HTTP/1.1 ") == 1, name


async def test_after_a_request_with_both_length_and_encoding_the_connection_ends(url: str) -> None:
    """RFC 9112, 6.3: the encoding counts, and what follows is not taken for a request."""
    both = b"POST" + HEAD + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n" + CHUNKS
    port = free_port()
    async with service_process(DATABASE_URL=url, PORT=str(port)) as service:
        await listening_event(service)
        with connections(port, 1, both + GET) as [client]:
            client.settimeout(SOON)
            response = await asyncio.to_thread(read_all, client)
        assert response.startswith(b"HTTP/1.1 201 ")
        assert response.count(b"HTTP/1.1 ") == 1
