"""Descriptions for the OpenAPI document that the signatures of handlers can't give."""

from dataclasses import dataclass
from typing import cast

from litestar.datastructures import ResponseHeader
from litestar.openapi.datastructures import ResponseSpec
from litestar.openapi.spec import (
    OpenAPIFormat,
    OpenAPIMediaType,
    OpenAPIResponse,
    OpenAPIType,
    Operation,
    RequestBody,
    Schema,
)
from litestar.status_codes import HTTP_200_OK, HTTP_304_NOT_MODIFIED

from service.auth import access
from service.errors import (
    BadRequest,
    Internal,
    InvalidInput,
    NotAcceptable,
    OutcomeUnknown,
    PreconditionFailed,
    RequestTimeout,
    RuleBroken,
    TimedOut,
    TooLarge,
    Unavailable,
    UnknownCoding,
    UnsupportedMediaType,
)
from service.http.parameters import (
    FILTERS,
    FORMAT,
    FORMULAS,
    IDEMPOTENCY_KEY,
    ON_CONFLICT,
    READ_AFTER,
    OperationWithParameters,
)

OPERATE_REFUSALS = (
    BadRequest,
    *access.REFUSALS,
    NotAcceptable,
    PreconditionFailed,
    InvalidInput,
    Internal,
    TimedOut,
)
READ_REFUSALS = (*OPERATE_REFUSALS, Unavailable)
WRITE_REFUSALS = (*READ_REFUSALS, OutcomeUnknown, RuleBroken, RequestTimeout, UnknownCoding)
BODY_REFUSALS = (*WRITE_REFUSALS, TooLarge, UnsupportedMediaType)

NDJSON = "application/x-ndjson"
CSV = "text/csv"
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


def required_header(name: str, description: str, example: str) -> ResponseHeader:
    """Return a header that the response always has, for the OpenAPI document."""
    return ResponseHeader(
        name=name,
        value="",  # a string
        description=description,
        example=example,
        required=True,
        documentation_only=True,
    )


ETAG = required_header("ETag", "The version of the user.", '"5a2dcd0ea1d36ee1e0f4b1ae"')
LOCATION = required_header("Location", "Where the new user is.", "/users/42")
LINK = required_header(
    "Link",
    'The first page, `rel="first"`, and, if there is one, the next, `rel="next"` (RFC 8288).',
    '</users?limit=2>; rel="first", </users?limit=2&after=gqJpZMAqwA>; rel="next"',
)
NOT_MODIFIED = {HTTP_304_NOT_MODIFIED: ResponseSpec(None, description="You have this version.")}


def files(examples: dict[str, str]) -> dict[str, OpenAPIMediaType]:
    """Return the description of bodies that are files of lines, by media type."""
    schema = Schema(type=OpenAPIType.STRING, format=OpenAPIFormat.BINARY)
    return {
        media_type: OpenAPIMediaType(schema, example=example)
        for media_type, example in examples.items()
    }


@dataclass
class ImportOperation(OperationWithParameters):
    """The description of an import, whose body is a stream of lines."""

    declared = (ON_CONFLICT, IDEMPOTENCY_KEY)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.request_body = RequestBody(files(IMPORT_EXAMPLES), required=True)
        response = response_200(self)
        response.content = {**(response.content or {}), **files(REPORT_EXAMPLES)}


@dataclass
class ExportOperation(OperationWithParameters):
    """The description of an export, whose response is a stream of lines."""

    declared = (FORMAT, FORMULAS, *FILTERS, READ_AFTER)

    def __post_init__(self) -> None:
        super().__post_init__()
        response_200(self).content = files(EXPORT_EXAMPLES)


def response_200(operation: Operation) -> OpenAPIResponse:
    """Return the description of the successful response."""
    return cast("OpenAPIResponse", (operation.responses or {})[str(HTTP_200_OK)])
