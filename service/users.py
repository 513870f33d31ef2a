"""Find, create, change and delete users: functions of (session, …), which refuse by raising.

Statements are built on the table, not on the mapped class: a session takes `insert(User)` with
parameters for an ORM bulk insert, and loads rows of the class through the ORM; both cost more than
the query. Statements that run often are built once, since building one takes longer than running
it.
"""

from collections.abc import Mapping, Sequence
from operator import attrgetter
from typing import Any, cast

from msgspec import UNSET
from sqlalchemy import (
    BigInteger,
    Insert,
    Integer,
    Row,
    Table,
    TableValuedAlias,
    Text,
    any_,
    bindparam,
    column,
    delete,
    func,
    insert,
    select,
    true,
    update,
)
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.types import TypeEngine

from service.errors import PreconditionFailed, UserNotFound
from service.etags import UNCONDITIONAL, Conditions, etag
from service.models import User
from service.schemas import NewUser, UserChanges, encode
from service.schemas import User as UserSchema

USERS = cast("Table", User.__table__)
# in the order of the fields of schemas.User
USER_COLUMNS = (USERS.c.id, USERS.c.full_name, USERS.c.email, USERS.c.age)
UNMET = {  # by header: why a condition on a user is not met
    "If-Match": "If-Match names another version than the current one",
    "If-None-Match": "If-None-Match names the current version",
}
NEW_USER_TYPES: dict[str, TypeEngine[Any]] = {
    "full_name": Text(),
    "email": Text(),
    "age": Integer(),
}


async def find(session: AsyncSession, ids: Sequence[int]) -> list[UserSchema | None]:
    """Return the user of each id, in the order of the ids; None where nobody has the id."""
    rows = await session.execute(FIND[session.get_bind().dialect.name], {"ids": list(set(ids))})
    users = {row[0]: UserSchema(*row) for row in rows}
    return [users.get(user_id) for user_id in ids]


async def create(
    session: AsyncSession, new_users: Sequence[NewUser], lock_timeout: str | None = None
) -> list[UserSchema]:
    """Store new users, all or none, and return them in the same order; raise IntegrityError.

    `lock_timeout`, such as "100ms", is how long the statement waits for a row lock (PostgreSQL);
    None keeps the connection's own.
    """
    if session.get_bind().dialect.name == "sqlite":
        values = [dict(zip(NEW_USER_TYPES, new_user_values(new), strict=True)) for new in new_users]
        rows = await session.execute(INSERT_MANY, values)
        return [UserSchema(*row) for row in rows]
    columns = zip(*map(new_user_values, new_users), strict=True)
    parameters = dict(zip(NEW_USER_TYPES, map(list, columns), strict=True))
    rows = await session.execute(INSERT_ARRAYS, {**parameters, "lock_timeout": lock_timeout})
    return sorted((UserSchema(*row) for row in rows), key=attrgetter("id"))


async def change(
    session: AsyncSession, user_id: int, changes: UserChanges, conditions: Conditions
) -> UserSchema:
    """Change the fields that are set and return the user.

    Raise UserNotFound, or PreconditionFailed if the current version does not meet the conditions.
    """
    if conditions != UNCONDITIONAL:
        await require_version(session, user_id, conditions)
    values = {
        name: value for name in NEW_USER_TYPES if (value := getattr(changes, name)) is not UNSET
    }
    statement = update(USERS).where(USERS.c.id == user_id).values(values)
    return the_user((await session.execute(statement.returning(*USER_COLUMNS))).first())


async def remove(session: AsyncSession, user_id: int, conditions: Conditions) -> None:
    """Delete a user.

    Raise UserNotFound, or PreconditionFailed if the current version does not meet the conditions.
    """
    if conditions != UNCONDITIONAL:
        await require_version(session, user_id, conditions)
    statement = delete(USERS).where(USERS.c.id == user_id).returning(*USER_COLUMNS)
    the_user((await session.execute(statement)).first())


async def require_version(session: AsyncSession, user_id: int, conditions: Conditions) -> None:
    """Lock the user's row and raise PreconditionFailed if its version misses the conditions.

    The lock lasts until the transaction ends, so nobody changes the user before the caller does.
    """
    statement = select(*USER_COLUMNS).where(USERS.c.id == user_id).with_for_update()
    user = the_user((await session.execute(statement)).first())
    if (header := conditions.unmet(etag(encode(user)))) is not None:
        raise PreconditionFailed(UNMET[header])


def the_user(row: Row[*tuple[Any, ...]] | None) -> UserSchema:
    """Return the user of a row; raise UserNotFound where there is no row."""
    if row is None:
        raise UserNotFound("no user has this id")
    return UserSchema(*row)


def unnest(types: Mapping[str, TypeEngine[Any]]) -> TableValuedAlias:
    """Return array parameters of these names side by side as rows, with each row's `number`."""
    arrays = [bindparam(name, type_=ARRAY(type_)) for name, type_ in types.items()]
    columns: list[Any] = [column(name, type_) for name, type_ in types.items()]
    return func.unnest(*arrays).table_valued(*columns, with_ordinality="number").render_derived()


def insert_arrays() -> Insert:
    """Return the statement that inserts arrays of values, which get ids in their order.

    It sets its own lock_timeout, which holds until the end of the transaction.
    """
    new = unnest(NEW_USER_TYPES)
    lock_timeout = func.coalesce(
        bindparam("lock_timeout", type_=Text()), func.current_setting("lock_timeout")
    )
    rows = (
        select(*(new.c[name] for name in NEW_USER_TYPES))
        .where(func.set_config("lock_timeout", lock_timeout, true()).is_not(None))
        .order_by(new.c.number)
    )
    return insert(USERS).from_select([*NEW_USER_TYPES], rows)


new_user_values = attrgetter(*NEW_USER_TYPES)

FIND = {  # by dialect
    # one text however many ids there are; IN has one for each number of them, to be planned anew
    "postgresql": select(*USER_COLUMNS).where(
        USERS.c.id == any_(bindparam("ids", type_=ARRAY(BigInteger)))
    ),
    "sqlite": select(*USER_COLUMNS).where(USERS.c.id.in_(bindparam("ids", expanding=True))),
}
INSERT_MANY = insert(USERS).returning(*USER_COLUMNS, sort_by_parameter_order=True)
INSERT_ARRAYS = insert_arrays().returning(*USER_COLUMNS)
