"""Lists of users: filters, order, and keyset paging.

Keyset paging makes page 10,000 cost what the first one does: a page begins after the place of the
last row of the page before, which its cursor names.
"""

import base64
import hashlib
import unicodedata
from collections import defaultdict
from collections.abc import Mapping, Sequence
from functools import cache
from operator import itemgetter
from typing import Any, NamedTuple

import msgspec
from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Integer,
    Select,
    SQLColumnExpression,
    Text,
    bindparam,
    func,
    literal,
    null,
    select,
    true,
    tuple_,
)
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.types import TypeEngine

from service.errors import Flaw, InvalidInput
from service.models import folded
from service.schemas import NAME_LENGTH, Page, Sort, User, encode
from service.users import USER_COLUMNS, USERS, unnest
from service.validation import email, has_control

DEFAULT_LIMIT = 50  # users on a page, unless a limit is set
MAXIMUM_LIMIT = 1000
FILTER_LENGTH = 254  # characters of a name or an address that is searched for
# no name that begins with a prefix sorts after the prefix followed by this
AFTER_EVERY_NAME = "\U0010ffff" * NAME_LENGTH
CHECKSUM_LENGTH = 6  # bytes
ROWS_AT_ONCE = 2000  # rows that one query reads for several pages: others must get their turn
PARAMETER_TYPES: dict[str, TypeEngine[Any]] = {
    "name": Text(),
    "email": Text(),
    "after_key": Text(),
    "after_id": BigInteger(),
}
# behind USER_COLUMNS: the sort key for the cursor; where several pages are read, the page's number
KEY, NUMBER = len(USER_COLUMNS), len(USER_COLUMNS) + 1

Values = Mapping[str, ColumnElement[Any]]  # by the names of PARAMETER_TYPES


class Cursor(msgspec.Struct, frozen=True, array_like=True):
    """Where a page ended, and of which list."""

    sort: Sort
    name: str | None
    email: str | None
    id: int
    key: str | None  # the folded name of that row, when names decide the order


class Shape(NamedTuple):
    """The properties of a list that decide the text of its statement."""

    sort: Sort
    after: bool
    name: bool
    email: bool

    @property
    def by_name(self) -> bool:
        """Whether names decide the order, and not ids."""
        return self.sort.endswith("full_name")

    @property
    def descending(self) -> bool:
        """Whether the order is reversed."""
        return self.sort.startswith("-")

    @property
    def place(self) -> list[str]:
        """The parameters that name a row's place in the order."""
        return ["after_key", "after_id"] if self.by_name else ["after_id"]

    @property
    def parameters(self) -> list[str]:
        """The parameters of its statement."""
        return ["name"] * self.name + ["email"] * self.email + self.place * self.after


class Listing(NamedTuple):
    """Which users are listed, in which order, and from where."""

    sort: Sort
    limit: int = 0  # of the page; a list without pages has no limit
    after: Cursor | None = None
    name: str | None = None  # the beginning of the name, whatever its case
    email: str | None = None  # the whole address, whatever its case

    @property
    def shape(self) -> Shape:
        """The shape of its statement."""
        is_set = (value is not None for value in (self.after, self.name, self.email))
        return Shape(self.sort, *is_set)

    @property
    def values(self) -> dict[str, Any]:
        """The values of its statement's parameters, by name."""
        values = {
            "name": self.name,
            "email": self.email,
            "after_key": self.after.key if self.after else None,
            "after_id": self.after.id if self.after else None,
        }
        return {name: values[name] for name in self.shape.parameters}


class EncodedPage(NamedTuple):
    """A page as JSON, and the cursor of the next one; None on the last."""

    body: bytes
    next: str | None


def listing_of(name: str | None, email: str | None, sort: Sort | None) -> Listing:
    """Return the list without pages; raise InvalidInput with every flaw of the filters."""
    flaws = [
        Flaw(f"/{parameter}", f"must have at most {FILTER_LENGTH} characters, none control")
        for parameter, value in (("name", name), ("email", email))
        if value is not None and (has_control(value) or len(value) > FILTER_LENGTH)
    ]
    sort = sort or ("id" if name is None else "full_name")
    if name is not None and not sort.endswith("full_name"):
        flaws.append(Flaw("/sort", "must be full_name or -full_name where name is given"))
    if flaws:
        raise InvalidInput(*flaws)
    return Listing(
        sort=sort,
        name=None if name is None else normalized_prefix(name),
        email=None if email is None else normalized_email(email),
    )


def normalized_prefix(text: str) -> str:
    """Return the beginning of a name in the form in which names are stored."""
    return unicodedata.normalize("NFC", text).lstrip()


def normalized_email(text: str) -> str:
    """Return an address in the form in which addresses are stored; any other text as it is."""
    try:
        return email(text) or text
    except ValueError:
        return text


def encode_cursor(cursor: Cursor) -> str:
    """Return opaque text for a URL, with a checksum against typing and guessing."""
    content = msgspec.msgpack.encode(cursor)
    return base64.urlsafe_b64encode(checksum(content) + content).rstrip(b"=").decode()


def decode_cursor(text: str) -> Cursor:
    """Return the cursor; raise InvalidInput for a text that encode_cursor did not make."""
    try:
        raw = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
        content = raw[CHECKSUM_LENGTH:]
        if checksum(content) == raw[:CHECKSUM_LENGTH]:
            return msgspec.msgpack.decode(content, type=Cursor)
    except (ValueError, msgspec.DecodeError):
        pass
    raise InvalidInput(Flaw("/after", "is not a cursor that this service gave"))


def checksum(content: bytes) -> bytes:
    """Return a hash that tells a cursor from any other text."""
    return hashlib.blake2b(content, digest_size=CHECKSUM_LENGTH, person=b"users.cursor").digest()


