"""The URLs of users: one thin function each."""

import hashlib
import re
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Annotated

from litestar import Response, delete, get, patch, post
from litestar.datastructures import ResponseHeader
from litestar.openapi.datastructures import ResponseSpec
from litestar.params import BodyKwarg, JSONBody, PathParameter
from litestar.status_codes import (
    HTTP_200_OK,
    HTTP_201_CREATED,
    HTTP_204_NO_CONTENT,
    HTTP_304_NOT_MODIFIED,
)
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from service import idempotency, schemas, users
from service.auth import access
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
from service.http import list_parameters, problems
from service.http.answers import CONTENT_TYPE, Answer, Ready, header
from service.http.directly import Directly
from service.http.layers.compression import Compressed
from service.http.parameters import KEY_LENGTH, IfMatch, IfNoneMatch, Listed, Repeatable
from service.http.problems import documented
from service.http.requests import MERGE_PATCH, StrictRequest
from service.idempotency import Key

READING = (BadRequest, *access.REFUSALS, Internal, Unavailable, TimedOut)
WRITING = (*READING, RuleBroken)
SENDING = (*WRITING, RequestTimeout, TooLarge, UnsupportedMediaType, InvalidInput)

UserId = Annotated[
    str,
    PathParameter(
        description="The user's id.",
        schema_extra={
            "type": "integer",
            "format": "int64",
            "minimum": 1,
            "maximum": schemas.BIGINT_LIMIT,
            "examples": [42],
        },
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
ID = re.compile(r"[1-9][0-9]{0,18}")

# kept by the client alone, and asked about each time
FRESH = (b"cache-control", b"private, no-cache")


@post(
    "/users",
    operation_id="createUser",
    operation_class=Repeatable,
    middleware=[Directly],
    summary="Create a user",
    tags=["users"],
    before_request=access.needs("write"),
    security=access.security("write"),
    response_description="The user as it is kept.",
    response_headers=[ETAG, LOCATION],
    responses=documented(*SENDING, MalformedJson, EmailTaken, InProgress, KeyReused),
)
async def create_user(
    request: StrictRequest, data: JSONBody[schemas.NewUser]
) -> Response[schemas.User]:
    """Keep a new user; the answer says where.

    With an `Idempotency-Key` you may ask again when no answer came: the user is created once.
    """
    state = request.app.state
    if (digest := digest_of(request)) is None:
        return Ready(created(await state.together.arrivals.ask(data)))

    async def create() -> Answer:
        [user] = await users.create(session, [data])
        return created(user)

    key = Key(digest, fingerprint(request, hashlib.sha256(await request.body()).digest()))
    async with state.database.transactions.begin() as session, idempotency.alone(session, digest):
        work = partial(or_refused, request, session, create)
        return Ready(await idempotency.once(session, key, work))


@get(
    "/users/{user_id:str}",
    operation_id="getUser",
    operation_class=IfNoneMatch,
    middleware=[Directly],
    summary="Read a user",
    tags=["users"],
    before_request=access.needs("read"),
    security=access.security("read"),
    response_description="The user.",
    response_headers=[ETAG],
    responses=documented(*READING, UserNotFound) | NOT_MODIFIED,
)
async def get_user(request: StrictRequest, user_id: UserId) -> Response[schemas.User]:
    """Look a user up by id; with `If-None-Match` only to see whether it has changed."""
    user = await request.app.state.together.lookups.ask(id_of(user_id))
    if user is None:
        raise UserNotFound("no user has this id")
    answer = represented(user)
    known = request.joined("If-None-Match")
    _, (_, tag), _ = answer.headers
    if known is not None and schemas.matches(known, tag.decode(), weakly=True):
        return Ready(Answer(HTTP_304_NOT_MODIFIED, answer.headers[1:], b""))
    return Ready(answer)


@get(
    "/users",
    operation_id="listUsers",
    operation_class=Listed,
    summary="List and search users",
    tags=["users"],
    before_request=access.needs("read"),
    security=access.security("read"),
    middleware=[Compressed, Directly],
    response_description="The page.",
    response_headers=[LINK],
    responses=documented(*READING, InvalidInput),
)
async def list_users(request: StrictRequest) -> Response[schemas.Page]:
    """List users, a page at a time.

    `next`, and `Link` with `rel="next"`, lead to the page after this one; the last has none.
    """
    asked = list_parameters.page_of(request.scope["query_string"])
    page = await request.app.state.together.listings.ask(asked.listing)
    link = header("Link", asked.links(request.scope["path"], page.next))
    return Ready(Answer(HTTP_200_OK, (FRESH, link, CONTENT_TYPE), page.body))


@patch(
    "/users/{user_id:str}",
    operation_id="changeUser",
    operation_class=IfMatch,
    middleware=[Directly],
    summary="Change a user",
    tags=["users"],
    before_request=access.needs("write"),
    security=access.security("write"),
    response_description="The user as it is now.",
    response_headers=[ETAG],
    responses=documented(*SENDING, MalformedJson, UserNotFound, EmailTaken, PreconditionFailed),
)
async def change_user(
    request: StrictRequest,
    user_id: UserId,
    data: Annotated[schemas.UserChanges, BodyKwarg(media_type=MERGE_PATCH)],
) -> Response[schemas.User]:
    """Change the fields that are given, by a JSON merge patch (RFC 7396): null removes.

    With `If-Match` nobody's change is lost: it is refused when the user has changed since.
    The body may be sent as `application/json`, too.
    """
    identity, version = id_of(user_id), request.joined("If-Match")
    async with request.app.state.database.changing(alone=version is None) as connection:
        user = await users.change(connection, identity, data, version)
    return Ready(represented(user))


@delete(
    "/users/{user_id:str}",
    operation_id="deleteUser",
    operation_class=IfMatch,
    summary="Delete a user",
    tags=["users"],
    before_request=access.needs("write"),
    security=access.security("write"),
    status_code=HTTP_204_NO_CONTENT,
    response_description="The user is no more.",
    responses=documented(*WRITING, UserNotFound, PreconditionFailed),
)
async def delete_user(request: StrictRequest, user_id: UserId) -> None:
    """Delete a user for good."""
    identity, version = id_of(user_id), request.joined("If-Match")
    async with request.app.state.database.changing(alone=version is None) as connection:
        await users.remove(connection, identity, version)


def represented(user: schemas.User) -> Answer:
    """The user with its ETag."""
    body = schemas.encode(user)
    return Answer(HTTP_200_OK, (CONTENT_TYPE, header("ETag", schemas.etag(body)), FRESH), body)


def created(user: schemas.User) -> Answer:
    """The new user, and where it is."""
    _, (content_type, *others), body = represented(user)
    place = header("Location", f"/users/{user.id}")
    return Answer(HTTP_201_CREATED, (content_type, place, *others), body)


async def or_refused(
    request: StrictRequest, session: AsyncSession, work: Callable[[], Awaitable[Answer]]
) -> Answer:
    """What `work` answers, or the refusal after which the transaction goes on without it."""
    try:
        async with session.begin_nested():
            return await work()
    except (ImportRefused, IntegrityError) as error:
        refusal = problems.answer_to(request, error)
        *others, content_type = refusal.headers  # first, where a repetition has it
        return refusal._replace(headers=(content_type, *others))


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
    if ID.fullmatch(text) and (identity := int(text)) <= schemas.BIGINT_LIMIT:
        return identity
    raise UserNotFound("an id is a number from 1 to 2^63-1")


ROUTES = (create_user, get_user, list_users, change_user, delete_user)
