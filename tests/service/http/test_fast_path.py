"""The fast path calls a handler as Litestar does, or refuses the route when the app is created."""

import inspect
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import Any, cast

import httpx
import pytest
from litestar import Litestar, Request, Response, Router, get
from litestar.connection import ASGIConnection
from litestar.datastructures import Cookie, ResponseHeader
from litestar.di import NamedDependency, Provide
from litestar.dto import MsgspecDTO
from litestar.exceptions import ImproperlyConfiguredException
from litestar.handlers import BaseRouteHandler, HTTPRouteHandler
from litestar.params import FromHeader, FromPath, FromQuery

from service.errors import Forbidden
from service.http.fast_path import FastPath, FastPathPlugin
from service.http.problems import exception_handlers
from service.http.requests import StrictRequest
from service.http.responses import EncodedResponse
from service.schemas import User
from tests.problems import problem

ADA = User(id=1, full_name="Ada", email=None, age=None)


async def read(request: StrictRequest, user_id: FromPath[str]) -> Response[User]:
    return EncodedResponse(b'{"id":%s}' % user_id.encode(), {"X-Handler": request.method})


def app_of(handler: Any = read, router: Mapping[str, Any] = {}, **route: Any) -> Litestar:
    """Return an app with one fast route, which lies in a router, with these declarations."""
    route = {"middleware": [FastPath], **route}
    fast = get("/{user_id:str}", **route)(handler)
    return Litestar(
        [Router("/", route_handlers=[fast], **router)],
        exception_handlers=exception_handlers(),
        request_class=StrictRequest,
        plugins=[FastPathPlugin()],
        openapi_config=None,
        logging_config=None,
    )


@asynccontextmanager
async def client_of(app: Litestar) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(cast("Any", app))  # the same calls, typed more narrowly
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        yield client


async def refuse(*_: Any) -> None:
    raise Forbidden("not you", "Bearer")


def guard(connection: ASGIConnection[Any, Any, Any, Any], _: BaseRouteHandler) -> None:
    raise Forbidden(f"not {connection.path_params['user_id']}", "Bearer")


async def early(_: Request[Any, Any, Any]) -> Response[User]:
    return EncodedResponse(b'{"early":true}', {})


async def with_header(response: Response[Any]) -> Response[Any]:
    response.headers["X-After"] = "yes"
    return response


async def with_other_content(response: Response[Any]) -> Response[Any]:
    response.content = {"other": True}
    return response


async def test_the_handler_gets_the_request_and_the_path() -> None:
    async with client_of(app_of()) as client:
        response = await client.get("/42")
    assert (response.json(), response.headers["X-Handler"]) == ({"id": 42}, "GET")
    assert response.headers["Content-Type"] == "application/json"


@pytest.mark.parametrize("place", ["route", "router"])
@pytest.mark.parametrize(
    "declared", [{"guards": [guard]}, {"before_request": refuse}], ids=["guards", "before_request"]
)
async def test_guards_and_before_request_refuse(declared: dict[str, Any], place: str) -> None:
    app = app_of(**declared) if place == "route" else app_of(router=declared)
    async with client_of(app) as client:
        problem(await client.get("/42"), HTTPStatus.FORBIDDEN, "forbidden")


async def test_before_request_may_answer() -> None:
    async with client_of(app_of(before_request=early)) as client:
        assert (await client.get("/42")).json() == {"early": True}


@pytest.mark.parametrize("place", ["route", "router"])
async def test_after_request_headers_and_cookies_reach_the_client(place: str) -> None:
    declared: dict[str, Any] = {
        "after_request": with_header,
        "response_headers": [ResponseHeader(name="X-Declared", value="too")],
        "response_cookies": [Cookie(key="taste", value="sweet")],
    }
    app = app_of(**declared) if place == "route" else app_of(router=declared)
    async with client_of(app) as client:
        response = await client.get("/42")
    assert response.json() == {"id": 42}
    assert (response.headers["X-After"], response.headers["X-Declared"]) == ("yes", "too")
    assert response.cookies["taste"] == "sweet"


async def test_after_request_may_replace_the_content() -> None:
    async with client_of(app_of(after_request=with_other_content)) as client:
        assert (await client.get("/42")).json() == {"other": True}


