"""Each header and parameter that a request has is obeyed or refused, never taken for absent.

The tests walk the OpenAPI document: a parameter that is added to it is tried as well.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from typing import Any, NamedTuple
from urllib.parse import quote

import pytest

from tests import forkserver
from tests.openapi import SNAPSHOT, operations
from tests.protocols import PROTOCOLS, Answer, Headers, Send
from tests.servers import free_port, listening_event

DOCUMENT = json.loads(SNAPSHOT.read_text(encoding="utf-8"))
USERS = [  # by name in another order than by id
    {"full_name": "Zoë", "email": "zoe@example.org", "age": 36},
    {"full_name": "Ada", "email": "ada@example.org", "age": None},
]
NDJSON_LINE = b'{"full_name": "Ada", "email": "ada@example.org"}\n'
BODIES = {  # a valid body of each operation that has one, and its type
    "POST /users": (b'{"full_name": "Ada"}', b"application/json"),
    "PATCH /users/{user_id}": (b'{"age": 7}', b"application/merge-patch+json"),
    "POST /users/import": (NDJSON_LINE, b"application/x-ndjson"),
}
EFFECTIVE = {  # by parameter: a value with which the response is another than without
    "Read-After": "00000001-00000000016B3748",
    "If-Match": '"other"',
    "If-None-Match": "*",
    "Idempotency-Key": "any",
    "after": "x",
    "email": "zoe@example.org",
    "format": "csv",
    "formulas": "text",
    "limit": "1",
    "name": "z",
    "needs": "writes",
    "on_conflict": "skip",
    "refresh": "9",
    "sort": "-id",
}
LISTS = {"If-Match", "If-None-Match"}  # whose header may have several lines
PREFIXES = {"name", "email"}  # of which every text is a value, the empty one, too
MALFORMED = {"name": "\x00", "email": "\x00", "Idempotency-Key": "k" * 256}
ODD = '"'  # no other parameter has such a value


class Operation(NamedTuple):
    """An operation of the document."""

    name: str
    parameters: list[dict[str, Any]]
    media_types: list[str]  # of a success

    @property
    def method(self) -> bytes:
        return self.name.partition(" ")[0].encode()

    @property
    def target(self) -> bytes:
        return self.name.partition(" ")[2].replace("{user_id}", "1").encode()

    @property
    def writes(self) -> bool:
        return self.method != b"GET"


def in_document() -> Iterator[Operation]:
    """Yield the operations of the document."""
    for name, operation in operations(DOCUMENT).items():
        success = next(iter(operation["responses"].values()))
        parameters = [each for each in operation.get("parameters", []) if each["in"] != "path"]
        yield Operation(name, parameters, [*success.get("content", {})])


OPERATIONS = list(in_document())


class Service:
    """A running service with USERS, asked by one version of HTTP."""

    def __init__(self, port: int, send: Send) -> None:
        self.port = port
        self.send = send

    def ask(
        self, operation: Operation, query: bytes = b"", headers: Headers | None = None
    ) -> Answer:
        """Send a valid request for the operation, but for this query and these headers."""
        body, media_type = BODIES.get(operation.name, (b"", b""))
        headers = headers or []
        if body and not any(name == b"Content-Type" for name, _ in headers):
            headers = [*headers, (b"Content-Type", media_type)]
        target = operation.target + (b"?" + query if query else b"")
        return self.send(self.port, operation.method, target, headers, body)

    def with_parameter(
        self, operation: Operation, parameter: dict[str, Any], *values: bytes
    ) -> Answer:
        """Send such a request with the parameter, once for each value."""
        name = parameter["name"].encode()
        if parameter["in"] == "header":
            return self.ask(operation, headers=[(name, value) for value in values])
        return self.ask(operation, b"&".join(name + b"=" + value for value in values))


@pytest.fixture(params=PROTOCOLS)
async def service(request: pytest.FixtureRequest, url: str) -> AsyncIterator[Service]:
    port = free_port()
    quiet = {"ACCESS_LOG": "off", "LOG_FORMAT": "json"}
    async with forkserver.service(DATABASE_URL=url, PORT=str(port), **quiet) as running:
        await listening_event(running)
        service = Service(port, PROTOCOLS[request.param])
        json_type = [(b"Content-Type", b"application/json")]
        for user in USERS:
            body = json.dumps(user).encode()
            created = await asyncio.to_thread(
                service.send, port, b"POST", b"/users", json_type, body
            )
            assert created.status == 201
        yield service


def ways(parameter: dict[str, Any]) -> Iterator[tuple[str, list[bytes]]]:
    """Yield ways to give a parameter wrongly: a name, and the values as they are sent."""
    name, in_header = parameter["name"], parameter["in"] == "header"
    effective = EFFECTIVE[name]
    malformed = MALFORMED.get(name, ODD)
    sent = [effective, malformed] if in_header else [quote(effective), quote(malformed)]
    yield "empty", [b""]
    yield "blank", [b" \t" if in_header else b"%20"]
    yield "malformed", [sent[1].encode()]
    yield "not UTF-8", [b"\xff\xfe"]
    yield "repeated", [sent[0].encode()] * 2
    if not in_header:
        yield "not UTF-8, encoded", [b"%FF"]
        yield "repeated, the second empty", [sent[0].encode(), b""]


def is_refused(answer: Answer) -> bool:
    # 0: the server ended an HTTP/2 stream whose path is not ASCII
    return answer.status in {0, 304} or 400 <= answer.status < 500


def of(answer: Answer) -> tuple[int, bytes]:
    """Return what of an answer tells whether a parameter had an effect."""
    return answer.status, answer.body


def taken_for_absent(service: Service) -> Iterator[str]:
    """Yield each parameter that the service does not read, and how it was given."""
    for operation in OPERATIONS:
        absent = service.ask(operation) if not operation.writes else None
        for parameter in operation.parameters:
            for way, values in ways(parameter):
                answer = service.with_parameter(operation, parameter, *values)
                name = parameter["name"]
                may_be_obeyed = name in PREFIXES or (name in LISTS and way == "repeated")
                obeyed = may_be_obeyed and absent is not None and of(answer) != of(absent)
                if not is_refused(answer) and not obeyed:
                    yield f"{operation.name}: {name} {way}: {answer.status}"


async def test_no_parameter_is_taken_for_absent(service: Service) -> None:
    assert await asyncio.to_thread(lambda: list(taken_for_absent(service))) == []


@pytest.mark.only("sqlite")
async def test_each_parameter_has_an_effect(service: Service) -> None:
    """Otherwise the test above would prove nothing."""
    without = {
        operation.name: await asyncio.to_thread(service.ask, operation)
        for operation in OPERATIONS
        if not operation.writes
    }
    for operation in OPERATIONS:
        for parameter in operation.parameters:
            value = EFFECTIVE[parameter["name"]].encode()
            if parameter["name"] in {"needs", "formulas", "Read-After"} or operation.writes:
                # a database that writes, a format that has formulas, replicas; see the other tests
                continue
            if operation.name == "GET /evolution":
                continue  # its page tells the time
            answer = await asyncio.to_thread(service.with_parameter, operation, parameter, value)
            assert of(answer) != of(without[operation.name]), (operation.name, parameter["name"])


class Demand(NamedTuple):
    """A request that must be refused."""

    name: str
    status: int  # of the refusal
    headers: Headers
    query: bytes = b""


COMPRESSED = {"GET /users", "GET /users/export"}
DATE = b"Mon, 23 Nov 2026 08:00:00 GMT"


def demanded_forms(operation: Operation) -> Iterator[Demand]:
    """Yield demands for a form of the response that the operation has not."""
    for codings in ([b"identity;q=0"], [b"*;q=0"], [b"br;q=0", b"*;q=0.000"]):
        if codings != [b"identity;q=0"] or operation.name not in COMPRESSED:
            headers = [(b"Accept-Encoding", coding) for coding in codings]
            yield Demand(f"coding {codings}", 406, headers)
    if operation.media_types:
        none = ", ".join(f"{media_type};q=0" for media_type in operation.media_types)
        for types in (none.encode(), b"text/x, */* ; q=0.0"):
            yield Demand(f"type {types!r}", 406, [(b"Accept", types)])


def demanded_of_writes(operation: Operation) -> Iterator[Demand]:
    """Yield demands that a change must not overlook."""
    if operation.writes:
        for query in (b"limmit=5", b"x", b"%FF=1"):
            yield Demand(f"query {query!r}", 422, [], query)
        yield Demand("a part", 400, [(b"Content-Range", b"bytes 0-9/100")])
        yield Demand("date", 422, [(b"If-Unmodified-Since", DATE)])
        yield Demand("nothing there", 412, [(b"If-None-Match", b"*")])
    yield Demand("another version", 412, [(b"If-Match", b'"other"')])


def demanded_bodies(operation: Operation) -> Iterator[Demand]:
    """Yield bodies of a type or coding that the operation does not read."""
    if operation.name not in BODIES:
        return
    media_type = BODIES[operation.name][1]
    for types in (
        [media_type, media_type],
        [b""],
        [b"application"],
        [b"text/plain"],
        *([media_type + parameters] for parameters in ODD_PARAMETERS),
    ):
        yield Demand(f"types {types}", 415, [(b"Content-Type", value) for value in types])
    for codings in ([b""], [b"gzip"], [b"identity, br"], [b"\xff"], [b"identity", b"br"]):
        headers = [(b"Content-Encoding", coding) for coding in codings]
        yield Demand(f"codings {codings}", 415, headers)


ODD_PARAMETERS = (
    b"; charset",
    b'; charset=""',
    b"; charset=utf-16",
    b"; charset=utf-8; charset=utf-8",
    b"; charset=\xff",
    b'; charset="utf-8',
)


def unmet_demands(service: Service) -> Iterator[str]:
    """Yield each demand, made of a route that can't meet it, which got no refusal."""
    for operation in OPERATIONS:
        if "/health" in operation.name:
            continue  # a probe's headers must not make a healthy service look ill
        for demands in (demanded_forms, demanded_of_writes, demanded_bodies):
            for demand in demands(operation):
                answer = service.ask(operation, demand.query, demand.headers)
                if answer.status != demand.status:
                    yield f"{operation.name}: {demand.name}: {answer.status} {answer.body!r}"
                else:
                    assert json.loads(answer.body)["status"] == demand.status


