"""What can be done with users. Refusing is raising, which rolls back.

Building a statement takes longer than running it: those that are asked often are built once.
"""

from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from functools import cache
from operator import itemgetter
from typing import Any, NamedTuple

from msgspec import UNSET
from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Integer,
    Select,
    SQLColumnExpression,
    TableValuedAlias,
    Text,
    bindparam,
    column,
    delete,
    func,
    insert,
    literal,
    null,
    select,
    true,
    tuple_,
    update,
)
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession
from sqlalchemy.sql.selectable import TypedReturnsRows
from sqlalchemy.types import TypeEngine

from service import schemas
from service.errors import Flaw, InvalidInput, PreconditionFailed, UserNotFound
from service.models import User, among, folded

FILTER_LENGTH = 254  # characters of a name or an address that is looked for
FIELDS = (User.id, User.full_name, User.email, User.age)
# no name that begins with a prefix comes after the prefix followed by this
AFTER_ALL = "\U0010ffff" * schemas.NAME_LENGTH

FIND = select(*FIELDS).where(among(User.id, "ids"))
CREATE = insert(User).returning(*FIELDS, sort_by_parameter_order=True)
CREATED: dict[str, TypeEngine[Any]] = {"full_name": Text(), "email": Text(), "age": Integer()}

Connection = AsyncConnection | AsyncSession
Given = Mapping[str, ColumnElement[Any]]  # values, by the names of Listing.values
UserRow = Sequence[Any]  # FIELDS, perhaps with more behind them
ID, FULL_NAME, EMAIL, AGE, KEY, NUMBER = range(6)  # of a page the place of its row, and its number
Query = TypedReturnsRows[*tuple[Any, ...]]
RowsOf = Callable[[Query, Mapping[str, Any]], Awaitable[Sequence[UserRow]]]


class Shape(NamedTuple):
    """What decides the text of a list's statement."""

    sort: schemas.Sort
    after: bool
    name: bool
    email: bool

    @property
    def by_name(self) -> bool:
        """Whether names decide the order, and not ids."""
        return self.sort.endswith("full_name")

    @property
    def descending(self) -> bool:
        """Whether the last comes first."""
        return self.sort.startswith("-")

    @property
    def place(self) -> list[str]:
        """Which values say where a row is in the order."""
        return ["after_key", "after_id"] if self.by_name else ["after_id"]

    @property
    def given(self) -> list[str]:
        """The values that its statement needs."""
        return ["name"] * self.name + ["email"] * self.email + self.place * self.after


class Listing(NamedTuple):
    """Which users are listed, in which order, and from where."""

    sort: schemas.Sort
    limit: int = 0  # of the page; what has no pages has no limit
    after: schemas.Cursor | None = None
    name: str | None = None  # the beginning of the name, whatever its case
    email: str | None = None  # the whole address, whatever its case

    @property
    def shape(self) -> Shape:
        """That of its statement."""
        given = (value is not None for value in (self.after, self.name, self.email))
        return Shape(self.sort, *given)

    @property
    def values(self) -> dict[str, Any]:
        """What its statement is given, by name."""
        after_key, after_id = (
            (None, None) if self.after is None else (self.after.key, self.after.id)
        )
        values = {
            "name": self.name,
            "email": self.email,
            "after_key": after_key,
            "after_id": after_id,
        }
        return {name: values[name] for name in self.shape.given}


class Found(NamedTuple):
    """A page as it is sent."""

    body: bytes
    next: str | None


TYPES: dict[str, TypeEngine[Any]] = {
    "name": Text(),
    "email": Text(),
    "after_key": Text(),
    "after_id": BigInteger(),
}


def listing_of(name: str | None, email: str | None, sort: schemas.Sort | None) -> Listing:
    """Which users are meant, and in which order; raises InvalidInput."""
    flaws = [
        Flaw(f"/{parameter}", f"must have at most {FILTER_LENGTH} characters, none control")
        for parameter, value in (("name", name), ("email", email))
        if value is not None and (schemas.has_control(value) or len(value) > FILTER_LENGTH)
    ]
    sort = sort or ("id" if name is None else "full_name")
    if name is not None and not sort.endswith("full_name"):
        flaws.append(Flaw("/sort", "must be full_name or -full_name where name is given"))
    if flaws:
        raise InvalidInput(*flaws)
    return Listing(
        sort=sort,
        name=None if name is None else schemas.name_prefix(name),
        email=None if email is None else schemas.email_as_kept(email),
    )


