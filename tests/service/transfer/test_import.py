"""POST /users/import: many users in one request, all in one transaction."""

import asyncio
import json
from collections.abc import AsyncIterator
from http import HTTPStatus
from typing import Any

import httpx
import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from service.http.imports import FIRST_PART
from service.http.minimum_rate import SENDING_LAG
from tests.app import serving
from tests.people import PEOPLE
from tests.transfers import import_users, users_without_ids

CSV, NDJSON = "text/csv", "application/x-ndjson"

ADA = {"full_name": "Ada Lovelace", "email": "ada@example.org", "age": 36}


def ndjson(*users: dict[str, Any]) -> bytes:
    return b"".join(json.dumps(user).encode() + b"\n" for user in users)


async def how_many(engine: AsyncEngine) -> int:
    async with engine.connect() as connection:
        return int((await connection.scalar(text("SELECT count(*) FROM users"))) or 0)


def counts(response: httpx.Response) -> dict[str, int]:
    assert response.status_code == HTTPStatus.OK, response.text
    report = response.json()
    return {name: report[name] for name in ("created", "updated", "skipped", "rejected")}


async def test_people_skipping(client: httpx.AsyncClient, engine: AsyncEngine) -> None:
    first = await import_users(client, PEOPLE, "skip")
    assert counts(first) == {"created": 1377, "updated": 0, "skipped": 6, "rejected": 152}
    assert await how_many(engine) == 1377
    second = await import_users(client, PEOPLE, "skip")
    assert counts(second) == {"created": 0, "updated": 0, "skipped": 1383, "rejected": 152}
    assert await how_many(engine) == 1377


async def test_people_updating(client: httpx.AsyncClient, engine: AsyncEngine) -> None:
    first = await import_users(client, PEOPLE, "update")
    assert counts(first) == {"created": 1377, "updated": 6, "skipped": 0, "rejected": 152}
    second = await import_users(client, PEOPLE, "update")
    assert counts(second) == {"created": 0, "updated": 1383, "skipped": 0, "rejected": 152}
    assert await how_many(engine) == 1377


async def test_people_failing(client: httpx.AsyncClient, engine: AsyncEngine) -> None:
    response = await import_users(client, PEOPLE)
    assert response.status_code == HTTPStatus.UNPROCESSABLE_ENTITY
    problem = response.json()
    assert problem["type"] == "urn:problem:import-refused"
    assert problem["detail"] == "152 lines can't be users"
    assert len(problem["rejections"]) == 100
    assert problem["rejections"][0] == {
        "line": 2,
        "errors": [{"pointer": "/age", "detail": "must be between 0 and 150"}],
    }
    assert await how_many(engine) == 0


async def test_users_get_their_ids_in_the_order_of_the_lines(client: httpx.AsyncClient) -> None:
    names = [f"Person {number}" for number in range(500)]
    await import_users(client, "full_name\n" + "\n".join(names))
    assert [user["full_name"] for user in await users_without_ids(client)] == names


async def test_a_response_names_the_first_hundred_rejected_lines_and_as_ndjson_all(
    client: httpx.AsyncClient,
) -> None:
    lines = ndjson(ADA, *({"full_name": "Old", "age": 151} for _ in range(250)))
    report = (await import_users(client, lines, "skip", **{"Content-Type": NDJSON})).json()
    assert [rejection["line"] for rejection in report["rejections"]] == [*range(2, 102)]
    everything = await import_users(
        client, lines, "skip", **{"Content-Type": NDJSON, "Accept": NDJSON}
    )
    assert everything.headers["Content-Type"] == NDJSON
    first, *rest = map(json.loads, everything.text.splitlines())
    assert first == {"created": 0, "updated": 0, "skipped": 1, "rejected": 250}
    assert [rejection["line"] for rejection in rest] == [*range(2, 252)]
    assert rest[-1]["errors"] == [{"pointer": "/age", "detail": "must be between 0 and 150"}]


