"""The fast path calls a handler as Litestar does, or refuses the route when the app is created."""

import inspect
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from http import HTTPStatus
from types import MappingProxyType
from typing import Annotated, Any, cast

import httpx
import pytest
from litestar import Litestar, Request, Response, Router, get
from litestar.background_tasks import BackgroundTask
from litestar.connection import ASGIConnection
from litestar.datastructures import CacheControlHeader, Cookie, ETag, ResponseHeader
from litestar.di import NamedDependency, Provide
from litestar.dto import MsgspecDTO
from litestar.exceptions import ImproperlyConfiguredException
from litestar.handlers import BaseRouteHandler, HTTPRouteHandler
from litestar.middleware import DefineMiddleware
from litestar.params import FromHeader, FromPath, FromQuery, HeaderParameter, PathParameter

from service.errors import Forbidden
from service.http.fast_path import FastPath, FastPathPlugin
from service.http.problems import exception_handlers
from service.http.requests import StrictRequest
from service.schemas import User
from tests.problems import problem

ADA = User(id=1, full_name="Ada", email=None, age=None)


def response_of(body: bytes, headers: dict[str, str]) -> Response[Any]:
    return Response(body, headers=headers)


async def read(request: StrictRequest, user_id: FromPath[str]) -> Response[User]:
    return response_of(b'{"id":%s}' % user_id.encode(), {"X-Handler": request.method})


def app_of(
    handler: Any = read,
    router: Mapping[str, Any] = MappingProxyType({}),
    path: str = "/{user_id:str}",
    **route: Any,
) -> Litestar:
    """Return an app with one fast route, which lies in a router, with these declarations."""
    route = {"middleware": [FastPath], **route}
    fast = get(path, **route)(handler)
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
    return response_of(b'{"early":true}', {})


async def with_header(response: Response[Any]) -> Response[Any]:
    raise NotImplementedError(response)


async def note(request: Request[Any, Any, Any]) -> None:
    raise NotImplementedError(request)


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


async def without_request(user_id: FromPath[str]) -> Response[User]:
    raise NotImplementedError(user_id)


async def without_path(request: StrictRequest) -> Response[User]:
    raise NotImplementedError(request)


async def constrained(
    request: StrictRequest, user_id: Annotated[str, PathParameter(max_length=2)]
) -> Response[User]:
    raise NotImplementedError(request, user_id)


class OtherResponse(Response[Any]):
    """A response of another class."""


HEADERS = [ResponseHeader(name="X-Declared", value="too")]
COOKIES = [Cookie(key="taste", value="sweet")]
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
        (read, {"middleware": [DefineMiddleware(FastPath), Other]}, "the middleware after it"),
        (read, {"after_request": with_header}, "after_request"),
        (read, {"after_response": note}, "after_response"),
        (read, {"response_headers": HEADERS}, "response_headers"),
        (read, {"response_cookies": COOKIES}, "response_cookies"),
        (read, {"cache_control": CacheControlHeader(no_store=True)}, "response_headers"),
        (read, {"etag": ETag(value="x")}, "response_headers"),
        (read, {"background": BackgroundTask(print)}, "background"),
        (read, {"response_class": OtherResponse}, "response_class"),
        (read, {"type_decoders": [(lambda _: False, lambda _, __: None)]}, "type_decoders"),
        (read, {"type_encoders": {int: str}}, "type_encoders"),
        (without_request, {}, "that the handler takes no request"),
        (without_path, {}, "the path parameter user_id"),
        (constrained, {}, "the parameter or dependency user_id"),
    ],
)
def test_a_route_that_declares_what_the_fast_path_ignores_is_refused(
    handler: Any, declared: dict[str, Any], words: str
) -> None:
    with pytest.raises(ImproperlyConfiguredException, match=words):
        app_of(handler, **declared)


@pytest.mark.parametrize(
    "declared",
    [
        {"exception_handlers": HANDLER},
        {"request_class": OtherRequest},
        {"middleware": [FastPath]},
        {"after_request": with_header},
        {"after_response": note},
        {"response_headers": HEADERS},
        {"response_cookies": COOKIES},
        {"response_class": OtherResponse},
        {"type_encoders": {int: str}},
        {"type_decoders": [(lambda _: False, lambda _, __: None)]},
        {"parameters": {"token": HeaderParameter(annotation=str)}},
    ],
    ids=lambda declared: next(iter(declared)),
)
def test_what_a_router_declares_is_refused_as_well(declared: dict[str, Any]) -> None:
    route: dict[str, Any] = {"middleware": [Other]} if "middleware" in declared else {}
    with pytest.raises(ImproperlyConfiguredException, match="FastPath, which ignores"):
        app_of(router=declared, **route)


HEEDED = {
    "path", "http_method", "name", "opt", "middleware", "before_request", "guards", "media_type",
    "status_code", "request_max_body_size",
}  # fmt: skip
REFUSED = {
    "after_request", "after_response", "background", "cache", "cache_control", "dependencies",
    "dto", "etag", "exception_handlers", "request_class", "response_class", "response_cookies",
    "response_headers", "return_dto", "sync_to_thread", "type_decoders", "type_encoders",
}  # fmt: skip
WITHOUT_EFFECT = {  # documentation, and what has no meaning without the things that are refused
    "content_encoding", "content_media_type", "deprecated", "description", "include_in_schema",
    "operation_class", "operation_id", "raises", "response_description", "responses", "security",
    "signature_namespace", "summary", "tags", "cache_key_builder", "kwargs",
}  # fmt: skip


def test_a_path_parameter_that_is_no_text_is_refused() -> None:
    with pytest.raises(ImproperlyConfiguredException, match="FastPath, which ignores"):
        app_of(path="/{user_id:int}")


def test_everything_that_a_route_can_declare_is_heeded_or_refused() -> None:
    """A later Litestar with one more declaration fails here, until somebody looks at it."""
    parameters = set(inspect.signature(HTTPRouteHandler.__init__).parameters) - {"self"}
    assert parameters == HEEDED | REFUSED | WITHOUT_EFFECT
