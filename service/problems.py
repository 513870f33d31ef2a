"""Errors as application/problem+json (RFC 9457): the only file that knows both sides."""

import logging
import re
from http import HTTPStatus
from typing import Any

import msgspec
from litestar import Request, Response
from litestar.exceptions import HTTPException
from litestar.openapi.datastructures import ResponseSpec
from litestar.openapi.spec import Example
from litestar.types import ExceptionHandlersMap
from sqlalchemy.exc import DBAPIError, IntegrityError

from service import wire
from service.errors import (
    BY_STATUS,
    RULES,
    BadRequest,
    Flaw,
    Internal,
    InvalidInput,
    MalformedJson,
    Refusal,
    RuleBroken,
    Unavailable,
)
from service.outages import causes, why_unavailable

MEDIA_TYPE = "application/problem+json"
ASIDE = re.compile(r"^_aside_\d+_")  # what a newer revision has put before the name
SQLITE_RULE = re.compile(r"constraint failed: (?:index ')?([\w.]+)'?$")

EXAMPLE_FLAWS = [wire.FlawMessage(pointer="/age", detail="must be between 0 and 150")]

log = logging.getLogger("service")

AnyRequest = Request[Any, Any, Any]


def handlers() -> ExceptionHandlersMap:
    """Who answers for which exception; whatever is not foreseen is a logged 500."""
    return {
        Refusal: refused,
        HTTPException: refused_by_framework,
        IntegrityError: broke_a_rule,
        Exception: failed,
    }


def refused(
    request: AnyRequest, refusal: Refusal, headers: dict[str, str] | None = None
) -> Response[bytes]:
    """A no, in the form that every no has."""
    problem = wire.Problem(
        type=type_of(refusal),
        title=refusal.title,
        status=refusal.status,
        detail=refusal.detail,
        instance=request.url.path,
        errors=wire.flaw_messages(refusal.flaws),
        rejections=[wire.rejection(rejected) for rejected in refusal.rejected],
    )
    return Response(
        wire.encode(problem),
        status_code=refusal.status,
        media_type=MEDIA_TYPE,
        headers={**refusal.headers, **(headers or {})},
    )


def refused_by_framework(request: AnyRequest, error: HTTPException) -> Response[bytes]:
    """The framework's no, in our words."""
    if error.status_code >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return failed(request, error)
    if flaws := flaws_of(error):
        if all(flaw.pointer == "/data" for flaw in flaws):
            return refused(request, MalformedJson("the body is empty; it must be JSON"))
        return refused(request, InvalidInput(*flaws))
    refusal = BY_STATUS.get(HTTPStatus(error.status_code), BadRequest)
    return refused(request, refusal(refusal.title.lower().rstrip(".")), error.headers)


def flaws_of(error: HTTPException) -> list[Flaw]:
    """What the framework found wrong with the parameters."""
    if not isinstance(error.extra, list):
        return []
    return [
        Flaw(f"/{flaw['key']}", str(flaw["message"]))
        for flaw in error.extra
        if isinstance(flaw, dict) and "key" in flaw
    ]


def broke_a_rule(request: AnyRequest, error: IntegrityError) -> Response[bytes]:
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
        request.url.path,
        type(error.orig).__name__,
        rule_of(error),
        error.statement,
    )


def failed(request: AnyRequest, error: Exception) -> Response[bytes]:
    """An outage of the database, or a fault of ours; the client sees neither driver nor stack."""
    log_failure(request, error)
    if reason := why_unavailable(error):
        return refused(request, Unavailable(f"the database can't serve this now: {reason}"))
    return refused(request, Internal("this is logged, and is not the client's fault"))


def log_failure(request: AnyRequest, error: Exception) -> None:
    """Log why there is no answer, or only half of one."""
    if isinstance(error, Refusal):
        log.info("%s %s was given up: %s", request.method, request.url.path, error.detail)
    elif reason := why_unavailable(error):
        log.warning("no answer for %s %s: %s", request.method, request.url.path, reason)
    elif isinstance(error, DBAPIError):
        tell(request, error)
    else:
        log.error("%s %s failed", request.method, request.url.path, exc_info=error)


def type_of(refusal: Refusal | type[Refusal]) -> str:
    """A problem's stable name."""
    return f"urn:problem:{refusal.code}"


def documented(*refusals: type[Refusal]) -> dict[int, ResponseSpec]:
    """The refusals of a route for its OpenAPI document, by status."""
    specs: dict[int, ResponseSpec] = {}
    for refusal in refusals:
        problem = wire.Problem(
            type=type_of(refusal),
            title=refusal.title,
            status=refusal.status,
            detail="what is wrong in this case",
            instance="/users",
            errors=EXAMPLE_FLAWS if refusal is InvalidInput else [],
        )
        example = Example(summary=refusal.code, value=msgspec.to_builtins(problem))
        if spec := specs.get(refusal.status):
            spec.description += f" `{refusal.code}`: {refusal.title}"
            spec.examples = [*(spec.examples or []), example]
            continue
        specs[refusal.status.value] = ResponseSpec(
            wire.Problem,
            generate_examples=False,
            media_type=MEDIA_TYPE,
            description=f"`{refusal.code}`: {refusal.title}",
            examples=[example],
        )
    return specs
