"""Content-Encoding br or gzip, for answers that are worth it."""

from litestar.config.compression import CompressionConfig
from litestar.enums import CompressionEncoding
from litestar.middleware.compression import CompressionMiddleware
from litestar.types import ASGIApp, Message, Receive, Scope, Send

ENCODINGS = (CompressionEncoding.BROTLI, CompressionEncoding.GZIP)  # the better first
CONFIG = CompressionConfig(
    backend="brotli",
    minimum_size=1024,  # bytes; less is one packet anyway
    brotli_quality=4,  # about as fast as gzip, and smaller
    gzip_compress_level=5,
)


class Compressed:
    """As Litestar does it, which takes no account of q=0 and says Vary only where it compressed."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app
        self.framework = CompressionMiddleware(app, CONFIG)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Compress as the client likes best."""
        scope["state"].setdefault("headers", []).append((b"vary", b"Accept-Encoding"))

        async def send_without_vary(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [
                    (name, value) for name, value in message["headers"] if name != b"vary"
                ]
            await send(message)

        accepted = next((v for name, v in scope["headers"] if name == b"accept-encoding"), b"")
        encoding = preferred(accepted.decode("latin-1")) if accepted else None
        if encoding is None:
            await self.app(scope, receive, send)
            return
        sending = self.framework.create_compression_send_wrapper(send_without_vary, encoding, scope)
        await self.app(scope, receive, sending)


def preferred(accepted: str) -> str | None:
    """What the client likes best of what we have (RFC 9110, 12.5.3); None: as it is."""
    weights: dict[str, float] = {}
    for item in accepted.lower().split(","):
        coding, _, parameter = item.partition(";")
        try:
            weights[coding.strip()] = float(parameter.strip().removeprefix("q=") or 1)
        except ValueError:
            continue
    best = max(ENCODINGS, key=lambda coding: weights.get(coding, weights.get("*", 0)))
    return best if weights.get(best, weights.get("*", 0)) > 0 else None
