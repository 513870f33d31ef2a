"""HTTP: methods, headers, CORS, timeouts, tokens."""

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
ORIGIN = "https://app.example.org"


async def create_ada(client: httpx.AsyncClient) -> str:
    """Create a user; return its URL."""
    return str((await client.post("/users", json=ADA)).headers["Location"])


@pytest.mark.parametrize(
    "url_of", ["/users", "/users/{id}", "/health/ready", "/openapi.json", "/docs"]
)
async def test_head_is_get_without_the_body(client: httpx.AsyncClient, url_of: str) -> None:
    path = url_of.replace("/users/{id}", await create_ada(client))
    head, get = await client.head(path), await client.get(path)
    assert head.status_code == get.status_code == HTTPStatus.OK
    assert head.content == b""
    varying = {"x-request-id"}
    assert {n: v for n, v in head.headers.items() if n not in varying} == {
        n: v for n, v in get.headers.items() if n not in varying
    }


async def test_head_gets_304_and_404_as_get_does(client: httpx.AsyncClient) -> None:
    path = await create_ada(client)
    tag = (await client.head(path)).headers["ETag"]
    known = await client.head(path, headers={"If-None-Match": tag})
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


@pytest.mark.parametrize("path", ALLOWED)
async def test_options_and_405_name_the_allowed_methods(path: str) -> None:
    """Even when the database is unreachable."""
    async with serving(database_url=UNREACHABLE_URL) as client:
        options = await client.options(path)
        assert options.status_code == HTTPStatus.NO_CONTENT
        assert options.headers["Allow"] == ALLOWED[path]
        refused = await client.put(path)
        assert refused.status_code == HTTPStatus.METHOD_NOT_ALLOWED
        assert refused.headers["Allow"] == ALLOWED[path]


async def test_users_may_be_cached_by_the_client_but_must_be_revalidated(
    client: httpx.AsyncClient,
) -> None:
    path = await create_ada(client)
    for response in (await client.get(path), await client.get("/users")):
        assert response.headers["Cache-Control"] == "private, no-cache"
    known = {"If-None-Match": (await client.get(path)).headers["ETag"]}
    unchanged = await client.get(path, headers=known)
    assert unchanged.headers["Cache-Control"] == "private, no-cache"
    assert unchanged.headers["ETag"] == known["If-None-Match"]


@pytest.mark.parametrize("path", ["/health/live", "/health/ready", "/metrics", "/users/9", "/no"])
async def test_health_metrics_and_errors_may_not_be_cached(
    client: httpx.AsyncClient, path: str
) -> None:
    assert (await client.get(path)).headers["Cache-Control"] == "no-store"


async def test_conditions_may_span_several_header_lines(client: httpx.AsyncClient) -> None:
    path = await create_ada(client)
    tag = (await client.get(path)).headers["ETag"]
    several = [("If-None-Match", '"other"'), ("If-None-Match", tag)]
    unchanged = await client.get(path, headers=several)
    assert unchanged.status_code == HTTPStatus.NOT_MODIFIED
    several = [("If-Match", '"other"'), ("If-Match", tag)]
    changed = await client.patch(path, json={"age": 37}, headers=several)
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


async def test_other_origins_get_no_cors_headers_by_default(client: httpx.AsyncClient) -> None:
    response = await client.get("/users", headers={"Origin": ORIGIN})
    assert not [name for name in response.headers if name.startswith("access-control")]


async def test_the_origins_in_the_settings_get_cors_headers(url: str) -> None:
    async with serving(database_url=url, cors_origins=f"https://other.example, {ORIGIN}") as client:
        request_headers = {
            "Origin": ORIGIN,
            "Access-Control-Request-Method": "PATCH",
            "Access-Control-Request-Headers": "authorization, if-match, content-type",
        }
        preflight = await client.options("/users/1", headers=request_headers)
        assert preflight.status_code == HTTPStatus.NO_CONTENT
        assert preflight.headers["Access-Control-Allow-Origin"] == ORIGIN
        assert "PATCH" in preflight.headers["Access-Control-Allow-Methods"]
        for response in (
            await client.post("/users", json=ADA, headers={"Origin": ORIGIN}),
            await client.post("/users", json=ADA, headers={"Origin": ORIGIN}),  # 409
        ):
            assert response.headers["Access-Control-Allow-Origin"] == ORIGIN
            assert "Origin" in response.headers["Vary"]
            exposed = response.headers["Access-Control-Expose-Headers"].lower()
            assert {"etag", "link", "location", "x-request-id"} <= set(exposed.split(", "))
        stranger = await client.get("/users", headers={"Origin": "https://evil.example"})
        assert "Access-Control-Allow-Origin" not in stranger.headers
        assert "Origin" in stranger.headers["Vary"]
        refused = await client.options(
            "/users", headers=request_headers | {"Origin": "https://evil.example"}
        )
        assert refused.status_code == HTTPStatus.NO_CONTENT
        assert not [name for name in refused.headers if name.startswith("access-control")]


