"""A 401 that lets browsers ask for the token."""

from litestar.types import ASGIApp, Message, Receive, Scope, Send

from service.errors import Unauthorized

# a browser then asks for a name and a password
BASIC_CHALLENGE = (b"www-authenticate", b'Basic realm="users", charset="UTF-8"')


class BasicChallenge:
    """A middleware that lets browsers ask for the token: 401 also offers Basic."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, and add the challenge to a 401."""

        async def send_with_challenge(message: Message) -> None:
            if (
                message["type"] == "http.response.start"
                and message["status"] == Unauthorized.status
            ):
                message["headers"] = [*message["headers"], BASIC_CHALLENGE]
            await send(message)

        await self.app(scope, receive, send_with_challenge)