async def create(connection: Connection, users: Sequence[schemas.NewUser]) -> list[schemas.User]:
    """Keep new users: all or, raising IntegrityError, none."""
    values = [{"full_name": new.full_name, "email": new.email, "age": new.age} for new in users]
    return [seen(row) for row in (await connection.execute(CREATE, values)).all()]


async def create_at_once(
    rows_of: RowsOf, users: Sequence[schemas.NewUser], lock_timeout: str | None
) -> list[schemas.User]:
    """Keep new users by one round trip, which SQLite can't; all or none, as `create` does.

    Whoever holds a lock that is in the way is waited for as long as `lock_timeout` says.
    """
    arrays = {name: [getattr(new, name) for new in users] for name in CREATED}
    rows = await rows_of(create_statement(), arrays | {"lock_timeout": lock_timeout})
    return [seen(row) for row in sorted(rows, key=itemgetter(ID))]


@cache
def create_statement() -> Query:
    """Adds users, who are arrays, and gives them ids in their order."""
    new = table_of(CREATED)
    # it holds until the statement's own transaction ends
    patience = func.set_config(
        "lock_timeout",
        func.coalesce(
            bindparam("lock_timeout", type_=Text()), func.current_setting("lock_timeout")
        ),
        true(),
    )
    rows = select(*(new.c[name] for name in CREATED)).where(patience.is_not(None))
    return insert(User).from_select([*CREATED], rows.order_by(new.c.number)).returning(*FIELDS)


def table_of(types: Mapping[str, TypeEngine[Any]]) -> TableValuedAlias:
    """Arrays of these names, side by side, and the `number` of each row."""
    arrays: Iterable[Any] = (bindparam(name, type_=ARRAY(kind)) for name, kind in types.items())
    columns: Iterable[Any] = (column(name, kind) for name, kind in types.items())
    unnested = func.unnest(*arrays).table_valued(*columns, with_ordinality="number")
    return unnested.render_derived()


async def find(rows_of: RowsOf, ids: Sequence[int]) -> list[schemas.User | None]:
    """Look users up; None for an id that nobody has."""
    users = {row[ID]: seen(row) for row in await rows_of(FIND, {"ids": list(set(ids))})}
    return [users.get(identity) for identity in ids]


async def change(
    connection: Connection, user_id: int, changes: schemas.UserChanges, if_match: str | None
) -> schemas.User:
    """Change the given fields, if the user is still what `if_match` says."""
    if if_match is not None:
        await check_version(connection, user_id, if_match)
    values = {
        name: value
        for name in ("full_name", "email", "age")
        if (value := getattr(changes, name)) is not UNSET
    }
    statement = update(User).where(User.id == user_id).values(values).returning(*FIELDS)
    return found((await connection.execute(statement)).first())


async def remove(connection: Connection, user_id: int, if_match: str | None) -> None:
    """Delete a user, if it is still what `if_match` says."""
    if if_match is not None:
        await check_version(connection, user_id, if_match)
    statement = delete(User).where(User.id == user_id).returning(*FIELDS)
    found((await connection.execute(statement)).first())


async def check_version(connection: Connection, user_id: int, if_match: str) -> None:
    """Lock the user and compare; nobody changes it until the transaction ends."""
    statement = select(*FIELDS).where(User.id == user_id).with_for_update()
    user = found((await connection.execute(statement)).first())
    if not schemas.matches(if_match, schemas.etag(schemas.encode(user)), weakly=False):
        raise PreconditionFailed("If-Match names another version than the current one")


