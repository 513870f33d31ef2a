"""Idempotency-Key: a repeated request takes effect once."""

import asyncio
from collections import Counter
from http import HTTPStatus
from typing import Any

import httpx
import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from service.http.imports import FIRST_PART
from tests.app import serving

ADA = {"full_name": "Ada Lovelace", "email": "ada@example.org", "age": 36}
DAY = 24 * 60 * 60  # seconds


async def create(
    client: httpx.AsyncClient, key: str | None = "k1", user: dict[str, Any] | None = None
) -> httpx.Response:
    headers = {} if key is None else {"Idempotency-Key": key}
    return await client.post("/users", json=ADA if user is None else user, headers=headers)


def content_of(response: httpx.Response) -> tuple[Any, ...]:
    """Return the parts of a response that a repetition must have too."""
    names = ("Location", "ETag", "Content-Type", "Cache-Control")
    return response.status_code, response.content, *(response.headers.get(n) for n in names)


async def count(engine: AsyncEngine, table: str = "users") -> int:
    async with engine.connect() as connection:
        rows = await connection.scalar(text(f"SELECT count(*) FROM {table}"))
    return int(rows or 0)


async def age_responses(engine: AsyncEngine, seconds: int) -> None:
    async with engine.begin() as connection:
        await connection.execute(
            text("UPDATE idempotency_key SET expires = expires - :seconds"), {"seconds": seconds}
        )


async def test_the_same_key_and_user_get_the_same_response_and_create_one_user(
    client: httpx.AsyncClient, engine: AsyncEngine
) -> None:
    first, second = await create(client), await create(client)
    assert first.status_code == HTTPStatus.CREATED
    assert content_of(first) == content_of(second)
    assert await count(engine) == 1


async def test_without_a_key_nothing_is_stored(
    client: httpx.AsyncClient, engine: AsyncEngine
) -> None:
    await create(client, None)
    assert (await create(client, None)).status_code == HTTPStatus.CONFLICT
    assert await count(engine, "idempotency_key") == 0


async def test_the_response_survives_a_restart(url: str) -> None:
    async with serving(database_url=url) as client:
        first = await create(client)
    async with serving(database_url=url) as client:
        assert content_of(await create(client)) == content_of(first)


async def test_the_response_is_repeated_after_the_user_has_changed(
    client: httpx.AsyncClient,
) -> None:
    first = await create(client)
    await client.patch(first.headers["Location"], json={"age": 37})
    assert content_of(await create(client)) == content_of(first)


@pytest.mark.parametrize("other", [{**ADA, "age": 37}, {"full_name": "Alan Turing"}])
async def test_another_user_under_the_same_key_is_422(
    client: httpx.AsyncClient, engine: AsyncEngine, other: dict[str, Any]
) -> None:
    await create(client)
    response = await create(client, user=other)
    assert response.status_code == HTTPStatus.UNPROCESSABLE_ENTITY
    assert response.json()["type"] == "urn:problem:idempotency-key-reused"
    assert await count(engine) == 1


async def test_the_key_of_a_create_is_refused_for_an_import(client: httpx.AsyncClient) -> None:
    await create(client)
    headers = {"Idempotency-Key": "k1", "Content-Type": "text/csv"}
    response = await client.post("/users/import", content="full_name\nAda\n", headers=headers)
    assert response.json()["type"] == "urn:problem:idempotency-key-reused"


async def test_an_error_is_repeated_too(client: httpx.AsyncClient, engine: AsyncEngine) -> None:
    taken = await create(client, None)
    first = await create(client)
    assert first.json()["type"] == "urn:problem:email-taken"
    await client.delete(taken.headers["Location"])
    assert content_of(await create(client)) == content_of(first)
    assert await count(engine) == 0
    assert (await create(client, "k2")).status_code == HTTPStatus.CREATED


async def test_invalid_input_may_be_corrected_under_the_same_key(
    client: httpx.AsyncClient,
) -> None:
    wrong = await create(client, user={**ADA, "age": 200})
    assert wrong.status_code == HTTPStatus.UNPROCESSABLE_ENTITY
    assert (await create(client)).status_code == HTTPStatus.CREATED


async def test_after_a_day_the_key_is_free(client: httpx.AsyncClient, engine: AsyncEngine) -> None:
    await create(client)
    await age_responses(engine, DAY)
    again = await create(client)
    assert again.json()["type"] == "urn:problem:email-taken"
    assert await count(engine, "idempotency_key") == 1


