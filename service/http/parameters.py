"""The parameters of paths, queries and headers: each is declared once, to be read and documented.

Litestar's own would convert leniently, report one flaw at a time, take the last value of a repeated
parameter, and build a dict of all headers, which takes a sixth of the time of a lookup.
"""

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Any, ClassVar, Generic, Protocol, TypeVar, get_args
from urllib.parse import parse_qsl

import msgspec
from litestar.openapi.spec import OpenAPIType, Operation, Parameter, Schema
from litestar.params import PathParameter

from service.errors import Flaw, InvalidInput, UserNotFound
from service.http.requests import StrictRequest
from service.schemas import BIGINT_LIMIT, FLAW_LIMIT, NO_CONTROL, Sort
from service.user_lists import DEFAULT_LIMIT, FILTER_LENGTH, MAXIMUM_LIMIT, Cursor, decode_cursor
from service.validation import escape_pointer

KEY_LENGTH = 255  # characters
REFRESH_LIMIT = 3600  # seconds

Value = TypeVar("Value")


class Declared(Protocol):
    """A parameter that can describe itself to the OpenAPI document."""

    def spec(self) -> Parameter:
        """Return its description."""


@dataclass(frozen=True)
class QueryParameter(Generic[Value]):
    """A parameter in a URL's query; it may be left out, but not repeated.

    `parse` raises ValueError with what is wrong, or InvalidInput.
    """

    name: str
    description: str
    parse: Callable[[str], Value]
    schema: Mapping[str, Any]

    def spec(self) -> Parameter:
        """Return its description for the OpenAPI document."""
        return specification(self.name, "query", self.description, self.schema)


@dataclass(frozen=True)
class HeaderParameter:
    """A header that a client may send."""

    name: str
    description: str
    schema: Mapping[str, Any]

    def spec(self) -> Parameter:
        """Return its description for the OpenAPI document."""
        return specification(self.name, "header", self.description, self.schema)

    @cached_property
    def key(self) -> bytes:
        """The name as ASGI has it."""
        return self.name.lower().encode()

    def joined(self, request: StrictRequest) -> str | None:
        """Return the value of a header that may have several lines; None without one."""
        lines = (value for name, value in request.scope["headers"] if name == self.key)
        return b", ".join(lines).decode("latin-1") or None

    def single(self, request: StrictRequest) -> str | None:
        """Return the value, None without one; raise InvalidInput if there are several lines."""
        values = request.lines_of(self.key)
        if len(values) > 1:
            raise InvalidInput(Flaw(f"/{self.name}", "is given more than once"))
        return values[0] if values else None


def specification(name: str, place: str, description: str, schema: Mapping[str, Any]) -> Parameter:
    """Return a parameter that may be left out; a string, unless its schema has another type."""
    described = {"type": OpenAPIType.STRING, "description": description, **schema}
    return Parameter(name, place, Schema(**described), description)


def integer(
    name: str, description: str, minimum: int, maximum: int, **schema: Any
) -> QueryParameter[int]:
    """Declare a whole number between two bounds."""
    type_ = Annotated[int, msgspec.Meta(ge=minimum, le=maximum)]
    bounds = {"type": OpenAPIType.INTEGER, "minimum": minimum, "maximum": maximum}

    def parse(text: str) -> int:
        number: int = msgspec.convert(text, type_, strict=False)
        return number

    return QueryParameter(name, description, parse, {**bounds, **schema})


def choice(name: str, description: str, choices: Sequence[Value]) -> QueryParameter[Value]:
    """Declare a text out of several."""

    def parse(text: str) -> Value:
        for known in choices:
            if known == text:
                return known
        raise ValueError(f"must be one of {', '.join(map(str, choices))}")

    return QueryParameter(name, description, parse, {"enum": [*choices]})


class Query:
    """The parameters in a URL's query."""

    def __init__(self, query_string: bytes) -> None:
        self.pairs = parse_qsl(query_string.decode("latin-1"), keep_blank_values=True)
        self.texts = dict(self.pairs)

    def value(self, parameter: QueryParameter[Value]) -> Value | None:
        """Return the value of a parameter, None without one; raise InvalidInput."""
        text = self.texts.get(parameter.name)
        try:
            return None if text is None else parameter.parse(text)
        except ValueError as error:  # msgspec's ValidationError is one, too
            raise InvalidInput(Flaw(f"/{parameter.name}", str(error))) from None

    def require_only(self, *parameters: str) -> None:
        """Raise InvalidInput for unknown and repeated parameters: they must not be ignored."""
        flaws = []
        for name, times in Counter(name for name, _ in self.pairs).items():
            if name not in parameters:
                flaws.append(Flaw(f"/{escape_pointer(name)}", "is not a parameter of this URL"))
            elif times > 1:
                flaws.append(Flaw(f"/{name}", "is given more than once"))
        if flaws:
            raise InvalidInput(*flaws[:FLAW_LIMIT])


