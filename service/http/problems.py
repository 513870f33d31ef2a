"""Exceptions as problem documents, application/problem+json (RFC 9457)."""

import logging
import re
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, cast

import msgspec
from litestar import Request, Response
from litestar.exceptions import HTTPException
from litestar.openapi.datastructures import ResponseSpec
from litestar.openapi.spec import Example
from litestar.types import ExceptionHandlersMap, HTTPScope, Scope, Send
from sqlalchemy.exc import DBAPIError, IntegrityError

from service.batching import BatchFailed
from service.database_errors import causes, why_unavailable
from service.errors import (
    BY_STATUS,
    RULES,
    BadRequest,
    EmailTaken,
    Flaw,
    Forbidden,
    ImportRefused,
    InProgress,
    Internal,
    InvalidInput,
    KeyReused,
    MalformedJson,
    NotAcceptable,
    OutcomeUnknown,
    OutdatedHttp,
    PreconditionFailed,
    RateLimited,
    Refusal,
    Rejected,
    RequestTimeout,
    RuleBroken,
    SchemaBehind,
    TimedOut,
    TooLarge,
    Unauthorized,
    Unavailable,
    UnknownCoding,
    UnsupportedMediaType,
    UserNotFound,
)
from service.http.layers.head import allow_header
from service.schemas import Problem, encode
from service.validation import flaw_messages, rejection

MEDIA_TYPE = "application/problem+json"
SET_ASIDE = re.compile(r"^_aside_\d+_")  # a newer revision has put this before the name
SQLITE_RULE = re.compile(r"constraint failed: (?:index ')?([\w.]+)'?$")

AGE = Flaw("/age", "must be between 0 and 150")
PROBLEM_EXAMPLES: dict[type[Refusal], Refusal] = {  # for the OpenAPI document
    type(refusal): refusal
    for refusal in (
        BadRequest("the request can't be read"),
        MalformedJson("the body is not JSON in UTF-8"),
        Unauthorized("send a token: Authorization: Bearer usr_…", "Bearer"),
        Forbidden("the token has not the scope write", "Bearer"),
        UserNotFound("no user has this id"),
        NotAcceptable("this URL answers with application/json"),
        RequestTimeout("the body took longer than 4 s"),
        EmailTaken("another user has this e-mail address"),
        InProgress("a request with this Idempotency-Key is under way"),
        RuleBroken("it is newer than this build, which can't explain it"),
        PreconditionFailed("If-Match names another version than the current one"),
        TooLarge("the body is too large"),
        UnsupportedMediaType("send application/json"),
        InvalidInput(AGE),
        KeyReused("this Idempotency-Key was used for another request"),
        ImportRefused("1 line can't be a user", [Rejected(7, (AGE,))]),
        RateLimited("at most 600 requests in 60 s; try again in 1 s", 1),
        Internal("this is logged, and is not the client's fault"),
        UnknownCoding("Transfer-Encoding may be chunked, and nothing else"),
        Unavailable("the database can't serve this now: all connections are busy"),
        SchemaBehind("the database is at base, this build needs a later revision"),
        TimedOut("this may take 4.5 seconds"),
        OutcomeUnknown("the database's answer to the commit was lost"),
        OutdatedHttp("ask by HTTP/1.1 or later, also through a proxy"),
    )
}

log = logging.getLogger("service")

AnyRequest = Request[Any, Any, Any]


def exception_handlers() -> ExceptionHandlersMap:
    """Return the app's exception handlers: one for all exceptions."""
    return {Exception: problem_response}


def problem_response(request: AnyRequest, error: Exception) -> Response[Any]:
    """Return the response to a request that failed; an unforeseen error is a logged 500."""
    if isinstance(error, BatchFailed) and isinstance(error.__cause__, Exception):
        return problem_response(request, error.__cause__)
    if isinstance(error, Refusal):
        return refusal_response(request, error)
    if isinstance(error, HTTPException):
        return framework_refusal(request, error)
    if isinstance(error, IntegrityError):
        return broken_rule(request, error)
    return failure(request, error)


def refusal_response(
    request: AnyRequest, refusal: Refusal, headers: Mapping[str, str] | None = None
) -> Response[Any]:
    """Return the problem document of a refusal."""
    all_headers = {"Cache-Control": "no-store", **refusal.headers, **(headers or {})}
    if isinstance(refusal, OutcomeUnknown):
        log_failure(request, refusal)
        if "idempotency-key" in request.headers:  # then a repetition can't do it twice
            all_headers["Retry-After"] = "1"
    # not request.url: it fails for a Host that is none, and for a query that is not UTF-8
    body = encode(problem_of(refusal, request.scope["path"]))
    return Response(
        body, headers=all_headers, status_code=refusal.status.value, media_type=MEDIA_TYPE
    )


