"""The URLs of import and export."""

from typing import Annotated

from litestar import Response, get, post
from litestar.params import QueryParameter
from litestar.status_codes import HTTP_200_OK
from litestar.types import ASGIApp

from service import schemas
from service.auth import access
from service.errors import (
    ImportRefused,
    InProgress,
    InvalidInput,
    KeyReused,
    OutdatedHttp,
    RequestTimeout,
    UnsupportedMediaType,
)
from service.http.exports import export_response
from service.http.imports import import_response
from service.http.layers.compression import Compression
from service.http.operations import (
    READ_REFUSALS,
    WRITE_REFUSALS,
    ExportOperation,
    ImportOperation,
)
from service.http.page_requests import listing_in
from service.http.parameters import FILTERS, Query
from service.http.problems import documented
from service.http.requests import StrictRequest
from service.transfer import staging
from service.transfer.formats import Format


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
        *WRITE_REFUSALS,
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
    return await import_response(request, on_conflict)


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
    return export_response(request, listing_in(query), format)


ROUTES = (import_users, export_users)