@dataclass
class OperationWithParameters(Operation):
    """An operation of the OpenAPI document whose route reads `declared` by itself."""

    declared: ClassVar[Sequence[Declared]]

    def __post_init__(self) -> None:
        own = (parameter.spec() for parameter in self.declared)
        self.parameters = [*(self.parameters or ()), *own]


UserId = Annotated[
    str,
    PathParameter(
        description="The user's id.",
        schema_extra={
            "type": "integer",
            "format": "int64",
            "minimum": 1,
            "maximum": BIGINT_LIMIT,
            "examples": [42],
        },
    ),
]
USER_ID = re.compile(r"[1-9][0-9]{0,18}")


def user_id_of(text: UserId) -> int:
    """Return the id in a URL; raise UserNotFound for a text that can't be one."""
    if USER_ID.fullmatch(text) and (user_id := int(text)) <= BIGINT_LIMIT:
        return user_id
    raise UserNotFound("an id is a number from 1 to 2^63-1")


IF_MATCH = HeaderParameter(
    "If-Match", "Only if the user is still the version with this ETag (RFC 9110).", {}
)
IF_NONE_MATCH = HeaderParameter(
    "If-None-Match",
    "The ETag of the version that you have; if it is still current, the answer is 304, "
    "without the user.",
    {},
)
IDEMPOTENCY_KEY = HeaderParameter(
    "Idempotency-Key",
    "Any text of the client's making, one for each thing to be done: the same key and "
    "request get the same answer again, for 24 hours.",
    {
        "min_length": 1,
        "max_length": KEY_LENGTH,
        "pattern": "^[!-~]([ -~]*[!-~])?$",
        "examples": ["8e03978e-40d5-43e8-bc93-6894a57f9324"],
    },
)


def idempotency_key(request: StrictRequest) -> str | None:
    """Return the request's Idempotency-Key, None without one; raise InvalidInput."""
    key = IDEMPOTENCY_KEY.single(request)
    if key is not None and not (0 < len(key) <= KEY_LENGTH and key.isascii() and key.isprintable()):
        flaw = f"must have 1 to {KEY_LENGTH} characters, all printable ASCII"
        raise InvalidInput(Flaw(f"/{IDEMPOTENCY_KEY.name}", flaw))
    return key


# their values are checked together, by user_lists.listing_of
FILTER_SCHEMA = {"max_length": FILTER_LENGTH, "pattern": NO_CONTROL}
NAME = QueryParameter(
    "name",
    "The beginning of the name, whatever its case; the list is sorted by name.",
    str,
    FILTER_SCHEMA,
)
EMAIL = QueryParameter("email", "The whole e-mail address, whatever its case.", str, FILTER_SCHEMA)
SORT: QueryParameter[Sort] = choice(
    "sort",
    "`id`, or `full_name` where `name` is given, unless you say otherwise.",
    get_args(Sort),
)
LIMIT = integer(
    "limit",
    "How many users a page has at most.",
    minimum=1,
    maximum=MAXIMUM_LIMIT,
    default=DEFAULT_LIMIT,
)
AFTER: QueryParameter[Cursor] = QueryParameter(
    "after",
    "The `next` of the page before, with its other parameters unchanged.",
    decode_cursor,
    {"pattern": "^[A-Za-z0-9_-]+$"},
)
REFRESH = integer(
    "refresh",
    "How many seconds the page stays before it looks again; without it, for ever.",
    minimum=1,
    maximum=REFRESH_LIMIT,
)
FILTERS = (NAME, EMAIL, SORT)


class IfMatchOperation(OperationWithParameters):
    """An operation on a user that takes If-Match."""

    declared = (IF_MATCH,)


class IfNoneMatchOperation(OperationWithParameters):
    """An operation that reads a user and takes If-None-Match."""

    declared = (IF_NONE_MATCH,)


class IdempotentOperation(OperationWithParameters):
    """An operation that takes an Idempotency-Key."""

    declared = (IDEMPOTENCY_KEY,)


class ListOperation(OperationWithParameters):
    """An operation that returns a page of a list."""

    declared = (LIMIT, AFTER, *FILTERS)


class RefreshOperation(OperationWithParameters):
    """An operation that returns a page which may reload itself."""

    declared = (REFRESH,)
