"""Record the responses to some hundreds of requests, and compare them byte for byte.

`python -m tests.recorded_responses` writes the record again, after a change on purpose.
"""

import asyncio
import gzip
import hashlib
import json
import re
import tempfile
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from difflib import unified_diff
from itertools import zip_longest
from pathlib import Path
from typing import Any, NamedTuple

import brotli
import httpx

from safely.scratch.embedded import Server
from service.auth.tokens import hash_of
from tests import forkserver
from tests.databases import Databases
from tests.paths import ROOT
from tests.servers import free_port, wait_until_ready

RECORD = ROOT / "tests/data/answers.json"
KINDS = ("postgresql", "sqlite")
TIMEOUT = 10  # seconds for a response
SHOWN = 160  # characters of a request
CONTROL = {code: ascii(chr(code))[1:-1] for code in range(32)}  # printable forms

Response = list[str]  # the lines of its head, an empty line, and the pieces of its body


class Request(NamedTuple):
    """A request, and its short form for messages."""

    name: str
    content: bytes


class Exchange(NamedTuple):
    """A request by its name, and its response."""

    request: str
    response: Response


Corpus = Generator[Request, Response, None]  # yields requests, gets their responses

USUAL = ("Host: users.test", "X-Request-ID: given", "Connection: close")
JSON = "Content-Type: application/json"
MERGE_PATCH = "Content-Type: application/merge-patch+json"
TEXT = "Content-Type: text/plain"
CHUNKED = "Transfer-Encoding: chunked"


def ask(line: str, *headers: str, body: bytes | None = None) -> Request:
    """Return a request with these headers, and those of USUAL that are not among them."""
    mine = {name_of(header) for header in headers}
    lines = [f"{line} HTTP/1.1", *(usual for usual in USUAL if name_of(usual) not in mine)]
    lines += headers
    if body is not None and "transfer-encoding" not in mine:
        lines.append(f"Content-Length: {len(body)}")
    sent = "\r\n".join([*lines, "", ""]).encode() + (body or b"")
    return Request(in_short(line, *headers, (body or b"").decode(errors="backslashreplace")), sent)


def raw_request(sent: bytes) -> Request:
    """Return a request of exactly these bytes."""
    return Request(in_short(*sent.decode(errors="backslashreplace").split("\r\n")), sent)


def send(line: str, body: Any, *headers: str) -> Request:
    """Return a request with a body: JSON, unless a Content-Type is among the headers."""
    if not any(name_of(header) == "content-type" for header in headers):
        headers = (JSON, *headers)
    return ask(line, *headers, body=in_json(body))


def create(user: Any, *headers: str) -> Request:
    return send("POST /users", user, *headers)


def change(user_id: int, changes: Any, *headers: str) -> Request:
    return send(f"PATCH /users/{user_id}", changes, *headers)


def in_json(body: Any) -> bytes:
    if isinstance(body, bytes):
        return body
    text = body if isinstance(body, str) else json.dumps(body, ensure_ascii=False)
    return text.encode()


def name_of(header: str) -> str:
    return header.partition(":")[0].lower()


def in_short(*parts: str) -> str:
    text = " | ".join(part for part in parts if part).translate(CONTROL)
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}… ({len(text)} characters)"


def value_of(response: Response, header: str) -> str:
    return next(line.partition(": ")[2] for line in response if name_of(line) == header)


def next_of(response: Response) -> str:
    """Return the URL of the next page; empty on the last."""
    match = re.search(r'<([^<>]+)>; rel="next"', value_of(response, "link"))
    return match.group(1) if match else ""


