"""What HTTP asks of a service: methods, headers, other origins, time limits, tokens."""

import asyncio
from collections.abc import AsyncIterator
from http import HTTPStatus
from itertools import combinations
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from service.auth import tokens
from service.auth.tokens import SCOPES
from tests.app import serving
from tests.databases import UNREACHABLE_URL

ADA = {"full_name": "Ada Lovelace", "email": "ada@example.org", "age": 36}
PAGE = "https://app.example.org"


async def created(client: httpx.AsyncClient) -> str:
    return str((await client.post("/users", json=ADA)).headers["Location"])


@pytest.mark.parametrize(
    "url_of", ["/users", "/users/{id}", "/health/ready", "/openapi.json", "/docs"]
)
async def test_head_is_get_without_the_body(client: httpx.AsyncClient, url_of: str) -> None:
    place = url_of.replace("/users/{id}", await created(client))
    head, get = await client.head(place), await client.get(place)
    assert head.status_code == get.status_code == HTTPStatus.OK
    assert head.content == b""
    different = {"x-request-id"}
    assert {n: v for n, v in head.headers.items() if n not in different} == {
        n: v for n, v in get.headers.items() if n not in different
    }


async def test_head_knows_conditions_and_refusals(client: httpx.AsyncClient) -> None:
    place = await created(client)
    tag = (await client.head(place)).headers["ETag"]
    known = await client.head(place, headers={"If-None-Match": tag})
    assert known.status_code == HTTPStatus.NOT_MODIFIED
    missing = await client.head("/users/999")
    assert missing.status_code == HTTPStatus.NOT_FOUND
    assert missing.content == b""


ALLOWED = {
    "/users": "GET, HEAD, OPTIONS, POST",
    "/users/1": "DELETE, GET, HEAD, OPTIONS, PATCH",
    "/users/import": "OPTIONS, POST",
    "/users/export": "GET, HEAD, OPTIONS",
    "/health/live": "GET, HEAD, OPTIONS",
}


@pytest.mark.parametrize("place", ALLOWED)
async def test_options_and_405_name_what_is_allowed(place: str) -> None:
    """For that, the database need not answer."""
    async with serving(database_url=UNREACHABLE_URL) as client:
        options = await client.options(place)
        assert options.status_code == HTTPStatus.NO_CONTENT
        assert options.headers["Allow"] == ALLOWED[place]
        refused = await client.put(place)
        assert refused.status_code == HTTPStatus.METHOD_NOT_ALLOWED
        assert refused.headers["Allow"] == ALLOWED[place]


async def test_a_user_is_kept_by_nobody_without_asking_again(client: httpx.AsyncClient) -> None:
    place = await created(client)
    for response in (await client.get(place), await client.get("/users")):
        assert response.headers["Cache-Control"] == "private, no-cache"
    known = {"If-None-Match": (await client.get(place)).headers["ETag"]}
    unchanged = await client.get(place, headers=known)
    assert unchanged.headers["Cache-Control"] == "private, no-cache"
    assert unchanged.headers["ETag"] == known["If-None-Match"]


@pytest.mark.parametrize("place", ["/health/live", "/health/ready", "/metrics", "/users/9", "/no"])
async def test_what_is_true_only_now_is_kept_by_nobody(
    client: httpx.AsyncClient, place: str
) -> None:
    assert (await client.get(place)).headers["Cache-Control"] == "no-store"


async def test_conditions_may_come_in_several_lines(client: httpx.AsyncClient) -> None:
    place = await created(client)
    tag = (await client.get(place)).headers["ETag"]
    several = [("If-None-Match", '"other"'), ("If-None-Match", tag)]
    unchanged = await client.get(place, headers=several)
    assert unchanged.status_code == HTTPStatus.NOT_MODIFIED
    several = [("If-Match", '"other"'), ("If-Match", tag)]
    changed = await client.patch(place, json={"age": 37}, headers=several)
    assert changed.status_code == HTTPStatus.OK


async def test_a_page_links_to_the_first_and_the_next(client: httpx.AsyncClient) -> None:
    for _ in range(3):
        await client.post("/users", json={"full_name": "Ada"})
    page = await client.get("/users?limit=2&name=a")
    assert page.links["first"]["url"] == "/users?limit=2&name=a"
    last = await client.get(page.links["next"]["url"])
    assert "next" not in last.links
    again = await client.get(last.links["first"]["url"])
    assert again.json() == page.json()


async def test_pages_of_other_origins_may_not_call(client: httpx.AsyncClient) -> None:
    response = await client.get("/users", headers={"Origin": PAGE})
    assert not [name for name in response.headers if name.startswith("access-control")]


