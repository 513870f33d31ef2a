"""Requests that are too large, too deep or too many cost time in proportion, and no memory."""

import gzip
import json
import socket
import struct
import time
from collections.abc import Callable
from http import HTTPStatus
from typing import NamedTuple

import httpx
import pytest

from service.cli.workers import HEAD_SIZE
from service.transfer.csv import CsvReader
from service.transfer.formats import Reader
from service.transfer.ndjson import NdjsonReader
from tests import forkserver
from tests.abuse.raw_requests import exchange, request
from tests.problems import problem
from tests.servers import free_port, listening_event

pytestmark = pytest.mark.only("sqlite")  # refused before a database is asked, but for imports

JSON = {"Content-Type": "application/json"}
NDJSON = {"Content-Type": "application/x-ndjson"}
CSV = {"Content-Type": "text/csv"}
GROWTH = 4  # how much larger the second of two requests is
BOUND = 10  # how much longer it may take; in quadratic time it would take 16 times as long
NOISE = 0.005  # seconds of CPU time, below which a ratio says nothing
BODY_SIZE = 800_000  # bytes, below MAX_BODY
LONG_HEAD = 60_000  # bytes, below HEAD_SIZE


class Flood(NamedTuple):
    """A request that `size` bytes make: as its body, a header, or the end of its URL."""

    make: Callable[[int], bytes | str]
    headers: dict[str, str] = {}  # noqa: RUF012  # nobody changes it
    header: str = ""
    path: str = "/users"
    method: str = "POST"


def body(make: Callable[[int], bytes]) -> Flood:
    return Flood(make, JSON)


def lines(make: Callable[[int], bytes], headers: dict[str, str] = CSV) -> Flood:
    return Flood(make, headers, path="/users/import?on_conflict=skip")


def header(name: str, make: Callable[[int], str], path: str = "/users") -> Flood:
    return Flood(make, header=name, path=path, method="GET")


def query(make: Callable[[int], str]) -> Flood:
    return Flood(make, path="/users?", method="GET")