ADA = {"full_name": "Ada Lovelace", "email": "ada@example.org", "age": 36}
USERS = [  # by id, from 1
    ADA,
    {"full_name": "Plato"},
    {"full_name": "ada", "email": None, "age": None},
    '{"age": 0, "email": "Byron.ADA@Example.ORG", "full_name": "ADA Byron"}',
    {"full_name": "adam", "age": 150},
    {"full_name": "Zoe\u0308 \u1e9b\u0323"},
    {"full_name": "Zoë", "email": "josé@bücher.example.net"},
    {"full_name": " \t  Trimmed Name\u00a0\n\u2028"},
    {"full_name": "Conan O\"Brien \\ back / slash <b>&amp;'</b> %41"},
    {"full_name": "👩‍🚀 🎉 李小龍 مريم \u200b\ufffd\U0010fffd"},
    '{"full_name": "\\ud83d\\ude00 \\u00e9 \\/"}',
    {"full_name": "e\u0301" * 200},
    ' \r\n\t{ "full_name" : "First: of all" , "age" : 1 } \n',
    {"full_name": "Grace Hopper", "email": "Grace@EXAMPLE.com", "age": 85},
    {"full_name": "grace jones", "email": "Postmaster@example.net", "age": 78},
    {"full_name": "null", "email": "o'neil+tag/x@xn--bcher-kva.example.net"},
]
FLAWED = [
    {"full_name": ""},
    {"full_name": " \u00a0\n"},
    {"full_name": "a\u0000b"},
    {"full_name": "x" * 201},
    {"full_name": "e\u0301" * 801},
    {"full_name": None},
    {"full_name": ["Ada"]},
    {},
    *(
        {"full_name": "Ada", "email": email}
        for email in (
            "", "ada@", "@example.org", "a b@example.org", "a@b@example.org", "ada@localhost",
            "ada@example.test", "Ada <ada@example.org>", "a" * 243 + "@example.org", True,
        )
    ),
    *({"full_name": "Ada", "age": age} for age in (-1, 151, 36.0, "36", True, 10**30)),
    {"full_name": "Ada", "a/b": 1, "c~d": 1, "~1": 1, "": 1, "Full_Name": "Ada", "é\n": 1},
    {"full_name": "", "email": "x", "age": 200, "nickname": "Countess"},
    {"email": "x"},
    '{"full_name": "Ada", "full\\u005fname": "Eve", "age": 1, "age": 1}',
    {"full_name": "\u200b\u2800\u3164"},
    {"full_name": "Ada", "email": "a" * 65 + "@example.org"},
    {f"field {number}": number for number in range(25)},
    [ADA],
    '"Ada"',
    "null",
]  # fmt: skip
NOT_JSON = [
    b"",
    b" ",
    b"{",
    b'{"full_name": "Ada",}',
    b'{"full_name": "Ada"} x',
    b'{"full_name": "A\xffda"}',
    b'{"full_name": "\\ud800"}',
    b'{"full_name": NaN}',
    b'{"full_name": "Ada", "age": 1e400}',
    b'\xef\xbb\xbf{"full_name": "Ada"}',
    b"[" * 5000,
]
MEDIA_TYPES = [
    TEXT,
    "Content-Type: ",
    "Content-Type: application/json; charset=latin-1",
    "Content-Type: application/json; charset",
    "Content-Type: application/problem+json",
    "Content-Type: application/x-www-form-urlencoded",
    "Content-Type: multipart/form-data; boundary=x",
]
GZIP = b"\x1f\x8b\x08, or as if"
MIB = 1024 * 1024


def everything() -> Corpus:
    """Yield the requests for a service with default settings and an empty table."""
    yield from an_empty_table()
    yield from creating()
    yield from refused_bodies()
    yield from keys()
    yield from lookups()
    yield from unknown_ids()
    yield from lists()
    yield from searches()
    yield from cursors()
    yield from encodings()
    yield from changes()
    yield from deleting()
    yield from files()
    yield from other_urls()
    yield from odd_messages()
    yield from alphabets()
    yield from taken_addresses()


def an_empty_table() -> Corpus:
    for line in ("GET /users", "HEAD /users", "GET /users?name=a&limit=1", "GET /users/1"):
        yield ask(line)
    for file in ("ndjson", "csv"):
        yield ask(f"GET /users/export?format={file}")


def creating() -> Corpus:
    for user in USERS:
        yield create(user)
    plain = {"full_name": "Plain"}
    yield create(plain, "Content-Type: application/json; charset=utf-8")
    yield create(plain, 'Content-Type: Application/JSON;;charset="UTF8"; x=y')
    yield create(plain, "Expect: 100-continue")
    yield create(plain, "Content-Encoding: identity")
    yield create(plain, "X-Request-ID: not one of ours!")
    chunks = b'a\r\n{"full_nam\r\n5\r\ne": "\r\n7\r\nPieces"\r\n1\r\n}\r\n0\r\n\r\n'
    yield create(chunks, CHUNKED)


def refused_bodies() -> Corpus:
    for body in [*FLAWED, *NOT_JSON]:
        yield create(body)
    for media_type in [*MEDIA_TYPES, MERGE_PATCH]:
        yield create({"full_name": "Ada"}, media_type)
    yield ask("POST /users", body=b'{"full_name": "Ada"}')
    yield ask("POST /users", JSON)
    yield ask("POST /users")
    yield create(GZIP, "Content-Encoding: gzip")
    yield create(b'{"full_name": "' + b"x" * MIB + b'"}')
    yield create(b"%x\r\n" % (MIB + 1) + b"x" * (MIB + 1) + b"\r\n0\r\n\r\n", CHUNKED)
    yield create(b"x" * (MIB + 1), TEXT)
    yield create({"full_name": ""}, "Expect: 100-continue")
    yield create({"full_name": "Ada"}, "Accept: text/html", TEXT)
    yield send("POST /users?limit=x&%zz", {"full_name": ""})


