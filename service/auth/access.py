"""Admit requests by their token (RFC 6750), its scopes, and its rate limit.

`needs` leaves an `Admission` in `scope["auth"]`, where Litestar has what authentication found
(`request.auth`). The access log reads the token's name there, and the layer `RateLimitHeaders` the
allowance.
"""

import base64
import binascii
from datetime import UTC, datetime
from typing import Any, NamedTuple

from litestar import Request
from litestar.openapi.spec import SecurityScheme
from litestar.types import BeforeRequestHookHandler

from service.auth.rate_limit import Allowance, RateLimiter
from service.auth.tokens import Scope, Token, Tokens
from service.errors import Forbidden, RateLimited, Unauthorized
from service.settings import Settings

ANONYMOUS = "anonymous"
UNKNOWN = ""  # the bucket of all requests without a good token: guessing is limited, too
CHALLENGE = 'Bearer realm="users"'

REFUSALS = (Unauthorized, Forbidden, RateLimited)  # of every route that needs a token
SCHEME = "bearer"
BEARER = SecurityScheme(
    type="http",
    scheme="bearer",
    bearer_format="usr_…",
    description="A token that `python -m service token create` made, with the scope named here.",
)

AnyRequest = Request[Any, Any, Any]


class Admission(NamedTuple):
    """The client of a request, as far as it is known."""

    token: str | None  # its name, `anonymous` without a token file; None without a good token
    allowance: Allowance | None  # None without a rate limit


class Access:
    """The tokens and the rate limit; without a token file every request is admitted."""

    def __init__(self, settings: Settings) -> None:
        self.tokens = Tokens(settings.tokens_file) if settings.tokens_file else None
        self.limiter = RateLimiter(settings.rate_limit) if settings.rate_limit else None


def token_of(request: AnyRequest, tokens: Tokens, *, basic: bool) -> Token:
    """Return the token that a request shows; raise Unauthorized where it shows no good one.

    A malformed token is refused in the same words as an unknown one: a guess learns nothing.
    """
    values = [value for name, value in request.scope["headers"] if name == b"authorization"]
    if not values:
        raise Unauthorized("send a token: Authorization: Bearer usr_…", CHALLENGE)
    if len(values) > 1:
        raise invalid_token("send one Authorization header")
    scheme, _, secret = values[0].partition(b" ")
    if basic and scheme.lower() == b"basic":
        secret = basic_password(secret.strip())
    elif scheme.lower() != b"bearer":  # RFC 6750: no error code where the client used another
        raise Unauthorized("send a token: Authorization: Bearer usr_…", CHALLENGE)
    token = tokens.find(secret.strip().decode("latin-1"))
    if token is None:
        raise invalid_token("the token is not known")
    if token.expires is not None and token.expired(datetime.now(UTC)):
        raise invalid_token("the token has expired")
    return token


def basic_password(credentials: bytes) -> bytes:
    """Return the password of Basic credentials (RFC 7617); empty if they can't be read."""
    try:
        return base64.b64decode(credentials, validate=True).partition(b":")[2]
    except binascii.Error:
        return b""


def invalid_token(detail: str) -> Unauthorized:
    """Return the refusal of a token."""
    return Unauthorized(detail, f'{CHALLENGE}, error="invalid_token", error_description="{detail}"')


def needs(scope: Scope, *, basic: bool = False) -> BeforeRequestHookHandler:
    """Return the `before_request` of the routes that need a token with this scope.

    It leaves an `Admission` in `scope["auth"]`, and raises Unauthorized, RateLimited or Forbidden.
    `basic`: the token may come as the password of Basic, which browsers can ask for. They send it
    again by themselves, so it is only for routes that change nothing.
    It is not a guard, because Litestar copies the whole handler for each call of one, which takes a
    third of the time of a lookup.
    """

    # async although it waits for nothing: Litestar would send a plain function to a thread
    async def admit(request: AnyRequest) -> None:
        access: Access = request.app.state.access
        token = unauthorized = name = None
        if access.tokens is None:
            name = ANONYMOUS
        else:
            try:
                token = token_of(request, access.tokens, basic=basic)
                name = token.name
            except Unauthorized as error:
                unauthorized = error
        allowance = access.limiter.take(name or UNKNOWN) if access.limiter else None
        request.scope["auth"] = Admission(name, allowance)
        if access.limiter and allowance and not allowance.granted:
            raise RateLimited(
                f"at most {access.limiter.limit}; try again in {allowance.seconds} s",
                allowance.seconds,
            )
        if unauthorized:
            raise unauthorized
        if token and scope not in token.scopes:
            raise Forbidden(
                f"the token has not the scope {scope}",
                f'{CHALLENGE}, error="insufficient_scope", scope="{scope}"',
            )

    return admit


def security(scope: Scope) -> list[dict[str, list[str]]]:
    """Return what such a route needs, for the OpenAPI document."""
    return [{SCHEME: [scope]}]