@pytest.mark.only("postgresql")
async def test_a_request_that_exceeds_its_timeout_is_rolled_back(
    url: str, engine: AsyncEngine
) -> None:
    async with serving(database_url=url) as client:
        path = await create_ada(client)
    settings = {"database_url": url, "request_timeout": 0.5, "pool_size": 1, "pool_timeout": 1}
    async with serving(**settings) as client, engine.connect() as holder:
        await holder.execute(text("SELECT 1 FROM users FOR UPDATE"))
        response = await client.patch(path, json={"age": 37})
        assert response.status_code == HTTPStatus.SERVICE_UNAVAILABLE
        assert response.json()["type"] == "urn:problem:timed-out"
        assert response.headers["Retry-After"]
        await holder.rollback()
        # the only connection is back in the pool; where others take the processor, it may be late
        async with asyncio.timeout(30):
            while (read := await client.get(path)).status_code == HTTPStatus.SERVICE_UNAVAILABLE:
                await asyncio.sleep(0.05)
        assert read.json()["age"] == 36


async def test_a_client_that_stops_sending_gets_a_timeout(url: str) -> None:
    async with serving(database_url=url, request_timeout=0.2) as client:
        forever = asyncio.Event()

        async def body() -> AsyncIterator[bytes]:
            yield b'{"full_name": '
            await forever.wait()

        headers = {"Content-Type": "application/json"}
        response = await client.post("/users", content=body(), headers=headers)
        assert response.status_code in {
            HTTPStatus.REQUEST_TIMEOUT,
            HTTPStatus.SERVICE_UNAVAILABLE,
        }
        assert (await client.get("/users")).json()["items"] == []


@pytest.fixture
async def guarded(url: str, tmp_path: Path) -> AsyncIterator[tuple[httpx.AsyncClient, Any]]:
    """Yield a client of a service with tokens, and a function from scopes to request headers."""
    file = tmp_path / "tokens.json"
    secrets = {
        frozenset(scopes): tokens.create(str(file), "-".join(scopes), scopes)
        for number in range(1, len(SCOPES) + 1)
        for scopes in combinations(SCOPES, number)
    }

    def headers_for(*scopes: Any) -> dict[str, str]:
        return {"Authorization": f"Bearer {secrets[frozenset(scopes)]}"}

    async with serving(database_url=url, tokens_file=str(file), rate_limit="1000/60") as client:
        yield client, headers_for


REQUIRED_SCOPES = [
    ("GET", "/users", "read"),
    ("GET", "/users/1", "read"),
    ("GET", "/users/export", "read"),
    ("POST", "/users", "write"),
    ("POST", "/users/import", "write"),
    ("PATCH", "/users/1", "write"),
    ("DELETE", "/users/1", "write"),
    ("GET", "/metrics", "operate"),
]


@pytest.mark.parametrize(("method", "path", "scope"), REQUIRED_SCOPES)
async def test_each_route_requires_its_scope(
    guarded: tuple[httpx.AsyncClient, Any], method: str, path: str, scope: str
) -> None:
    client, headers_for = guarded
    anonymous = await client.request(method, path)
    assert anonymous.status_code == HTTPStatus.UNAUTHORIZED
    assert anonymous.headers["WWW-Authenticate"] == 'Bearer realm="users"'
    assert anonymous.json()["type"] == "urn:problem:unauthorized"
    assert anonymous.headers["RateLimit-Policy"] == '"default";q=1000;w=60'
    others = headers_for(*({"read", "write", "operate"} - {scope}))
    refused = await client.request(method, path, headers=others)
    assert refused.status_code == HTTPStatus.FORBIDDEN
    assert scope in refused.json()["detail"]
    assert f'scope="{scope}"' in refused.headers["WWW-Authenticate"]


@pytest.mark.parametrize("path", ["/health/live", "/health/ready", "/openapi.json", "/docs"])
async def test_health_and_documentation_need_no_token(
    guarded: tuple[httpx.AsyncClient, Any], path: str
) -> None:
    client, _ = guarded
    assert (await client.get(path)).status_code == HTTPStatus.OK


async def test_the_same_idempotency_key_of_two_clients_is_two_keys(
    guarded: tuple[httpx.AsyncClient, Any],
) -> None:
    client, headers_for = guarded
    one, two = headers_for("write"), headers_for("write", "read")
    key = {"Idempotency-Key": "k"}
    first = await client.post("/users", json={"full_name": "Ada"}, headers=one | key)
    second = await client.post("/users", json={"full_name": "Bob"}, headers=two | key)
    assert first.status_code == second.status_code == HTTPStatus.CREATED
