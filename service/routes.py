"""The URLs of users: one thin function each."""

import hashlib
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Annotated, Any, get_args
from urllib.parse import urlencode

from litestar import Response, delete, get, patch, post
from litestar.datastructures import ResponseHeader
from litestar.di import NamedDependency
from litestar.openapi.datastructures import ResponseSpec
from litestar.params import BodyKwarg, HeaderParameter, JSONBody, PathParameter, QueryParameter
from litestar.status_codes import (
    HTTP_200_OK,
    HTTP_201_CREATED,
    HTTP_204_NO_CONTENT,
    HTTP_304_NOT_MODIFIED,
    HTTP_500_INTERNAL_SERVER_ERROR,
)
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from service import access, idempotency, problems, users, wire
from service.compression import COMPRESSED
from service.errors import (
    BadRequest,
    EmailTaken,
    Flaw,
    ImportRefused,
    InProgress,
    Internal,
    InvalidInput,
    KeyReused,
    MalformedJson,
    PreconditionFailed,
    RequestTimeout,
    RuleBroken,
    TimedOut,
    TooLarge,
    Unavailable,
    UnsupportedMediaType,
    UserNotFound,
)
from service.idempotency import Answer, Key
from service.problems import documented
from service.requests import JSON, MERGE_PATCH, StrictRequest

LIST_PARAMETERS = ("limit", "after", "name", "email", "sort")
KEY_LENGTH = 255

READING = (BadRequest, *access.REFUSALS, Internal, Unavailable, TimedOut)
WRITING = (*READING, RuleBroken)
SENDING = (*WRITING, RequestTimeout, TooLarge, UnsupportedMediaType, InvalidInput)

# for the OpenAPI document: who leaves a parameter out sends nothing, there is no null in a URL
STRING: dict[str, Any] = {"type": "string", "one_of": None}
FILTER = STRING | {"max_length": users.FILTER_LENGTH, "pattern": wire.NO_CONTROL}
SORTS: list[wire.Sort] = [*get_args(wire.Sort)]

UserId = Annotated[
    str,
    PathParameter(
        description="The user's id.",
        schema_extra={
            "type": "integer",
            "format": "int64",
            "minimum": 1,
            "maximum": wire.BIGINT_LIMIT,
            "examples": [42],
        },
    ),
]
IfMatch = Annotated[
    str | None,
    HeaderParameter(
        name="If-Match",
        description="Only if the user is still the version with this ETag (RFC 9110).",
        schema_extra=STRING,
    ),
]
IfNoneMatch = Annotated[
    str | None,
    HeaderParameter(
        name="If-None-Match",
        description="The ETag of the version that you have; if it is still current, the answer "
        "is 304, without the user.",
        schema_extra=STRING,
    ),
]
IdempotencyKey = Annotated[
    str | None,
    HeaderParameter(
        name="Idempotency-Key",
        description="Any text of the client's making, one for each thing to be done: the same key "
        "and request get the same answer again, for 24 hours.",
        schema_extra=STRING
        | {
            "min_length": 1,
            "max_length": KEY_LENGTH,
            "pattern": "^[!-~]([ -~]*[!-~])?$",
            "examples": ["8e03978e-40d5-43e8-bc93-6894a57f9324"],
        },
    ),
]
After = Annotated[
    str | None,
    QueryParameter(
        description="The `next` of the page before, with its other parameters unchanged.",
        schema_extra=STRING | {"pattern": "^[A-Za-z0-9_-]+$"},
    ),
]
Name = Annotated[
    str | None,
    QueryParameter(
        description="The beginning of the name, whatever its case; the list is sorted by name.",
        schema_extra=FILTER,
    ),
]
Email = Annotated[
    str | None,
    QueryParameter(description="The whole e-mail address, whatever its case.", schema_extra=FILTER),
]
Sort = Annotated[
    str | None,  # not the Literal: for Litestar the text `null` would be None
    QueryParameter(
        description="`id`, or `full_name` where `name` is given, unless you say otherwise.",
        schema_extra=STRING | {"enum": SORTS},
    ),
]


def answered(name: str, description: str, example: str) -> ResponseHeader:
    """A header that the answer always has, for the OpenAPI document."""
    return ResponseHeader(
        name=name,
        value="",  # a string
        description=description,
        example=example,
        required=True,
        documentation_only=True,
    )


ETAG = answered("ETag", "The version of the user.", '"5a2dcd0ea1d36ee1e0f4b1ae"')
LOCATION = answered("Location", "Where the new user is.", "/users/42")
LINK = answered(
    "Link",
    'The first page, `rel="first"`, and, if there is one, the next, `rel="next"` (RFC 8288).',
    '</users?limit=2>; rel="first", </users?limit=2&after=gqJpZMAqwA>; rel="next"',
)
NOT_MODIFIED = {HTTP_304_NOT_MODIFIED: ResponseSpec(None, description="You have this version.")}
FRESH = {
    "Cache-Control": "private, no-cache"
}  # kept by the client alone, and asked about each time