def keys() -> Corpus:
    """Yield requests with an Idempotency-Key, without conflicts of e-mail addresses."""
    user, key = {"full_name": "Keyed", "email": "keyed@example.org"}, "Idempotency-Key: one"
    yield create(user, key)
    yield create(user, key)
    yield create(user, key, "Content-Type: application/json; charset=utf-8")
    yield create({"full_name": "Somebody else"}, key)
    yield create({"full_name": ""}, key)
    yield create({"full_name": ""}, "Idempotency-Key: two")
    yield create({"full_name": "Corrected"}, "Idempotency-Key: two")
    yield create({"full_name": "Long"}, f"Idempotency-Key: {'k' * 255}")
    for bad in ("", "k" * 256, "a\tb", "é"):
        yield create({"full_name": "Bad key"}, f"Idempotency-Key: {bad}")
    for other in ("a", "b"):
        yield create({"full_name": "Two keys"}, "Idempotency-Key: a", f"Idempotency-Key: {other}")
    yield ask("GET /users/1", key)


def lookups() -> Corpus:
    response = yield ask("GET /users/1")
    tag = value_of(response, "etag")
    for line in (
        "HEAD /users/1", "GET /users/1/", "GET /users/10", "GET /users/%31", "GET /users/1?",
        "GET /users/1?limit=x&a=1&a=2", "HEAD /users/1?%zz=%ff",
    ):  # fmt: skip
        yield ask(line)
    for condition in (
        tag, f"W/{tag}", f'"other", {tag}', f'W/"x",W/{tag} ,"y"', "*", "", '"other"',
        tag.strip('"'), f"w/{tag}", f"{tag}, *", "é",
    ):  # fmt: skip
        yield ask("GET /users/1", f"If-None-Match: {condition}")
    for lines in (('"other"', tag), (tag, '"other"'), ('"a"', '"b"'), ("*", '"b"')):
        yield ask("GET /users/1", *(f"If-None-Match: {line}" for line in lines))
    yield ask("HEAD /users/1", f"If-None-Match: {tag}")
    yield ask("HEAD /users/1", 'If-None-Match: "other"')
    yield ask("GET /users/999", "If-None-Match: *")
    yield ask("GET /users/1", 'If-Match: "other"')
    yield ask("GET /users/1", "If-Modified-Since: Mon, 23 Nov 2026 08:00:00 GMT")
    yield ask("GET /users/1", "Accept-Encoding: br, gzip", "Range: bytes=0-3")
    for accepted in ("text/html", "application/xml;q=0.9, */*;q=0", "application/json;q=0", "x"):
        yield ask("GET /users/1", f"Accept: {accepted}")
    yield ask("GET /users/999", "Accept: text/html")
    yield ask("GET /users/1", JSON, body=b'{"full_name": "A GET with a body"}')
    yield ask("GET /users/1", "Cookie: a=b; c", "Authorization: Bearer x", "Origin: null")


def unknown_ids() -> Corpus:
    for user_id in (
        "999", "0", "01", "-1", "+1", "abc", "1.0", "1_0", "%201", "1%00", "9223372036854775807",
        "9223372036854775808", "99999999999999999999", "9" * 400, "%D9%A1", "%C2%B2", "%FF", "é",
        "1%2F", "1%2F2", "%2F1", "a%22%5C%7F",
    ):  # fmt: skip
        yield ask(f"GET /users/{user_id}")
    for user_id in ("999", "abc"):
        yield ask(f"HEAD /users/{user_id}")
        yield ask(f"DELETE /users/{user_id}")
        for body in ({"age": 1}, {"age": 200}, "{"):
            yield send(f"PATCH /users/{user_id}", body)
    yield send("PATCH /users/999", {"age": 1}, "If-Match: *")
    yield ask("DELETE /users/999", 'If-Match: "other"')


def walked(directory: str) -> Corpus:
    """Yield the requests for a list, page after page."""
    while directory:
        response = yield ask(f"GET {directory}")
        directory = next_of(response)


def lists() -> Corpus:
    for line in ("GET /users", "HEAD /users", "GET /users/", "GET /users?limit=1000"):
        yield ask(line)
    for sort in ("id", "-id", "full_name", "-full_name"):
        yield from walked(f"/users?limit=10&sort={sort}")
    for limit in (1, 2, 3):
        yield from walked(f"/users?sort=-full_name&limit={limit}&name=AdA")
    for query in (
        "limit=0", "limit=-1", "limit=1001", "limit=abc", "limit=1.0", "limit=1e1", "limit=%205",
        "limit=+5", "limit=%2B5", "limit=1_0", "limit=05", "limit=%D9%A3", "limit=null", "limit=",
        "limit", "limit=9223372036854775808", "limit=" + "9" * 5000, "limit=5&limit=6",
        "limit=%zz", "Limit=5", "sort=", "sort=age", "sort=ID", "sort=null", "sort=id&sort=id",
        "after=", "after=x", "limmit=5", "a/b=1&c~d=2", "=1", "&&limit=2", "a&b", "?limit=2",
        "limit=0&sort=age&after=x", "sort=age&limmit=5&name=%00", "limit=2;sort=-id",
        "limit=2#fragment", "%6Cimit=%32&",
    ):  # fmt: skip
        yield ask(f"GET /users?{query}")
    yield ask("HEAD /users?limit=0")
    yield ask("GET /users?limit=2", "Accept: text/html")


