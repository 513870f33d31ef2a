"""Authentication by tokens: who gets access, and the responses to everybody else."""

import asyncio
import logging
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from http import HTTPStatus
from pathlib import Path
from typing import Any, cast

import httpx
import pytest
from litestar import Litestar, get, post
from litestar.datastructures import State
from litestar.openapi import OpenAPIConfig
from litestar.openapi.spec import Components
from litestar.types import ASGIApp, Receive, Send
from litestar.types import Scope as ASGIScope

from service.app import create_app
from service.auth import tokens
from service.auth.access import BEARER, REFUSALS, SCHEME, Access, needs, security
from service.http import problems
from service.http.layers.rate_limit_headers import RateLimitHeaders
from service.settings import Settings
from tests.commands import run_service_command
from tests.databases import UNREACHABLE_URL
from tests.problems import problem

REFUSED = problems.documented(*REFUSALS)


@get("/", before_request=needs("read"), security=security("read"), responses=REFUSED)
async def read() -> str:
    return "read"


@post("/", before_request=needs("write"), security=security("write"), responses=REFUSED)
async def write() -> str:
    return "written"


@get("/health")
async def health() -> str:
    return "live"


def app_for(access: Access) -> Litestar:
    return Litestar(
        [read, write, health],
        exception_handlers=problems.exception_handlers(),
        openapi_config=OpenAPIConfig(
            "Test", "1", components=Components(security_schemes={SCHEME: BEARER})
        ),
        state=State({"access": access}),
        logging_config=None,
    )


def recording_names(app: ASGIApp, names: list[str | None]) -> ASGIApp:
    """Return the app in a middleware that appends the name of each request's token to `names`."""

    async def middleware(scope: ASGIScope, receive: Receive, send: Send) -> None:
        await app(scope, receive, send)
        names.append(scope["auth"].token)

    return middleware


@asynccontextmanager
async def client_of(
    *, names: list[str | None] | None = None, **settings: Any
) -> AsyncIterator[httpx.AsyncClient]:
    access = Access(Settings(**settings))
    app: ASGIApp = app_for(access)
    if access.limiter is not None:
        app = RateLimitHeaders(app, access.limiter.policy)
    if names is not None:
        app = recording_names(app, names)
    transport = httpx.ASGITransport(cast("Any", app))  # httpx types the same calls wider
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        yield client


