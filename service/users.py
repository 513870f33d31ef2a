"""What can be done with users. Each takes a session; refusing is raising, which rolls back."""

from typing import Any, NamedTuple

from msgspec import UNSET
from sqlalchemy import (
    ColumnElement,
    Row,
    Select,
    SQLColumnExpression,
    delete,
    func,
    insert,
    literal,
    select,
    tuple_,
    update,
)
from sqlalchemy.ext.asyncio import AsyncSession

from service import wire
from service.errors import Flaw, InvalidInput, PreconditionFailed, UserNotFound
from service.models import User, folded

FILTER_LENGTH = 254  # characters of a name or an address that is looked for
FIELDS = (User.id, User.full_name, User.email, User.age)
# no name that begins with a prefix comes after the prefix followed by this
AFTER_ALL = "\U0010ffff" * wire.NAME_LENGTH

UserRow = Row[*tuple[Any, ...]]  # FIELDS, perhaps with more behind them


class Listing(NamedTuple):
    """Which users are listed, in which order, and from where."""

    sort: wire.Sort
    limit: int = 0  # of the page; what has no pages has no limit
    after: wire.Cursor | None = None
    name: str | None = None  # the beginning of the name, whatever its case
    email: str | None = None  # the whole address, whatever its case


def listing_of(name: str | None, email: str | None, sort: wire.Sort | None) -> Listing:
    """Which users are meant, and in which order; raises InvalidInput."""
    flaws = [
        Flaw(f"/{parameter}", f"must have at most {FILTER_LENGTH} characters, none control")
        for parameter, value in (("name", name), ("email", email))
        if value is not None and (wire.has_control(value) or len(value) > FILTER_LENGTH)
    ]
    sort = sort or ("id" if name is None else "full_name")
    if name is not None and not sort.endswith("full_name"):
        flaws.append(Flaw("/sort", "must be full_name or -full_name where name is given"))
    if flaws:
        raise InvalidInput(*flaws)
    return Listing(
        sort=sort,
        name=None if name is None else wire.name_prefix(name),
        email=None if email is None else wire.email_as_kept(email),
    )


async def create(session: AsyncSession, new: wire.NewUser) -> wire.User:
    """Keep a new user."""
    values = {"full_name": new.full_name, "email": new.email, "age": new.age}
    result = await session.execute(insert(User).values(values).returning(*FIELDS))
    return seen(result.one())


async def get(session: AsyncSession, user_id: int) -> wire.User:
    """Look a user up."""
    return found((await session.execute(select(*FIELDS).where(User.id == user_id))).first())


async def change(
    session: AsyncSession, user_id: int, changes: wire.UserChanges, if_match: str | None
) -> wire.User:
    """Change the given fields, if the user is still what `if_match` says."""
    if if_match is not None:
        await check_version(session, user_id, if_match)
    values = {
        name: value
        for name in ("full_name", "email", "age")
        if (value := getattr(changes, name)) is not UNSET
    }
    statement = update(User).where(User.id == user_id).values(values).returning(*FIELDS)
    return found((await session.execute(statement)).first())


async def remove(session: AsyncSession, user_id: int, if_match: str | None) -> None:
    """Delete a user, if it is still what `if_match` says."""
    if if_match is not None:
        await check_version(session, user_id, if_match)
    statement = delete(User).where(User.id == user_id).returning(*FIELDS)
    found((await session.execute(statement)).first())


async def check_version(session: AsyncSession, user_id: int, if_match: str) -> None:
    """Lock the user and compare; nobody changes it until the transaction ends."""
    statement = select(*FIELDS).where(User.id == user_id).with_for_update()
    user = found((await session.execute(statement)).first())
    if not wire.matches(if_match, wire.etag(wire.encode(user)), weakly=False):
        raise PreconditionFailed("If-Match names another version than the current one")


async def page(session: AsyncSession, listing: Listing) -> wire.Page:
    """One page of the list, by keyset: page 10,000 costs what the first one does."""
    check_cursor(listing)
    rows = (await session.execute(page_statement(listing))).all()
    items = [seen(row) for row in rows]
    if len(rows) <= listing.limit:
        return wire.Page(items=items, next=None)
    last = rows[listing.limit - 1]
    cursor = wire.Cursor(listing.sort, listing.name, listing.email, last.id, last.key)
    return wire.Page(items=items[: listing.limit], next=wire.encode_cursor(cursor))


def page_statement(listing: Listing) -> Select[*tuple[Any, ...]]:
    """The rows of the page and one more, which tells whether there is a next."""
    name = folded(User.full_name)
    key = name if by_name(listing) else literal(None)
    statement = select(*FIELDS, key.label("key")).limit(listing.limit + 1)
    if listing.after is not None:
        reached = tuple_(*after_values(listing.after, by_name=by_name(listing)))
        place = tuple_(*order_of(listing))
        statement = statement.where(
            place < reached if listing.sort.startswith("-") else place > reached
        )
    return in_order(statement, listing)


def all_of(listing: Listing) -> Select[*tuple[Any, ...]]:
    """Every row of the list; it has no pages."""
    return in_order(select(*FIELDS), listing)


async def count(session: AsyncSession, listing: Listing) -> int:
    """How many users the list has."""
    rows = all_of(listing).order_by(None).subquery()
    return (await session.execute(select(func.count()).select_from(rows))).scalar_one()


def in_order(statement: Select[*tuple[Any, ...]], listing: Listing) -> Select[*tuple[Any, ...]]:
    """Filtered and sorted as the list is."""
    if listing.name is not None:
        name = folded(User.full_name)
        # a range, not LIKE: with a bound parameter LIKE loses the index under a generic plan
        statement = statement.where(
            name >= folded(literal(listing.name)),
            name < folded(literal(listing.name + AFTER_ALL)),
        )
    if listing.email is not None:
        statement = statement.where(func.lower(User.email) == func.lower(listing.email))
    order = order_of(listing)
    if listing.sort.startswith("-"):
        return statement.order_by(*(column.desc() for column in order))
    return statement.order_by(*order)


def order_of(listing: Listing) -> list[SQLColumnExpression[Any]]:
    """The columns that decide a row's place."""
    return [folded(User.full_name), User.id] if by_name(listing) else [User.id]


def by_name(listing: Listing) -> bool:
    """Whether names decide the order, and not ids."""
    return listing.sort.endswith("full_name")


def after_values(cursor: wire.Cursor, *, by_name: bool) -> list[ColumnElement[Any]]:
    """The place in the order where the last page ended."""
    identity = literal(cursor.id, User.id.type)
    return [literal(cursor.key), identity] if by_name else [identity]


def check_cursor(listing: Listing) -> None:
    """Refuse a cursor of another list: it would skip users unseen."""
    cursor = listing.after
    if cursor is not None and (cursor.sort, cursor.name, cursor.email) != (
        listing.sort,
        listing.name,
        listing.email,
    ):
        raise InvalidInput(Flaw("/after", "is the cursor of a list with other parameters"))


def found(row: UserRow | None) -> wire.User:
    """The user, or UserNotFound."""
    if row is None:
        raise UserNotFound("no user has this id")
    return seen(row)


def seen(row: UserRow) -> wire.User:
    """A row as clients see it."""
    return wire.User(id=row.id, full_name=row.full_name, email=row.email, age=row.age)
