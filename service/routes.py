"""The URLs of users: one thin function each."""

from typing import Annotated, Any
from urllib.parse import urlencode

from litestar import Request, Response, delete, get, patch, post
from litestar.datastructures import ResponseHeader
from litestar.di import NamedDependency
from litestar.exceptions.http_exceptions import RequestEntityTooLarge
from litestar.openapi.spec import Example
from litestar.params import BodyKwarg, HeaderParameter, PathParameter, QueryParameter
from litestar.status_codes import HTTP_201_CREATED, HTTP_204_NO_CONTENT, HTTP_304_NOT_MODIFIED
from sqlalchemy.ext.asyncio import AsyncSession

from service import users, wire
from service.errors import (
    BadRequest,
    EmailTaken,
    Flaw,
    InvalidInput,
    MalformedJson,
    PreconditionFailed,
    RuleBroken,
    TooLarge,
    Unavailable,
    UnsupportedMediaType,
    UserNotFound,
)
from service.problems import documented

JSON = "application/json"
MERGE_PATCH = "application/merge-patch+json"
BODY_TYPES = {"POST": {JSON}, "PATCH": {MERGE_PATCH, JSON}}
LIST_PARAMETERS = ("limit", "after", "name", "email", "sort")
FILTER_LENGTH = 254
DRAIN_LIMIT = 16 * 1024 * 1024  # bytes

UserId = Annotated[
    str,
    PathParameter(
        description="The user's id.",
        schema_extra={"type": "integer", "minimum": 1, "maximum": wire.BIGINT_LIMIT},
        examples=[Example(value=42)],
    ),
]
IfMatch = Annotated[
    str | None,
    HeaderParameter(name="If-Match", description="Change only the version with this ETag."),
]
IfNoneMatch = Annotated[
    str | None,
    HeaderParameter(name="If-None-Match", description="Answer 304 to who has this ETag."),
]
ADA = Example(value={"full_name": "Ada Lovelace", "email": "ada@example.org", "age": 36})
OLDER = Example(summary="Set the age, forget the address", value={"age": 37, "email": None})
ETAG = ResponseHeader(name="ETag", description="The version of the user.", documentation_only=True)
LOCATION = ResponseHeader(
    name="Location", description="Where the new user is.", documentation_only=True
)


class StrictRequest(Request[Any, Any, Any]):
    """Reads a body by our own rules, all flaws at once.

    Litestar would convert leniently ("42" for 42) and report one flaw at a time.
    """

    async def body(self) -> bytes:
        """The bytes; a client whose body is too large may first finish sending, within reason.

        Answered and cut off while it sends, it would see a broken connection and not our answer.
        """
        try:
            return await super().body()
        except RequestEntityTooLarge:
            left = DRAIN_LIMIT
            while left > 0 and (message := await self.receive())["type"] == "http.request":
                if not message["more_body"]:
                    break
                left -= len(message["body"])
            raise

    async def json(self) -> Any:
        """The body as what the handler declares as `data`."""
        accepted = BODY_TYPES[self.method]
        media_type = self.content_type[0]
        if media_type not in accepted:
            raise UnsupportedMediaType(f"send {' or '.join(sorted(accepted))}")
        field = self.route_handler.parsed_data_field
        return wire.decode(await self.body(), field.annotation)  # type: ignore[union-attr]  # asked only where there is one


@post(
    "/users",
    operation_id="createUser",
    summary="Create a user",
    tags=["users"],
    response_headers=[ETAG, LOCATION],
    responses=documented(
        MalformedJson,
        EmailTaken,
        RuleBroken,
        TooLarge,
        UnsupportedMediaType,
        InvalidInput,
        Unavailable,
    ),
)
async def create_user(
    data: Annotated[wire.NewUser, BodyKwarg(examples=[ADA])],
    transaction: NamedDependency[AsyncSession],
) -> Response[wire.User]:
    """Keep a new user; the answer says where."""
    user = await users.create(transaction, data)
    return represented(user, HTTP_201_CREATED, {"Location": f"/users/{user.id}"})


@get(
    "/users/{user_id:str}",
    operation_id="getUser",
    summary="Read a user",
    tags=["users"],
    response_headers=[ETAG],
    responses=documented(BadRequest, UserNotFound, Unavailable),
)
async def get_user(
    user_id: UserId, reader: NamedDependency[AsyncSession], if_none_match: IfNoneMatch = None
) -> Response[wire.User]:
    """Look a user up by id; 304 when the client has this version already."""
    user = await users.get(reader, id_of(user_id))
    answer = represented(user)
    tag = answer.headers["ETag"]
    if if_none_match is not None and wire.matches(if_none_match, tag, weakly=True):
        return Response(None, status_code=HTTP_304_NOT_MODIFIED, headers={"ETag": tag})  # type: ignore[arg-type]  # 304 has no body
    return answer


