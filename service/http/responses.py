"""Responses whose bytes are there already."""

from typing import Any, TypeVar

from litestar import Response
from litestar.enums import MediaType
from litestar.status_codes import HTTP_200_OK
from litestar.types import ASGIApp, Receive, Scope, Send

Content = TypeVar("Content")

Headers = dict[str, str]


class EncodedResponse(Response[Content]):
    """A Response whose content is encoded already; every feature of Litestar works with it.

    Litestar's own way to send one looks at the content's type, merges headers and cookies and
    checks each header, which takes a tenth of the time of a lookup. A body with a status and a few
    headers needs none of that. Where a route, a hook or a handler adds more (cookies, a background
    task, headers of the route, other content), the response goes Litestar's way.
    """

    def __init__(
        self,
        content: bytes,
        headers: Headers,
        *,
        status_code: int = HTTP_200_OK,
        media_type: str = MediaType.JSON.value,
    ) -> None:
        super().__init__(
            content,  # type: ignore[arg-type]  # `Response.render` passes bytes on as they are
            status_code=status_code,
            headers=headers,
            media_type=media_type,
        )

    def to_asgi_response(  # type: ignore[override]  # noqa: PLR0913  # an ASGI app is all that its callers need; Litestar's parameters
        self,
        app: Any,
        request: Any,
        *,
        background: Any = None,
        cookies: Any = None,
        headers: Any = None,
        is_head_response: bool = False,
        **options: Any,
    ) -> ASGIApp:
        """Return the ASGI app that sends the response; see `Response.to_asgi_response`."""
        body: object = self.content
        if (
            headers
            or cookies
            or self.cookies
            or background
            or self.background
            or is_head_response
            or not isinstance(body, bytes)
        ):
            return super().to_asgi_response(
                app,
                request,
                background=background,
                cookies=cookies,
                headers=headers,
                is_head_response=is_head_response,
                **options,
            )
        encoded = [
            (name.lower().encode(), str(value).encode()) for name, value in self.headers.items()
        ]
        if body:
            encoded.append((b"content-type", str(self.media_type).encode()))
            encoded.append((b"content-length", b"%d" % len(body)))
        status = self.status_code or HTTP_200_OK

        async def send_response(scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG001  # Litestar passes them by name
            await send({"type": "http.response.start", "status": status, "headers": encoded})
            await send({"type": "http.response.body", "body": body, "more_body": False})

        return send_response


async def send_piece(send: Send, piece: bytes, *, more: bool = True) -> None:
    """Send a piece of a response's body."""
    await send({"type": "http.response.body", "body": piece, "more_body": more})
