"""The parameters of paths, queries and headers: each is declared once, to be read and documented.

Litestar's own would convert leniently, report one flaw at a time, take the last value of a repeated
parameter, and build a dict of all headers, which takes a sixth of the time of a lookup.
"""

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Any, ClassVar, Generic, Literal, Protocol, TypeVar, get_args
from urllib.parse import parse_qsl

from litestar.connection import Request
from litestar.openapi.spec import OpenAPIType, Operation, Parameter, Schema
from litestar.params import PathParameter

from service.errors import Flaw, InvalidInput, UserNotFound
from service.etags import Condition, Conditions, condition
from service.http.requests import StrictRequest
from service.positions import Position, parse_position
from service.schemas import BIGINT_LIMIT, FLAW_LIMIT, NO_CONTROL, Sort
from service.transfer.export import Formulas
from service.transfer.formats import Format
from service.transfer.staging import OnConflict
from service.user_lists import DEFAULT_LIMIT, FILTER_LENGTH, MAXIMUM_LIMIT, Cursor, decode_cursor
from service.validation import escape_pointer

KEY_LENGTH = 255  # characters
REFRESH_LIMIT = 3600  # seconds
INTEGER = re.compile(r"-?[0-9]{1,19}")

Value = TypeVar("Value")
Needs = Literal["reads", "writes"]


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

    def condition(self, request: Request[Any, Any, Any]) -> Condition | None:
        """Return a condition, whose header may have several lines; None without one.

        Raise InvalidInput where it can't be read: ignored, it would protect nothing.
        """
        lines = [value for name, value in request.scope["headers"] if name == self.key]
        try:
            return condition(b", ".join(lines).decode("latin-1")) if lines else None
        except ValueError as error:
            raise InvalidInput(Flaw(f"/{self.name}", str(error))) from None

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
    bounds = {"type": OpenAPIType.INTEGER, "minimum": minimum, "maximum": maximum}

    def parse(text: str) -> int:
        # no more digits than a bound can have: Python takes long to read very many
        if INTEGER.fullmatch(text) and minimum <= (number := int(text)) <= maximum:
            return number
        raise ValueError(f"must be a number from {minimum} to {maximum}")

    return QueryParameter(name, description, parse, {**bounds, **schema})


def choice(
    name: str, description: str, choices: Sequence[Value], **schema: Any
) -> QueryParameter[Value]:
    """Declare a text out of several."""

    def parse(text: str) -> Value:
        for known in choices:
            if known == text:
                return known
        raise ValueError(f"must be one of {', '.join(map(str, choices))}")

    return QueryParameter(name, description, parse, {"enum": [*choices], **schema})


class Query:
    """The parameters in a URL's query; raises InvalidInput for one that is not UTF-8."""

    def __init__(self, query_string: bytes) -> None:
        self.pairs = pairs_in(query_string)
        self.texts = dict(self.pairs)

    def value(self, parameter: QueryParameter[Value]) -> Value | None:
        """Return the value of a parameter, None without one; raise InvalidInput."""
        text = self.texts.get(parameter.name)
        try:
            return None if text is None else parameter.parse(text)
        except ValueError as error:
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


def pairs_in(query_string: bytes) -> list[tuple[str, str]]:
    """Return the names and values in a URL's query; raise InvalidInput for one that is not UTF-8.

    Bytes may stand there as they are, or as %XX. Replaced by U+FFFD they would find nobody, and
    read as Latin-1 they would find somebody else.
    """
    # Latin-1 keeps every byte as a character of the same number
    text = query_string.decode("latin-1")
    pairs = []
    for name, value in parse_qsl(text, keep_blank_values=True, encoding="latin-1"):
        try:
            pairs.append((in_utf8(name), in_utf8(value)))
        except UnicodeDecodeError:
            shown = name.encode("latin-1").decode(errors="replace")
            raise InvalidInput(Flaw(f"/{escape_pointer(shown)}", "is not UTF-8")) from None
    return pairs


def in_utf8(text: str) -> str:
    """Return the text whose UTF-8 is these characters' numbers; raise UnicodeDecodeError."""
    return text if text.isascii() else text.encode("latin-1").decode()


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


