"""The URLs of import and export."""

import hashlib
from collections.abc import AsyncIterator
from contextlib import closing
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
from litestar.response import Stream
from litestar.status_codes import HTTP_200_OK
from litestar.types import ASGIApp, HTTPResponseStartEvent, Receive, Scope, Send
from msgspec import json
from sqlalchemy.ext.asyncio import AsyncSession

from service import idempotency, schemas
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
from service.http import list_parameters, problems
from service.http.answers import JSON, Answer, Ready
from service.http.layers.compression import Compressed
from service.http.parameters import FILTERS, Repeatable, Taking
from service.http.problems import documented
from service.http.requests import StrictRequest, unless_gone
from service.http.user_routes import (
    READING,
    digest_of,
    fingerprint,
    or_refused,
)
from service.idempotency import Key
from service.transfer import export, formats, staging
from service.transfer.rejections import Rejections, Spool

NDJSON = "application/x-ndjson"
CSV = "text/csv"
MEDIA_TYPES: dict[formats.Format, str] = {"ndjson": NDJSON, "csv": CSV}

BROUGHT = {
    NDJSON: '{"full_name": "Ada Lovelace", "email": "ada@example.org", "age": 36}\n',
    CSV: "full_name,email,age\nAda Lovelace,ada@example.org,36\n",
}
TOLD = {
    NDJSON: '{"created": 2, "updated": 0, "skipped": 1, "rejected": 1}\n'
    '{"line": 3, "errors": [{"pointer": "/age", "detail": "must be between 0 and 150"}]}\n'
}
TAKEN = {
    NDJSON: '{"id": 42, "full_name": "Ada Lovelace", "email": "ada@example.org", "age": 36}\n',
    CSV: "id,full_name,email,age\n42,Ada Lovelace,ada@example.org,36\n",
}


def files(examples: dict[str, str]) -> dict[str, OpenAPIMediaType]:
    """Bodies that are files of lines, by media type, for the OpenAPI document."""
    schema = Schema(type=OpenAPIType.STRING, format=OpenAPIFormat.BINARY)
    return {
        media_type: OpenAPIMediaType(schema, example=example)
        for media_type, example in examples.items()
    }


@dataclass
class Import(Repeatable):
    """What the signature of the handler can't say: the body is a stream of lines."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.request_body = RequestBody(files(BROUGHT), required=True)
        answer = answer_of_200(self)
        answer.content = {**(answer.content or {}), **files(TOLD)}


@dataclass
class Export(Taking):
    """What the signature of the handler can't say: the answer is a stream of lines."""

    taken = FILTERS

    def __post_init__(self) -> None:
        super().__post_init__()
        answer_of_200(self).content = files(TAKEN)


def answer_of_200(operation: Operation) -> OpenAPIResponse:
    """What the document says of the good answer."""
    return cast("OpenAPIResponse", (operation.responses or {})[str(HTTP_200_OK)])


