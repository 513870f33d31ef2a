"""Reading requests by our own rules."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Collection
from contextlib import asynccontextmanager
from typing import Any

from litestar import Request
from litestar.exceptions.http_exceptions import RequestEntityTooLarge
from litestar.types import HTTPRequestEvent, Receive

from service import schemas
from service.errors import Flaw, InvalidInput, RequestTimeout, UnsupportedMediaType
from service.http.answers import JSON
from service.http.layers.deadline import LateError, within

MERGE_PATCH = "application/merge-patch+json"
BODY_TYPES = {"POST": {JSON}, "PATCH": {MERGE_PATCH, JSON}}


class StrictRequest(Request[Any, Any, Any]):
    """Reads a body by our own rules, all flaws at once.

    Litestar would convert leniently ("42" for 42) and report one flaw at a time.
    """

    async def stream(self) -> AsyncGenerator[bytes, None]:
        """The body as it comes; raises RequestTimeout when nothing comes any more."""
        limit = self.route_handler.resolve_request_max_body_size()
        # no more digits than a limit can have
        said = [int(line[:10]) for line in self.lines_of("Content-Length") if line.isdecimal()]
        if limit is not None and max(said, default=0) > limit:
            raise RequestEntityTooLarge
        received, more = 0, True
        while more:
            message = await self.next_message()
            received += len(message["body"])
            if limit is not None and received > limit:
                raise RequestEntityTooLarge
            more = message["more_body"]
            yield message["body"]

    async def next_message(self) -> HTTPRequestEvent:
        """What the client sent next."""
        seconds = self.app.state.settings.request_timeout
        try:
            message = await within(seconds, self.receive())
        except LateError:
            raise RequestTimeout(f"nothing came for {seconds:g} seconds") from None
        if message["type"] != "http.request":
            raise RequestTimeout("the client went away before its request was complete")
        return message

    async def json(self) -> Any:
        """The body as what the handler declares as `data`."""
        self.check_type(BODY_TYPES[self.method])
        field = self.route_handler.parsed_data_field
        return schemas.decode(await self.body(), field.annotation)  # type: ignore[union-attr]  # asked only where there is one

    def check_type(self, accepted: Collection[str]) -> str:
        """The body's media type, which must be an accepted one, as it is."""
        media_type = JSON if self.lines_of("Content-Type") == [JSON] else self.content_type[0]
        if media_type not in accepted:
            raise UnsupportedMediaType(f"send {' or '.join(sorted(accepted))}")
        if self.lines_of("Content-Encoding")[:1] not in ([], ["identity"]):
            raise UnsupportedMediaType("send the body without Content-Encoding")
        return media_type

    def joined(self, header: str) -> str | None:
        """The value of a header whose values may come in several lines."""
        return ", ".join(self.lines_of(header)) or None

    def only(self, header: str) -> str | None:
        """The value of a header that can't be given twice; raises InvalidInput if it is."""
        values = self.lines_of(header)
        if len(values) > 1:
            raise InvalidInput(Flaw(f"/{header}", "is given more than once"))
        return values[0] if values else None

    def lines_of(self, header: str) -> list[str]:
        """The values of a header; Litestar would make a dictionary of all headers first."""
        name = header.lower().encode()
        return [value.decode("latin-1") for key, value in self.scope["headers"] if key == name]


@asynccontextmanager
async def unless_gone(receive: Receive) -> AsyncIterator[None]:
    """Cancel what is done inside when the client goes away, and raise RequestTimeout then.

    For when its whole body has arrived.
    """

    async def watch() -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        limit.reschedule(0)  # it is over

    try:
        async with asyncio.timeout(None) as limit:
            watching = asyncio.create_task(watch())
            try:
                yield
            finally:
                watching.cancel()
    except TimeoutError:
        if not limit.expired():
            raise
        raise RequestTimeout("the client went away") from None
