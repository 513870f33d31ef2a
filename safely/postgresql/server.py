"""What is asked of a PostgreSQL server besides migrating: version, roles, how far a copy is."""

import asyncio
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import asynccontextmanager, suppress

import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from safely.database import LOCK_TIMEOUT, connected
from safely.ledger.ledger import SERVER
from service.settings import Settings

POLL = 0.2  # seconds

# who owns what is in this database, may use it, or is named by a policy
ROLES = sa.text("""\
SELECT DISTINCT rolname FROM pg_shdepend JOIN pg_roles ON pg_roles.oid = refobjid
WHERE refclassid = 'pg_authid'::regclass
  AND dbid = (SELECT oid FROM pg_database WHERE datname = current_database())""")
UNKNOWN = sa.text("""\
SELECT name FROM unnest(CAST(:names AS text[])) AS name
WHERE name NOT IN (SELECT rolname FROM pg_roles) ORDER BY 1""")
COPIED = sa.text("""\
SELECT relid, tuples_processed AS rows FROM pg_stat_progress_copy
JOIN pg_stat_activity USING (pid) WHERE application_name = :name""")


@asynccontextmanager
async def asking(url: str) -> AsyncIterator[AsyncConnection]:
    """A connection on which each statement is a transaction."""
    async with connected(Settings(database_url=url), LOCK_TIMEOUT) as engine, beside(engine) as one:
        yield one


@asynccontextmanager
async def beside(engine: AsyncEngine) -> AsyncIterator[AsyncConnection]:
    """The same, from an engine."""
    async with engine.execution_options(isolation_level="AUTOCOMMIT").connect() as connection:
        yield connection


async def major_of(connection: AsyncConnection) -> int:
    """The server's major version."""
    return int(await connection.scalar(sa.text(SERVER["postgresql"].replace(":", r"\:"))))


async def roles_of(connection: AsyncConnection) -> set[str]:
    """The roles that a database names."""
    return set(await connection.scalars(ROLES))


async def unknown_roles(connection: AsyncConnection, names: Collection[str]) -> list[str]:
    """Which of these roles the server doesn't have."""
    return list(await connection.scalars(UNKNOWN, {"names": list(names)}))


async def make_roles(connection: AsyncConnection, names: Collection[str]) -> None:
    """Make those that are missing, without login, on a server that is thrown away."""
    quote = connection.dialect.identifier_preparer.quote_identifier
    for name in await unknown_roles(connection, names):
        await connection.execute(sa.text(f"CREATE ROLE {quote(name)}".replace(":", r"\:")))


@asynccontextmanager
async def counted(
    engine: AsyncEngine, name: str, advance: Callable[[int], None]
) -> AsyncIterator[None]:
    """Tell of rows as a program copies them that the server knows by this name."""
    over = asyncio.Event()
    watcher = asyncio.create_task(count(engine, name, advance, over))
    try:
        yield
    finally:
        over.set()
        await watcher


async def count(
    engine: AsyncEngine, name: str, advance: Callable[[int], None], over: asyncio.Event
) -> None:
    """Look again and again until it is over; a table that is done is not seen any more."""
    seen: dict[int, int] = {}
    with suppress(DBAPIError):  # whoever can't be watched goes on unwatched
        async with beside(engine) as connection:
            while not over.is_set():
                for relid, rows in await connection.execute(COPIED, {"name": name}):
                    advance(max(0, rows - seen.get(relid, 0)))
                    seen[relid] = max(rows, seen.get(relid, 0))
                with suppress(TimeoutError):
                    await asyncio.wait_for(over.wait(), POLL)