def searches() -> Corpus:
    for query in (
        "name=Ada", "name=ADA%20L", "name=ada+l", "name=%20ada", "name=ada%20", "name=zo%C3%AB",
        "name=Zoe%CC%88", "name=zo\u00eb", "name=%F0%9F%91%A9", "name=%25", "name=_", "name=%zz",
        "name=%", "name=%ff", "name=conan+o%22", "name=null", "name=", "name", "name=%ED%A0%80",
        "name=a%00b", "name=%C2%85", "name=" + "x" * 254, "name=" + "x" * 255, "name=a&name=b",
        "name=ada&sort=full_name&limit=1", "name=ada&sort=id", "name=%00&sort=id&email=%0A",
        "na%6De=plato", "name=ada%26x%3D1", "name=ada=x", "name=ada&email=ada@example.org",
        "email=ada@example.org", "email=ADA%40EXAMPLE.org", "email=byron.ada@example.org",
        "email=jos%C3%A9@b%C3%BCcher.example.net", "email=jos%C3%A9@xn--bcher-kva.example.net",
        "email=nobody@example.org", "email=not+an+address", "email=", "email=%20ada@example.org",
        "email=o'neil%2Btag/x@b%C3%BCcher.example.net", "email=" + "x" * 255,
        "email=ada@example.org&sort=-id&limit=1",
    ):  # fmt: skip
        yield ask(f"GET /users?{query}")
    yield ask("HEAD /users?name=ada&limit=1")


def cursors() -> Corpus:
    response = yield ask("GET /users?limit=20")
    cursor = next_of(response).rpartition("after=")[2]
    other = "B" if cursor.startswith("A") else "A"
    for query in (
        f"after={cursor}&limit=2", f"limit=2&after={cursor}&sort=id", f"after={cursor}&sort=-id",
        f"after={cursor}&sort=full_name", f"after={cursor}&name=ada", f"after={cursor}&email=x",
        f"after={cursor}&after={cursor}", f"after={other}{cursor[1:]}", f"after={cursor[1:]}",
        f"after={cursor}=", f"after={cursor}%3D%3D", f"after={cursor}x", f"after=%20{cursor}",
        f"after={cursor}%00", "after=%FF", "after=💥", "after=" + "A" * 5000,
    ):  # fmt: skip
        yield ask(f"GET /users?{query}")
    response = yield ask("GET /users?limit=1&name=gra&sort=-full_name")
    cursor = next_of(response).rpartition("after=")[2]
    for query in ("name=gra&sort=-full_name", "name=GRA&sort=-full_name", "name=gra", ""):
        yield ask(f"GET /users?after={cursor}&{query}")
    yield ask(f"HEAD /users?after={cursor}&name=gra&sort=-full_name")


def encodings() -> Corpus:
    """Yield requests with Accept-Encoding, for a page large enough to compress and others."""
    for codings in (
        "gzip", "br", "gzip, br", "gzip;q=1, br;q=0.5", "br;q=0", "*", "*;q=0", "gzip;q=0, *",
        "br;q=0, *;q=0.1", "identity;q=1, gzip;q=0.5", "GZIP ; q=0.8", "gzip;q=x", "deflate", "",
    ):  # fmt: skip
        yield ask("GET /users?limit=12", f"Accept-Encoding: {codings}")
    yield ask("GET /users?limit=12", "Accept-Encoding: gzip", "Accept-Encoding: br")
    for codings in ("gzip", "br"):
        yield ask("HEAD /users?limit=12", f"Accept-Encoding: {codings}")
        yield ask("GET /users?limit=1", f"Accept-Encoding: {codings}")
        yield ask("GET /users?limit=0", f"Accept-Encoding: {codings}")
        yield ask("GET /users/export", f"Accept-Encoding: {codings}")
    yield ask("GET /users?" + "&".join(f"x{n}=1" for n in range(20)), "Accept-Encoding: br")