async def test_pages_that_are_named_may_call(url: str) -> None:
    async with serving(database_url=url, cors_origins=f"https://other.example, {PAGE}") as client:
        asked = {
            "Origin": PAGE,
            "Access-Control-Request-Method": "PATCH",
            "Access-Control-Request-Headers": "authorization, if-match, content-type",
        }
        preflight = await client.options("/users/1", headers=asked)
        assert preflight.status_code == HTTPStatus.NO_CONTENT
        assert preflight.headers["Access-Control-Allow-Origin"] == PAGE
        assert "PATCH" in preflight.headers["Access-Control-Allow-Methods"]
        for response in (
            await client.post("/users", json=ADA, headers={"Origin": PAGE}),
            await client.post("/users", json=ADA, headers={"Origin": PAGE}),  # a refusal
        ):
            assert response.headers["Access-Control-Allow-Origin"] == PAGE
            assert "Origin" in response.headers["Vary"]
            exposed = response.headers["Access-Control-Expose-Headers"].lower()
            assert {"etag", "link", "location", "x-request-id"} <= set(exposed.split(", "))
        stranger = await client.get("/users", headers={"Origin": "https://evil.example"})
        assert "Access-Control-Allow-Origin" not in stranger.headers
        assert "Origin" in stranger.headers["Vary"]
        refused = await client.options("/users", headers=asked | {"Origin": "https://evil.example"})
        assert refused.status_code == HTTPStatus.NO_CONTENT
        assert not [name for name in refused.headers if name.startswith("access-control")]


@pytest.mark.only("postgresql")
async def test_what_takes_too_long_is_given_up_and_undone(url: str, engine: AsyncEngine) -> None:
    settings = {"database_url": url, "request_timeout": 0.5, "pool_size": 1, "pool_timeout": 1}
    async with serving(**settings) as client, engine.connect() as holder:
        place = await created(client)
        await holder.execute(text("SELECT 1 FROM users FOR UPDATE"))
        response = await client.patch(place, json={"age": 37})
        assert response.status_code == HTTPStatus.SERVICE_UNAVAILABLE
        assert response.json()["type"] == "urn:problem:timed-out"
        assert response.headers["Retry-After"]
        await holder.rollback()
        assert (await client.get(place)).json()["age"] == 36  # and the connection is free again


async def test_who_stops_sending_is_told_so(url: str) -> None:
    async with serving(database_url=url, request_timeout=0.2) as client:
        forever = asyncio.Event()

        async def body() -> AsyncIterator[bytes]:
            yield b'{"full_name": '
            await forever.wait()

        headers = {"Content-Type": "application/json"}
        response = await client.post("/users", content=body(), headers=headers)
        assert response.json()["type"] in {"urn:problem:request-timeout", "urn:problem:timed-out"}
        assert (await client.get("/users")).json()["items"] == []


@pytest.fixture
async def guarded(url: str, tmp_path: Path) -> AsyncIterator[tuple[httpx.AsyncClient, Any]]:
    """A service that wants tokens, and what a client that has these scopes sends along."""
    file = tmp_path / "tokens.json"
    secrets = {
        frozenset(scopes): tokens.create(str(file), "-".join(scopes), scopes)
        for number in range(1, len(SCOPES) + 1)
        for scopes in combinations(SCOPES, number)
    }

    def token(*scopes: Any) -> dict[str, str]:
        return {"Authorization": f"Bearer {secrets[frozenset(scopes)]}"}

    async with serving(database_url=url, tokens_file=str(file), rate_limit="1000/60") as client:
        yield client, token


NEEDED = [
    ("GET", "/users", "read"),
    ("GET", "/users/1", "read"),
    ("GET", "/users/export", "read"),
    ("POST", "/users", "write"),
    ("POST", "/users/import", "write"),
    ("PATCH", "/users/1", "write"),
    ("DELETE", "/users/1", "write"),
    ("GET", "/metrics", "operate"),
]


@pytest.mark.parametrize(("method", "place", "scope"), NEEDED)
async def test_each_route_needs_its_scope(
    guarded: tuple[httpx.AsyncClient, Any], method: str, place: str, scope: str
) -> None:
    client, token = guarded
    nobody = await client.request(method, place)
    assert nobody.status_code == HTTPStatus.UNAUTHORIZED
    assert nobody.headers["WWW-Authenticate"] == 'Bearer realm="users"'
    assert nobody.json()["type"] == "urn:problem:unauthorized"
    assert nobody.headers["RateLimit-Policy"] == '"default";q=1000;w=60'
    others = token(*({"read", "write", "operate"} - {scope}))
    refused = await client.request(method, place, headers=others)
    assert refused.status_code == HTTPStatus.FORBIDDEN
    assert scope in refused.json()["detail"]
    assert f'scope="{scope}"' in refused.headers["WWW-Authenticate"]


@pytest.mark.parametrize("place", ["/health/live", "/health/ready", "/openapi.json", "/docs"])
async def test_health_and_documentation_are_open(
    guarded: tuple[httpx.AsyncClient, Any], place: str
) -> None:
    client, _ = guarded
    assert (await client.get(place)).status_code == HTTPStatus.OK


async def test_clients_have_idempotency_keys_of_their_own(
    guarded: tuple[httpx.AsyncClient, Any],
) -> None:
    client, token = guarded
    one, two = token("write"), token("write", "read")
    key = {"Idempotency-Key": "k"}
    first = await client.post("/users", json={"full_name": "Ada"}, headers=one | key)
    second = await client.post("/users", json={"full_name": "Bob"}, headers=two | key)
    assert first.status_code == second.status_code == HTTPStatus.CREATED