def require_own_cursor(listing: Listing) -> None:
    """Raise InvalidInput for the cursor of another list, which would skip users unseen."""
    cursor = listing.after
    if cursor is not None and (cursor.sort, cursor.name, cursor.email) != (
        listing.sort,
        listing.name,
        listing.email,
    ):
        raise InvalidInput(Flaw("/after", "is the cursor of a list with other parameters"))


async def read_pages(session: AsyncSession, listings: Sequence[Listing]) -> list[EncodedPage]:
    """Return the page of each listing; equal listings get the same bytes.

    On PostgreSQL pages of one shape and limit are read by one query, up to ROWS_AT_ONCE rows.
    SQLite has no such query: there each page is read by its own.
    """
    rows_at_once = ROWS_AT_ONCE if session.get_bind().dialect.name == "postgresql" else 1
    pages: dict[Listing, EncodedPage] = {}
    alike: dict[tuple[Shape, int], list[Listing]] = defaultdict(list)
    for listing in dict.fromkeys(listings):
        alike[listing.shape, listing.limit].append(listing)
    for (shape, limit), group in alike.items():
        size = max(1, rows_at_once // limit)
        for start in range(0, len(group), size):
            some = group[start : start + size]
            rows_by_page = await read_rows(session, shape, limit, some)
            pages |= {
                listing: encode_page(listing, rows)
                for listing, rows in zip(some, rows_by_page, strict=True)
            }
    return [pages[listing] for listing in listings]


async def read_rows(
    session: AsyncSession, shape: Shape, limit: int, listings: Sequence[Listing]
) -> list[Sequence[Sequence[Any]]]:
    """Return the rows of each page, and one more where there is a next page."""
    row_count = {"row_count": limit + 1}
    if len(listings) == 1:
        result = await session.execute(page_statement(shape), listings[0].values | row_count)
        return [result.all()]
    values = [listing.values for listing in listings]
    arrays = {name: [each[name] for each in values] for name in shape.parameters}
    pages: list[list[Sequence[Any]]] = [[] for _ in listings]
    for row in await session.execute(pages_statement(shape), arrays | row_count):
        pages[row[NUMBER] - 1].append(row)
    place = itemgetter(KEY, 0) if shape.by_name else itemgetter(0)
    for page in pages:  # a lateral join keeps the order, but SQL does not promise it
        page.sort(key=place, reverse=shape.descending)
    return list(pages)


def encode_page(listing: Listing, rows: Sequence[Sequence[Any]]) -> EncodedPage:
    """Return the page of `rows`, which have one more than the limit where there is a next page."""
    next_cursor = None
    if len(rows) > listing.limit:
        last = rows[listing.limit - 1]
        cursor = Cursor(listing.sort, listing.name, listing.email, last[0], last[KEY])
        next_cursor = encode_cursor(cursor)
    items = [User(*row[:KEY]) for row in rows[: listing.limit]]
    return EncodedPage(encode(Page(items=items, next=next_cursor)), next_cursor)


@cache
def page_statement(shape: Shape) -> Select[*tuple[Any, ...]]:
    """Return the statement of one page; `row_count` limits its rows."""
    parameters = {name: bindparam(name, type_=type_) for name, type_ in PARAMETER_TYPES.items()}
    return first_rows(shape, parameters)


@cache
def pages_statement(shape: Shape) -> Select[*tuple[Any, ...]]:
    """Return the statement of several pages; each parameter is an array with a value per page."""
    listings = unnest({name: PARAMETER_TYPES[name] for name in shape.parameters})
    page = first_rows(shape, dict(listings.c.items())).lateral("page")
    return select(page, listings.c.number).select_from(listings.join(page, true()))


def first_rows(shape: Shape, values: Values) -> Select[*tuple[Any, ...]]:
    """Return the statement of a page: USER_COLUMNS and the sort key, `row_count` rows."""
    key = folded(USERS.c.full_name) if shape.by_name else null()
    statement = select(*USER_COLUMNS, key.label("key")).limit(
        bindparam("row_count", type_=Integer())
    )
    if shape.after:
        place = tuple_(*order_columns(shape))
        after = tuple_(*(values[name] for name in shape.place))
        statement = statement.where(place < after if shape.descending else place > after)
    return filtered_and_sorted(statement, shape, values)


def whole_list(listing: Listing) -> Select[*tuple[Any, ...]]:
    """Return the statement of every row of the list, without pages."""
    values = {name: literal(value) for name, value in listing.values.items()}
    return filtered_and_sorted(select(*USER_COLUMNS), listing.shape, values)


async def count(session: AsyncSession, listing: Listing) -> int:
    """Return how many users the list has."""
    rows = whole_list(listing).order_by(None).subquery()
    return (await session.execute(select(func.count()).select_from(rows))).scalar_one()


def filtered_and_sorted(
    statement: Select[*tuple[Any, ...]], shape: Shape, values: Values
) -> Select[*tuple[Any, ...]]:
    """Return the statement with the list's filters and order."""
    if shape.name:
        name = folded(USERS.c.full_name)
        # a range, not LIKE: with a bound parameter LIKE loses the index under a generic plan
        statement = statement.where(
            name >= folded(values["name"]), name < folded(values["name"] + AFTER_EVERY_NAME)
        )
    if shape.email:
        statement = statement.where(func.lower(USERS.c.email) == func.lower(values["email"]))
    order = order_columns(shape)
    if shape.descending:
        return statement.order_by(*(column.desc() for column in order))
    return statement.order_by(*order)


def order_columns(shape: Shape) -> list[SQLColumnExpression[Any]]:
    """Return the columns that decide a row's place; the last is unique."""
    return [folded(USERS.c.full_name), USERS.c.id] if shape.by_name else [USERS.c.id]
