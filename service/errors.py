"""The errors that clients see, each with a stable code and an HTTP status.

Refusal
├── BadRequest              400  bad-request             (raised by Litestar)
├── MalformedJson           400  malformed-json
├── Challenge
│   ├── Unauthorized        401  unauthorized
│   └── Forbidden           403  forbidden
├── NotFound                404  not-found               (raised by Litestar)
├── UserNotFound            404  user-not-found
├── MethodNotAllowed        405  method-not-allowed      (raised by Litestar)
├── NotAcceptable           406  not-acceptable
├── RequestTimeout          408  request-timeout
├── EmailTaken              409  email-taken
├── InProgress              409  in-progress
├── RuleBroken              409  rule-broken
├── PreconditionFailed      412  precondition-failed
├── TooLarge                413  too-large               (raised by Litestar)
├── UnsupportedMediaType    415  unsupported-media-type
├── InvalidInput            422  invalid-input
├── KeyReused               422  idempotency-key-reused
├── ImportRefused           422  import-refused
├── RateLimited             429  rate-limited
├── Internal                500  internal
├── UnknownCoding           501  unknown-coding
├── Unavailable             503  unavailable
│   ├── SchemaBehind        503  schema-behind
│   └── TimedOut            503  timed-out
├── OutcomeUnknown          503  outcome-unknown
└── OutdatedHttp            505  outdated-http
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from http import HTTPStatus
from types import MappingProxyType
from typing import ClassVar, NamedTuple


class Flaw(NamedTuple):
    """One error in the input."""

    pointer: str  # RFC 6901, into the body; for a query parameter its name
    detail: str


class Rejected(NamedTuple):
    """A line of an import that is not a valid user."""

    line: int  # from 1, a CSV's header included
    flaws: tuple[Flaw, ...]


class Refusal(Exception):  # noqa: N818  # a refusal is not a fault
    """An error response to the client; `detail` says why in this case."""

    code: ClassVar[str]
    status: ClassVar[HTTPStatus]
    title: ClassVar[str]
    headers: Mapping[str, str] = MappingProxyType({})
    rejected: Sequence[Rejected] = ()

    def __init__(self, detail: str, flaws: tuple[Flaw, ...] = ()) -> None:
        super().__init__(detail)
        self.detail = detail
        self.flaws = flaws


class BadRequest(Refusal):
    """The client sent a request that can't be read."""

    code = "bad-request"
    status = HTTPStatus.BAD_REQUEST
    title = "The request can't be read."


class MalformedJson(Refusal):
    """The client sent a body that is not JSON."""

    code = "malformed-json"
    status = HTTPStatus.BAD_REQUEST
    title = "The body is not JSON."


class Challenge(Refusal):
    """The client must send another token; `challenge` is the WWW-Authenticate header."""

    def __init__(self, detail: str, challenge: str) -> None:
        super().__init__(detail)
        self.headers = {"WWW-Authenticate": challenge}


class Unauthorized(Challenge):
    """The client sent no token, or an invalid one."""

    code = "unauthorized"
    status = HTTPStatus.UNAUTHORIZED
    title = "A valid token is needed."


class Forbidden(Challenge):
    """The client's token lacks the scope that the operation requires."""

    code = "forbidden"
    status = HTTPStatus.FORBIDDEN
    title = "The token does not allow this."


class NotFound(Refusal):
    """The client requested a URL that does not exist."""

    code = "not-found"
    status = HTTPStatus.NOT_FOUND
    title = "There is nothing at this URL."


class UserNotFound(Refusal):
    """The client requested a user who does not exist, or no longer exists."""

    code = "user-not-found"
    status = HTTPStatus.NOT_FOUND
    title = "There is no such user."


class MethodNotAllowed(Refusal):
    """The client used a method that the URL doesn't have; `Allow` lists its methods."""

    code = "method-not-allowed"
    status = HTTPStatus.METHOD_NOT_ALLOWED
    title = "This URL has no such method."


class NotAcceptable(Refusal):
    """The client refuses every form in which the response could be sent."""

    code = "not-acceptable"
    status = HTTPStatus.NOT_ACCEPTABLE
    title = "The response has no form that the request accepts."


class RequestTimeout(Refusal):
    """The client stopped sending before its request was complete."""

    code = "request-timeout"
    status = HTTPStatus.REQUEST_TIMEOUT
    title = "The request did not arrive in time."


class EmailTaken(Refusal):
    """The client gave an e-mail address that another user has."""

    code = "email-taken"
    status = HTTPStatus.CONFLICT
    title = "Another user has this e-mail address."


class InProgress(Refusal):
    """The client repeated a request, by its Idempotency-Key, that is still running."""

    code = "in-progress"
    status = HTTPStatus.CONFLICT
    title = "The first request with this key is still running."
    headers = MappingProxyType({"Retry-After": "1"})


