"""Read requests by our own rules."""

import asyncio
import re
from collections.abc import AsyncGenerator, AsyncIterator, Collection, Mapping
from contextlib import asynccontextmanager
from types import MappingProxyType
from typing import Any, NamedTuple

from litestar import Request
from litestar.exceptions.http_exceptions import RequestEntityTooLarge
from litestar.types import Receive, ReceiveMessage

from service import validation
from service.errors import BadRequest, MalformedJson, RequestTimeout, UnsupportedMediaType
from service.http.minimum_rate import SENDING_LAG, MinimumRate

JSON = "application/json"
MERGE_PATCH = "application/merge-patch+json"
BODY_TIMEOUT = 4.0  # seconds; REQUEST_TIMEOUT where that is less
BODY_TYPES = {"POST": {JSON}, "PATCH": {MERGE_PATCH, JSON}}


NAME = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
QUOTED = r'"(?:[^"\\\x00-\x08\x0a-\x1f\x7f]|\\[\t -~\x80-\xff])*"'
# a media type and its parameters (RFC 9110, 8.3.1); no two parts match the same blanks, so that it
# takes time linear in the length
CONTENT_TYPE = re.compile(rf"{NAME}/{NAME}(?:[ \t]*;(?:[ \t]*{NAME}=(?:{NAME}|{QUOTED}))?)*[ \t]*")
PARAMETER = re.compile(rf"({NAME})=({NAME}|{QUOTED})")
UTF8 = {"utf-8", "utf8"}


class BodyType(NamedTuple):
    """The media type and the parameters of a Content-Type header, in lower case."""

    media_type: str
    parameters: Mapping[str, str] = MappingProxyType({})

    @property
    def charset(self) -> str:
        """The charset; UTF-8 where none is named."""
        return self.parameters.get("charset", "utf-8")

    @property
    def is_utf8(self) -> bool:
        """Whether the body is in UTF-8."""
        return self.charset in UTF8


class StrictRequest(Request[Any, Any, Any]):
    """A request whose body is read by our own rules, with all flaws reported at once.

    Litestar would convert leniently ("42" for 42) and report one flaw at a time.
    """

    async def stream(self) -> AsyncGenerator[bytes, None]:
        """Yield the body as it arrives.

        Raise BadRequest where it breaks off, and RequestTimeout where it is too slow: a body may
        take BODY_TIMEOUT, that of a transfer has a minimum rate. Raise RequestEntityTooLarge above
        the limit.
        """
        limit = self.route_handler.resolve_request_max_body_size()
        # no more digits than a limit can have
        lengths = [int(line[:10]) for line in self.lines_of(b"content-length") if line.isdecimal()]
        if limit is not None and max(lengths, default=0) > limit:
            raise RequestEntityTooLarge
        rate: MinimumRate | None = None
        if self.is_transfer:
            rate = MinimumRate(self.app.state.settings.transfer_rate, SENDING_LAG)
        seconds = min(BODY_TIMEOUT, self.app.state.settings.request_timeout)
        end = asyncio.get_running_loop().time() + seconds
        received, more = 0, True
        while more:
            if rate is not None:
                message = await rate.wait_for(self.receive())
            else:
                message = await self.receive_until(end, f"the body took longer than {seconds:g} s")
            if message["type"] != "http.request":
                # the server says the same of a broken chunk; a client that has left hears nothing
                raise BadRequest("the body breaks off, or a chunk of it is broken")
            received += len(message["body"])
            if rate is not None:
                rate.add(len(message["body"]))
            if limit is not None and received > limit:
                raise RequestEntityTooLarge
            more = message["more_body"]
            yield message["body"]

    @property
    def is_transfer(self) -> bool:
        """Whether it is an import or export, which may last."""
        return "is_transfer" in self.route_handler.opt

    async def receive_until(self, when: float, detail: str) -> ReceiveMessage:
        """Return what the client sends next; raise RequestTimeout if that is later than `when`.

        `when` is a time of the event loop's clock.
        """
        try:
            async with asyncio.timeout_at(when) as timeout:
                return await self.receive()
        except TimeoutError:
            if not timeout.expired():
                raise
            raise RequestTimeout(detail) from None

    async def body(self) -> bytes:
        """Return the whole body; raise MalformedJson if a handler with `data` gets none."""
        body = await super().body()
        if not body and self.route_handler.parsed_data_field is not None:
            raise MalformedJson("the body is empty; it must be JSON")
        return body

    async def json(self) -> Any:
        """Return the body as the struct that the handler declares as `data`."""
        if self.lines_of(b"expect"):  # it waits for leave to send its body
            self.check_type(BODY_TYPES[self.method])
        body = await self.body()
        if not self.check_type(BODY_TYPES[self.method]).is_utf8:
            raise UnsupportedMediaType("send JSON in UTF-8: charset=utf-8, or none")
        field = self.route_handler.parsed_data_field
        return validation.decode(body, field.annotation)  # type: ignore[union-attr]  # Litestar calls it only for handlers with `data`

    def check_type(self, accepted: Collection[str]) -> BodyType:
        """Return the body's media type; raise UnsupportedMediaType unless it is an accepted one.

        A charset other than UTF-8 is for the caller to read or to refuse.
        """
        body_type = self.body_type()
        if body_type.media_type not in accepted:
            raise UnsupportedMediaType(f"send {' or '.join(sorted(accepted))}")
        # all lines: a second one may name the encoding of the body
        if any(coding.lower() != "identity" for coding in self.lines_of(b"content-encoding")):
            raise UnsupportedMediaType("send the body without Content-Encoding")
        return body_type

    def body_type(self) -> BodyType:
        """Return what Content-Type says; raise UnsupportedMediaType where that can't be read."""
        lines = self.lines_of(b"content-type")
        if lines == [JSON]:
            return BodyType(JSON)
        if not lines:
            return BodyType("")
        if len(lines) > 1 or not CONTENT_TYPE.fullmatch(lines[0]):
            raise UnsupportedMediaType("send one Content-Type, such as application/json")
        media_type, _, rest = lines[0].partition(";")
        parameters = PARAMETER.findall(rest)
        values = {name.lower(): value.strip('"').lower() for name, value in parameters}
        if len(values) < len(parameters):
            raise UnsupportedMediaType("each parameter of Content-Type may be there once")
        return BodyType(media_type.strip().lower(), values)

    def lines_of(self, header: bytes) -> list[str]:
        """Return the values of a header (its name in lower case), one for each of its lines.

        Litestar's `headers` builds a dict of all headers first, which costs more than a scan.
        """
        return [value.decode("latin-1") for name, value in self.scope["headers"] if name == header]


@asynccontextmanager
async def cancelled_on_disconnect(receive: Receive) -> AsyncIterator[None]:
    """Cancel the block when the client goes away, and raise RequestTimeout then.

    The request's whole body must have been received before.
    """

    async def watch() -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        timeout.reschedule(0)  # it is over

    try:
        async with asyncio.timeout(None) as timeout:
            watching = asyncio.create_task(watch())
            try:
                yield
            finally:
                watching.cancel()
    except Exception:
        if not timeout.expired():
            raise
        # also in place of an error that the cancellation caused, as in a driver that was reading
        raise RequestTimeout("the client went away") from None
