"""The URLs of users."""

from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

from litestar import Response, delete, get, patch, post
from litestar.di import NamedDependency
from litestar.params import BodyKwarg, JSONBody
from litestar.status_codes import (
    HTTP_201_CREATED,
    HTTP_204_NO_CONTENT,
    HTTP_304_NOT_MODIFIED,
)
from sqlalchemy.ext.asyncio import AsyncSession

from service import users
from service.auth import access
from service.errors import (
    EmailTaken,
    InProgress,
    KeyReused,
    MalformedJson,
    PreconditionFailed,
    TooLarge,
    UserNotFound,
)
from service.etags import Conditions, etag
from service.http.demands import needs
from service.http.fast_path import FastPath
from service.http.keyed_requests import key_digest, respond_in_session, respond_once
from service.http.layers.compression import Compression
from service.http.operations import (
    BODY_REFUSALS,
    ETAG,
    LINK,
    LOCATION,
    NOT_MODIFIED,
    READ_REFUSALS,
    WRITE_REFUSALS,
)
from service.http.page_requests import page_request
from service.http.parameters import (
    IdempotentOperation,
    IfMatchOperation,
    IfNoneMatchOperation,
    ListOperation,
    UserId,
    conditions_of,
    user_id_of,
)
from service.http.problems import documented
from service.http.read_after import note_written, read_batches
from service.http.requests import MERGE_PATCH, StrictRequest
from service.schemas import NewUser, Page, User, UserChanges, encode

if TYPE_CHECKING:
    from service.user_batches import UserBatches

# a client may store it, and asks each time whether it is still current
CACHE_CONTROL = "private, no-cache"


@post(
    "/users",
    operation_id="createUser",
    operation_class=IdempotentOperation,
    middleware=[FastPath],
    summary="Create a user",
    tags=["users"],
    before_request=needs("write"),
    security=access.security("write"),
    response_description="The user as it is kept.",
    response_headers=[ETAG, LOCATION],
    responses=documented(*BODY_REFUSALS, MalformedJson, EmailTaken, InProgress, KeyReused),
)
async def create_user(request: StrictRequest, data: JSONBody[NewUser]) -> Response[User]:
    """Keep a new user; the answer says where.

    With an `Idempotency-Key` you may ask again when no answer came: the user is created once.
    """
    if (digest := key_digest(request)) is not None:
        return await respond_once(request, digest, partial(create_one, data))
    batches: UserBatches = request.app.state.batches
    created = await batches.creates.submit(data)
    note_written(request, created.written)
    return new_user_response(created.user)


@get(
    "/users/{user_id:str}",
    operation_id="getUser",
    operation_class=IfNoneMatchOperation,
    middleware=[FastPath],
    summary="Read a user",
    tags=["users"],
    before_request=needs("read"),
    security=access.security("read"),
    response_description="The user.",
    response_headers=[ETAG],
    opt={"has_versions": True},
    responses=documented(*READ_REFUSALS, UserNotFound) | NOT_MODIFIED,
)
async def get_user(request: StrictRequest, user_id: UserId) -> Response[User]:
    """Look a user up by id; with `If-None-Match` only to see whether it has changed."""
    conditions = conditions_of(request)
    user = await read_batches(request).lookups.submit(user_id_of(user_id))
    if user is None:
        raise UserNotFound("no user has this id")
    response = user_response(user)
    unmet = conditions.unmet(response.headers["ETag"])
    if unmet == "If-None-Match":
        response.status_code, response.content = HTTP_304_NOT_MODIFIED, b""
    elif unmet is not None:
        raise PreconditionFailed(users.UNMET[unmet])
    return response


@get(
    "/users",
    operation_id="listUsers",
    operation_class=ListOperation,
    summary="List and search users",
    tags=["users"],
    before_request=needs("read"),
    security=access.security("read"),
    middleware=[Compression, FastPath],
    opt={"vary": "Accept-Encoding"},
    response_description="The page.",
    response_headers=[LINK],
    responses=documented(*READ_REFUSALS),
)
async def list_users(request: StrictRequest) -> Response[Page]:
    """List users, a page at a time.

    `next`, and `Link` with `rel="next"`, lead to the page after this one; the last has none.
    """
    wanted = page_request(request.scope["query_string"])
    page = await read_batches(request).pages.submit(wanted.listing)
    links = wanted.links(request.scope["path"], page.next)
    headers = {"Cache-Control": CACHE_CONTROL, "Link": links}
    response: Response[Any] = Response(page.body, headers=headers)
    return response


@patch(
    "/users/{user_id:str}",
    operation_id="changeUser",
    operation_class=IfMatchOperation,
    summary="Change a user",
    tags=["users"],
    before_request=needs("write"),
    security=access.security("write"),
    response_description="The user as it is now.",
    opt={"has_versions": True},
    response_headers=[ETAG],
    responses=documented(
        *BODY_REFUSALS, MalformedJson, UserNotFound, EmailTaken, InProgress, KeyReused
    ),
)
async def change_user(
    request: StrictRequest,
    user_id: UserId,
    data: Annotated[UserChanges, BodyKwarg(media_type=MERGE_PATCH)],
    session: NamedDependency[AsyncSession],
) -> Response[User]:
    """Change the fields that are given, by a JSON merge patch (RFC 7396): null removes.

    With `If-Match` nobody's change is lost: it is refused when the user has changed since.
    The body may be sent as `application/json`, too.
    """
    change = partial(change_one, user_id_of(user_id), data, conditions_of(request))
    return await respond_in_session(request, session, change)


@delete(
    "/users/{user_id:str}",
    operation_id="deleteUser",
    operation_class=IfMatchOperation,
    summary="Delete a user",
    tags=["users"],
    before_request=needs("write"),
    security=access.security("write"),
    status_code=HTTP_204_NO_CONTENT,
    response_description="The user is no more.",
    opt={"has_versions": True, "offers": ()},
    responses=documented(*WRITE_REFUSALS, TooLarge, UserNotFound, InProgress, KeyReused),
)
async def delete_user(
    request: StrictRequest, user_id: UserId, session: NamedDependency[AsyncSession]
) -> Response[None]:
    """Delete a user for good."""
    remove = partial(remove_one, user_id_of(user_id), conditions_of(request))
    return await respond_in_session(request, session, remove)


async def create_one(new: NewUser, session: AsyncSession) -> Response[Any]:
    """Store a new user in this transaction and return the response."""
    [user] = await users.create(session, [new])
    return new_user_response(user)


async def change_one(
    user_id: int, changes: UserChanges, conditions: Conditions, session: AsyncSession
) -> Response[Any]:
    """Change a user in this transaction and return the response."""
    return user_response(await users.change(session, user_id, changes, conditions))


async def remove_one(user_id: int, conditions: Conditions, session: AsyncSession) -> Response[Any]:
    """Delete a user in this transaction and return the response, which has no content."""
    await users.remove(session, user_id, conditions)
    return Response(b"", status_code=HTTP_204_NO_CONTENT)


def new_user_response(user: User) -> Response[Any]:
    """Return the response with a new user and its place."""
    response = user_response(user)
    response.status_code = HTTP_201_CREATED
    response.headers["Location"] = f"/users/{user.id}"
    return response


def user_response(user: User) -> Response[Any]:
    """Return the response with a user and its ETag."""
    body = encode(user)
    return Response(body, headers={"ETag": etag(body), "Cache-Control": CACHE_CONTROL})


ROUTES = (create_user, get_user, list_users, change_user, delete_user)