@post(
    "/users/import",
    operation_id="importUsers",
    operation_class=Import,
    summary="Import users",
    tags=["transfer"],
    before_request=access.needs("write"),
    security=access.security("write"),
    status_code=HTTP_200_OK,
    request_max_body_size=None,
    opt={"takes_long": True},
    response_description="What became of the lines; as NDJSON the counts, then every rejected one.",
    responses=documented(
        *READING,
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
    list_parameters.check(list_parameters.parsed(request.scope["query_string"]), ("on_conflict",))
    return await Importing(request, on_conflict).answer()


class Importing:
    """An import on its way, for as long as its request lasts."""

    def __init__(self, request: StrictRequest, on_conflict: staging.OnConflict) -> None:
        self.request = request
        self.on_conflict = on_conflict
        media_type = request.check_type(formats.MEDIA_TYPES)
        self.reader = formats.READERS[formats.MEDIA_TYPES[media_type]]()
        self.digest = digest_of(request)
        self.content = hashlib.sha256()  # of all that was read
        tell_all = request.accept.best_match([JSON, NDJSON]) == NDJSON
        self.spool = Spool() if tell_all else None
        self.rejections = Rejections(self.spool)

    async def answer(self) -> Response[Any]:
        """Read everything, store it, and tell what came of it."""
        try:
            answer = await self.stored()
        except BaseException:
            if self.spool is not None:
                self.spool.close()
            raise
        if answer.status != HTTP_200_OK:
            return Ready(answer)
        if self.spool is not None:
            return Stream(told(answer.body, self.spool), media_type=NDJSON)
        first = [schemas.rejection(rejected) for rejected in self.rejections.first]
        return Response(schemas.ImportReport(**json.decode(answer.body), rejections=first))

    async def stored(self) -> Answer:
        """What came of it, without the rejected lines: a repetition finds them again itself."""
        state = self.request.app.state
        guard = partial(idempotency.alone, digest=self.digest) if self.digest else None
        rows = staging.read_rows(self.chunks(), self.reader, self.rejections)
        async with (
            state.transfers.import_session(guard) as session,
            staging.staged(session, rows) as count,
        ):
            return await self.finish(session, count)

    async def chunks(self) -> AsyncIterator[bytes]:
        """The body, while its hash is taken."""
        async for chunk in self.request.stream():
            self.content.update(chunk)
            yield chunk

    async def finish(self, session: AsyncSession, count: int) -> Answer:
        """Merge what was staged, once for each key."""
        async with unless_gone(self.request.receive):
            if self.digest is None:
                return await self.merged(session, count)
            key = Key(self.digest, fingerprint(self.request, self.content.digest()))
            merging = partial(self.merged, session, count)
            work = partial(or_refused, self.request, session, merging)
            return await idempotency.once(session, key, work)

    async def merged(self, session: AsyncSession, count: int) -> Answer:
        """The counts."""
        counts = await staging.merge(session, count, self.on_conflict, self.rejections)
        return Answer(HTTP_200_OK, (), schemas.encode(counts))


async def told(counts: bytes, spool: Spool) -> AsyncIterator[bytes]:
    """The counts, then the rejected lines."""
    with closing(spool):
        yield counts + b"\n"
        for piece in spool.pieces():
            yield piece


@get(
    "/users/export",
    operation_id="exportUsers",
    operation_class=Export,
    summary="Export users",
    tags=["transfer"],
    before_request=access.needs("read"),
    security=access.security("read"),
    middleware=[Compressed],
    opt={"takes_long": True},
    response_description="The users, a line each.",
    responses=documented(*READING, InvalidInput, OutdatedHttp),
)
async def export_users(
    request: StrictRequest,
    format: Annotated[  # noqa: A002  # the parameter's name
        formats.Format, QueryParameter(description="JSON lines, or CSV with a header.")
    ] = "ndjson",
) -> ASGIApp:
    """Export the users of a list, as they are at one moment.

    An answer that was cut off is not complete: it ends in an error of the connection. HTTP/1.0
    could not tell that from a good end, and is refused.
    """
    if request.scope["http_version"] in {"1", "1.0"}:  # servers spell it in two ways
        raise OutdatedHttp("ask by HTTP/1.1 or later, also through a proxy")
    given = list_parameters.parsed(request.scope["query_string"])
    list_parameters.check(given, ("format", "name", "email", "sort"))
    listing = list_parameters.list_of(dict(given))
    state = request.app.state

    headers = {
        "content-type": MEDIA_TYPES[format],
        "content-disposition": f'attachment; filename="users.{format}"',
        "cache-control": "no-store",
    }
    start: HTTPResponseStartEvent = {
        "type": "http.response.start",
        "status": HTTP_200_OK,
        "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
    }

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        started = False

        async def write(piece: bytes, *, more: bool = True) -> None:
            nonlocal started
            if not started:  # not before there is something: until then a refusal can be told
                started = True
                await send(start)
            await send({"type": "http.response.body", "body": piece, "more_body": more})

        if "head" not in scope:
            try:
                async with unless_gone(receive), state.transfers.export_session() as session:
                    await export.export(session, listing, format, write)
            except Exception as error:
                if not started:
                    raise
                problems.log_failure(request, error)
                if isinstance(error, RequestTimeout):
                    return  # nobody is there
                raise  # too late for a refusal: the server cuts the connection off
        await write(b"", more=False)

    return answer


ROUTES = (import_users, export_users)
