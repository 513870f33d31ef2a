"""Errors as application/problem+json (RFC 9457): the only file that knows both sides."""

import logging
import re
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

import msgspec
from litestar import Request
from litestar.exceptions import HTTPException
from litestar.openapi.datastructures import ResponseSpec
from litestar.openapi.spec import Example
from litestar.types import ExceptionHandlersMap
from sqlalchemy.exc import DBAPIError, IntegrityError

from service import schemas
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
    UnsupportedMediaType,
    UserNotFound,
)
from service.http.answers import Answer, Ready, header
from service.http.layers.head import allow

MEDIA_TYPE = "application/problem+json"
ASIDE = re.compile(r"^_aside_\d+_")  # what a newer revision has put before the name
SQLITE_RULE = re.compile(r"constraint failed: (?:index ')?([\w.]+)'?$")

AGE = Flaw("/age", "must be between 0 and 150")
EXAMPLES: dict[type[Refusal], Refusal] = {  # for the OpenAPI document
    type(refusal): refusal
    for refusal in (
        BadRequest("the request can't be read"),
        MalformedJson("the body is not JSON in UTF-8"),
        Unauthorized("send a token: Authorization: Bearer usr_…", "Bearer"),
        Forbidden("the token has not the scope write", "Bearer"),
        UserNotFound("no user has this id"),
        RequestTimeout("nothing came for 30 seconds"),
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
        Unavailable("the database can't serve this now: all connections are busy"),
        SchemaBehind("the database is at base, this build needs a later revision"),
        TimedOut("this may take 30 seconds; whether it was done then is not known"),
        OutdatedHttp("ask by HTTP/1.1 or later, also through a proxy"),
    )
}

log = logging.getLogger("service")

AnyRequest = Request[Any, Any, Any]


def handlers() -> ExceptionHandlersMap:
    """Who answers for the exceptions: one for all."""
    return {Exception: lambda request, error: Ready(answer_to(request, error))}


def answer_to(request: AnyRequest, error: Exception) -> Answer:
    """The answer to a request that failed; whatever is not foreseen is a logged 500."""
    if isinstance(error, Refusal):
        return refused(request, error)
    if isinstance(error, HTTPException):
        return refused_by_framework(request, error)
    if isinstance(error, IntegrityError):
        return broke_a_rule(request, error)
    return failed(request, error)


def refused(
    request: AnyRequest, refusal: Refusal, headers: Mapping[str, str] | None = None
) -> Answer:
    """A no, in the form that every no has."""
    told = {"Cache-Control": "no-store", **refusal.headers, **(headers or {})}
    told["Content-Type"] = MEDIA_TYPE
    body = schemas.encode(problem_of(refusal, request.url.path))
    return Answer(refusal.status, tuple(header(*each) for each in told.items()), body)


def problem_of(refusal: Refusal, path: str) -> schemas.Problem:
    """The document that says why `path` was refused."""
    return schemas.Problem(
        type=f"urn:problem:{refusal.code}",
        title=refusal.title,
        status=refusal.status,
        detail=refusal.detail,
        instance=path,
        errors=schemas.flaw_messages(refusal.flaws),
        rejections=[schemas.rejection(rejected) for rejected in refusal.rejected],
    )


def refused_by_framework(request: AnyRequest, error: HTTPException) -> Answer:
    """The framework's no, in our words."""
    if error.status_code >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return failed(request, error)
    if flaws := flaws_of(error):
        return refused(request, InvalidInput(*flaws))
    refusal = BY_STATUS.get(HTTPStatus(error.status_code), BadRequest)
    headers = dict(error.headers or {})
    if "allow" in headers:
        headers["allow"] = allow(headers["allow"].split(", "))
    return refused(request, refusal(refusal.title.lower().rstrip(".")), headers)


def flaws_of(error: HTTPException) -> list[Flaw]:
    """What the framework found wrong with the parameters."""
    if not isinstance(error.extra, list):
        return []
    return [
        Flaw(f"/{flaw['key']}", str(flaw["message"]))
        for flaw in error.extra
        if isinstance(flaw, dict) and "key" in flaw
    ]


def broke_a_rule(request: AnyRequest, error: IntegrityError) -> Answer:
    """A rule of the database: one that we know by its name, or a newer build's."""
    name = rule_of(error)
    if rule := RULES.get(ASIDE.sub("", name)):
        return refused(request, rule)
    tell(request, error)
    return refused(request, RuleBroken("it is newer than this build, which can't explain it"))


def rule_of(error: DBAPIError) -> str:
    """The name of the constraint that was broken; empty when the driver does not tell."""
    for cause in causes(error.orig or error):
        if name := getattr(cause, "constraint_name", None):
            return str(name)
    match = SQLITE_RULE.search(str(error.orig))
    return match.group(1) if match else ""


def tell(request: AnyRequest, error: DBAPIError) -> None:
    """Log what the database refused, without the driver's words: they repeat the row's values."""
    log.error(
        "%s %s failed: %s %s in: %s",
        request.method,
        route_of(request),
        type(error.orig).__name__,
        rule_of(error),
        error.statement,
    )


def failed(request: AnyRequest, error: Exception) -> Answer:
    """An outage of the database, or a fault of ours; the client sees neither driver nor stack."""
    log_failure(request, error)
    if reason := why_unavailable(error):
        return refused(request, Unavailable(f"the database can't serve this now: {reason}"))
    return refused(request, Internal("this is logged, and is not the client's fault"))


def log_failure(request: AnyRequest, error: Exception) -> None:
    """Log why there is no answer, or only half of one."""
    if isinstance(error, Refusal):
        log.info("%s %s was given up: %s", request.method, route_of(request), error.detail)
    elif reason := why_unavailable(error):
        log.warning("no answer for %s %s: %s", request.method, route_of(request), reason)
    elif isinstance(error, DBAPIError):
        tell(request, error)
    else:
        log.error("%s %s failed", request.method, route_of(request), exc_info=error)


def route_of(request: AnyRequest) -> str:
    """The URL without what a client put in it."""
    return str(request.scope.get("path_template") or "an unknown URL")


def documented(*refusals: type[Refusal]) -> dict[int, ResponseSpec]:
    """The refusals of a route for its OpenAPI document, by status."""
    specs: dict[int, ResponseSpec] = {}
    for refusal in refusals:
        problem = problem_of(EXAMPLES[refusal], "/users")
        example = Example(summary=refusal.code, value=msgspec.to_builtins(problem))
        if spec := specs.get(refusal.status):
            spec.description += f" `{refusal.code}`: {refusal.title}"
            spec.examples = [*(spec.examples or []), example]
            continue
        specs[refusal.status.value] = ResponseSpec(
            schemas.Problem,
            generate_examples=False,
            media_type=MEDIA_TYPE,
            description=f"`{refusal.code}`: {refusal.title}",
            examples=[example],
        )
    return specs
