"""An import, from the request's body to its response."""

import hashlib
from collections.abc import AsyncIterator
from contextlib import ExitStack
from functools import partial
from typing import Any, cast

from litestar import Response
from litestar.status_codes import HTTP_200_OK
from litestar.types import ASGIApp, Receive, Scope, Send
from msgspec import json
from sqlalchemy.ext.asyncio import AsyncSession

from service import idempotency, schemas, validation
from service.database import written
from service.errors import UnsupportedMediaType
from service.http import problems
from service.http.demands import ACCEPT
from service.http.exports import at_minimum_rate, response_start, send_piece
from service.http.keyed_requests import fingerprint, key_digest, respond_in
from service.http.operations import NDJSON
from service.http.qualities import preferred_media_type, weights
from service.http.read_after import note_written
from service.http.requests import JSON, StrictRequest, cancelled_on_disconnect
from service.idempotency import Key
from service.transfer import staging
from service.transfer.formats import MEDIA_TYPES, Reader, reader_of
from service.transfer.rejections import Rejections, Spool


async def import_response(
    request: StrictRequest, on_conflict: staging.OnConflict
) -> Response[schemas.ImportReport]:
    """Import the lines of the request's body, and return what became of them."""
    body_type = request.check_type(MEDIA_TYPES)
    try:
        reader = reader_of(MEDIA_TYPES[body_type.media_type], body_type.parameters)
    except ValueError as error:
        raise UnsupportedMediaType(str(error)) from None
    digest = key_digest(request)
    with ExitStack() as stack:
        spool = stack.enter_context(Spool()) if wants_ndjson(request) else None
        rejections = Rejections(spool)
        response = await Import(request, reader, on_conflict, rejections, digest).run()
        if response.status_code != HTTP_200_OK:
            return response
        if spool is not None:
            stack.pop_all()  # the response closes the spool
            return RejectionsResponse(response.content, spool, request)
    first = [validation.rejection(rejected) for rejected in rejections.first]
    return Response(schemas.ImportReport(**json.decode(response.content), rejections=first))


def wants_ndjson(request: StrictRequest) -> bool:
    """Return whether the client wants all rejected lines, not only the first hundred."""
    accepted = weights(value for name, value in request.scope["headers"] if name == ACCEPT)
    return preferred_media_type([JSON, NDJSON], accepted) == NDJSON


FIRST_PART = 256 * 1024  # bytes of a body that arrive before the import takes a connection


class Import:
    """An import, while its request lasts."""

    def __init__(
        self,
        request: StrictRequest,
        reader: Reader,
        on_conflict: staging.OnConflict,
        rejections: Rejections,
        digest: bytes | None,
    ) -> None:
        self.request = request
        self.reader = reader
        self.on_conflict = on_conflict
        self.rejections = rejections
        self.digest = digest
        self.content = hashlib.sha256()  # of all lines that were read

    async def run(self) -> Response[Any]:
        """Read all lines and store them; return the counts, or a stored refusal.

        The first part of the body is read before a connection is taken, so that a client which
        sends little, or nothing, keeps none from others.
        The rejected lines are not stored with the response: a repetition finds them again itself.
        """
        transfers = self.request.app.state.transfers
        guard = partial(idempotency.exclusive, digest=self.digest) if self.digest else None
        body = self.chunks()
        first = await first_part(body)
        rows = staging.read_rows(after(first, body), self.reader, self.rejections)
        async with (
            transfers.import_session(guard) as session,
            staging.staged(session, rows) as count,
        ):
            response = await self.finish(session, count)
        note_written(self.request, written(session))
        return response

    async def chunks(self) -> AsyncIterator[bytes]:
        """Yield the body as it arrives, and hash it."""
        async for chunk in self.request.stream():
            self.content.update(chunk)
            yield chunk

    async def finish(self, session: AsyncSession, count: int) -> Response[Any]:
        """Merge the `count` staged lines, once for each Idempotency-Key."""
        async with cancelled_on_disconnect(self.request.receive):
            merge = partial(self.merge, count)
            if self.digest is None:
                return await merge(session)
            key = Key(self.digest, fingerprint(self.request, self.content.digest()))
            return await respond_in(session, self.request, key, merge)

    async def merge(self, count: int, session: AsyncSession) -> Response[Any]:
        """Make users of the `count` staged lines and return the counts."""
        counts = await staging.merge(session, count, self.on_conflict, self.rejections)
        return Response(schemas.encode(counts), status_code=HTTP_200_OK)


async def first_part(body: AsyncIterator[bytes]) -> bytes:
    """Return the body as far as its first FIRST_PART bytes, and what came together with them."""
    part = bytearray()
    async for chunk in body:
        part += chunk
        if len(part) >= FIRST_PART:
            break
    return bytes(part)


async def after(part: bytes, body: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Yield the part, then the rest of the body."""
    yield part
    async for chunk in body:
        yield chunk


class RejectionsResponse(Response[schemas.ImportReport]):
    """The counts of an import, then all rejected lines, as NDJSON; it closes the spool."""

    def __init__(self, counts: bytes, spool: Spool, request: StrictRequest) -> None:
        super().__init__(
            counts,  # type: ignore[arg-type]  # encoded already
            media_type=NDJSON,
            status_code=HTTP_200_OK,
        )
        self.spool = spool
        self.request = request

    def to_asgi_response(self, *_: Any, **__: Any) -> ASGIApp:  # type: ignore[override]  # an ASGI app is all that its callers need
        """Return the ASGI app that sends the lines."""
        start = response_start({"content-type": NDJSON, **self.headers})

        async def send_lines(scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG001  # an ASGI app is all that its callers need
            send_in_time = at_minimum_rate(self.request, send)
            with self.spool:
                await send(start)
                try:
                    await send_piece(send_in_time, cast("bytes", self.content) + b"\n")
                    for piece in self.spool.pieces():
                        await send_piece(send_in_time, piece)
                    await send_piece(send_in_time, b"", more=False)
                except Exception as error:  # noqa: BLE001  # logged, whatever it is
                    # without its last message the server cuts the response off
                    problems.log_failure(self.request, error)

        return send_lines
