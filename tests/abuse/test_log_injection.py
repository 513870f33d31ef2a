"""Nothing that a client sends gets into a log, a label of metrics, or /evolution.

Where it would, by an exception's message, it makes no line of its own.
"""

import asyncio
import logging
import re
from pathlib import Path
from urllib.parse import quote_from_bytes

import httpx
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.auth import tokens
from service.auth.tokens import SCOPES
from service.observability.logs import logging_config
from service.settings import Settings
from tests import forkserver
from tests.abuse.raw_requests import exchange, request
from tests.commands import run_service_command
from tests.servers import free_port, wait_until_ready

MARK = "FORGED!"  # an exclamation mark, since an X-Request-ID that is valid is logged
EVILS = [
    f"\n{MARK}",
    f"\r\n{MARK}",
    f"\x1b[2K\r{MARK}",
    f"\x1b]0;{MARK}\x07",
    f"\u2028{MARK}",
    f"\u2029{MARK}",
    f"\x85{MARK}",
    f"\x0b{MARK}\x0c",
    f"\x00{MARK}",
    f"\u202e{MARK}",
    f'"}}\n{{"event": "{MARK}", "level": "error"}}',
    f'{MARK}" status="200',
    f'{MARK}\\n{{le="1"}} 1',
    f"<script>{MARK}</script>",
]
HEADERS = b"""
    X-Request-ID traceparent tracestate baggage Authorization Host Origin User-Agent Accept
    Content-Type Content-Encoding Cookie Idempotency-Key If-Match If-None-Match Referer
    X-Forwarded-For Forwarded Upgrade
""".split()
COLOURS = re.compile(r"\x1b\[[0-9;]*m")


def requests_with(evil: str, authorization: tuple[bytes, bytes]) -> list[bytes]:
    """Return a request for each place where a client's bytes may stand."""
    raw = evil.encode()
    escaped = quote_from_bytes(raw).encode()
    in_header = re.sub(rb"[\r\n\0]", b" ", raw)
    in_json = msgspec.json.encode(evil)
    json = (b"Content-Type", b"application/json")
    csv = (b"Content-Type", b"text/csv")
    ndjson = (b"Content-Type", b"application/x-ndjson")
    post = b"POST"
    imported = b"/users/import?on_conflict=skip"
    return [
        request(MARK.encode(), b"/users", authorization),
        request(b"GET", b"/" + escaped, authorization),
        request(b"GET", b"/users/" + escaped, authorization),
        request(b"GET", b"/users/\xff" + in_header.replace(b" ", b""), authorization),
        *(
            request(b"GET", b"/users?%s=%s" % (name, escaped), authorization)
            for name in (b"name", b"email", b"after", b"limit", b"sort", b"x")
        ),
        request(b"GET", b"/users?%s=1" % escaped, authorization),
        *(request(b"GET", b"/users/0", authorization, (name, in_header)) for name in HEADERS),
        *(
            request(post, b"/users", authorization, json, body=body)
            for body in (
                b'{"full_name": %s}' % in_json,
                b'{"full_name": "Ada", "email": %s}' % in_json,
                b'{"full_name": "Ada", "age": %s}' % in_json,
                b"{%s: 1}" % in_json,
                raw,
            )
        ),
        request(post, imported, authorization, csv, body=raw),
        request(post, imported, authorization, csv, body=b"full_name,email\n%s,%s\n" % (raw, raw)),
        request(post, imported, authorization, ndjson, body=b'{"full_name": %s}\n' % in_json),
        request(post, imported, authorization, ndjson, body=raw),
        request(post, imported, authorization, (b"Idempotency-Key", in_header), csv, body=raw),
    ]


@pytest.mark.only("sqlite")
@pytest.mark.parametrize("log_format", ["json", "console"])
async def test_nothing_of_a_client_is_logged_counted_or_shown(
    url: str, tmp_path: Path, log_format: str
) -> None:
    port = free_port()
    file = str(tmp_path / "tokens.json")
    authorization = (b"Authorization", b"Bearer " + tokens.create(file, "me", SCOPES).encode())
    environment = {
        "DATABASE_URL": url,
        "PORT": str(port),
        "TOKENS_FILE": file,
        "LOG_FORMAT": log_format,
        "LOG_LEVEL": "DEBUG",
    }
    requests = [sent for evil in EVILS for sent in requests_with(evil, authorization)]
    async with (
        forkserver.service(**environment) as service,
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client,
    ):
        await wait_until_ready(client)
        reading = asyncio.create_task(service.stderr.read())
        for sent in requests:
            await asyncio.to_thread(exchange, port, sent)
        shown = ""
        for path in ("/metrics", "/evolution", "/evolution.json"):
            headers = {"Authorization": authorization[1].decode()}
            shown += (await client.get(path, headers=headers)).text
        service.terminate()
        logged = (await reading).decode()
    assert logged.count("/users") > len(EVILS)
    assert MARK not in logged
    assert MARK not in shown


@pytest.mark.parametrize("log_format", ["json", "console"])
@given(st.text() | st.sampled_from(EVILS))
def test_text_in_a_log_line_makes_no_line_of_its_own(log_format: str, text: str) -> None:
    config = logging_config(Settings(log_format=log_format))  # type: ignore[arg-type]  # both are its values
    made = config["formatters"]["structured"]
    formatter: logging.Formatter = made.pop("()")(**made)
    raised = (ValueError, ValueError(text), None)
    record = logging.LogRecord("service", logging.ERROR, "", 1, "it failed: %s", (text,), raised)
    first, *others = COLOURS.sub("", formatter.format(record)).split("\n")
    assert all(line.startswith(("    ", "ValueError")) for line in others)
    assert all(line.replace("\t", "").isprintable() for line in (first, *others))
    assert log_format == "console" or not others


@pytest.mark.only("sqlite")
async def test_a_file_that_is_imported_can_not_write_to_the_terminal(
    url: str, tmp_path: Path
) -> None:
    names = [f"{MARK} {evil}" for evil in EVILS]
    quoted = [name.replace('"', '""') for name in names]
    contents = {
        "header.csv": ",".join(f'"{name}"' for name in quoted),
        "cells.csv": "full_name,email\n" + "".join(f'"{name}","{name}"\n' for name in quoted),
        "members.ndjson": "".join(msgspec.json.encode({name: 1}).decode() + "\n" for name in names),
    }
    for name, content in contents.items():
        file = tmp_path / name
        file.write_text(content, encoding="utf-8")
        _, out, errors = await run_service_command("import", str(file), DATABASE_URL=url)
        assert errors
        for line in (out + errors).split("\n"):
            assert line.isprintable()
            assert not line.startswith(MARK)