@pytest.mark.parametrize("media_type", [CSV, NDJSON])
async def test_an_export_can_be_imported(
    client: httpx.AsyncClient, engine: AsyncEngine, media_type: str
) -> None:
    await import_users(client, PEOPLE, "skip")
    before = await users_without_ids(client)
    form = "csv" if media_type == CSV else "ndjson"
    exported = await client.get(f"/users/export?format={form}")
    async with engine.begin() as connection:
        await connection.execute(text("DELETE FROM users"))
    again = await import_users(client, exported.content, **{"Content-Type": media_type})
    assert counts(again)["created"] == 1377
    assert await users_without_ids(client) == before


CONFLICTS = ndjson(
    {"full_name": "First", "email": "new@example.org", "age": 1},
    {"full_name": "Changed", "email": "ADA@example.org"},
    {"full_name": "Second", "email": "New@Example.org", "age": 2},
    {"full_name": "Nobody"},
    {"full_name": "Nobody"},
)
UNCHANGED = {"full_name": "Ada Lovelace", "email": "ada@example.org", "age": 36}
NOBODY = {"full_name": "Nobody", "email": None, "age": None}


async def test_skip_keeps_the_first_line_and_the_users_that_are_there(
    client: httpx.AsyncClient,
) -> None:
    await client.post("/users", json=ADA)
    response = await import_users(client, CONFLICTS, "skip", **{"Content-Type": NDJSON})
    assert counts(response) == {"created": 3, "updated": 0, "skipped": 2, "rejected": 0}
    first = {"full_name": "First", "email": "new@example.org", "age": 1}
    assert await users_without_ids(client) == [UNCHANGED, first, NOBODY, NOBODY]


async def test_update_takes_the_last_line_and_keeps_an_age_that_no_line_mentions(
    client: httpx.AsyncClient,
) -> None:
    await client.post("/users", json=ADA)
    response = await import_users(client, CONFLICTS, "update", **{"Content-Type": NDJSON})
    assert counts(response) == {"created": 3, "updated": 2, "skipped": 0, "rejected": 0}
    assert await users_without_ids(client) == [
        {"full_name": "Changed", "email": "ADA@example.org", "age": 36},
        {"full_name": "Second", "email": "New@example.org", "age": 2},
        NOBODY,
        NOBODY,
    ]


async def test_update_removes_an_age_only_where_the_line_has_a_null(
    client: httpx.AsyncClient,
) -> None:
    await client.post("/users", json=ADA)
    await import_users(client, "full_name,email\nAda,ada@example.org\n", "update")
    assert (await users_without_ids(client))[0] == {**ADA, "full_name": "Ada"}
    await import_users(client, "full_name,email,age\nAda,ada@example.org,\n", "update")
    assert (await users_without_ids(client))[0] == {**ADA, "full_name": "Ada", "age": None}


async def test_update_does_what_importing_line_by_line_would_do(
    client: httpx.AsyncClient,
) -> None:
    lines = [{"full_name": f"P{number}", "email": f"p{number}@example.org"} for number in range(6)]
    lines[1]["age"], lines[3]["age"] = 1, None  # type: ignore[assignment]  # JSON
    again = [{"full_name": "Q1", "email": "P1@example.org"}]
    again += [{"full_name": "Q2", "email": "p2@example.org", "age": 2}]  # type: ignore[dict-item]
    again += [{"full_name": "R2", "email": "p2@example.org"}]
    report = await import_users(
        client, ndjson(*lines, *again), "update", **{"Content-Type": NDJSON}
    )
    assert counts(report) == {"created": 6, "updated": 3, "skipped": 0, "rejected": 0}
    users = {user["email"].lower(): user for user in await users_without_ids(client)}
    assert (users["p1@example.org"]["full_name"], users["p1@example.org"]["age"]) == ("Q1", 1)
    assert (users["p2@example.org"]["full_name"], users["p2@example.org"]["age"]) == ("R2", 2)
    fresh = ndjson(*({"full_name": f"N{n}", "age": 1} if n % 2 else {"full_name": f"N{n}"}
                     for n in range(6)))  # fmt: skip
    await import_users(client, fresh, "update", **{"Content-Type": NDJSON})
    assert [user["full_name"] for user in await users_without_ids(client)][-6:] == [
        f"N{n}" for n in range(6)
    ]


