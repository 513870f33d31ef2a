"""The URLs of import and export."""

import hashlib
from collections.abc import AsyncIterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any, cast

from litestar import Response, get, post
from litestar.openapi.spec import (
    OpenAPIFormat,
    OpenAPIMediaType,
    OpenAPIResponse,
    OpenAPIType,
    Operation,
    RequestBody,
    Schema,
)
from litestar.params import QueryParameter
from litestar.status_codes import HTTP_200_OK
from litestar.types import ASGIApp, HTTPResponseStartEvent, Receive, Scope, Send
from msgspec import json
from sqlalchemy.ext.asyncio import AsyncSession

from service import idempotency, schemas, validation
from service.auth import access
from service.errors import (
    ImportRefused,
    InProgress,
    InvalidInput,
    KeyReused,
    OutdatedHttp,
    RequestTimeout,
    RuleBroken,
    UnsupportedMediaType,
)
from service.http import problems
from service.http.keyed_requests import fingerprint, key_digest, respond_in
from service.http.layers.compression import Compression
from service.http.page_requests import listing_in
from service.http.parameters import FILTERS, IdempotentOperation, OperationWithParameters, Query
from service.http.problems import documented
from service.http.requests import JSON, StrictRequest, cancelled_on_disconnect
from service.http.responses import EncodedResponse
from service.http.user_routes import READ_REFUSALS
from service.idempotency import Key
from service.transfer import staging
from service.transfer.export import export
from service.transfer.formats import MEDIA_TYPES as IMPORT_TYPES
from service.transfer.formats import READERS, Format, Reader
from service.transfer.rejections import Rejections, Spool

NDJSON = "application/x-ndjson"
CSV = "text/csv"
EXPORT_TYPES: dict[Format, str] = {"ndjson": NDJSON, "csv": CSV}

IMPORT_EXAMPLES = {
    NDJSON: '{"full_name": "Ada Lovelace", "email": "ada@example.org", "age": 36}\n',
    CSV: "full_name,email,age\nAda Lovelace,ada@example.org,36\n",
}
REPORT_EXAMPLES = {
    NDJSON: '{"created": 2, "updated": 0, "skipped": 1, "rejected": 1}\n'
    '{"line": 3, "errors": [{"pointer": "/age", "detail": "must be between 0 and 150"}]}\n'
}
EXPORT_EXAMPLES = {
    NDJSON: '{"id": 42, "full_name": "Ada Lovelace", "email": "ada@example.org", "age": 36}\n',
    CSV: "id,full_name,email,age\n42,Ada Lovelace,ada@example.org,36\n",
}


def files(examples: dict[str, str]) -> dict[str, OpenAPIMediaType]:
    """Return the description of bodies that are files of lines, by media type."""
    schema = Schema(type=OpenAPIType.STRING, format=OpenAPIFormat.BINARY)
    return {
        media_type: OpenAPIMediaType(schema, example=example)
        for media_type, example in examples.items()
    }


