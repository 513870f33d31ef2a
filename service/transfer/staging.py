"""Import by way of a temporary table."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any, Literal, TypeVar, cast

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Integer,
    MetaData,
    Table,
    Text,
    Update,
    case,
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
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession
from sqlalchemy.schema import CreateTable, DropTable

from service import schemas
from service.errors import Flaw, ImportRefused, Rejected, Unavailable
from service.models import User
from service.transfer.formats import Reader
from service.transfer.lines import Row

OnConflict = Literal["fail", "skip", "update"]
Result = TypeVar("Result")

NAMED = 100  # rejected lines that an answer names
STAGED = 10_000  # lines that are staged at a time

USERS = cast("Table", User.__table__)

# what an import brings, until it is merged; `staging` is where the database has temporary tables
LINES = Table(
    "import_line",
    MetaData(),
    Column("line", BigInteger().with_variant(Integer, "sqlite"), primary_key=True),
    Column("full_name", Text, nullable=False),
    Column("email", Text),
    Column("age", Integer),
    Column("age_given", Boolean, nullable=False),
    schema="staging",
    prefixes=["TEMPORARY"],
    postgresql_on_commit="DROP",
)
ADDRESS = func.lower(LINES.c.email)
TAKEN = func.lower(USERS.c.email)


class Rejections:
    """The lines that can't be users: how many, the first of them, and all to `keep` if wanted."""

    def __init__(self, keep: Callable[[bytes], Any] | None = None) -> None:
        self.count = 0
        self.first: list[Rejected] = []
        self.keep = keep

    def add(self, rejected: list[Rejected]) -> None:
        """Note them."""
        self.count += len(rejected)
        if self.keep is not None:
            try:
                self.keep(
                    b"".join(schemas.encode(schemas.rejection(one)) + b"\n" for one in rejected)
                )
            except OSError as error:
                reason = error.strerror or "they can't be written"
                raise Unavailable(f"there is no room for the rejected lines: {reason}") from error
        room = NAMED - len(self.first)
        self.first += rejected[:room]


async def rows_of(
    chunks: AsyncIterator[bytes], reader: Reader, rejections: Rejections
) -> AsyncIterator[list[Row]]:
    """The lines that can be users, as they arrive."""
    async for chunk in chunks:
        rows, rejected = reader.feed(chunk)
        rejections.add(rejected)
        yield rows
    rows, rejected = reader.finish()
    rejections.add(rejected)
    yield rows


async def bring_in(
    session: AsyncSession,
    batches: AsyncIterator[list[Row]],
    finish: Callable[[AsyncSession, int], Awaitable[Result]],
    *,
    seconds: float,
    alone: AbstractAsyncContextManager[None],
) -> Result:
    """Stage all batches, then let `finish` merge them; its answer is returned after the commit.

    On PostgreSQL in one transaction, since a pooler gives the next one another connection.
    On SQLite in two, since only one may write: while a client dawdles, others do.
    """
    if session.get_bind().dialect.name == "sqlite":
        async with alone:
            async with session.begin():
                await session.connection(execution_options={"reading": True})
                count = await staged(session, batches, seconds)
            async with session.begin():
                connection = await session.connection(execution_options={"reading": False})
                result = await finish(session, count)
                await connection.execute(DropTable(LINES))
            return result
    async with session.begin(), alone:
        return await finish(session, await staged(session, batches, seconds))


async def staged(session: AsyncSession, batches: AsyncIterator[list[Row]], seconds: float) -> int:
    """Put the lines in the temporary table; return how many."""
    connection = await session.connection()
    await take_time(connection, seconds)
    await connection.execute(DropTable(LINES, if_exists=True))  # of an import that failed
    await connection.execute(CreateTable(LINES))
    count = 0
    waiting: list[Row] = []
    async for rows in batches:
        waiting += rows
        if len(waiting) >= STAGED:
            count += len(waiting)
            await stage(connection, waiting)
            waiting = []
    if waiting:
        await stage(connection, waiting)
    return count + len(waiting)


async def take_time(connection: AsyncConnection, seconds: float) -> None:
    """Let this transaction take longer than a query may, but not outlive its client."""
    if connection.dialect.name == "postgresql":
        milliseconds = str(round(seconds * 1000))
        local = {
            "statement_timeout": milliseconds,
            "idle_in_transaction_session_timeout": milliseconds,
            "client_connection_check_interval": "1000",
        }
        said = (func.set_config(name, value, true()) for name, value in local.items())
        await connection.execute(select(*said))


async def stage(connection: AsyncConnection, rows: list[Row]) -> None:
    """Add lines to the temporary table."""
    if connection.dialect.name == "sqlite":
        await connection.execute(insert(LINES), [row._asdict() for row in rows])
        return
    driver: Any = (await connection.get_raw_connection()).driver_connection
    await driver.copy_records_to_table(
        LINES.name, schema_name="pg_temp", columns=Row._fields, records=rows
    )


