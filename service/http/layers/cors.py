"""CORS: which other origins' pages may call the service."""

from typing import Any, cast

from litestar.config.cors import CORSConfig
from litestar.types import ASGIApp, Message, Receive, Scope, Send

EXPOSED_HEADERS = [
    "ETag",
    "Link",
    "Location",
    "RateLimit",
    "RateLimit-Policy",
    "Read-After",
    "Retry-After",
    "X-Request-ID",
]


def cors_config(origins: str) -> CORSConfig | None:
    """Return the framework's configuration; None where no origin is set."""
    if not origins:
        return None
    return CORSConfig(
        allow_origins=[origin.strip() for origin in origins.split(",")],
        allow_methods=["*"],
        allow_headers=["*"],
        expose_headers=EXPOSED_HEADERS,
    )


class UnknownOrigins:
    """A layer that treats a request from an origin that is not allowed like one without an origin.

    The framework would answer its preflight with a text of its own. It also sends `Vary: Origin` to
    allowed origins only, and there replaces a route's own Vary. What a cache stores must not depend
    on who asked first, so the layer adds what is missing; `opt={"vary": …}` is the route's own.
    """

    def __init__(self, app: ASGIApp, config: CORSConfig) -> None:
        self.app = app
        self.config = config

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, if need be without its Origin, and complete Vary in the response."""
        headers = scope.get("headers", ())
        origins = [value for name, value in headers if name == b"origin"]
        allowed = len(origins) == 1 and self.config.is_origin_allowed(origins[0].decode("latin-1"))
        if not allowed:
            scope["headers"] = [header for header in headers if header[0] != b"origin"]

        async def send_with_vary(message: Message) -> None:
            if message["type"] == "http.response.start":
                # a request that the framework refuses has no route
                handler = cast("dict[str, Any]", scope).get("route_handler")
                own = handler.opt.get("vary") if handler else None
                missing = own if allowed else "Origin"
                vary = (b"vary", missing.encode()) if missing else None
                if vary and vary not in message["headers"]:
                    message["headers"] = [*message["headers"], vary]
            await send(message)

        await self.app(scope, receive, send_with_vary)