@pytest.mark.only("sqlite")
async def test_what_a_route_can_not_do_is_refused(service: Service) -> None:
    assert await asyncio.to_thread(lambda: list(unmet_demands(service))) == []


@pytest.mark.only("sqlite")
async def test_what_a_route_can_do_is_done(service: Service) -> None:
    """Weights of 0 that leave something, charsets that are UTF-8, bytes that are UTF-8."""
    json_type = b"application/json"

    def ask(
        method: bytes, target: bytes, *headers: tuple[bytes, bytes], body: bytes = b""
    ) -> Answer:
        return service.send(service.port, method, target, [*headers], body)

    def check() -> None:
        for coding in (b"br", b"gzip"):
            accepted = (b"Accept-Encoding", b"identity;q=0, " + coding)
            answer = ask(b"GET", b"/users?limit=1", accepted)
            assert answer.headers[b"content-encoding"] == coding
        for refused in (b"br;q=0", b"gzip;q=0, *;q=0.0, identity", b"deflate", b""):
            answer = ask(b"GET", b"/users?limit=1", (b"Accept-Encoding", refused))
            assert answer.status == 200
            assert b"content-encoding" not in answer.headers
        for accepted_type in (
            b"text/html",
            b"*/*;q=0, application/json",
            b"application/json;q=0.1",
        ):
            assert ask(b"GET", b"/users/1", (b"Accept", accepted_type)).status == 200
        target = b"/users/import?on_conflict=skip"
        ndjson = (b"Content-Type", b"application/x-ndjson")
        for accepted_type, expected in {
            b"application/x-ndjson;q=0": json_type,
            b"application/json;q=0": b"application/x-ndjson",
            b"application/x-ndjson;q=0.1, */*": json_type,
            b"application/x-ndjson": b"application/x-ndjson",
        }.items():
            answer = ask(b"POST", target, ndjson, (b"Accept", accepted_type), body=NDJSON_LINE)
            assert answer.headers[b"content-type"] == expected
        for charset in (b"utf-8", b"UTF-8", b'"utf8"'):
            named = (b"Content-Type", json_type + b" ; charset=" + charset)
            answer = ask(b"PATCH", b"/users/1", named, body=b'{"age": 8}')
            assert answer.status == 200
        found = [ask(b"GET", b"/users?name=zo" + raw) for raw in ("ë".encode(), b"%C3%AB")]
        assert [json.loads(answer.body)["items"][0]["id"] for answer in found] == [1, 1]

    await asyncio.to_thread(check)