FLOODS = {
    "arrays in arrays": body(lambda size: b"[" * size),
    "objects in objects": body(lambda size: b'{"a":' * (size // 5)),
    "a number of many digits": body(lambda size: b'{"age":' + b"1" * size + b"}"),
    "a fraction of many digits": body(lambda size: b'{"age":1.' + b"1" * size + b"}"),
    "a large exponent": body(lambda size: b'{"age":1e' + b"1" * size + b"}"),
    "one key again and again": body(lambda size: b"{" + b'"age":1,' * (size // 8) + b'"age":1}'),
    "many keys": body(
        lambda size: b"{" + b",".join(b'"%d":1' % (2**20 * i) for i in range(size // 16)) + b"}"
    ),
    "a key of signs to escape": body(lambda size: b'{"' + b"~/" * (size // 2) + b'":1}'),
    "a long name": body(lambda size: b'{"full_name":"' + b"a" * size + b'"}'),
    "a name of accents": body(
        lambda size: b'{"full_name":"' + "á\u0323\u0301".encode() * (size // 6) + b'"}'
    ),
    "an address of many signs": body(lambda size: b'{"email":"' + b"a@" * (size // 2) + b'"}'),
    "CSV, one cell": lines(lambda size: b"full_name\n" + b"a" * size),
    "CSV, quotes": lines(lambda size: b"full_name\n" + b'"' * size),
    "CSV, a quote on each line": lines(lambda size: b"full_name\n" + b'"a\n' * (size // 10)),
    "CSV, columns": lines(lambda size: b",".join(b"%d" % i for i in range(size // 6)) + b"\n"),
    "CSV, cells": lines(lambda size: b"full_name\n" + b"," * size),
    "NDJSON, one line": lines(lambda size: b'{"full_name":"' + b"a" * size, NDJSON),
    "NDJSON, empty lines": lines(lambda size: b"\n" * (size // 10), NDJSON),
    "Accept": header("Accept", lambda size: "text/plain;q=0.5," * (size // 17), "/metrics"),
    "Accept-Encoding": header("Accept-Encoding", lambda size: "br;q=0.1," * (size // 9)),
    "If-None-Match": header("If-None-Match", lambda size: 'W/"a",' * (size // 6)),
    "Content-Type": Flood(
        lambda size: "application/json" + ' ;a="' * (size // 5), header="Content-Type"
    ),
    "Cookie": header("Cookie", lambda size: 'a="\\' * (size // 4)),
    "baggage": header("baggage", lambda size: "a=b;c," * (size // 6)),
    "parameters": query(lambda size: "&".join(f"{i}=1" for i in range(size // 8))),
    "a parameter again and again": query(lambda size: "limit=1&" * (size // 8)),
    "a percent sign": query(lambda size: "name=" + "%" * size),
    "a cursor": query(lambda size: "after=" + "A" * size),
    "a limit of many digits": query(lambda size: "limit=" + "1" * size),
}


async def seconds(client: httpx.AsyncClient, flood: Flood, size: int) -> float:
    """Return the least CPU time of three requests, the client's included."""
    best = float("inf")
    for _ in range(3):
        made = flood.make(size)
        headers, url, content = flood.headers, flood.path, None
        if isinstance(made, bytes):
            content = made
        elif flood.header:
            headers = {flood.header: made}
        sent = client.build_request(flood.method, url, headers=headers, content=content)
        if isinstance(made, str) and not flood.header:
            sent.url = sent.url.copy_with(raw_path=f"{url}{made}".encode())
        start = time.process_time()
        response = await client.send(sent)
        best = min(best, time.process_time() - start)
        assert response.status_code < HTTPStatus.INTERNAL_SERVER_ERROR, response.text
    return best


@pytest.mark.usefixtures("no_pauses")
async def test_time_grows_in_proportion_to_the_request(client: httpx.AsyncClient) -> None:
    growth = {}
    for name, flood in FLOODS.items():
        size = BODY_SIZE if flood.headers else LONG_HEAD
        small = await seconds(client, flood, size // GROWTH)
        large = await seconds(client, flood, size)
        growth[name] = large / max(small, NOISE / BOUND)
    assert {name: times for name, times in growth.items() if times > BOUND} == {}


@pytest.mark.usefixtures("no_pauses")
@pytest.mark.parametrize("reader", [CsvReader, NdjsonReader])
@pytest.mark.parametrize("piece", [b"\n", b"a\n", b"a", b'"\n', b"\xff"])
def test_an_import_in_tiny_pieces_takes_time_in_proportion(
    reader: type[Reader], piece: bytes
) -> None:
    def seconds(count: int) -> float:
        best = float("inf")
        for _ in range(3):
            reading = reader()
            reading.feed(b'full_name\n"' + b"a" * 40_000 + b"\n")  # a record that does not end
            start = time.process_time()
            for _ in range(count):
                reading.feed(piece)
            best = min(best, time.process_time() - start)
        return best

    assert seconds(GROWTH * 4000) < max(seconds(4000) * BOUND, NOISE)


@pytest.mark.parametrize(
    ("content", "path"),
    [
        (b'{"' + b"~/" * 100_000 + b'":1}', "/users"),
        (b"{" + b",".join(b'"%d":1' % i for i in range(50_000)) + b"}", "/users"),
        (b"", "/users?" + "&".join(f"{i}=1" for i in range(5000))),
    ],
)
async def test_a_refusal_is_not_larger_than_its_request(
    client: httpx.AsyncClient, content: bytes, path: str
) -> None:
    response = await client.request(
        "POST" if content else "GET", path, content=content, headers=JSON
    )
    problem(response, HTTPStatus.UNPROCESSABLE_ENTITY, "invalid-input")
    assert len(response.content) < len(content or path) / 4


BOMB = gzip.compress(b'{"full_name": "' + b"a" * 100_000_000)  # a thousandth of that


CODINGS = [
    ["gzip"], ["br"], ["deflate"], ["zstd"], ["identity", "gzip"], ["identity, gzip"], ["x"], [""],
]  # fmt: skip


@pytest.mark.parametrize(
    ("path", "media_type"),
    [
        ("/users", "application/json"),
        ("/users/import", "text/csv"),
        ("/users/import", "application/x-ndjson"),
    ],
)
async def test_a_compressed_body_is_refused_unread(
    client: httpx.AsyncClient, path: str, media_type: str
) -> None:
    for codings in CODINGS:
        headers = [("Content-Type", media_type), *(("Content-Encoding", one) for one in codings)]
        response = await client.post(path, content=BOMB, headers=headers)
        problem(response, HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "unsupported-media-type")


async def test_identity_is_no_encoding(client: httpx.AsyncClient) -> None:
    headers = [*JSON.items(), ("Content-Encoding", "identity"), ("Content-Encoding", "Identity")]
    response = await client.post("/users", content=b'{"full_name": "Ada"}', headers=headers)
    assert response.status_code == HTTPStatus.CREATED


@pytest.mark.parametrize(
    "accepted",
    ["gzip;q=nan", "gzip;q=1e400", "gzip;q=-1", "gzip;q=1;q=0", "br;q=", "\x85\xff"],
)
async def test_an_odd_accept_encoding_gets_a_response_that_can_be_read(
    client: httpx.AsyncClient, accepted: str
) -> None:
    users = [{"full_name": f"Ada {number}"} for number in range(100)]
    lines = "".join(json.dumps(user) + "\n" for user in users)
    await client.post("/users/import", content=lines, headers=NDJSON)
    headers = {b"Accept-Encoding": accepted.encode("latin-1")}
    response = await client.get("/users?limit=100", headers=headers)
    assert [item["full_name"] for item in response.json()["items"]] == [
        user["full_name"] for user in users
    ]


HEADS = {
    "1,000 headers": request(b"GET", b"/users", *[(b"X-%d" % n, b"v") for n in range(1000)]),
    "a header of 1 MiB": request(b"GET", b"/users", (b"X", b"v" * 2**20)),
    "a URL of 64 KiB": request(b"GET", b"/users/" + b"a" * 2**16),
    "10,000 parameters": request(
        b"GET", b"/users?" + b"&".join(b"p%d=1" % number for number in range(10_000))
    ),
}
TOO_LARGE = {HTTPStatus.REQUEST_URI_TOO_LONG, HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE}


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    """Return an HTTP/2 frame (RFC 9113, 4.1)."""
    length, number = struct.pack(">I", len(payload))[1:], struct.pack(">I", stream)
    return length + bytes([kind, flags]) + number + payload


def literal(name: bytes, value: bytes, *, indexed: bool = False) -> bytes:
    """Return a header of HPACK (RFC 7541, 6.2), for names and values of up to 4,223 bytes."""

    def text(content: bytes) -> bytes:
        rest = len(content) - 127
        length = bytes([len(content)]) if rest < 0 else bytes([127, rest % 128 | 128, rest // 128])
        return length + content

    return (b"\x40" if indexed else b"\x00") + text(name) + text(value)


HEADERS, SETTINGS, GO_AWAY = 1, 4, 7  # kinds of frames
END_STREAM, END_HEADERS = 1, 4
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(SETTINGS, 0, 0, b"")
GET = b"\x82\x86" + literal(b":path", b"/health/live") + literal(b":authority", b"test")
LARGE_HEADER = literal(b"x", b"v" * 4000, indexed=True)
AGAIN = b"\xbe"  # the header that was indexed last


def frames(received: bytes) -> list[tuple[int, bytes]]:
    """Return the kind and the payload of each whole frame."""
    found = []
    while len(received) >= 9:
        end = 9 + int.from_bytes(received[:3])
        found.append((received[3], received[9:end]))
        received = received[end:]
    return found


def http2_exchange(port: int, block: bytes) -> list[tuple[int, bytes]]:
    """Send a request with these compressed headers; return the frames up to its response."""
    received = b""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.sendall(PREFACE + frame(HEADERS, END_STREAM | END_HEADERS, 1, block))
        while not {HEADERS, GO_AWAY} & {kind for kind, _ in frames(received)}:
            piece = connection.recv(4096)
            if not piece:
                break
            received += piece
    return frames(received)


async def test_the_server_refuses_heads_that_are_too_large(url: str) -> None:
    port = free_port()
    async with forkserver.service(DATABASE_URL=url, PORT=str(port), LOG_FORMAT="json") as service:
        await listening_event(service)
        for head in HEADS.values():
            assert exchange(port, head).status in TOO_LARGE
        ok = (HEADERS, b"\x88")  # :status 200, from HPACK's static table
        allowed = GET + LARGE_HEADER + AGAIN * (HEAD_SIZE // 4500)
        bomb = GET + LARGE_HEADER + AGAIN * 4000  # 8 KB that unpack to 16 MB
        assert [(kind, block[:1]) for kind, block in http2_exchange(port, allowed)].count(ok) == 1
        assert ok not in [(kind, block[:1]) for kind, block in http2_exchange(port, bomb)]
        assert exchange(port, request(b"GET", b"/health/live")).status == HTTPStatus.OK