async def test_after_response_runs() -> None:
    paths: list[str] = []

    async def note(request: Request[Any, Any, Any]) -> None:
        paths.append(request.url.path)

    async with client_of(app_of(after_response=note)) as client:
        assert (await client.get("/42")).is_success
    assert paths == ["/42"]


async def test_an_exception_is_a_problem_document() -> None:
    async def fail(request: StrictRequest, user_id: FromPath[str]) -> Response[User]:
        raise Forbidden(f"not {user_id} of {request.method}", "Bearer")

    async with client_of(app_of(fail)) as client:
        problem(await client.get("/42"), HTTPStatus.FORBIDDEN, "forbidden")


async def with_query(user_id: FromPath[str], limit: FromQuery[int]) -> Response[User]:
    raise NotImplementedError(user_id, limit)


async def with_header_parameter(user_id: FromPath[str], accept: FromHeader[str]) -> Response[User]:
    raise NotImplementedError(user_id, accept)


async def with_number(user_id: FromPath[int]) -> Response[User]:
    raise NotImplementedError(user_id)


async def with_dependency(user_id: FromPath[str], answer: NamedDependency[int]) -> Response[User]:
    raise NotImplementedError(user_id, answer)


def plain(user_id: FromPath[str]) -> Response[User]:
    raise NotImplementedError(user_id)


async def struct(user_id: FromPath[str]) -> User:
    raise NotImplementedError(user_id)


class OtherRequest(StrictRequest):
    """A request of another class."""


class Other:
    """A middleware that does nothing."""

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await self.app(scope, receive, send)


ANSWER = {"answer": Provide(lambda: 42, sync_to_thread=False)}
HANDLER = {ValueError: lambda _, __: Response("")}


@pytest.mark.parametrize(
    ("handler", "declared", "words"),
    [
        (with_query, {}, "the parameter or dependency limit"),
        (with_header_parameter, {}, "the parameter or dependency accept"),
        (with_number, {}, "the parameter or dependency user_id"),
        (with_dependency, {"dependencies": ANSWER}, "the parameter or dependency answer"),
        (plain, {"sync_to_thread": False}, "a plain function"),
        (read, {"cache": True}, "cache"),
        (struct, {"return_dto": MsgspecDTO[User]}, "a dto"),
        (read, {"exception_handlers": HANDLER}, "exception_handlers"),
        (read, {"request_class": OtherRequest}, "request_class"),
        (read, {"middleware": [FastPath, Other]}, "the middleware after it"),
    ],
)
def test_a_route_that_declares_what_the_fast_path_ignores_is_refused(
    handler: Any, declared: dict[str, Any], words: str
) -> None:
    with pytest.raises(ImproperlyConfiguredException, match=words):
        app_of(handler, **declared)


@pytest.mark.parametrize(
    "declared",
    [{"exception_handlers": HANDLER}, {"request_class": OtherRequest}, {"middleware": [FastPath]}],
    ids=["exception_handlers", "request_class", "middleware"],
)
def test_what_a_router_declares_is_refused_as_well(declared: dict[str, Any]) -> None:
    route = {"middleware": [Other]} if "middleware" in declared else {}
    with pytest.raises(ImproperlyConfiguredException, match="FastPath, which ignores"):
        app_of(router=declared, **route)


HEEDED = {
    "path", "http_method", "name", "opt", "middleware", "before_request", "after_request",
    "after_response", "guards", "background", "media_type", "status_code", "response_class",
    "response_cookies", "response_headers", "cache_control", "etag", "request_max_body_size",
    "type_encoders",
}  # fmt: skip
REFUSED = {
    "dependencies", "dto", "return_dto", "cache", "exception_handlers", "request_class",
    "sync_to_thread",
}  # fmt: skip
WITHOUT_EFFECT = {  # documentation, and what has no meaning without the things that are refused
    "content_encoding", "content_media_type", "deprecated", "description", "include_in_schema",
    "operation_class", "operation_id", "raises", "response_description", "responses", "security",
    "signature_namespace", "summary", "tags", "cache_key_builder", "type_decoders", "kwargs",
}  # fmt: skip


def test_everything_that_a_route_can_declare_is_heeded_or_refused() -> None:
    """A later Litestar with one more declaration fails here, until somebody looks at it."""
    parameters = set(inspect.signature(HTTPRouteHandler.__init__).parameters) - {"self"}
    assert parameters == HEEDED | REFUSED | WITHOUT_EFFECT