async def merge(
    session: AsyncSession, count: int, on_conflict: OnConflict, rejections: Rejections
) -> schemas.ImportCounts:
    """Make users of the `count` lines that were staged, in their order.

    A line is in conflict when its e-mail address is a user's already or repeats an earlier line's.
    `skip` leaves it out, `update` gives the user its values. `fail` raises ImportRefused, also for
    lines that were rejected before.
    """
    connection = await session.connection()
    if on_conflict == "fail":
        if rejections.count:
            raise ImportRefused(f"{rejections.count} lines can't be users", rejections.first)
        await insert_all(connection)
        created = count
    elif on_conflict == "skip":
        statement = inserting(connection).on_conflict_do_nothing(index_elements=[TAKEN])
        created = (await connection.execute(statement)).rowcount
    else:
        created = await upsert(connection)
    rest = count - created
    return schemas.ImportCounts(
        created=created,
        updated=rest if on_conflict == "update" else 0,
        skipped=rest if on_conflict == "skip" else 0,
        rejected=rejections.count,
    )


async def insert_all(connection: AsyncConnection) -> None:
    """Make users of all lines, or raise ImportRefused with those that are in conflict."""
    try:
        async with connection.begin_nested():
            await connection.execute(inserting(connection))
    except IntegrityError:
        if conflicts := await conflicts_of(connection):
            raise ImportRefused("e-mail addresses are taken or repeated", conflicts) from None
        raise


def inserting(connection: AsyncConnection, *which: Any) -> Any:
    """The one statement that makes users of the lines."""
    dialect = postgresql if connection.dialect.name == "postgresql" else sqlite
    columns = (LINES.c.full_name, LINES.c.email, LINES.c.age)
    # SQLite takes ON CONFLICT for a part of the SELECT unless that has a WHERE
    lines = select(*columns).where(true(), *which).order_by(LINES.c.line)
    return dialect.insert(USERS).from_select([column.name for column in columns], lines)


async def upsert(connection: AsyncConnection) -> int:
    """Create users, or give those that are there the lines' values; return how many were created.

    Two statements: one could not tell whom it created from whom it changed. What others commit in
    between is seen by the second.
    """
    if connection.dialect.name == "postgresql":
        await connection.execute(text("ANALYZE pg_temp.import_line"))
    await connection.execute(carry_ages())
    nobody_else = case((LINES.c.email.is_(None), LINES.c.line))  # who has no address repeats none
    last = LINES.c.line.in_(select(func.max(LINES.c.line)).group_by(ADDRESS, nobody_else))
    creating = inserting(connection, last).on_conflict_do_nothing(index_elements=[TAKEN])
    created = (await connection.execute(creating)).rowcount

    age = case((LINES.c.age_given, LINES.c.age), else_=USERS.c.age)
    other = or_(
        USERS.c.full_name != LINES.c.full_name,
        USERS.c.email != LINES.c.email,
        USERS.c.age.is_distinct_from(age),
    )
    values = {"full_name": LINES.c.full_name, "email": LINES.c.email, "age": age}
    await connection.execute(update(USERS).where(TAKEN == ADDRESS, last, other).values(values))
    return created


def carry_ages() -> Update:
    """A line that doesn't speak of the age leaves what an earlier one said."""
    earlier = LINES.alias("earlier")
    address = func.lower(earlier.c.email)
    spoken = select(func.max(earlier.c.line)).where(earlier.c.age_given).group_by(address)
    return (
        update(LINES)
        .where(LINES.c.age_given.is_(False), earlier.c.line.in_(spoken), address == ADDRESS)
        .values(age=earlier.c.age, age_given=true())
    )


async def conflicts_of(connection: AsyncConnection) -> list[Rejected]:
    """The first lines whose address is a user's, or repeats that of an earlier line."""
    first = func.min(LINES.c.line).over(partition_by=ADDRESS).label("first")
    lines = select(LINES.c.line, first).where(LINES.c.email.is_not(None)).subquery()
    repeats = select(lines).where(lines.c.line > lines.c.first).order_by(lines.c.line).limit(NAMED)
    taken = select(LINES.c.line).join(USERS, TAKEN == ADDRESS).order_by(LINES.c.line).limit(NAMED)
    found = {
        line: Flaw("/email", f"repeats the e-mail address of line {earlier}")
        for line, earlier in (await connection.execute(repeats)).all()
    }
    for line in (await connection.scalars(taken)).all():
        found[line] = Flaw("/email", "another user has this e-mail address")
    return [Rejected(line, (found[line],)) for line in sorted(found)[:NAMED]]