def changes() -> Corpus:
    response = yield change(2, {"full_name": "  Aristocles\u0301 "}, MERGE_PATCH)
    first = value_of(response, "etag")
    yield ask("GET /users/2", f"If-None-Match: {first}")
    yield change(2, {"email": "Plato@Example.org"})
    yield change(2, {"age": 80}, "Content-Type: application/merge-patch+json; charset=utf-8")
    yield change(2, {"age": None})
    yield change(2, {"age": None})
    yield change(2, {"full_name": "Plato", "email": None, "age": 81})
    flawed: tuple[Any, ...] = (
        {}, [], "{", b"", {"full_name": None}, {"email": "x"}, {"id": 3},
        {"a/b": 1, "full_name": "", "age": "1"},
    )  # fmt: skip
    for body in flawed:
        yield change(2, body)
    for media_type in MEDIA_TYPES:
        yield change(2, {"age": 1}, media_type)
    yield ask("PATCH /users/2", body=b'{"age": 1}')
    yield ask("PATCH /users/2")
    yield change(2, b"x" * (MIB + 1))
    yield change(2, GZIP, "Content-Encoding: gzip")
    yield change(2, {"email": "ADA@example.org", "age": 7})
    yield change(2, {"email": "ada@example.org"}, "Idempotency-Key: any")
    for stale in (first, "", '"other"', "Plato"):
        yield change(2, {"age": 82}, f"If-Match: {stale}")
    response = yield ask("GET /users/2")
    current = value_of(response, "etag")
    yield change(2, {"age": 82}, f"If-Match: W/{current}")
    yield change(2, {"age": 200}, f"If-Match: {current}")
    yield change(2, {"email": "ada@example.org"}, f"If-Match: {current}")
    response = yield change(2, {"age": 83}, f"If-Match: {current}")
    current = value_of(response, "etag")
    response = yield change(2, {"age": 84}, f'If-Match: "other" , {current}')
    current = value_of(response, "etag")
    yield change(2, {"age": 85}, 'If-Match: "other"', f"If-Match: {current}")
    yield change(2, {"age": 86}, "If-Match: *")
    yield send("PATCH /users/2/?a=1", {"age": 87})
    yield ask("GET /users/2")


def deleting() -> Corpus:
    response = yield ask("GET /users/3")
    current = value_of(response, "etag")
    for stale in ('"other"', f"W/{current}"):
        yield ask("DELETE /users/3", f"If-Match: {stale}")
    yield ask("DELETE /users/3", f'If-Match: "other", {current}')
    yield ask("DELETE /users/3")
    yield ask("DELETE /users/3", "If-Match: *")
    yield ask("GET /users/3")
    yield change(3, {"age": 1})
    yield ask("DELETE /users/4", "If-Match: *")
    yield ask("DELETE /users/5/", JSON, body=b'{"a body": "that nobody reads"}')
    yield ask("GET /users?limit=3")


def files() -> Corpus:
    """Yield imports and exports without conflicts of e-mail addresses."""
    line = '{"full_name": "Imported", "email": "imported@example.org"}\n'
    ndjson, csv = "Content-Type: application/x-ndjson", "Content-Type: text/csv"
    bad = line + '{"full_name": ""}\n{\n{"full_name": "Good"}\n'
    yield send("POST /users/import", line, ndjson, "Idempotency-Key: file")
    yield send("POST /users/import", line, ndjson, "Idempotency-Key: file")
    yield send("POST /users/import", line * 2, ndjson, "Idempotency-Key: file")
    yield send("POST /users/import", bad, ndjson)
    yield send("POST /users/import", bad, ndjson, "Accept: application/x-ndjson")
    yield send("POST /users/import", b"full_name,age\nCarl,7\n,8\n", csv)
    yield send("POST /users/import", b"full_name,age\nCarl,7\nCarla,8\n", csv)
    for body in (b"", b"full_name,shoe_size\nCarl,7\n", b"full_name\nC\xff\n"):
        yield send("POST /users/import", body, csv)
    yield send("POST /users/import?on_conflict=merge", line, ndjson)
    yield send("POST /users/import?limit=1", line, ndjson)
    yield send("POST /users/import", line, JSON)
    for query in (
        "", "format=csv", "format=csv&name=carl&sort=-full_name", "email=nobody@example.org",
        "format=xml", "limit=1", "name=a&sort=id", "format=csv&format=csv",
    ):  # fmt: skip
        yield ask(f"GET /users/export?{query}")
    yield ask("HEAD /users/export")
    yield raw_request(b"GET /users/export HTTP/1.0\r\n\r\n")


def other_urls() -> Corpus:
    for directory in ("/users", "/users/1", "/users/import", "/health/live", "/nothing"):
        yield ask(f"OPTIONS {directory}")
        yield ask(f"PUT {directory}", JSON, body=in_json(ADA))
    for line in (
        "OPTIONS *", "OPTIONS /users/abc", "DELETE /users", "PATCH /users", "POST /users/1",
        "DELETE /health/live", "TRACE /users", "BREW /users", "get /users/1",
        "GET /health/live", "HEAD /health/live", "GET /health/live/", "GET /health/live?a=%zz",
        "GET /health", "GET /nothing", "HEAD /nothing", "GET /users/1/friends", "GET /user",
        "GET /USERS", "GET //users?limit=1", "GET //users//1", "GET /users//?limit=1",
        "GET /users%2F1", "GET /%75sers/1", "GET /users/./1", "GET /users/../users/1",
        "GET /users/%2e%2e", "GET /users;a=1", "GET /users%3Flimit=1", "GET /users%00",
        "GET /users\\1", "GET /é", "GET /%FF", "GET /%zz", "GET /docs/nothing",
        "GET /docs/assets/x", "GET http://elsewhere.test/users/1",
        "GET https://elsewhere.test/users?limit=1",
    ):  # fmt: skip
        yield ask(line)


