"""Obeys or refuses the demands of a request's head, on every route that takes a token.

A demand that nobody reads would look as if it had been met: a condition on a URL without versions,
a misspelt parameter of a change, a form of the response that the client has excluded.
"""

from typing import Any, cast

from litestar.connection import Request
from litestar.handlers import HTTPRouteHandler
from litestar.openapi.spec import Operation
from litestar.types import BeforeRequestHookHandler

from service.auth import access
from service.auth.tokens import Scope
from service.errors import BadRequest, NotAcceptable, PreconditionFailed
from service.http.layers.compression import ENCODINGS
from service.http.parameters import (
    READ_AFTER,
    Query,
    QueryParameter,
    conditions_of,
    header_position,
    idempotency_key,
    user_id_of,
)
from service.http.qualities import preferred_coding, preferred_media_type, weights
from service.http.requests import JSON, StrictRequest

CONDITIONS = {b"if-match", b"if-none-match", b"if-unmodified-since"}
ACCEPT, ACCEPT_ENCODING, CONTENT_RANGE = b"accept", b"accept-encoding", b"content-range"
EXPECT = b"expect"  # 100-continue: the client waits with its body
DEMANDS, WISHES = {*CONDITIONS, CONTENT_RANGE, EXPECT, READ_AFTER.key}, {ACCEPT, ACCEPT_ENCODING}

AnyRequest = Request[Any, Any, Any]


def needs(scope: Scope, *, basic: bool = False) -> BeforeRequestHookHandler:
    """Return the `before_request` of the routes that need a token with this scope.

    Once the token is found good, it refuses what the request demands in vain. A route tells by
    `opt` what it offers: `offers`, its media types, if not only JSON; `has_versions`,
    that it evaluates conditions by itself; `vary`, that it compresses.
    """
    admit: Any = access.needs(scope, basic=basic)

    async def admit_and_check(request: AnyRequest) -> None:
        await admit(request)
        request_scope = request.scope
        handler = cast("HTTPRouteHandler", request_scope["route_handler"])
        if request_scope["query_string"] and request_scope["method"] != "GET":
            names = query_names(handler.operation_class)
            Query(request_scope["query_string"]).require_only(*names)
        for name, value in request_scope["headers"]:
            # only a weight of 0 can exclude what there is
            if name in DEMANDS or (name in WISHES and b"=0" in value):
                check_headers(request, handler)
                break
        if request_scope["method"] == "DELETE":
            await request.body()  # nobody reads it, but a request that breaks off deletes nothing

    return admit_and_check


def query_names(operation: type[Operation]) -> list[str]:
    """Return the names of the query parameters that an operation documents."""
    declared = getattr(operation, "declared", ())
    return [parameter.name for parameter in declared if isinstance(parameter, QueryParameter)]


def require_accepted(request: AnyRequest, *offered: str) -> None:
    """Raise NotAcceptable where the request excludes all these media types.

    Only by a weight of 0: one that just names others gets what there is (RFC 9110, 12.5.1).
    """
    lines = [value for name, value in request.scope["headers"] if name == ACCEPT]
    if offered and lines and preferred_media_type(offered, weights(lines)) is None:
        raise NotAcceptable(f"this URL answers with {' or '.join(offered)}")


def check_before_body(request: AnyRequest) -> None:
    """Raise what the handler would raise for the head, for a client that waits with the body.

    The handler runs when the body is read, and so after the leave to send it.
    """
    if (user_id := request.path_params.get("user_id")) is not None:
        user_id_of(user_id)
    conditions_of(request)
    idempotency_key(cast("StrictRequest", request))


def check_headers(request: AnyRequest, handler: HTTPRouteHandler) -> None:
    """Raise the refusal of a header that asks for what the route can't do."""
    headers = request.scope["headers"]
    if any(name == EXPECT for name, _ in headers):
        check_before_body(request)
    # also where there is no replica: what is refused must not depend on that
    header_position(cast("StrictRequest", request))
    require_accepted(request, *handler.opt.get("offers", (JSON,)))
    if codings := [value for name, value in headers if name == ACCEPT_ENCODING]:
        offered = ENCODINGS if "vary" in handler.opt else ()
        if preferred_coding(offered, weights(codings)) is None:
            raise NotAcceptable("this URL answers with no Content-Encoding that is accepted")
    if request.method != "GET" and any(name == CONTENT_RANGE for name, _ in headers):
        raise BadRequest(
            "send the whole body: a part of one, by Content-Range, is not put together"
        )
    if "has_versions" not in handler.opt and any(name in CONDITIONS for name, _ in headers):
        conditions = conditions_of(request)
        if request.method == "GET":  # a list without its ETag is never known already
            conditions = conditions._replace(if_none_match=None)
        if (header := conditions.unmet(None)) is not None:
            raise PreconditionFailed(f"this URL has no ETag that {header} could name")
