"""An import: rows are staged in a temporary table, then merged into the users.

All of it is one transaction, of a session that `Transfers.import_session` yields.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Literal, cast

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    ColumnElement,
    CursorResult,
    Integer,
    MetaData,
    Table,
    Text,
    Update,
    case,
    false,
    func,
    insert,
    or_,
    select,
    text,
    true,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.schema import CreateTable, DropTable

from service import schemas
from service.errors import Flaw, ImportRefused, Rejected
from service.transfer.copy import copy_connection
from service.transfer.formats import Reader
from service.transfer.lines import Row
from service.transfer.rejections import NAMED_LIMIT, Rejections
from service.users import USERS

OnConflict = Literal["fail", "skip", "update"]

STAGED_AT_ONCE = 10_000  # rows that one statement adds to the temporary table

# `staging` is translated to the schema in which the database has temporary tables
LINES = Table(
    "import_line",
    MetaData(),
    Column("line", BigInteger().with_variant(Integer, "sqlite"), primary_key=True),
    Column("full_name", Text, nullable=False),
    Column("email", Text),
    Column("age", Integer),
    Column("has_age", Boolean, nullable=False),
    schema="staging",
    prefixes=["TEMPORARY"],
    postgresql_on_commit="DROP",
)
LINE_ADDRESS = func.lower(LINES.c.email)
USER_ADDRESS = func.lower(USERS.c.email)


async def read_rows(
    chunks: AsyncIterator[bytes], reader: Reader, rejections: Rejections
) -> AsyncIterator[list[Row]]:
    """Yield the rows of each chunk, and add the other lines to the rejections."""
    async for chunk in chunks:
        rows, rejected = reader.feed(chunk)
        rejections.add(rejected)
        yield rows
    rows, rejected = reader.finish()
    rejections.add(rejected)
    rejections.finish()
    yield rows


@asynccontextmanager
async def staged(session: AsyncSession, chunks: AsyncIterator[list[Row]]) -> AsyncIterator[int]:
    """Stage all rows in the temporary table, which lasts as long as the context; yield their count.

    On SQLite, where one transaction writes at a time, others write until all rows have arrived:
    only then does the session take the write lock. The caller must not have read or written
    anything in the session before.
    """
    is_sqlite = session.get_bind().dialect.name == "sqlite"
    await session.execute(CreateTable(LINES))
    count = 0
    waiting: list[Row] = []
    async for rows in chunks:
        waiting += rows
        if len(waiting) >= STAGED_AT_ONCE:
            count += len(waiting)
            await stage(session, waiting)
            waiting = []
    if waiting:
        count += len(waiting)
        await stage(session, waiting)
    if is_sqlite:
        await take_write_lock(session)
    yield count
    if is_sqlite:  # which has no ON COMMIT DROP; after an exception the rollback removes the table
        await session.execute(DropTable(LINES))


async def stage(session: AsyncSession, rows: list[Row]) -> None:
    """Add rows to the temporary table."""
    if session.get_bind().dialect.name == "sqlite":
        await session.execute(insert(LINES), [row._asdict() for row in rows])
        return
    driver = await copy_connection(session)
    await driver.copy_records_to_table(
        LINES.name, schema_name="pg_temp", columns=Row._fields, records=rows
    )


async def take_write_lock(session: AsyncSession) -> None:
    """Take SQLite's write lock by an UPDATE of no row, before anything else looks at the database.

    The transaction was begun deferred and has touched only the temporary database, so it has no
    snapshot yet: this statement waits for other writers and then sees what they committed. A
    transaction that has read before fails with SQLITE_BUSY_SNAPSHOT where another one has written.
    """
    async with session.get_bind().get_execution_options()["write_queue"].first():
        await session.execute(update(USERS).where(false()).values(full_name=USERS.c.full_name))


async def merge(
    session: AsyncSession, count: int, on_conflict: OnConflict, rejections: Rejections
) -> schemas.ImportCounts:
    """Make users of the `count` staged lines, in the order of the lines; return what became of all.

    A line is in conflict where a user, or an earlier line, has its e-mail address. `skip` leaves
    it out, `update` gives the user the values of the line, and `fail` raises ImportRefused, which
    it also does where lines were rejected.
    """
    if on_conflict == "fail":
        if rejections.count:
            raise ImportRefused(unusable(rejections.count), rejections.first)
        await insert_all(session)
        created = count
    elif on_conflict == "skip":
        created = await create_free(session)
    else:
        created = await upsert(session)
    rest = count - created
    return schemas.ImportCounts(
        created=created,
        updated=rest if on_conflict == "update" else 0,
        skipped=rest if on_conflict == "skip" else 0,
        rejected=rejections.count,
    )


def unusable(lines: int) -> str:
    """Return the sentence about so many rejected lines."""
    return "1 line can't be a user" if lines == 1 else f"{lines} lines can't be users"


async def insert_all(session: AsyncSession) -> None:
    """Make users of all staged lines, or raise ImportRefused with those that are in conflict."""
    try:
        async with session.begin_nested():
            await session.execute(insert_users(session))
    except IntegrityError:
        if conflicts := await find_conflicts(session):
            raise ImportRefused("e-mail addresses are taken or repeated", conflicts) from None
        raise


async def create_free(session: AsyncSession, *conditions: ColumnElement[bool]) -> int:
    """Create users of the lines whose address no user has yet; return how many."""
    statement = insert_users(session, *conditions)
    statement = statement.on_conflict_do_nothing(index_elements=[USER_ADDRESS])
    return cast("CursorResult[Any]", await session.execute(statement)).rowcount


def insert_users(session: AsyncSession, *conditions: ColumnElement[bool]) -> Any:
    """Return the statement, of the database's dialect, that makes users of the staged lines.

    Only of those that meet all conditions, in the order of the lines.
    """
    dialect = postgresql if session.get_bind().dialect.name == "postgresql" else sqlite
    columns = (LINES.c.full_name, LINES.c.email, LINES.c.age)
    # SQLite parses ON CONFLICT as a part of the SELECT unless that has a WHERE
    lines = select(*columns).where(true(), *conditions).order_by(LINES.c.line)
    return dialect.insert(USERS).from_select([column.name for column in columns], lines)


async def upsert(session: AsyncSession) -> int:
    """Create users or update those with the same address; return how many were created.

    Two statements, since one could not tell which users it created and which it updated. The
    second also sees users that another transaction commits between the two.
    """
    if session.get_bind().dialect.name == "postgresql":
        await session.execute(text("ANALYZE pg_temp.import_line"))
    await session.execute(carry_ages())
    # lines without an address repeat none: each of them is a group of its own
    without_address = case((LINES.c.email.is_(None), LINES.c.line))
    groups = select(func.max(LINES.c.line)).group_by(LINE_ADDRESS, without_address)
    last = LINES.c.line.in_(groups)
    created = await create_free(session, last)

    age = case((LINES.c.has_age, LINES.c.age), else_=USERS.c.age)
    is_changed = or_(
        USERS.c.full_name != LINES.c.full_name,
        USERS.c.email != LINES.c.email,
        USERS.c.age.is_distinct_from(age),
    )
    values = {"full_name": LINES.c.full_name, "email": LINES.c.email, "age": age}
    same_address = USER_ADDRESS == LINE_ADDRESS
    await session.execute(update(USERS).where(same_address, last, is_changed).values(values))
    return created


def carry_ages() -> Update:
    """Return the statement that gives lines without an age that of an earlier line.

    It is the last age that a line with the same address has: as if the lines were imported one
    after the other, where a line without an age leaves the user's as it is.
    """
    earlier = LINES.alias("earlier")
    address = func.lower(earlier.c.email)
    last_with_age = select(func.max(earlier.c.line)).where(earlier.c.has_age).group_by(address)
    return (
        update(LINES)
        .where(
            LINES.c.has_age.is_(False),
            earlier.c.line.in_(last_with_age),
            address == LINE_ADDRESS,
        )
        .values(age=earlier.c.age, has_age=true())
    )


async def find_conflicts(session: AsyncSession) -> list[Rejected]:
    """Return the first staged lines whose address a user or an earlier line has."""
    first = func.min(LINES.c.line).over(partition_by=LINE_ADDRESS).label("first")
    lines = select(LINES.c.line, first).where(LINES.c.email.is_not(None)).subquery()
    repeating = select(lines).where(lines.c.line > lines.c.first).order_by(lines.c.line)
    taken = select(LINES.c.line).join(USERS, USER_ADDRESS == LINE_ADDRESS).order_by(LINES.c.line)
    flaws = {
        line: Flaw("/email", f"repeats the e-mail address of line {earlier}")
        for line, earlier in (await session.execute(repeating.limit(NAMED_LIMIT))).all()
    }
    for line in (await session.scalars(taken.limit(NAMED_LIMIT))).all():
        flaws[line] = Flaw("/email", "another user has this e-mail address")
    return [Rejected(line, (flaws[line],)) for line in sorted(flaws)[:NAMED_LIMIT]]