def odd_messages() -> Corpus:
    for host in ("", "a b/<>", "users.test:x", "[::1]:80", "é", "a@b"):
        yield ask("GET /users/1", f"Host: {host}")
    for identity in ("é", "x" * 129, "x" * 128, "A-Z_a.z:0", ""):
        yield ask("GET /users/1", f"X-Request-ID: {identity}")
    yield ask("GET /users/1", "X-Request-ID: first", "X-Request-ID: second")
    for headers in (
        b"", b"Host: \xff\r\n", b"Host: a.test\r\nHost: b.test\r\n", b"Content-Length: x\r\n",
    ):  # fmt: skip
        yield raw_request(b"GET /users/1 HTTP/1.1\r\nConnection: close\r\n" + headers + b"\r\n")
    for headers in (
        b"X: y\r\n" * 90, b"X: y\r\n" * 200, b"a b: c\r\n", b"User-Agent:\r\nReferer:  x \r\n",
        b"If-None-Match: \xff\xfe\r\nAccept: \xff\r\n", b'If-None-Match: "\xff\xfe"\r\n',
    ):  # fmt: skip
        head = b"GET /users/1 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n"
        yield raw_request(head + headers + b"\r\n")
    for coding in (b"gzip, chunked", b"chunked, chunked", b"gzip"):
        yield raw_request(
            b"POST /users HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n"
            b"Transfer-Encoding: " + coding + b"\r\n\r\n2\r\n{}\r\n0\r\n\r\n"
        )
    yield create(b"2\r\n{}\r\nz\r\n", CHUNKED)
    for line in (
        b"GET /users/1 HTTP/1.0", b"HEAD /users HTTP/1.0", b"GET /users?limit=2 HTTP/1.0",
        b"GET /users/9 HTTP/1.0", b"GET /users/1 HTTP/1.2", b"GET /users/1", b"nonsense",
        b"GET users/1 HTTP/1.1", b"GET /users /1 HTTP/1.1", b"GET /users/\xff HTTP/1.1",
    ):  # fmt: skip
        yield raw_request(line + b"\r\nConnection: close\r\n\r\n")
    body = b'{"full_name": ""}'
    old = b"POST /users HTTP/1.0\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
    yield raw_request(old % len(body) + body)
    # four on one connection, of which two are refused before their bodies are read
    yield raw_request(
        b"POST /users HTTP/1.1\r\nHost: a\r\nContent-Type: text/plain\r\nContent-Length: 9\r\n\r\n"
        b"not JSON!"
        b"PUT /users/1 HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n"
        b"not read."
        b"HEAD /users/1 HTTP/1.1\r\nHost: a\r\n\r\n"
        b"GET /users/1 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
    )


def alphabets() -> Corpus:
    """Yield searches for capitals of other alphabets, which SQLite does not fold."""
    yield create({"full_name": "Émilie du Châtelet", "email": "Émilie@example.org"})
    for query in ("name=%C3%89mi", "name=%C3%A9mi", "name=emi", "email=%C3%A9milie@example.org"):
        yield ask(f"GET /users?{query}")


def taken_addresses() -> Corpus:
    """Yield conflicts of e-mail addresses; last, as a refused row uses an id on PostgreSQL."""
    taken, key = {"full_name": "Impostor", "email": "ADA@example.org"}, "Idempotency-Key: taken"
    yield create(taken)
    yield create(taken, key)
    yield create(taken, key)
    yield create({"full_name": "Impostor"}, key)
    yield create(taken, "Idempotency-Key: another", "Expect: 100-continue")
    line = json.dumps(taken) + "\n"
    for policy in ("fail", "skip", "update"):
        directory = f"POST /users/import?on_conflict={policy}"
        yield send(directory, line, "Content-Type: application/x-ndjson")
    yield ask("GET /users/1")
    yield ask("DELETE /users/1")
    yield create(taken, key)
    yield create(taken)


TOKENS = {  # secret: its scopes, and when it expires
    "usr_reader": (["read"], None),
    "usr_writer": (["write"], None),
    "usr_both": (["read", "write"], "2999-12-31T00:00:00Z"),
    "usr_former": (["read", "write"], "2020-01-31T00:00:00Z"),
}


def with_tokens() -> Corpus:
    """Yield the requests for a service with a token file."""
    reader, writer, both = (f"Authorization: Bearer usr_{n}" for n in ("reader", "writer", "both"))
    for authorization in (
        "Bearer usr_nobody", "Bearer usr_former", "Bearer", "Basic dXNlcjpwYXNz", "", "usr_reader",
        "Bearer usr_reader", "bearer usr_reader", "BEARER  usr_reader ", "Bearer\tusr_reader",
        "Bearer usr_reader, Bearer usr_both", "Bearer é", "Bearer usr_writer",
    ):  # fmt: skip
        yield ask("GET /users", f"Authorization: {authorization}")
    yield ask("GET /users", reader, reader)
    for headers in ((), (reader,), (writer,)):
        yield create(ADA, *headers)
    yield create("{", reader)
    yield create(b"x" * (MIB + 1), TEXT)
    for line in ("GET /users", "HEAD /users/1", "GET /users/abc"):
        for headers in ((), (writer,), (both,)):
            yield ask(line, *headers)
    for line in ("GET /nothing", "PUT /users", "OPTIONS /users", "GET /health/live"):
        yield ask(line)
    for line in ("GET /users?limit=0", "GET /users/export", "DELETE /users/1"):
        yield ask(line)
        yield ask(line, reader)
    for headers in ((), (reader,), (writer,)):
        yield change(1, {"age": 1}, *headers)
    for token in (writer, both, writer):
        yield create({"full_name": "Keyed"}, token, "Idempotency-Key: of each")
    yield ask("DELETE /users/1", both)