async def test_fail_names_the_lines_in_conflict_and_stores_nothing(
    client: httpx.AsyncClient,
) -> None:
    await client.post("/users", json=ADA)
    response = await import_users(client, CONFLICTS, **{"Content-Type": NDJSON})
    assert response.status_code == HTTPStatus.UNPROCESSABLE_ENTITY
    taken = [{"pointer": "/email", "detail": "another user has this e-mail address"}]
    repeated = [{"pointer": "/email", "detail": "repeats the e-mail address of line 1"}]
    assert response.json()["rejections"] == [
        {"line": 2, "errors": taken},
        {"line": 3, "errors": repeated},
    ]
    assert await users_without_ids(client) == [UNCHANGED]


async def test_an_empty_import_creates_nobody(client: httpx.AsyncClient) -> None:
    response = await import_users(client, b"", **{"Content-Type": NDJSON})
    assert counts(response) == {"created": 0, "updated": 0, "skipped": 0, "rejected": 0}


REFUSED = [
    ("name,email\nAda,a@example.org\n", {}, 422, "invalid-input"),
    ("", {}, 422, "invalid-input"),
    ("full_name\nAda\n", {"Content-Type": "application/json"}, 415, "unsupported-media-type"),
    ("full_name\nAda\n", {"Content-Encoding": "gzip"}, 415, "unsupported-media-type"),
]


@pytest.mark.parametrize(("content", "headers", "status", "code"), REFUSED)
async def test_a_file_that_has_no_users_is_refused(
    client: httpx.AsyncClient, content: str, headers: dict[str, str], status: int, code: str
) -> None:
    response = await import_users(client, content, **headers)
    assert response.status_code == status
    assert response.json()["type"] == f"urn:problem:{code}"
    assert await users_without_ids(client) == []


@pytest.mark.parametrize("query", ["on_conflict=maybe", "on_conflict=skip&color=red"])
async def test_unknown_parameters_are_refused(client: httpx.AsyncClient, query: str) -> None:
    headers = {"Content-Type": CSV}
    response = await client.post(
        f"/users/import?{query}", content="full_name\nAda\n", headers=headers
    )
    assert response.status_code == HTTPStatus.UNPROCESSABLE_ENTITY
    assert await users_without_ids(client) == []


async def test_it_may_be_longer_than_other_bodies(url: str) -> None:
    async with serving(database_url=url, max_body=1000) as client:
        lines = "full_name\n" + "Somebody with a name\n" * 1000
        assert counts(await import_users(client, lines))["created"] == 1000


async def test_while_a_slow_client_sends_others_write(client: httpx.AsyncClient) -> None:
    """A slow client holds no lock: on SQLite too, where one writes at a time."""
    started, go_on = asyncio.Event(), asyncio.Event()

    async def body() -> AsyncIterator[bytes]:
        yield b"full_name\n" + b"Slow\n" * 20_000  # more than is staged at a time
        started.set()
        await go_on.wait()
        yield b"Slow\n"

    slow = asyncio.create_task(import_users(client, body()))
    await started.wait()
    response = await client.post("/users", json=ADA)
    assert response.status_code == HTTPStatus.CREATED
    assert len(await users_without_ids(client)) == 1
    go_on.set()
    assert counts(await slow)["created"] == 20_001