@get(
    "/users",
    operation_id="listUsers",
    summary="List and search users",
    tags=["users"],
    response_headers=[
        ResponseHeader(
            name="Link", description='The next page: rel="next".', documentation_only=True
        )
    ],
    responses=documented(BadRequest, InvalidInput, Unavailable),
)
async def list_users(  # noqa: PLR0913, PLR0917  # a parameter of the URL each
    request: StrictRequest,
    reader: NamedDependency[AsyncSession],
    limit: Annotated[int, QueryParameter(ge=1, le=wire.PAGE_LIMIT)] = 50,
    after: Annotated[
        str | None, QueryParameter(description="The `next` of the page before.")
    ] = None,
    name: Annotated[
        str | None,
        QueryParameter(description="The beginning of the name, whatever its case; sorts by name."),
    ] = None,
    email: Annotated[
        str | None, QueryParameter(description="The whole e-mail address, whatever its case.")
    ] = None,
    sort: Annotated[
        wire.Sort | None,
        QueryParameter(description="`id` unless `name` is given, `full_name` then."),
    ] = None,
) -> Response[wire.Page]:
    """List users, a page at a time."""
    listing = users.Listing(
        sort=sort or ("id" if name is None else "full_name"),
        limit=limit,
        after=None if after is None else wire.decode_cursor(after),
        name=name,
        email=email,
    )
    check_listing(request, listing)
    listing = listing._replace(
        name=None if name is None else wire.name_prefix(name),
        email=None if email is None else wire.email_as_kept(email),
    )
    page = await users.page(reader, listing)
    headers = {} if page.next is None else {"Link": next_link(request, page.next)}
    return Response(wire.encode(page), media_type=JSON, headers=headers)  # type: ignore[arg-type]  # the bytes of a Page


@patch(
    "/users/{user_id:str}",
    operation_id="changeUser",
    summary="Change a user",
    tags=["users"],
    response_headers=[ETAG],
    responses=documented(
        MalformedJson,
        UserNotFound,
        EmailTaken,
        RuleBroken,
        PreconditionFailed,
        TooLarge,
        UnsupportedMediaType,
        InvalidInput,
        Unavailable,
    ),
)
async def change_user(
    user_id: UserId,
    data: Annotated[wire.UserChanges, BodyKwarg(media_type=MERGE_PATCH, examples=[OLDER])],
    transaction: NamedDependency[AsyncSession],
    if_match: IfMatch = None,
) -> Response[wire.User]:
    """Change the fields that are given (JSON merge patch); null removes."""
    return represented(await users.change(transaction, id_of(user_id), data, if_match))


@delete(
    "/users/{user_id:str}",
    operation_id="deleteUser",
    summary="Delete a user",
    tags=["users"],
    status_code=HTTP_204_NO_CONTENT,
    responses=documented(BadRequest, UserNotFound, RuleBroken, PreconditionFailed, Unavailable),
)
async def delete_user(
    user_id: UserId, transaction: NamedDependency[AsyncSession], if_match: IfMatch = None
) -> None:
    """Delete a user for good."""
    await users.remove(transaction, id_of(user_id), if_match)


def represented(
    user: wire.User, status: int = 200, headers: dict[str, str] | None = None
) -> Response[wire.User]:
    """The user with its ETag."""
    body = wire.encode(user)
    return Response(
        body,  # type: ignore[arg-type]  # the bytes of a User
        status_code=status,
        media_type=JSON,
        headers={"ETag": wire.etag(body), **(headers or {})},
    )


def id_of(text: str) -> int:
    """The id in a URL; what can't be one belongs to nobody."""
    digits = text.isascii() and text.isdigit() and not text.startswith("0")
    if not digits or len(text) > len(str(wire.BIGINT_LIMIT)) or int(text) > wire.BIGINT_LIMIT:
        raise UserNotFound("an id is a number from 1 to 2^63-1")
    return int(text)


def check_listing(request: StrictRequest, listing: users.Listing) -> None:
    """Refuse parameters that would otherwise be silently left out of account."""
    flaws = []
    for parameter in request.query_params:
        if parameter not in LIST_PARAMETERS:
            flaws.append(Flaw(f"/{wire.escaped(parameter)}", "is not a parameter of this list"))
        elif len(request.query_params.getall(parameter)) > 1:
            flaws.append(Flaw(f"/{parameter}", "is given more than once"))
    for parameter in ("name", "email"):
        value = getattr(listing, parameter)
        if value is not None and (wire.has_control(value) or len(value) > FILTER_LENGTH):
            flaws.append(
                Flaw(f"/{parameter}", f"must have at most {FILTER_LENGTH} characters, none control")
            )
    if listing.name is not None and not listing.sort.endswith("full_name"):
        flaws.append(Flaw("/sort", "must be full_name or -full_name where name is given"))
    if flaws:
        raise InvalidInput(*flaws)


def next_link(request: StrictRequest, cursor: str) -> str:
    """The Link header of the next page (RFC 8288)."""
    parameters = {
        name: request.query_params[name] for name in LIST_PARAMETERS if name in request.query_params
    }
    return f'<{request.url.path}?{urlencode(parameters | {"after": cursor})}>; rel="next"'


ROUTES = (create_user, get_user, list_users, change_user, delete_user)
