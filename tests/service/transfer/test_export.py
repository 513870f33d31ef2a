"""GET /users/export: all users of a list, in one snapshot."""

import asyncio
import csv
import gzip
import io
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from http import HTTPStatus
from pathlib import Path
from typing import Any

import brotli
import httpx
import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from service.auth import tokens
from tests import forkserver
from tests.app import serving
from tests.people import PEOPLE
from tests.servers import free_port, wait_until_ready
from tests.transfers import import_users, users_without_ids

AWKWARD = [
    {"full_name": 'Say "Hi", \\o/', "email": None, "age": None},
    {"full_name": "back\\slash \\n \\\\N", "email": "a@example.org", "age": 0},
    {"full_name": "Зоя, 王 🙂", "email": "b@example.org", "age": 150},
    {"full_name": "\\N", "email": None, "age": 1},
    {"full_name": "'; DROP TABLE users; --", "email": None, "age": 2},
]
MANY = 100_000  # rows: more than the buffers between a database and a client hold


async def exported(client: httpx.AsyncClient, query: str = "") -> list[dict[str, Any]]:
    response = await client.get(f"/users/export{query}")
    assert response.status_code == HTTPStatus.OK, response.text
    return [json.loads(line) for line in response.text.splitlines()]


async def fill(engine: AsyncEngine, rows: int) -> None:
    numbers = f"WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {rows})"
    async with engine.begin() as connection:
        await connection.execute(
            text(f"{numbers} INSERT INTO users (full_name) SELECT 'Somebody ' || i FROM n")
        )


@asynccontextmanager
async def served(url: str, **settings: str) -> AsyncIterator[httpx.AsyncClient]:
    """A service in a process of its own: the test client does not stream responses."""
    port = free_port()
    place = f"http://127.0.0.1:{port}"
    async with (
        forkserver.service(DATABASE_URL=url, PORT=str(port), ACCESS_LOG="off", **settings),
        httpx.AsyncClient(base_url=place, timeout=60) as client,
    ):
        await wait_until_ready(client)
        yield client


async def test_ndjson_has_the_users_as_the_list_has_them(client: httpx.AsyncClient) -> None:
    for user in AWKWARD:
        await client.post("/users", json=user)
    listed = (await client.get("/users")).json()["items"]
    assert await exported(client) == listed
    response = await client.get("/users/export")
    assert response.headers["Content-Type"] == "application/x-ndjson"
    assert response.headers["Content-Disposition"] == 'attachment; filename="users.ndjson"'
    assert response.headers["Cache-Control"] == "no-store"


async def test_csv_has_the_same_and_any_csv_reader_reads_it(client: httpx.AsyncClient) -> None:
    for user in AWKWARD:
        await client.post("/users", json=user)
    response = await client.get("/users/export?format=csv")
    assert response.headers["Content-Type"].startswith("text/csv")
    rows = list(csv.DictReader(io.StringIO(response.text, newline="")))
    read = [
        {
            "id": int(row["id"]),
            "full_name": row["full_name"],
            "email": row["email"] or None,
            "age": int(row["age"]) if row["age"] else None,
        }
        for row in rows
    ]
    assert read == (await client.get("/users")).json()["items"]


FORMULAS = ["=1+1", "+1", "-1", "@SUM(A1)", "\uff1d1", "a=1", "'=1", "Ada"]


async def test_a_csv_for_spreadsheets_has_no_formulas(client: httpx.AsyncClient) -> None:
    for number, name in enumerate(FORMULAS):
        body = {"full_name": name, "email": f"{name[0]}x{number}@example.org"}
        await client.post("/users", json=body if name[0] in "=+-" else {"full_name": name})
    text = (await client.get("/users/export?format=csv&formulas=text")).text
    rows = list(csv.DictReader(io.StringIO(text, newline="")))
    assert [row["full_name"] for row in rows] == [
        "'=1+1", "'+1", "'-1", "'@SUM(A1)", "'\uff1d1", "a=1", "'=1", "Ada",
    ]  # fmt: skip
    assert [row["email"] for row in rows[:4]] == [
        "'=x0@example.org", "'+x1@example.org", "'-x2@example.org", "",
    ]  # fmt: skip
    raw = (await client.get("/users/export?format=csv")).text
    assert [row["full_name"] for row in csv.DictReader(io.StringIO(raw, newline=""))] == FORMULAS
    assert (await client.get("/users/export?format=csv&formulas=raw")).text == raw
    refused = await client.get("/users/export?formulas=text")
    assert refused.json()["errors"] == [{"pointer": "/formulas", "detail": "is for format=csv"}]


async def test_without_users_an_export_is_empty(client: httpx.AsyncClient) -> None:
    assert (await client.get("/users/export")).content == b""
    assert (await client.get("/users/export?format=csv")).text == "id,full_name,email,age\n"


@pytest.mark.parametrize(
    "query", ["name=ma", "email=LAUREATE-160@nobel.example.org", "sort=-full_name", "sort=-id"]
)
async def test_the_filters_are_those_of_the_list(client: httpx.AsyncClient, query: str) -> None:
    await import_users(client, PEOPLE, "skip")
    page = (await client.get(f"/users?limit=1000&{query}")).json()
    users = await exported(client, f"?{query}")
    assert users[:1000] == page["items"]
    assert len(users) == len(page["items"]) or page["next"]


@pytest.mark.parametrize("query", ["format=xml", "limit=3", "name=a&name=b", "name=a&sort=id"])
async def test_parameters_that_an_export_does_not_have_are_refused(
    client: httpx.AsyncClient, query: str
) -> None:
    response = await client.get(f"/users/export?{query}")
    assert response.status_code == HTTPStatus.UNPROCESSABLE_ENTITY
    assert response.json()["type"] == "urn:problem:invalid-input"


