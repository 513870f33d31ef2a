"""Other origins: which pages' scripts may call (CORS)."""

from litestar.config.cors import CORSConfig
from litestar.types import ASGIApp, Receive, Scope, Send

READABLE = ["ETag", "Link", "Location", "RateLimit", "RateLimit-Policy", "Retry-After"]


def cors(origins: str) -> CORSConfig | None:
    """What the framework needs to know: none may, unless they are named."""
    if not origins:
        return None
    return CORSConfig(
        allow_origins=[origin.strip() for origin in origins.split(",")],
        allow_methods=["*"],
        allow_headers=["*"],
        expose_headers=[*READABLE, "X-Request-ID"],
    )


def without_strangers(app: ASGIApp, config: CORSConfig | None) -> ASGIApp:
    """The app, for which a page that may not call is as good as no page.

    The framework would answer its preflight with a text of its own. It says Vary only to those who
    may; what a cache keeps must not depend on who asked first.
    """
    if config is None:
        return app

    async def guarded(scope: Scope, receive: Receive, send: Send) -> None:
        headers = scope["headers"]
        origin = next((value for name, value in headers if name == b"origin"), None)
        if origin is None or not config.is_origin_allowed(origin.decode("latin-1")):
            scope["headers"] = [header for header in headers if header[0] != b"origin"]
            scope["state"].setdefault("headers", []).append((b"vary", b"Origin"))
        await app(scope, receive, send)

    return guarded