@post(
    "/users",
    operation_id="createUser",
    summary="Create a user",
    tags=["users"],
    guards=[access.needs("write")],
    security=access.security("write"),
    response_description="The user as it is kept.",
    response_headers=[ETAG, LOCATION],
    responses=documented(*SENDING, MalformedJson, EmailTaken, InProgress, KeyReused),
)
async def create_user(
    request: StrictRequest,
    data: JSONBody[wire.NewUser],
    transaction: NamedDependency[AsyncSession],
    idempotency_key: IdempotencyKey = None,  # noqa: ARG001  # for the document; `digest_of` reads it
) -> Response[wire.User]:
    """Keep a new user; the answer says where.

    With an `Idempotency-Key` you may ask again when no answer came: the user is created once.
    """
    if (digest := digest_of(request)) is None:
        return response_of(created(await users.create(transaction, data)))

    async def create() -> Answer:
        return created(await users.create(transaction, data))

    key = Key(digest, fingerprint(request, hashlib.sha256(await request.body()).digest()))
    async with idempotency.alone(transaction, digest):
        work = partial(or_refused, request, transaction, create)
        return response_of(await idempotency.once(transaction, key, work))


@get(
    "/users/{user_id:str}",
    operation_id="getUser",
    summary="Read a user",
    tags=["users"],
    guards=[access.needs("read")],
    security=access.security("read"),
    response_description="The user.",
    response_headers=[ETAG],
    responses=documented(*READING, UserNotFound) | NOT_MODIFIED,
)
async def get_user(
    request: StrictRequest,
    user_id: UserId,
    reader: NamedDependency[AsyncSession],
    if_none_match: IfNoneMatch = None,  # noqa: ARG001  # for the document; it may come in several lines
) -> Response[wire.User]:
    """Look a user up by id; with `If-None-Match` only to see whether it has changed."""
    answer = represented(await users.get(reader, id_of(user_id)))
    known = request.joined("If-None-Match")
    if known is not None and wire.matches(known, answer.headers["ETag"], weakly=True):
        return Response(None, status_code=HTTP_304_NOT_MODIFIED, headers=answer.headers)  # type: ignore[arg-type]  # 304 has no body
    return response_of(answer)


@get(
    "/users",
    operation_id="listUsers",
    summary="List and search users",
    tags=["users"],
    guards=[access.needs("read")],
    security=access.security("read"),
    middleware=[COMPRESSED],
    response_description="The page.",
    response_headers=[LINK],
    responses=documented(*READING, InvalidInput),
)
async def list_users(  # noqa: PLR0913, PLR0917  # a parameter of the URL each
    request: StrictRequest,
    reader: NamedDependency[AsyncSession],
    limit: Annotated[
        int,
        QueryParameter(
            ge=1,
            le=wire.PAGE_LIMIT,
            description="How many users a page has at most.",
            schema_extra={"minimum": 1, "maximum": wire.PAGE_LIMIT},  # not as 1.0 and 1000.0
        ),
    ] = 50,
    after: After = None,
    name: Name = None,
    email: Email = None,
    sort: Sort = None,
) -> Response[wire.Page]:
    """List users, a page at a time.

    `next`, and `Link` with `rel="next"`, lead to the page after this one; the last has none.
    """
    check_parameters(request, LIST_PARAMETERS)
    cursor = None if after is None else wire.decode_cursor(after)
    listing = users.listing_of(name, email, sort_of(sort))._replace(limit=limit, after=cursor)
    page = await users.page(reader, listing)
    headers = FRESH | {"Link": links(request, page.next)}
    return Response(wire.encode(page), media_type=JSON, headers=headers)  # type: ignore[arg-type]  # the bytes of a Page


@patch(
    "/users/{user_id:str}",
    operation_id="changeUser",
    summary="Change a user",
    tags=["users"],
    guards=[access.needs("write")],
    security=access.security("write"),
    response_description="The user as it is now.",
    response_headers=[ETAG],
    responses=documented(*SENDING, MalformedJson, UserNotFound, EmailTaken, PreconditionFailed),
)
async def change_user(
    request: StrictRequest,
    user_id: UserId,
    data: Annotated[wire.UserChanges, BodyKwarg(media_type=MERGE_PATCH)],
    transaction: NamedDependency[AsyncSession],
    if_match: IfMatch = None,  # noqa: ARG001  # for the document; it may come in several lines
) -> Response[wire.User]:
    """Change the fields that are given, by a JSON merge patch (RFC 7396): null removes.

    With `If-Match` nobody's change is lost: it is refused when the user has changed since.
    The body may be sent as `application/json`, too.
    """
    version = request.joined("If-Match")
    return response_of(represented(await users.change(transaction, id_of(user_id), data, version)))


