"""Content-Encoding br or gzip, for responses that are large enough."""

from litestar.config.compression import CompressionConfig
from litestar.enums import CompressionEncoding
from litestar.middleware.compression import CompressionMiddleware
from litestar.types import ASGIApp, Message, Receive, Scope, Send

ENCODINGS = (CompressionEncoding.BROTLI, CompressionEncoding.GZIP)  # the better first
CONFIG = CompressionConfig(
    backend="brotli",
    minimum_size=1024,  # bytes; a smaller body is one packet anyway
    brotli_quality=4,  # about as fast as gzip, and smaller
    gzip_compress_level=5,
)
VARY = (b"vary", b"Accept-Encoding")


class Compression:
    """A middleware of routes with large responses: Litestar's own, with two corrections.

    Litestar ignores q=0, and sends Vary only where it compressed.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app
        self.middleware = CompressionMiddleware(app, CONFIG)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, and compress the response as the client prefers."""
        accepted = next((v for name, v in scope["headers"] if name == b"accept-encoding"), b"")
        encoding = preferred_encoding(accepted.decode("latin-1")) if accepted else None

        async def send_with_vary(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = message["headers"]
                if encoding is not None:  # then Litestar has added its own
                    headers = [header for header in headers if header[0] != b"vary"]
                message["headers"] = [*headers, VARY]
            await send(message)

        if encoding is None:
            await self.app(scope, receive, send_with_vary)
            return
        wrapper = self.middleware.create_compression_send_wrapper(send_with_vary, encoding, scope)
        await self.app(scope, receive, wrapper)


def preferred_encoding(accept_encoding: str) -> str | None:
    """Return the encoding of ours that the client prefers; None for none (RFC 9110, 12.5.3)."""
    weights: dict[str, float] = {}
    for item in accept_encoding.lower().split(","):
        coding, _, parameter = item.partition(";")
        try:
            weights[coding.strip()] = float(parameter.strip().removeprefix("q=") or 1)
        except ValueError:
            continue
    best = max(ENCODINGS, key=lambda coding: weights.get(coding, weights.get("*", 0)))
    return best if weights.get(best, weights.get("*", 0)) > 0 else None