async def refuse(scope: Scope, send: Send, refusal: Refusal, *headers: tuple[bytes, bytes]) -> None:
    """Send the problem document of a request that a layer refuses."""
    body = encode(problem_of(refusal, cast("HTTPScope", scope)["path"]))
    all_headers = [
        (b"content-type", MEDIA_TYPE.encode()),
        (b"cache-control", b"no-store"),
        (b"content-length", b"%d" % len(body)),
        *headers,
    ]
    status = refusal.status.value
    await send({"type": "http.response.start", "status": status, "headers": all_headers})
    await send({"type": "http.response.body", "body": body, "more_body": False})


def problem_of(refusal: Refusal, path: str) -> Problem:
    """Return the document that says why `path` was refused."""
    return Problem(
        type=f"urn:problem:{refusal.code}",
        title=refusal.title,
        status=refusal.status,
        detail=refusal.detail,
        instance=path,
        errors=flaw_messages(refusal.flaws),
        rejections=[rejection(rejected) for rejected in refusal.rejected],
    )


def framework_refusal(request: AnyRequest, error: HTTPException) -> Response[Any]:
    """Return the framework's refusal in our words."""
    if error.status_code >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return failure(request, error)
    if flaws := framework_flaws(error):
        return refusal_response(request, InvalidInput(*flaws))
    refusal = BY_STATUS.get(HTTPStatus(error.status_code), BadRequest)
    headers = dict(error.headers or {})
    if "allow" in headers:
        headers["allow"] = allow_header(headers["allow"].split(", "))
    return refusal_response(request, refusal(refusal.title.lower().rstrip(".")), headers)


def framework_flaws(error: HTTPException) -> list[Flaw]:
    """Return what the framework rejected of the parameters."""
    if not isinstance(error.extra, list):
        return []
    return [
        Flaw(f"/{flaw['key']}", str(flaw["message"]))
        for flaw in error.extra
        if isinstance(flaw, dict) and "key" in flaw
    ]


def broken_rule(request: AnyRequest, error: IntegrityError) -> Response[Any]:
    """Return the refusal of a broken constraint: one of ours by its name, or a newer build's."""
    name = constraint_name(error)
    if rule := RULES.get(SET_ASIDE.sub("", name)):
        return refusal_response(request, rule())
    log_database_error(request, error)
    detail = "it is newer than this build, which can't explain it"
    return refusal_response(request, RuleBroken(detail))


def constraint_name(error: DBAPIError) -> str:
    """Return the name of the broken constraint; empty when the driver does not tell."""
    for cause in causes(error.orig or error):
        if name := getattr(cause, "constraint_name", None):
            return str(name)
    match = SQLITE_RULE.search(str(error.orig))
    return match.group(1) if match else ""


def log_database_error(request: AnyRequest, error: DBAPIError) -> None:
    """Log what the database refused, without the driver's words: they repeat the row's values."""
    log.error(
        "%s %s failed: %s %s in: %s",
        request.method,
        route_of(request),
        type(error.orig).__name__,
        constraint_name(error),
        error.statement,
    )


def failure(request: AnyRequest, error: Exception) -> Response[Any]:
    """Return 503 for an outage of the database, 500 for a fault of ours; log either.

    The client sees neither the driver nor a stack trace.
    """
    log_failure(request, error)
    if reason := why_unavailable(error):
        detail = f"the database can't serve this now: {reason}"
        return refusal_response(request, Unavailable(detail))
    return refusal_response(request, Internal("this is logged, and is not the client's fault"))


def log_failure(request: AnyRequest, error: Exception) -> None:
    """Log why a response was not sent, or not to its end."""
    if isinstance(error, Refusal):
        log.info("%s %s was given up: %s", request.method, route_of(request), error.detail)
    elif reason := why_unavailable(error):
        log.warning("no answer for %s %s: %s", request.method, route_of(request), reason)
    elif isinstance(error, DBAPIError):
        log_database_error(request, error)
    else:
        log.error("%s %s failed", request.method, route_of(request), exc_info=error)


def route_of(request: AnyRequest) -> str:
    """Return the route's template: the path without what the client put in it."""
    return str(request.scope.get("path_template") or "an unknown URL")


def documented(*refusals: type[Refusal]) -> dict[int, ResponseSpec]:
    """Return the refusals of a route for its OpenAPI document, by status."""
    specs: dict[int, ResponseSpec] = {}
    for refusal in dict.fromkeys(refusals):
        problem = problem_of(PROBLEM_EXAMPLES[refusal], "/users")
        example = Example(summary=refusal.code, value=msgspec.to_builtins(problem))
        if spec := specs.get(refusal.status):
            spec.description += f" `{refusal.code}`: {refusal.title}"
            spec.examples = [*(spec.examples or []), example]
            continue
        specs[refusal.status.value] = ResponseSpec(
            Problem,
            generate_examples=False,
            media_type=MEDIA_TYPE,
            description=f"`{refusal.code}`: {refusal.title}",
            examples=[example],
        )
    return specs
