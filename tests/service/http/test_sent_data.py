"""Data as people send it: files of spreadsheets, odd names and addresses, repeated members."""

import asyncio
import csv
import io
import json
from typing import Any

import pytest

from tests import forkserver
from tests.protocols import PROTOCOLS, Answer
from tests.servers import free_port, listening_event

FILES = {  # by media type
    b"text/csv": "\ufefffull_name;email;age;\r\nZoë;zoe@example.org;36;\r\n".encode("utf-16-le"),
    b"text/csv; charset=windows-1252": "full_name;age;\r\n=Ångström;7;\r\n".encode("cp1252"),
    b'text/csv; charset="UTF-8"; header=present': b"sep=,\nfull_name,,\n@Ada,,\n",
    b"application/x-ndjson": '{"full_name": "Bob: é"}\n'.encode(),
}
REFUSED_FILES = {
    b"text/csv": ("full_name\nZoë\n".encode("cp1252"), "is not UTF-8: save the file as UTF-8"),
    b"application/x-ndjson": (b'{"full_name": "A", "full_name": "B"}\n', "is given more than once"),
    b"application/ndjson": ('{"full_name": "A"}\n'.encode("utf-16"), "is not JSON in UTF-8"),
}
REFUSED_USERS = {  # in JSON: the flaw
    '{"full_name": "Ada", "age": 1, "age": 2}': "/age is given more than once",
    '{"full_name": "\\u200b\\u2800\\u3164"}': "/full_name must contain a character that shows",
    '{"full_name": "Ada", "email": "%s@a.org"}' % ("a" * 65): (
        "/email must have at most 64 characters before the @-sign"
    ),
}


@pytest.mark.parametrize("protocol", PROTOCOLS)
async def test_it_is_read_or_refused_in_words(url: str, protocol: str) -> None:
    port, send = free_port(), PROTOCOLS[protocol]

    def ask(method: bytes, target: bytes, media_type: bytes = b"", body: bytes = b"") -> Answer:
        headers = [(b"Content-Type", media_type)] if media_type else []
        return send(port, method, target, headers, body)

    def users() -> list[dict[str, Any]]:
        items: list[dict[str, Any]] = json.loads(ask(b"GET", b"/users").body)["items"]
        return items

    def check() -> None:
        for media_type, file in FILES.items():
            assert ask(b"POST", b"/users/import", media_type, file).status == 200, media_type
        names = ["Zoë", "=Ångström", "@Ada", "Bob: é"]
        assert [user["full_name"] for user in users()] == names
        for media_type, (file, words) in REFUSED_FILES.items():
            refused = json.loads(ask(b"POST", b"/users/import", media_type, file).body)
            assert refused["detail"] in {"1 line can't be a user", "2 lines can't be users"}
            assert words in refused["rejections"][0]["errors"][0]["detail"]
        for body, words in REFUSED_USERS.items():
            answer = ask(b"POST", b"/users", b"application/json", body.encode())
            assert answer.status == 422
            (flaw,) = json.loads(answer.body)["errors"]
            assert f"{flaw['pointer']} {flaw['detail']}" == words
        for number, email in enumerate(("JOSÉ@example.org", "Jose\u0301@example.org")):
            body = json.dumps({"full_name": "José", "email": email})
            answer = ask(b"POST", b"/users", b"application/json", body.encode())
            assert answer.status == (201, 409)[number]
        found = ask(b"GET", "/users?email=josé@example.org".encode())
        # over HTTP/2 the server itself refuses a path that is not ASCII
        assert (
            found.status == 0 or json.loads(found.body)["items"][0]["email"] == "josé@example.org"
        )
        exported = ask(b"GET", b"/users/export?format=csv&formulas=text").body.decode()
        rows = csv.DictReader(io.StringIO(exported, newline=""))
        assert [row["full_name"] for row in rows] == [
            "Zoë", "'=Ångström", "'@Ada", "Bob: é", "José",
        ]  # fmt: skip

    quiet = {"ACCESS_LOG": "off", "LOG_FORMAT": "json"}
    async with forkserver.service(DATABASE_URL=url, PORT=str(port), **quiet) as running:
        await listening_event(running)
        await asyncio.to_thread(check)