def bearer(secret: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {secret}"}


@pytest.fixture
def file(tmp_path: Path) -> str:
    return str(tmp_path / "tokens.json")


@pytest.fixture
def reader(file: str) -> str:
    """Return the secret of a token with the scope read."""
    return tokens.create(file, "shop", ["read"])


async def test_without_a_token_file_every_request_is_allowed() -> None:
    names: list[str | None] = []
    async with client_of(names=names) as client:
        assert (await client.get("/")).text == "read"
        assert (await client.post("/", headers=bearer("of another service"))).text == "written"
    assert names == ["anonymous", "anonymous"]


async def test_a_valid_token_gives_access_and_its_name_is_recorded(file: str, reader: str) -> None:
    names: list[str | None] = []
    async with client_of(names=names, tokens_file=file) as client:
        for scheme in ("Bearer", "bearer", "BEARER", "Bearer "):
            headers = {"Authorization": f"{scheme} {reader}"}
            assert (await client.get("/", headers=headers)).text == "read"
    assert names == ["shop"] * 4


async def test_a_route_without_a_scope_needs_no_token(file: str, reader: str) -> None:
    assert reader
    async with client_of(tokens_file=file) as client:
        assert (await client.get("/health")).text == "live"
        assert (await client.get("/health", headers=bearer("wrong"))).text == "live"


@pytest.mark.parametrize("authorization", [None, "Basic dXNlcjpwYXNz", "usr_x", ""])
async def test_a_request_without_a_token_is_401(
    file: str, reader: str, authorization: str | None
) -> None:
    assert reader
    names: list[str | None] = []
    async with client_of(names=names, tokens_file=file) as client:
        headers = {} if authorization is None else {"Authorization": authorization}
        response = await client.get("/", headers=headers)
        problem(response, HTTPStatus.UNAUTHORIZED, "unauthorized")
        assert response.headers["WWW-Authenticate"] == 'Bearer realm="users"'
    assert names == [None]


@pytest.mark.parametrize(
    "secret", ["usr_", "usr_" + "x" * 43, "x", "", "a b", "é", "x" * 5000, "usr_\t"]
)
async def test_every_wrong_token_gets_the_same_response(
    file: str, reader: str, secret: str
) -> None:
    """The response does not tell a guess how close it is to a valid token."""
    async with client_of(tokens_file=file) as client:
        headers = {"Authorization": f"Bearer {secret}".encode("latin-1")}
        response = await client.get("/", headers=headers)  # type: ignore[arg-type]  # bytes, since one is not ASCII
        almost = await client.get("/", headers=bearer(reader[:-1]))
    problem(response, HTTPStatus.UNAUTHORIZED, "unauthorized")
    assert response.headers["WWW-Authenticate"] == (
        'Bearer realm="users", error="invalid_token", error_description="the token is not known"'
    )
    assert (almost.content, almost.headers) == (response.content, response.headers)


async def test_an_expired_token_is_401_and_the_challenge_says_so(file: str) -> None:
    secret = tokens.create(file, "shop", ["read"], datetime(2020, 1, 31, tzinfo=UTC))
    async with client_of(tokens_file=file) as client:
        response = await client.get("/", headers=bearer(secret))
    assert problem(response, HTTPStatus.UNAUTHORIZED, "unauthorized")
    assert response.headers["WWW-Authenticate"] == (
        'Bearer realm="users", error="invalid_token", error_description="the token has expired"'
    )


async def test_two_authorization_headers_are_refused_even_with_a_valid_token(
    file: str, reader: str
) -> None:
    async with client_of(tokens_file=file) as client:
        headers = [("Authorization", f"Bearer {reader}")] * 2
        response = await client.get("/", headers=headers)
    problem(response, HTTPStatus.UNAUTHORIZED, "unauthorized")
    assert 'error="invalid_token"' in response.headers["WWW-Authenticate"]


async def test_a_missing_scope_is_403_with_its_name(file: str, reader: str) -> None:
    names: list[str | None] = []
    async with client_of(names=names, tokens_file=file) as client:
        response = await client.post("/", headers=bearer(reader))
    body = problem(response, HTTPStatus.FORBIDDEN, "forbidden")
    assert body["detail"] == "the token has not the scope write"
    assert response.headers["WWW-Authenticate"] == (
        'Bearer realm="users", error="insufficient_scope", scope="write"'
    )
    assert names == ["shop"]


async def test_tokens_created_and_revoked_while_the_service_runs_take_effect(
    file: str, reader: str
) -> None:
    async with client_of(tokens_file=file) as client, asyncio.timeout(30):
        _, secret, _ = await run_service_command(
            "token", "create", "--name", "mill", "--scope", "write", "--file", file
        )
        new = bearer(secret.strip())
        while (await client.post("/", headers=new)).status_code == HTTPStatus.UNAUTHORIZED:
            await asyncio.sleep(0.05)
        assert (await client.post("/", headers=new)).text == "written"
        assert (await client.get("/", headers=bearer(reader))).text == "read"
        await run_service_command("token", "revoke", "--name", "mill", "--file", file)
        while (await client.post("/", headers=new)).is_success:
            await asyncio.sleep(0.05)
        problem(await client.post("/", headers=new), HTTPStatus.UNAUTHORIZED, "unauthorized")
        assert (await client.get("/", headers=bearer(reader))).text == "read"


async def test_a_secret_appears_in_no_log_and_no_response(
    file: str, reader: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    old = tokens.create(file, "old", ["read"], datetime(2020, 1, 31, tzinfo=UTC))
    texts = []
    async with client_of(tokens_file=file, rate_limit="3/3600") as client:
        for secret in (reader, old, reader[:-1]):
            for method in ("GET", "POST", "PUT"):
                headers = bearer(secret)
                response = await client.request(method, "/", headers=headers)
                texts.append(f"{response.headers} {response.text}")
                response = await client.request(method, "/", headers=[*headers.items()] * 2)
                texts.append(f"{response.headers} {response.text}")
    assert "429" in "".join(texts)
    everything = "".join(texts) + caplog.text
    for secret in (reader[:-1], old):
        assert secret.removeprefix("usr_") not in everything
        assert tokens.hash_of(secret) not in everything


def limits(response: httpx.Response) -> tuple[int, int]:
    """Return how many requests remain by the response, and for how many seconds."""
    match = re.fullmatch(r'"default";r=(\d+);t=(\d+)', response.headers["RateLimit"])
    assert match
    return int(match.group(1)), int(match.group(2))


async def test_every_response_has_the_remaining_quota_and_excess_requests_are_429(
    file: str, reader: str
) -> None:
    async with client_of(tokens_file=file, rate_limit="2/3600") as client:
        responses = [await client.get("/", headers=bearer(reader)) for _ in range(3)]
        codes = [response.status_code for response in responses]
        assert codes == [HTTPStatus.OK, HTTPStatus.OK, HTTPStatus.TOO_MANY_REQUESTS]
        assert [limits(response)[0] for response in responses] == [1, 0, 0]
        problem(responses[2], HTTPStatus.TOO_MANY_REQUESTS, "rate-limited")
        assert responses[2].headers["Retry-After"] == str(limits(responses[2])[1])
        for response in responses:
            assert response.headers["RateLimit-Policy"] == '"default";q=2;w=3600'
        assert (await client.get("/health", headers=bearer(reader))).text == "live"


async def test_each_token_has_its_own_limit_and_wrong_tokens_share_one(
    file: str, reader: str
) -> None:
    other = tokens.create(file, "mill", ["read"])
    async with client_of(tokens_file=file, rate_limit="2/3600") as client:
        guesses = [
            (await client.get("/", headers=bearer(f"usr_{guess}"))).status_code
            for guess in range(3)
        ]
        assert guesses == [401, 401, 429]
        assert (await client.get("/")).status_code == 429
        assert limits(await client.get("/", headers=bearer(reader))) == (1, 1800)
        # a refused request counts too
        assert limits(await client.post("/", headers=bearer(reader)))[0] == 0
        assert (await client.get("/", headers=bearer(reader))).status_code == 429
        assert (await client.get("/", headers=bearer(other))).text == "read"


async def test_without_tokens_all_clients_share_one_limit() -> None:
    async with client_of(rate_limit="1/3600") as client:
        assert (await client.get("/")).is_success
        problem(await client.post("/"), HTTPStatus.TOO_MANY_REQUESTS, "rate-limited")


async def test_without_a_limit_responses_have_no_rate_limit_headers() -> None:
    async with client_of() as client:
        assert not [name for name in (await client.get("/")).headers if "ratelimit" in name]


def test_the_openapi_document_has_the_scope_of_each_route() -> None:
    document = app_for(Access(Settings())).openapi_schema.to_schema()
    assert document["components"]["securitySchemes"]["bearer"]["scheme"] == "bearer"
    route = document["paths"]["/"]
    assert route["get"]["security"] == [{"bearer": ["read"]}]
    assert route["post"]["security"] == [{"bearer": ["write"]}]
    assert {"401", "403", "429"} < set(route["get"]["responses"])
    assert not document["paths"]["/health"]["get"].get("security")


async def test_every_route_that_documents_a_token_requires_one(file: str, reader: str) -> None:
    assert reader
    app = create_app(Settings(database_url=UNREACHABLE_URL, tokens_file=file))
    transport = httpx.ASGITransport(cast("Any", app))  # httpx types the same calls wider
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        document = (await client.get("/openapi.json")).json()
        guarded = [
            (method, path)
            for path, operations in document["paths"].items()
            for method, operation in operations.items()
            if operation["security"]
        ]
        assert len(guarded) == 10
        for method, path in guarded:
            response = await client.request(method, path.replace("{user_id}", "1"))
            problem(response, HTTPStatus.UNAUTHORIZED, "unauthorized")