async def pages(
    rows_of: RowsOf, listings: Iterable[Listing], *, at_once: int
) -> dict[Listing, Found]:
    """Pages of lists, by keyset: page 10,000 costs what the first one does.

    Those whose statements have one text come by one query, while they have no more than `at_once`
    rows; SQLite can't do that.
    """
    found: dict[Listing, Found] = {}
    alike: dict[tuple[Shape, int], list[Listing]] = defaultdict(list)
    for listing in dict.fromkeys(listings):
        alike[listing.shape, listing.limit].append(listing)
    for (shape, limit), group in alike.items():
        size = max(1, at_once // limit)
        for start in range(0, len(group), size):
            some = group[start : start + size]
            pages = await rows_of_some(rows_of, shape, limit, some)
            found |= {one: page_of(one, rows) for one, rows in zip(some, pages, strict=True)}
    return found


async def rows_of_some(
    rows_of: RowsOf, shape: Shape, limit: int, listings: Sequence[Listing]
) -> Sequence[Sequence[UserRow]]:
    """The rows of each page, and one more where there is a next."""
    rows = {"rows": limit + 1}
    if len(listings) == 1:
        return [await rows_of(page_statement(shape), listings[0].values | rows)]
    values = [listing.values for listing in listings]
    arrays = {name: [each[name] for each in values] for name in shape.given}
    pages: list[list[UserRow]] = [[] for _ in listings]
    for row in await rows_of(pages_statement(shape), arrays | rows):
        pages[row[NUMBER] - 1].append(row)
    place = itemgetter(KEY, ID) if shape.by_name else itemgetter(ID)
    for page in pages:  # in order already, though nobody promises it
        page.sort(key=place, reverse=shape.descending)
    return pages


def page_of(listing: Listing, rows: Sequence[UserRow]) -> Found:
    """The page, where `rows` may have one more, which tells whether there is a next."""
    items = [seen(row) for row in rows[: listing.limit]]
    following = None
    if len(rows) > listing.limit:
        last = rows[listing.limit - 1]
        cursor = schemas.Cursor(listing.sort, listing.name, listing.email, last[ID], last[KEY])
        following = schemas.encode_cursor(cursor)
    return Found(schemas.encode(schemas.Page(items=items, next=following)), following)


@cache
def page_statement(shape: Shape) -> Select[*tuple[Any, ...]]:
    """The first rows of a list of this shape, as many as `rows` says."""
    return first_rows(shape, {name: bindparam(name, type_=kind) for name, kind in TYPES.items()})


@cache
def pages_statement(shape: Shape) -> Select[*tuple[Any, ...]]:
    """The same for several lists; each value is an array, with one for each list."""
    asked = table_of({name: TYPES[name] for name in shape.given})
    page = first_rows(shape, dict(asked.c.items())).lateral("page")
    return select(page, asked.c.number).select_from(asked.join(page, true()))


def first_rows(shape: Shape, given: Given) -> Select[*tuple[Any, ...]]:
    """The rows of a page, with what a cursor needs to know of them."""
    key = folded(User.full_name) if shape.by_name else null()
    statement = select(*FIELDS, key.label("key")).limit(bindparam("rows", type_=Integer()))
    if shape.after:
        place = tuple_(*order_of(shape))
        reached = tuple_(*(given[name] for name in shape.place))
        statement = statement.where(place < reached if shape.descending else place > reached)
    return in_order(statement, shape, given)


def all_of(listing: Listing) -> Select[*tuple[Any, ...]]:
    """Every row of the list; it has no pages."""
    given = {name: literal(value) for name, value in listing.values.items()}
    return in_order(select(*FIELDS), listing.shape, given)


async def count(session: AsyncSession, listing: Listing) -> int:
    """How many users the list has."""
    rows = all_of(listing).order_by(None).subquery()
    return (await session.execute(select(func.count()).select_from(rows))).scalar_one()


def in_order(
    statement: Select[*tuple[Any, ...]], shape: Shape, given: Given
) -> Select[*tuple[Any, ...]]:
    """Filtered and sorted as the list is."""
    if shape.name:
        name = folded(User.full_name)
        # a range, not LIKE: with a bound parameter LIKE loses the index under a generic plan
        statement = statement.where(
            name >= folded(given["name"]), name < folded(given["name"] + AFTER_ALL)
        )
    if shape.email:
        statement = statement.where(func.lower(User.email) == func.lower(given["email"]))
    order = order_of(shape)
    if shape.descending:
        return statement.order_by(*(column.desc() for column in order))
    return statement.order_by(*order)


def order_of(shape: Shape) -> list[SQLColumnExpression[Any]]:
    """The columns that decide a row's place."""
    return [folded(User.full_name), User.id] if shape.by_name else [User.id]


def check_cursor(listing: Listing) -> None:
    """Refuse a cursor of another list: it would skip users unseen."""
    cursor = listing.after
    if cursor is not None and (cursor.sort, cursor.name, cursor.email) != (
        listing.sort,
        listing.name,
        listing.email,
    ):
        raise InvalidInput(Flaw("/after", "is the cursor of a list with other parameters"))


def found(row: UserRow | None) -> schemas.User:
    """The user, or UserNotFound."""
    if row is None:
        raise UserNotFound("no user has this id")
    return seen(row)


def seen(row: UserRow) -> schemas.User:
    """A row as clients see it."""
    return schemas.User(id=row[ID], full_name=row[FULL_NAME], email=row[EMAIL], age=row[AGE])