class RuleBroken(Refusal):
    """The client broke a database constraint that this build doesn't know."""

    code = "rule-broken"
    status = HTTPStatus.CONFLICT
    title = "A rule of the database forbids this."


class PreconditionFailed(Refusal):
    """The client tried to change a version of the user that is no longer current."""

    code = "precondition-failed"
    status = HTTPStatus.PRECONDITION_FAILED
    title = "The user has changed in the meantime."


class TooLarge(Refusal):
    """The client sent a body larger than the limit."""

    code = "too-large"
    status = HTTPStatus.REQUEST_ENTITY_TOO_LARGE
    title = "The body is too large."


class UnsupportedMediaType(Refusal):
    """The client sent a body of a media type that the URL doesn't accept."""

    code = "unsupported-media-type"
    status = HTTPStatus.UNSUPPORTED_MEDIA_TYPE
    title = "The body's media type is not supported."


def flaw_text(flaw: Flaw) -> str:
    """Return a flaw as part of a sentence."""
    return f"{flaw.pointer.removeprefix('/') or 'the body'} {flaw.detail}"


class InvalidInput(Refusal):
    """The client sent values that break a rule; `flaws` lists each of them."""

    code = "invalid-input"
    status = HTTPStatus.UNPROCESSABLE_ENTITY
    title = "The input breaks a rule."

    def __init__(self, *flaws: Flaw) -> None:
        super().__init__("; ".join(flaw_text(flaw) for flaw in flaws), flaws)


class KeyReused(Refusal):
    """The client reused the Idempotency-Key of another request."""

    code = "idempotency-key-reused"
    status = HTTPStatus.UNPROCESSABLE_ENTITY
    title = "This Idempotency-Key belongs to another request."


class ImportRefused(Refusal):
    """The client asked to import all lines or none, and some are invalid."""

    code = "import-refused"
    status = HTTPStatus.UNPROCESSABLE_ENTITY
    title = "Nothing was imported."

    def __init__(self, detail: str, rejected: Sequence[Rejected]) -> None:
        super().__init__(detail)
        self.rejected = rejected


class RateLimited(Refusal):
    """The client exceeded its rate limit; `wait` is in seconds."""

    code = "rate-limited"
    status = HTTPStatus.TOO_MANY_REQUESTS
    title = "Too many requests."

    def __init__(self, detail: str, wait: int) -> None:
        super().__init__(detail)
        self.headers = {"Retry-After": str(wait)}


class Internal(Refusal):
    """The client did nothing wrong: the service has a bug."""

    code = "internal"
    status = HTTPStatus.INTERNAL_SERVER_ERROR
    title = "The service made a mistake."


class UnknownCoding(Refusal):
    """The client sent a body in a transfer coding that the service doesn't know."""

    code = "unknown-coding"
    status = HTTPStatus.NOT_IMPLEMENTED
    title = "The body's transfer coding is not known."


class Unavailable(Refusal):
    """The client did nothing wrong: the database is unavailable."""

    code = "unavailable"
    status = HTTPStatus.SERVICE_UNAVAILABLE
    title = "The service can't answer now; try again."
    headers = MappingProxyType({"Retry-After": "1"})


class SchemaBehind(Unavailable):
    """The client must wait for a migration: the database lacks this build's schema."""

    code = "schema-behind"
    title = "The database is behind this build; a migration is due."
    headers = MappingProxyType({"Retry-After": "5"})


class TimedOut(Unavailable):
    """The request took longer than its timeout, and changed nothing."""

    code = "timed-out"
    title = "The service took too long."


class OutcomeUnknown(Refusal):
    """The client's change may have been stored, or not: the answer that tells was lost.

    To try again is safe under an Idempotency-Key only.
    """

    code = "outcome-unknown"
    status = HTTPStatus.SERVICE_UNAVAILABLE
    title = "It is not known whether this was done."


class OutdatedHttp(Refusal):
    """The client's HTTP version can't mark the end of a streamed response."""

    code = "outdated-http"
    status = HTTPStatus.HTTP_VERSION_NOT_SUPPORTED
    title = "This needs a later version of HTTP."


BY_STATUS = {  # our errors for Litestar's exceptions
    refusal.status: refusal for refusal in (BadRequest, NotFound, MethodNotAllowed, TooLarge)
}

# by constraint of the database; callables, since each request needs an exception of its own:
# one that is raised for many would collect their tracebacks
RULES: Mapping[str, Callable[[], Refusal]] = {
    "idx_user_email": partial(EmailTaken, "another user has this e-mail address"),
    "ck_users_age": partial(InvalidInput, Flaw("/age", "must be between 0 and 150")),
}