def with_a_limit() -> Corpus:
    """Yield the requests for a service with a rate limit of four."""
    for line in ("GET /health/live", "GET /nothing", "PUT /users", "OPTIONS /users"):
        yield ask(line)
    yield create({"full_name": "Ada"})
    yield ask("GET /users/1", 'If-None-Match: "other"')
    yield ask("HEAD /users", "Accept-Encoding: br")
    yield create({"full_name": ""})
    for line in ("GET /users", "HEAD /users/1", "DELETE /users/1", "GET /health/live"):
        yield ask(line)
    yield create({"full_name": "Ada"})
    yield change(1, "{")


def with_origins() -> Corpus:
    """Yield the requests for a service with CORS origins."""
    known, stranger = "Origin: https://app.example.org", "Origin: https://evil.example"
    wish = "Access-Control-Request-Method: PATCH"
    wishes = "Access-Control-Request-Headers: authorization, if-match, content-type"
    for origins in ((), (known,), (stranger,), ("Origin: null",), (known, stranger)):
        yield ask("GET /users", *origins)
        yield ask("OPTIONS /users/1", *origins, wish, wishes)
    yield create(ADA, known)
    yield create(ADA, stranger)
    for origin in (known, stranger):
        yield create({"full_name": ""}, origin)
        yield ask("HEAD /users/1", origin)
        yield ask("GET /users?limit=0", origin, "Accept-Encoding: br")
        for line in ("GET /nothing", "PUT /users", "OPTIONS /users", "GET /health/live"):
            yield ask(line, origin)
        yield ask("OPTIONS /nothing", origin, wish)
    yield ask("DELETE /users/1", known)


CORPORA: dict[str, Callable[[], Corpus]] = {
    "everything": everything,
    "tokens": with_tokens,
    "a limit": with_a_limit,
    "origins": with_origins,
}
SETTINGS = {
    "tokens": {"TOKENS_FILE": "{directory}/tokens.json"},
    "a limit": {"RATE_LIMIT": "4/3600"},
    "origins": {"CORS_ORIGINS": "https://app.example.org, https://other.example.org"},
}


async def responses_to(
    name: str, url: str, directory: Path, record: Sequence[Exchange], **environment: str
) -> list[Exchange]:
    """Send a corpus to a new service, whose files are in `directory`; return the exchanges.

    The corpus continues from the recorded response where there is one, so that a response that
    differs does not make the requests after it differ.
    """
    write_tokens(directory / "tokens.json")
    special = {
        key: value.format(directory=directory) for key, value in SETTINGS.get(name, {}).items()
    }
    settings = {"ACCESS_LOG": f"{directory}/access.log"} | special | environment
    port, exchanges = free_port(), list[Exchange]()
    async with forkserver.service(DATABASE_URL=url, PORT=str(port), **settings):
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client:
            await wait_until_ready(client)
        corpus = CORPORA[name]()
        request: Request | None = next(corpus)
        while request is not None:
            response = legible(await response_to(port, request))
            recorded_response = (
                record[len(exchanges)].response if len(exchanges) < len(record) else response
            )
            exchanges.append(Exchange(request.name, response))
            request = request_after(corpus, recorded_response)
    return exchanges


def request_after(corpus: Corpus, response: Response) -> Request | None:
    """Return the request that follows the response; None at the end."""
    try:
        return corpus.send(response)
    except StopIteration:
        return None


