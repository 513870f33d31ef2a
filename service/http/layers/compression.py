"""Content-Encoding br or gzip, for responses that are large enough."""

from dataclasses import replace

from litestar.config.compression import CompressionConfig
from litestar.enums import CompressionEncoding
from litestar.middleware.compression import CompressionMiddleware
from litestar.types import ASGIApp, Message, Receive, Scope, Send

from service.http.qualities import preferred_coding, weights

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
        self.without_minimum = CompressionMiddleware(app, replace(CONFIG, minimum_size=1))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, and compress the response as the client prefers."""
        lines = [value for name, value in scope["headers"] if name == b"accept-encoding"]
        accepted = weights(lines) if lines else {}
        encoding = preferred_coding(ENCODINGS, accepted) if lines else "identity"

        async def send_with_vary(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = message["headers"]
                if encoding in ENCODINGS:  # then Litestar has added its own
                    headers = [header for header in headers if header[0] != b"vary"]
                message["headers"] = [*headers, VARY]
            await send(message)

        if encoding not in ENCODINGS:  # of None the route makes a refusal
            await self.app(scope, receive, send_with_vary)
            return
        is_whole_refused = preferred_coding((), accepted) is None
        middleware = self.without_minimum if is_whole_refused else self.middleware
        wrapper = middleware.create_compression_send_wrapper(send_with_vary, encoding, scope)
        await self.app(scope, receive, wrapper)