@delete(
    "/users/{user_id:str}",
    operation_id="deleteUser",
    summary="Delete a user",
    tags=["users"],
    guards=[access.needs("write")],
    security=access.security("write"),
    status_code=HTTP_204_NO_CONTENT,
    response_description="The user is no more.",
    responses=documented(*WRITING, UserNotFound, PreconditionFailed),
)
async def delete_user(
    request: StrictRequest,
    user_id: UserId,
    transaction: NamedDependency[AsyncSession],
    if_match: IfMatch = None,  # noqa: ARG001  # for the document; it may come in several lines
) -> None:
    """Delete a user for good."""
    await users.remove(transaction, id_of(user_id), request.joined("If-Match"))


def represented(user: wire.User) -> Answer:
    """The user with its ETag."""
    body = wire.encode(user)
    return Answer(HTTP_200_OK, {"ETag": wire.etag(body), **FRESH}, body)


def created(user: wire.User) -> Answer:
    """The new user, and where it is."""
    answer = represented(user)
    headers = {"Location": f"/users/{user.id}", **answer.headers}
    return answer._replace(status=HTTP_201_CREATED, headers=headers)


def response_of(answer: Answer) -> Response[Any]:
    """An answer as the framework sends it; that of a refusal says itself what it is."""
    headers = {"Content-Type": JSON, **answer.headers}
    return Response(answer.body, status_code=answer.status, headers=headers)


async def or_refused(
    request: StrictRequest, session: AsyncSession, work: Callable[[], Awaitable[Answer]]
) -> Answer:
    """What `work` answers, or the refusal after which the transaction goes on without it."""
    try:
        async with session.begin_nested():
            return await work()
    except ImportRefused as refusal:
        return answer_of(problems.refused(request, refusal))
    except IntegrityError as error:
        return answer_of(problems.broke_a_rule(request, error))


def answer_of(no: Response[bytes]) -> Answer:
    """A refusal that a repetition gets again."""
    headers = {**no.headers, "Content-Type": problems.MEDIA_TYPE}
    return Answer(no.status_code or HTTP_500_INTERNAL_SERVER_ERROR, headers, no.content)


def digest_of(request: StrictRequest) -> bytes | None:
    """The request's Idempotency-Key as it is kept; None without one."""
    key = request.only("Idempotency-Key")
    if key is None:
        return None
    if not 0 < len(key) <= KEY_LENGTH or not (key.isascii() and key.isprintable()):
        flaw = f"must have 1 to {KEY_LENGTH} characters, all printable ASCII"
        raise InvalidInput(Flaw("/Idempotency-Key", flaw))
    return idempotency.key_of(request.scope["state"]["token"], key)


def fingerprint(request: StrictRequest, body: bytes) -> bytes:
    """What tells the request from others with the same key; `body` is a hash of the body."""
    asked = f"{request.method} {request.url.path}?{request.url.query}\0{request.content_type[0]}\0"
    return hashlib.sha256(asked.encode() + body).digest()


def id_of(text: str) -> int:
    """The id in a URL; what can't be one belongs to nobody."""
    digits = text.isascii() and text.isdigit() and not text.startswith("0")
    if not digits or len(text) > len(str(wire.BIGINT_LIMIT)) or int(text) > wire.BIGINT_LIMIT:
        raise UserNotFound("an id is a number from 1 to 2^63-1")
    return int(text)


def check_parameters(request: StrictRequest, known: Sequence[str]) -> None:
    """Refuse parameters that would otherwise be silently left out of account."""
    flaws = []
    for parameter in request.query_params:
        if parameter not in known:
            flaws.append(Flaw(f"/{wire.escaped(parameter)}", "is not a parameter of this URL"))
        elif len(request.query_params.getall(parameter)) > 1:
            flaws.append(Flaw(f"/{parameter}", "is given more than once"))
    if flaws:
        raise InvalidInput(*flaws)


def sort_of(text: str | None) -> wire.Sort | None:
    """The order that is asked for; raises InvalidInput."""
    sort = next((sort for sort in SORTS if sort == text), None)
    if sort is None and text is not None:
        raise InvalidInput(Flaw("/sort", f"must be one of {', '.join(SORTS)}"))
    return sort


def links(request: StrictRequest, cursor: str | None) -> str:
    """The Link header of a page (RFC 8288)."""
    given = {
        name: request.query_params[name] for name in LIST_PARAMETERS if name in request.query_params
    }
    given.pop("after", None)
    pages = {"first": given} | ({} if cursor is None else {"next": given | {"after": cursor}})
    return ", ".join(
        f'<{request.url.path}{"?" * bool(query)}{urlencode(query)}>; rel="{relation}"'
        for relation, query in pages.items()
    )


ROUTES = (create_user, get_user, list_users, change_user, delete_user)