async def test_a_client_that_stops_sending_gets_408_and_nothing_is_stored(url: str) -> None:
    async with serving(database_url=url, transfer_rate=5 * SENDING_LAG) as client:
        forever = asyncio.Event()

        async def body() -> AsyncIterator[bytes]:
            yield b"full_name\nAda\n"
            await forever.wait()

        response = await import_users(client, body())
        assert response.status_code == HTTPStatus.REQUEST_TIMEOUT
        assert response.json()["type"] == "urn:problem:request-timeout"
        assert await users_without_ids(client) == []


async def test_slow_imports_leave_connections_to_other_requests(url: str) -> None:
    started: asyncio.Queue[None] = asyncio.Queue()

    async def body() -> AsyncIterator[bytes]:
        yield b"full_name\n" + b"Slow\n" * FIRST_PART
        started.put_nowait(None)
        await asyncio.Event().wait()

    async with serving(database_url=url, pool_size=4, pool_timeout=3) as client:
        slow = [asyncio.create_task(import_users(client, body())) for _ in range(2)]
        for _ in slow:
            await started.get()
        busy = await import_users(client, "full_name\nAda\n")
        assert busy.status_code == HTTPStatus.SERVICE_UNAVAILABLE
        assert busy.json()["detail"].endswith("all connections are busy")
        assert (await client.post("/users", json=ADA)).status_code == HTTPStatus.CREATED
        for task in slow:
            task.cancel()
        await asyncio.gather(*slow, return_exceptions=True)


async def test_imports_use_connections_no_longer_than_they_last(url: str) -> None:
    async with serving(database_url=url, pool_size=1, pool_timeout=1) as client:
        for on_conflict in ("skip", "fail", "update", "skip"):
            await import_users(client, PEOPLE, on_conflict)
        assert (await client.get("/users?limit=1")).status_code == HTTPStatus.OK


async def test_a_csv_in_another_charset_is_read_as_its_type_says(client: httpx.AsyncClient) -> None:
    text = "full_name;age;\r\nZoë;36;\r\n"
    for charset, sent in (("windows-1252", "cp1252"), ("UTF-16LE", "utf-16-le")):
        headers = {"Content-Type": f"text/csv; charset={charset}"}
        response = await client.post("/users/import", content=text.encode(sent), headers=headers)
        assert counts(response)["created"] == 1
    refused = {
        "text/csv; charset=x-none": "the charset x-none is not known: save the file as UTF-8",
        "text/csv; header=absent": "send CSV whose first line has the names of the columns: "
        "header=present",
        "application/x-ndjson; charset=utf-16": "send NDJSON in UTF-8: charset=utf-8, or none",
    }
    for content_type, detail in refused.items():
        response = await client.post(
            "/users/import", content=b"x", headers={"Content-Type": content_type}
        )
        assert response.status_code == HTTPStatus.UNSUPPORTED_MEDIA_TYPE
        assert response.json()["detail"] == detail
    not_utf8 = await client.post(
        "/users/import", content=text.encode("cp1252"), headers={"Content-Type": "text/csv"}
    )
    assert not_utf8.json()["detail"] == "1 line can't be a user"
    flaw = not_utf8.json()["rejections"][0]["errors"][0]["detail"]
    assert flaw == "is not UTF-8: save the file as UTF-8, or name its charset"
    assert [user["full_name"] for user in await users_without_ids(client)] == ["Zoë", "Zoë"]


async def test_the_same_bytes_in_another_charset_are_another_request(
    client: httpx.AsyncClient,
) -> None:
    statuses = []
    for charset in ("utf-8", "UTF8", "cp1252"):
        response = await client.post(
            "/users/import",
            content="full_name\nZoë\n".encode(),
            headers={"Content-Type": f"text/csv; charset={charset}", "Idempotency-Key": "file"},
        )
        statuses.append(response.status_code)
    assert statuses == [HTTPStatus.OK, HTTPStatus.OK, HTTPStatus.UNPROCESSABLE_ENTITY]
