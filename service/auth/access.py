"""Who may do what: the token that a request shows (RFC 6750), and how much it may ask.

It leaves two things in the state of the ASGI scope, for the layers around the app:
`token`, the name of the token, or `anonymous`, and not there where no good token was shown;
`headers`, which belong to whatever answer follows: those that tell of the rate limit, and the one
that lets a browser ask for a token.
"""

import base64
import binascii
from datetime import UTC, datetime
from typing import Any

from litestar import Request
from litestar.openapi.spec import SecurityScheme
from litestar.types import BeforeRequestHookHandler

from service.auth.rate_limit import Buckets
from service.auth.tokens import Scope, Token, Tokens
from service.errors import Forbidden, RateLimited, Unauthorized
from service.settings import Settings

ANONYMOUS = "anonymous"
NOBODY = ""  # whose bucket those share who show no good token: guessing is limited, too
CHALLENGE = 'Bearer realm="users"'
ASK = (b"www-authenticate", b'Basic realm="users", charset="UTF-8"')  # a browser then asks

REFUSALS = (Unauthorized, Forbidden, RateLimited)  # of every route that needs a token
SCHEME = "bearer"
BEARER = SecurityScheme(
    type="http",
    scheme="bearer",
    bearer_format="usr_…",
    description="A token that `python -m service token create` made, with the scope named here.",
)

AnyRequest = Request[Any, Any, Any]


class Access:
    """The door. Without a token file it is open; the routes find it as `app.state.access`."""

    def __init__(self, settings: Settings) -> None:
        self.tokens = Tokens(settings.tokens_file) if settings.tokens_file else None
        self.buckets = Buckets(settings.rate_limit) if settings.rate_limit else None

    def admit(self, request: AnyRequest, scope: Scope, *, browsers: bool = False) -> None:
        """Let a request pass, or raise Unauthorized, RateLimited or Forbidden.

        `browsers`: the token may come as the password of Basic, which browsers can ask for. They
        send it again by themselves, so it is only for what changes nothing.
        """
        if self.tokens is None:
            self.count(request, ANONYMOUS)
            request.scope["state"]["token"] = ANONYMOUS
            return
        try:
            token = token_of(request, self.tokens, browsers=browsers)
        except Unauthorized:
            self.count(request, NOBODY)
            if browsers:
                request.scope["state"].setdefault("headers", []).append(ASK)
            raise
        request.scope["state"]["token"] = token.name
        self.count(request, token.name)
        if scope not in token.scopes:
            raise Forbidden(
                f"the token has not the scope {scope}",
                f'{CHALLENGE}, error="insufficient_scope", scope="{scope}"',
            )

    def count(self, request: AnyRequest, name: str) -> None:
        """Take a request from a name's bucket, or raise RateLimited."""
        if self.buckets is None:
            return
        allowance = self.buckets.take(name)
        request.scope["state"].setdefault("headers", []).extend(
            (
                (b"ratelimit-policy", self.buckets.policy.encode()),
                (b"ratelimit", allowance.header.encode()),
            )
        )
        if not allowance.granted:
            raise RateLimited(
                f"at most {self.buckets.quota} requests in {self.buckets.seconds} s; "
                f"try again in {allowance.seconds} s",
                allowance.seconds,
            )


def token_of(request: AnyRequest, tokens: Tokens, *, browsers: bool) -> Token:
    """The token that a request shows; raise Unauthorized where it shows none that is good.

    A token that can't be is refused in the same words as one that is not: a guess learns nothing.
    """
    given = [value for name, value in request.scope["headers"] if name == b"authorization"]
    if not given:
        raise Unauthorized("send a token: Authorization: Bearer usr_…", CHALLENGE)
    if len(given) > 1:
        raise invalid("send one Authorization header")
    scheme, _, secret = given[0].partition(b" ")
    if browsers and scheme.lower() == b"basic":
        secret = password(secret.strip())
    elif scheme.lower() != b"bearer":  # who does not know the method is told of no error
        raise Unauthorized("send a token: Authorization: Bearer usr_…", CHALLENGE)
    token = tokens.find(secret.strip().decode("latin-1"))
    if token is None:
        raise invalid("the token is not known")
    if token.expires is not None and token.expired(datetime.now(UTC)):
        raise invalid("the token has expired")
    return token


def password(credentials: bytes) -> bytes:
    """The password of Basic (RFC 7617), whoever the user; what can't be read has none."""
    try:
        return base64.b64decode(credentials, validate=True).partition(b":")[2]
    except binascii.Error:
        return b""


def invalid(detail: str) -> Unauthorized:
    """The refusal of what was shown."""
    return Unauthorized(detail, f'{CHALLENGE}, error="invalid_token", error_description="{detail}"')


def needs(scope: Scope, *, browsers: bool = False) -> BeforeRequestHookHandler:
    """What comes before the routes that need a token with this scope; `browsers`: see `admit`.

    Not a guard: Litestar copies the whole handler for each call of one, which takes as long as a
    third of a lookup.
    """

    # async although it waits for nothing: Litestar would send a plain function to a thread
    async def admit(request: AnyRequest) -> None:
        request.app.state.access.admit(request, scope, browsers=browsers)

    return admit


def security(scope: Scope) -> list[dict[str, list[str]]]:
    """What such a route needs, for the OpenAPI document."""
    return [{SCHEME: [scope]}]