TAGS_SCHEMA = {"examples": ['"5a2dcd0ea1d36ee1e0f4b1ae"']}
IF_MATCH = HeaderParameter(
    "If-Match",
    "Only if the user is still the version with this ETag (RFC 9110); `*` is any version.",
    TAGS_SCHEMA,
)
IF_NONE_MATCH = HeaderParameter(
    "If-None-Match",
    "The ETag of the version that you have; if it is still current, the answer is 304, "
    "without the user.",
    TAGS_SCHEMA,
)
UNLESS_MATCH = HeaderParameter(
    "If-None-Match",
    "Only if the user is not the version with this ETag (RFC 9110).",
    TAGS_SCHEMA,
)
IF_UNMODIFIED_SINCE = b"if-unmodified-since"
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
READ_AFTER = HeaderParameter(
    "Read-After",
    "The `Read-After` of your last write, or the greatest of several: where the service reads from "
    "replicas, the answer shows that write. The cookie `users_read_after` does the same.",
    {"pattern": "^[0-9A-F]{8}-[0-9A-F]{16}$", "examples": ["00000001-00000000016B3748"]},
)


def conditions_of(request: Request[Any, Any, Any]) -> Conditions:
    """Return the conditions of a request; raise InvalidInput where they can't be obeyed."""
    conditions = Conditions(IF_MATCH.condition(request), IF_NONE_MATCH.condition(request))
    if (
        conditions.if_match is None  # which counts instead, where both are there
        and request.method != "GET"
        and any(name == IF_UNMODIFIED_SINCE for name, _ in request.scope["headers"])
    ):
        flaw = "can't be obeyed, since nothing here has a Last-Modified: send If-Match"
        raise InvalidInput(Flaw("/If-Unmodified-Since", flaw))
    return conditions


def idempotency_key(request: StrictRequest) -> str | None:
    """Return the request's Idempotency-Key, None without one; raise InvalidInput."""
    key = IDEMPOTENCY_KEY.single(request)
    if key is not None and not (0 < len(key) <= KEY_LENGTH and key.isascii() and key.isprintable()):
        flaw = f"must have 1 to {KEY_LENGTH} characters, all printable ASCII"
        raise InvalidInput(Flaw(f"/{IDEMPOTENCY_KEY.name}", flaw))
    return key


def header_position(request: StrictRequest) -> Position | None:
    """Return the position in the request's Read-After; raise InvalidInput for another text."""
    value = READ_AFTER.single(request)
    try:
        return None if value is None else parse_position(value)
    except ValueError as error:
        raise InvalidInput(Flaw(f"/{READ_AFTER.name}", str(error))) from None


# their values are checked together, by user_lists.listing_of
FILTER_SCHEMA = {"max_length": FILTER_LENGTH, "pattern": NO_CONTROL}
NAME = QueryParameter(
    "name",
    "The beginning of the name, whatever its case; the list is sorted by name. "
    "An empty one is the beginning of every name.",
    str,
    FILTER_SCHEMA,
)
EMAIL = QueryParameter(
    "email",
    "The whole e-mail address, whatever its case. No user has an empty one.",
    str,
    FILTER_SCHEMA,
)
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
ON_CONFLICT: QueryParameter[OnConflict] = choice(
    "on_conflict",
    "What becomes of a line whose e-mail address is a user's already, or "
    "repeats an earlier line's: nothing is imported at all, the line is left out, or the "
    "user gets the line's values.",
    get_args(OnConflict),
    default="fail",
)
FORMAT: QueryParameter[Format] = choice(
    "format", "JSON lines, or CSV with a header.", get_args(Format), default="ndjson"
)
FORMULAS: QueryParameter[Formulas] = choice(
    "formulas",
    "Of a CSV: `text` puts an apostrophe before each name and address that begins with "
    "`=`, `+`, `-` or `@`, which a spreadsheet would otherwise run as a formula. An import keeps "
    "that apostrophe. `raw` writes every cell as it is.",
    get_args(Formulas),
    default="raw",
)
NEEDS: QueryParameter[Needs] = choice(
    "needs",
    "With `writes` a database that only reads is not ready, too.",
    get_args(Needs),
    default="reads",
)


class IfMatchOperation(OperationWithParameters):
    """An operation that changes or deletes a user, under conditions and once for each key."""

    declared = (IF_MATCH, UNLESS_MATCH, IDEMPOTENCY_KEY)


class IfNoneMatchOperation(OperationWithParameters):
    """An operation that reads a user, under conditions."""

    declared = (IF_MATCH, IF_NONE_MATCH, READ_AFTER)


class IdempotentOperation(OperationWithParameters):
    """An operation that takes an Idempotency-Key."""

    declared = (IDEMPOTENCY_KEY,)


class ListOperation(OperationWithParameters):
    """An operation that returns a page of a list."""

    declared = (LIMIT, AFTER, *FILTERS, READ_AFTER)


class ReadyOperation(OperationWithParameters):
    """The operation that tells whether the service can serve."""

    declared = (NEEDS,)


class RefreshOperation(OperationWithParameters):
    """An operation that returns a page which may reload itself."""

    declared = (REFRESH,)