async def test_each_new_response_deletes_expired_ones(
    client: httpx.AsyncClient, engine: AsyncEngine
) -> None:
    for number in range(6):
        await create(client, f"old {number}", {"full_name": "Old"})
    await age_responses(engine, DAY)
    for number in range(3):
        await create(client, f"new {number}", {"full_name": "New"})
    assert await count(engine, "idempotency_key") == 3


@pytest.mark.parametrize("key", ["", "x" * 256, "a\tb"])
async def test_an_invalid_key_is_422(client: httpx.AsyncClient, key: str) -> None:
    response = await create(client, key)
    assert response.status_code == HTTPStatus.UNPROCESSABLE_ENTITY
    assert response.json()["errors"][0]["pointer"] == "/Idempotency-Key"


async def test_two_keys_are_422(client: httpx.AsyncClient, engine: AsyncEngine) -> None:
    headers = [("Idempotency-Key", "a"), ("Idempotency-Key", "b")]
    response = await client.post("/users", json=ADA, headers=headers)
    assert response.json()["errors"][0]["detail"] == "is given more than once"
    assert await count(engine) == 0


async def test_two_hundred_at_once_create_one_user_and_get_one_response(
    url: str, engine: AsyncEngine
) -> None:
    """Two services on one database stand for two workers."""
    patient = {"database_url": url, "pool_timeout": 10}
    async with serving(**patient) as one, serving(**patient) as two:
        requests = [create(worker) for _ in range(100) for worker in (one, two)]
        responses = await asyncio.gather(*requests)
        again = await create(one)
    counts = Counter(content_of(response) for response in responses)
    in_progress = [
        response for response in responses if response.status_code == HTTPStatus.CONFLICT
    ]
    assert {response.json()["type"] for response in in_progress} <= {"urn:problem:in-progress"}
    assert counts[content_of(again)] == 200 - len(in_progress) > 0
    assert again.status_code == HTTPStatus.CREATED
    assert await count(engine) == 1


async def test_while_the_first_request_runs_a_repetition_is_409(
    client: httpx.AsyncClient,
) -> None:
    """An import runs from the end of its first part until its whole body has arrived."""
    started, go_on = asyncio.Event(), asyncio.Event()
    first_part = b"full_name\n" + b"\n" * FIRST_PART

    async def body() -> Any:
        yield first_part
        started.set()
        await go_on.wait()
        yield b"Ada\n"

    def send(content: Any) -> Any:
        headers = {"Idempotency-Key": "k1", "Content-Type": "text/csv"}
        return client.post("/users/import", content=content, headers=headers)

    first = asyncio.create_task(send(body()))
    await started.wait()
    while True:  # until the first has taken the key
        meanwhile = await send(first_part + b"Ada\n")
        if meanwhile.status_code == HTTPStatus.CONFLICT:
            break
    assert meanwhile.json()["type"] == "urn:problem:in-progress"
    assert meanwhile.headers["Retry-After"] == "1"
    go_on.set()
    done = await first
    assert done.json()["created"] == 1
    assert content_of(await send(first_part + b"Ada\n")) == content_of(done)


async def test_a_change_and_a_delete_under_a_key_take_effect_once(
    client: httpx.AsyncClient,
) -> None:
    created = await create(client, None)
    path, tag = created.headers["Location"], created.headers["ETag"]
    key = {"Idempotency-Key": "change", "If-Match": tag}
    first = await client.patch(path, json={"age": 1}, headers=key)
    assert first.status_code == HTTPStatus.OK
    await client.patch(path, json={"age": 2})
    again = await client.patch(path, json={"age": 1}, headers=key)
    assert content_of(again) == content_of(first)
    assert (await client.get(path)).json()["age"] == 2  # the repetition has changed nothing
    for other in ({"If-Match": "*"}, {"If-Match": first.headers["ETag"]}, {"If-None-Match": tag}):
        refused = await client.patch(
            path, json={"age": 1}, headers={"Idempotency-Key": "change", **other}
        )
        assert refused.json()["type"] == "urn:problem:idempotency-key-reused"
    gone = [await client.delete(path, headers={"Idempotency-Key": "delete"}) for _ in range(2)]
    assert [(response.status_code, response.content) for response in gone] == [(204, b"")] * 2
    assert (await client.delete(path)).status_code == HTTPStatus.NOT_FOUND


async def test_a_condition_that_was_not_met_is_tried_again_under_its_key(
    client: httpx.AsyncClient,
) -> None:
    path = (await create(client, None)).headers["Location"]
    for tag, status in (('"other"', 412), ("*", 200)):
        headers = {"Idempotency-Key": "k", "If-Match": tag}
        response = await client.patch(path, json={"age": 1}, headers=headers)
        assert response.status_code == status