@pytest.mark.parametrize(
    ("accepted", "encoding", "decode"),
    [
        ("gzip", "gzip", gzip.decompress),
        ("gzip, br", "br", brotli.decompress),
        ("br;q=0, gzip;q=0.5", "gzip", gzip.decompress),
        ("*", "br", brotli.decompress),
        ("identity", None, bytes),
        ("br;q=0", None, bytes),
    ],
)
@pytest.mark.parametrize("place", ["/users/export", "/users?limit=1000"])
async def test_lists_and_exports_are_compressed_as_the_client_accepts(
    client: httpx.AsyncClient, place: str, accepted: str, encoding: str | None, decode: Any
) -> None:
    await import_users(client, PEOPLE, "skip")
    plain = (await client.get(place, headers={"Accept-Encoding": "identity"})).content
    async with client.stream("GET", place, headers={"Accept-Encoding": accepted}) as response:
        raw = b"".join([chunk async for chunk in response.aiter_raw()])
    assert response.headers.get("Content-Encoding") == encoding
    assert response.headers["Vary"] == "Accept-Encoding"
    assert decode(raw) == plain


async def test_head_returns_the_headers_and_no_users(client: httpx.AsyncClient) -> None:
    response = await client.head("/users/export?format=csv")
    assert response.status_code == HTTPStatus.OK
    assert response.headers["Content-Type"].startswith("text/csv")
    assert response.content == b""


async def test_it_is_one_snapshot_while_others_write(url: str, engine: AsyncEngine) -> None:
    await fill(engine, MANY)
    async with served(url) as client, client.stream("GET", "/users/export") as response:
        lines = response.aiter_lines()
        first = await anext(lines)
        created = await client.post("/users", json={"full_name": "Too late"})
        assert created.status_code == HTTPStatus.CREATED
        seen = [first] + [line async for line in lines]
    assert len(seen) == MANY
    assert json.loads(seen[-1])["full_name"] == f"Somebody {MANY}"


async def test_a_client_that_disconnects_frees_the_connection(
    url: str, engine: AsyncEngine
) -> None:
    await fill(engine, MANY)
    async with served(url, POOL_SIZE="1", POOL_TIMEOUT="10") as client:
        for _ in range(3):
            async with client.stream("GET", "/users/export") as response:
                await anext(response.aiter_bytes())
        # the only connection is free again, long before the export would have been over
        assert (await client.get("/users?limit=1")).status_code == HTTPStatus.OK


@pytest.mark.only("postgresql")
async def test_a_client_that_disconnects_during_a_merge_frees_the_connection(
    url: str, engine: AsyncEngine
) -> None:
    """The import waits for another transaction, which has inserted the same address."""
    waiting = text(
        "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' "
        "AND application_name LIKE 'users@%'"
    )
    async with engine.connect() as holder, engine.connect() as watcher, served(url) as client:
        await watcher.execution_options(isolation_level="AUTOCOMMIT")
        await holder.execute(
            text("INSERT INTO users (full_name, email) VALUES ('Ada', 'ada@example.org')")
        )
        lines = "full_name,email\nAda,ada@example.org\n"
        importing = asyncio.create_task(import_users(client, lines, "skip"))
        async with asyncio.timeout(30):
            while not await watcher.scalar(waiting):
                await asyncio.sleep(0.02)
            importing.cancel()
            while await watcher.scalar(waiting):
                await asyncio.sleep(0.02)
        await holder.rollback()
        assert await users_without_ids(client) == []


@pytest.mark.only("postgresql")
async def test_an_export_that_fails_midway_ends_in_an_error_of_the_connection(
    url: str, engine: AsyncEngine
) -> None:
    await fill(engine, MANY)
    kill = text(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
        "WHERE application_name LIKE 'users@%' AND query LIKE 'COPY%'"
    )
    async with served(url) as client, engine.connect() as connection:
        with pytest.raises(httpx.RemoteProtocolError):
            await read_and(client, lambda: connection.execute(kill))


async def read_and(client: httpx.AsyncClient, disturb: Callable[[], Awaitable[Any]]) -> None:
    async with client.stream("GET", "/users/export") as response:
        async for _ in response.aiter_bytes():
            await disturb()


@pytest.mark.only("sqlite")
async def test_http_1_0_is_refused_since_it_cannot_show_that_an_export_was_cut_off(
    url: str,
) -> None:
    async with served(url) as client:
        reader, writer = await asyncio.open_connection(client.base_url.host, client.base_url.port)
        writer.write(b"GET /users/export HTTP/1.0\r\n\r\n")
        answer = await reader.read()
        writer.close()
    assert answer.startswith(b"HTTP/1.0 505")
    assert b"urn:problem:outdated-http" in answer


@pytest.mark.only("sqlite")
@pytest.mark.parametrize("megabytes", [3, 12])
async def test_a_client_that_is_refused_while_sending_sees_why(
    url: str, tmp_path: Path, megabytes: int
) -> None:
    tokens.create(str(tmp_path / "tokens.json"), "somebody", ["read"], None)
    async with served(url, TOKENS_FILE=str(tmp_path / "tokens.json")) as client:
        for _ in range(3):
            response = await import_users(client, b"x" * 1_000_000 * megabytes)
            assert response.status_code == HTTPStatus.UNAUTHORIZED


async def test_before_the_first_byte_an_outage_is_a_refusal(empty_url: str) -> None:
    async with serving(database_url=empty_url) as client:
        response = await client.get("/users/export")
        assert response.status_code == HTTPStatus.SERVICE_UNAVAILABLE
        assert response.json()["type"] == "urn:problem:unavailable"