@dataclass
class ImportOperation(IdempotentOperation):
    """What the handler's signature can't say: the body is a stream of lines."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.request_body = RequestBody(files(IMPORT_EXAMPLES), required=True)
        response = response_200(self)
        response.content = {**(response.content or {}), **files(REPORT_EXAMPLES)}


@dataclass
class ExportOperation(OperationWithParameters):
    """What the handler's signature can't say: the response is a stream of lines."""

    declared = FILTERS

    def __post_init__(self) -> None:
        super().__post_init__()
        response_200(self).content = files(EXPORT_EXAMPLES)


def response_200(operation: Operation) -> OpenAPIResponse:
    """Return the description of the successful response."""
    return cast("OpenAPIResponse", (operation.responses or {})[str(HTTP_200_OK)])


@post(
    "/users/import",
    operation_id="importUsers",
    operation_class=ImportOperation,
    summary="Import users",
    tags=["transfer"],
    before_request=access.needs("write"),
    security=access.security("write"),
    status_code=HTTP_200_OK,
    request_max_body_size=None,
    opt={"is_transfer": True},
    response_description="What became of the lines; as NDJSON the counts, then every rejected one.",
    responses=documented(
        *READ_REFUSALS,
        RuleBroken,
        RequestTimeout,
        UnsupportedMediaType,
        InvalidInput,
        InProgress,
        KeyReused,
        ImportRefused,
    ),
)
async def import_users(
    request: StrictRequest,
    on_conflict: Annotated[
        staging.OnConflict,
        QueryParameter(
            description="What becomes of a line whose e-mail address is a user's already, or "
            "repeats an earlier line's: nothing is imported at all, the line is left out, or the "
            "user gets the line's values."
        ),
    ] = "fail",
) -> Response[schemas.ImportReport]:
    """Import users from NDJSON or CSV of any length, in one transaction.

    A line of NDJSON is a user as for creating one; a CSV begins with a line of column names.
    A line that can't be a user is rejected, and the others are imported; with `on_conflict=fail`
    nothing is. The answer names the first 100 rejected lines, as NDJSON all of them.
    An `id` in a line is left out of account, and an age that isn't there is left as it is.
    """
    Query(request.scope["query_string"]).require_only("on_conflict")
    reader = READERS[IMPORT_TYPES[request.check_type(IMPORT_TYPES)]]()
    digest = key_digest(request)
    with ExitStack() as stack:
        spool = stack.enter_context(Spool()) if wants_ndjson(request) else None
        rejections = Rejections(spool)
        response = await Import(request, reader, on_conflict, rejections, digest).run()
        if response.status_code != HTTP_200_OK:
            return response
        if spool is not None:
            stack.pop_all()  # the response closes the spool
            return RejectionsResponse(response.content, spool)
    first = [validation.rejection(rejected) for rejected in rejections.first]
    return Response(schemas.ImportReport(**json.decode(response.content), rejections=first))


def wants_ndjson(request: StrictRequest) -> bool:
    """Return whether the client wants all rejected lines, not only the first hundred."""
    return request.accept.best_match([JSON, NDJSON]) == NDJSON


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

    async def run(self) -> EncodedResponse[Any]:
        """Read all lines and store them; return the counts, or a stored refusal.

        The rejected lines are not stored with the response: a repetition finds them again itself.
        """
        transfers = self.request.app.state.transfers
        guard = partial(idempotency.exclusive, digest=self.digest) if self.digest else None
        rows = staging.read_rows(self.chunks(), self.reader, self.rejections)
        async with (
            transfers.import_session(guard) as session,
            staging.staged(session, rows) as count,
        ):
            return await self.finish(session, count)

    async def chunks(self) -> AsyncIterator[bytes]:
        """Yield the body as it arrives, and hash it."""
        async for chunk in self.request.stream():
            self.content.update(chunk)
            yield chunk

    async def finish(self, session: AsyncSession, count: int) -> EncodedResponse[Any]:
        """Merge the `count` staged lines, once for each Idempotency-Key."""
        async with cancelled_on_disconnect(self.request.receive):
            merge = partial(self.merge, count)
            if self.digest is None:
                return await merge(session)
            key = Key(self.digest, fingerprint(self.request, self.content.digest()))
            return await respond_in(session, self.request, key, merge)

    async def merge(self, count: int, session: AsyncSession) -> EncodedResponse[Any]:
        """Make users of the `count` staged lines and return the counts."""
        counts = await staging.merge(session, count, self.on_conflict, self.rejections)
        return EncodedResponse(schemas.encode(counts), {})


class RejectionsResponse(Response[schemas.ImportReport]):
    """The counts of an import, then all rejected lines, as NDJSON; it closes the spool."""

    def __init__(self, counts: bytes, spool: Spool) -> None:
        super().__init__(
            counts,  # type: ignore[arg-type]  # encoded, see EncodedResponse
            media_type=NDJSON,
            status_code=HTTP_200_OK,
        )
        self.spool = spool

    def to_asgi_response(self, *_: Any, **__: Any) -> ASGIApp:  # type: ignore[override]  # see EncodedResponse
        """Return the ASGI app that sends the lines."""
        headers = {"content-type": NDJSON, **self.headers}
        start: HTTPResponseStartEvent = {
            "type": "http.response.start",
            "status": HTTP_200_OK,
            "headers": [(name.lower().encode(), value.encode()) for name, value in headers.items()],
        }

        async def send_lines(scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG001  # see EncodedResponse
            with self.spool:
                await send(start)
                await send_piece(send, cast("bytes", self.content) + b"\n")
                for piece in self.spool.pieces():
                    await send_piece(send, piece)
                await send_piece(send, b"", more=False)

        return send_lines


async def send_piece(send: Send, piece: bytes, *, more: bool = True) -> None:
    """Send a piece of a response's body."""
    await send({"type": "http.response.body", "body": piece, "more_body": more})


@get(
    "/users/export",
    operation_id="exportUsers",
    operation_class=ExportOperation,
    summary="Export users",
    tags=["transfer"],
    before_request=access.needs("read"),
    security=access.security("read"),
    middleware=[Compression],
    opt={"is_transfer": True, "vary": "Accept-Encoding"},
    response_description="The users, a line each.",
    responses=documented(*READ_REFUSALS, InvalidInput, OutdatedHttp),
)
async def export_users(
    request: StrictRequest,
    format: Annotated[  # noqa: A002  # the parameter's name
        Format, QueryParameter(description="JSON lines, or CSV with a header.")
    ] = "ndjson",
) -> ASGIApp:
    """Export the users of a list, as they are at one moment.

    An answer that was cut off is not complete: it ends in an error of the connection. HTTP/1.0
    could not tell that from a good end, and is refused.
    """
    if request.scope["http_version"] in {"1", "1.0"}:  # servers spell it in two ways
        raise OutdatedHttp("ask by HTTP/1.1 or later, also through a proxy")
    query = Query(request.scope["query_string"])
    query.require_only("format", *(parameter.name for parameter in FILTERS))
    listing = listing_in(query)

    headers = {
        "content-type": EXPORT_TYPES[format],
        "content-disposition": f'attachment; filename="users.{format}"',
        "cache-control": "no-store",
    }
    start: HTTPResponseStartEvent = {
        "type": "http.response.start",
        "status": HTTP_200_OK,
        "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
    }

    async def send_export(scope: Scope, receive: Receive, send: Send) -> None:
        started = False

        async def write(piece: bytes, *, more: bool = True) -> None:
            nonlocal started
            if not started:  # not before there is a piece: until then a refusal can be sent
                started = True
                await send(start)
            await send_piece(send, piece, more=more)

        if "head" not in scope:
            try:
                async with (
                    cancelled_on_disconnect(receive),
                    request.app.state.transfers.export_session() as session,
                ):
                    await export(session, listing, format, write)
            except Exception as error:
                if not started:
                    raise
                problems.log_failure(request, error)
                if isinstance(error, RequestTimeout):
                    return  # the client is gone
                raise  # too late for a refusal: the server cuts the connection off
        await write(b"", more=False)

    return send_export


ROUTES = (import_users, export_users)