async def response_to(port: int, request: Request) -> bytes:
    """Send a request; return all bytes until the service closes the connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    received = b""
    try:
        async with asyncio.timeout(TIMEOUT):
            writer.write(request.content)
            while piece := await reader.read(2**16):
                received += piece
    except (TimeoutError, ConnectionError) as error:
        return received + f"and no end: {type(error).__name__}".encode()
    finally:
        writer.close()
    return received


def write_tokens(file: Path) -> None:
    tokens = [
        {
            "name": secret.removeprefix("usr_"),
            "hash": hash_of(secret),
            "scopes": scopes,
            "created": "2019-01-31T00:00:00Z",
            "expires": expires,
        }
        for secret, (scopes, expires) in TOKENS.items()
    ]
    file.write_text(json.dumps({"tokens": tokens}), encoding="utf-8")


MOMENTARY = re.compile(
    r"^(date: )[^\r]+"
    r"|^(x-request-id: )[0-9a-f]{16}(?=\r)"  # made by the service
    r"|(r=0;t=|^retry-after: |try again in )(?:8\d\d|900)\b",  # seconds of the limit
    re.MULTILINE,
)


def legible(response: bytes) -> Response:
    """Return the lines of a response without the values that differ each time.

    A compressed body is decompressed; of br its hash is kept too. The bytes of gzip hold the time,
    and differ between builds of zlib.
    """
    head, end, body = response.partition(b"\r\n\r\n")
    if b"\r\ntransfer-encoding: chunked" in head:
        body = in_one_piece(body)
    if b"\r\ncontent-encoding: br" in head and body:
        body = f"br {hashlib.sha256(body).hexdigest()[:16]}: ".encode() + brotli.decompress(body)
    if b"\r\ncontent-encoding: gzip" in head and body:
        head = re.sub(rb"(?<=\r\ncontent-length: )\d+", "…".encode(), head)
        body = b"gzip: " + gzip.decompress(body)
    text = (head + end + body).decode(errors="backslashreplace")
    text = MOMENTARY.sub(lambda match: "".join(part or "" for part in match.groups()) + "…", text)
    head_text, _, body_text = text.partition("\r\n\r\n")
    return [*head_text.split("\r\n"), "", *re.split(r"(?<=\},)(?=\{)|(?<=\n)(?=.)", body_text)]


def in_one_piece(chunks: bytes) -> bytes:
    """Join a chunked body, since chunk sizes depend on timing; return a cut one as it is."""
    whole, rest = b"", chunks
    while match := re.match(rb"([0-9a-fA-F]+)\r\n", rest):
        size = int(match.group(1), 16)
        piece, rest = rest[match.end() :][:size], rest[match.end() + size + 2 :]
        whole += piece
        if size == 0:
            return whole
    return chunks


def recorded(kind: str) -> dict[str, list[Exchange]]:
    """Read the record: the exchanges with that kind of database, by corpus."""
    record = json.loads(RECORD.read_text(encoding="utf-8"))
    return {
        name: [Exchange(one["request"], one.get("answer") or one[kind]) for one in exchanges]
        for name, exchanges in record.items()
    }


def differences(before: Iterable[Exchange], now: Iterable[Exchange]) -> list[str]:
    """Return the requests whose responses differ, each with both responses."""
    nothing = Exchange("no request", [])
    differing: list[str] = []
    for number, (was, is_) in enumerate(zip_longest(before, now, fillvalue=nothing), start=1):
        if was.request != is_.request:
            return [
                *differing,
                f"{number}. was {was.request}, is {is_.request}: write the record anew",
            ]
        old, new = with_sorted_headers(was.response), with_sorted_headers(is_.response)
        if old != new:
            diff = unified_diff(old, new, n=len(old), lineterm="")
            differing.append("\n".join([f"{number}. {was.request}", *list(diff)[3:]]))
    return differing


def with_sorted_headers(response: Response) -> Response:
    """Return a response with its headers in alphabetical order: their order has no meaning.

    There may be several heads: an informational response, or responses to pipelined requests.
    """
    lines: list[str] = []
    headers: list[str] | None = None  # of the current head; None in a body
    for line in response:
        if headers is None:
            lines.append(line)
            headers = [] if re.search(r"HTTP/1\.[01] \d{3}[^\n]*$", line.rstrip()) else None
        elif line.rstrip():
            headers.append(line)
        else:
            lines += [*sorted(headers), line]
            headers = None
    return [*lines, *(headers or ())]


async def write() -> None:
    """Send all corpora on both kinds of database, and write the record."""
    exchanges: dict[str, dict[str, list[Exchange]]] = {}
    with tempfile.TemporaryDirectory(prefix="users-answers-") as name:
        directory = Path(name)
        server = Server(directory / "postgresql")
        server.join()
        try:
            for kind in KINDS:
                databases = Databases(kind, server, directory)
                exchanges[kind] = {
                    corpus: await responses_to(corpus, await databases.at_head(), directory, ())
                    for corpus in CORPORA
                }
        finally:
            server.leave()
    record = {name: [*merge(*(exchanges[kind][name] for kind in KINDS))] for name in CORPORA}
    RECORD.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    print(f"{sum(map(len, record.values()))} answers are in {RECORD.relative_to(ROOT)}")


def merge(*by_kind: Sequence[Exchange]) -> Iterator[dict[str, Any]]:
    """Yield one response for both kinds of database where they are the same."""
    for exchanges in zip(*by_kind, strict=True):
        (request,) = {exchange.request for exchange in exchanges}
        responses = [exchange.response for exchange in exchanges]
        if responses[0] == responses[1]:
            yield {"request": request, "answer": responses[0]}
        else:
            yield {"request": request, **dict(zip(KINDS, responses, strict=True))}


if __name__ == "__main__":
    asyncio.run(write())
