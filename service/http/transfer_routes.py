"""The URLs of import and export."""

from typing import TYPE_CHECKING

from litestar import Response, get, post
from litestar.status_codes import HTTP_200_OK
from litestar.types import ASGIApp

from service import schemas
from service.auth import access
from service.errors import (
    Flaw,
    ImportRefused,
    InProgress,
    InvalidInput,
    KeyReused,
    OutdatedHttp,
    UnsupportedMediaType,
)
from service.http.demands import needs, query_names, require_accepted
from service.http.exports import EXPORT_MEDIA_TYPES, export_response
from service.http.imports import import_response
from service.http.layers.compression import Compression
from service.http.operations import (
    CSV,
    NDJSON,
    READ_REFUSALS,
    WRITE_REFUSALS,
    ExportOperation,
    ImportOperation,
)
from service.http.page_requests import listing_in
from service.http.parameters import FORMAT, FORMULAS, ON_CONFLICT, Query
from service.http.problems import documented
from service.http.read_after import read_after
from service.http.requests import JSON, StrictRequest

if TYPE_CHECKING:
    from service.replicas import Replicas


@post(
    "/users/import",
    operation_id="importUsers",
    operation_class=ImportOperation,
    summary="Import users",
    tags=["transfer"],
    before_request=needs("write"),
    security=access.security("write"),
    status_code=HTTP_200_OK,
    request_max_body_size=None,
    opt={"is_transfer": True, "offers": (JSON, NDJSON)},
    response_description="What became of the lines; as NDJSON the counts, then every rejected one.",
    responses=documented(
        *WRITE_REFUSALS,
        UnsupportedMediaType,
        InProgress,
        KeyReused,
        ImportRefused,
    ),
)
async def import_users(request: StrictRequest) -> Response[schemas.ImportReport]:
    """Import users from NDJSON or CSV of any length, in one transaction.

    A line of NDJSON is a user as for creating one; a CSV begins with a line of column names.
    A line that can't be a user is rejected, and the others are imported; with `on_conflict=fail`
    nothing is. The answer names the first 100 rejected lines, as NDJSON all of them.
    CSV may have semicolons or tabs in place of commas, and be in UTF-16 or in the `charset` of its
    type.
    An `id` in a line is left out of account, and an age that isn't there is left as it is.
    """
    query = Query(request.scope["query_string"])
    return await import_response(request, query.value(ON_CONFLICT) or "fail")


@get(
    "/users/export",
    operation_id="exportUsers",
    operation_class=ExportOperation,
    summary="Export users",
    tags=["transfer"],
    before_request=needs("read"),
    security=access.security("read"),
    middleware=[Compression],
    opt={"is_transfer": True, "vary": "Accept-Encoding", "offers": (NDJSON, CSV)},
    response_description="The users, a line each.",
    responses=documented(*READ_REFUSALS, OutdatedHttp),
)
async def export_users(request: StrictRequest) -> ASGIApp:
    """Export the users of a list, as they are at one moment.

    An answer that was cut off is not complete: it ends in an error of the connection. HTTP/1.0
    could not tell that from a good end, and is refused.
    """
    if request.scope["http_version"] in {"1", "1.0"}:  # servers spell it in two ways
        raise OutdatedHttp("ask by HTTP/1.1 or later, also through a proxy")
    query = Query(request.scope["query_string"])
    query.require_only(*query_names(ExportOperation))
    form = query.value(FORMAT) or "ndjson"
    formulas = query.value(FORMULAS)
    if formulas is not None and form != "csv":
        raise InvalidInput(Flaw("/formulas", "is for format=csv"))
    require_accepted(request, EXPORT_MEDIA_TYPES[form])
    replicas: Replicas = request.app.state.replicas
    replica = replicas.choose(read_after(request)) if replicas else None
    return export_response(request, listing_in(query), form, formulas or "raw", replica)


ROUTES = (import_users, export_users)
