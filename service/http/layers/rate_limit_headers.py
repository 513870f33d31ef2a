"""The RateLimit headers on every response to a request that counted."""

from typing import TYPE_CHECKING

from litestar.types import ASGIApp, Message, Receive, Scope, Send

if TYPE_CHECKING:
    from service.auth.access import Admission


class RateLimitHeaders:
    """A layer that tells each client what is left of its rate limit."""

    def __init__(self, app: ASGIApp, policy: str) -> None:
        self.app = app
        self.policy = (b"ratelimit-policy", policy.encode())

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, and add the headers to its response."""

        async def send_with_headers(message: Message) -> None:
            admission: Admission | None = scope.get("auth")
            if message["type"] == "http.response.start" and admission and admission.allowance:
                limit = (b"ratelimit", admission.allowance.header.encode())
                message["headers"] = [*message["headers"], self.policy, limit]
            await send(message)

        await self.app(scope, receive, send_with_headers)
