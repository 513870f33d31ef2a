"""Queries about a PostgreSQL server: version, roles, connected builds, progress of a copy."""

import asyncio
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import asynccontextmanager, suppress

import sqlalchemy as sa
from sqlalchemy import URL
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from safely.database import connected

POLL = 0.2  # seconds

MAJOR = sa.text("SELECT current_setting('server_version_num')\\:\\:int / 10000")
CURRENT_SCHEMA = sa.text("SELECT current_schema")
# the roles that own anything in this database, have rights in it, or are in a policy
ROLES = sa.text("""\
SELECT DISTINCT rolname FROM pg_shdepend JOIN pg_roles ON pg_roles.oid = refobjid
WHERE refclassid = 'pg_authid'::regclass
  AND dbid = (SELECT oid FROM pg_database WHERE datname = current_database())""")
UNKNOWN_ROLES = sa.text("""\
SELECT name FROM unnest(CAST(:names AS text[])) AS name
WHERE name NOT IN (SELECT rolname FROM pg_roles) ORDER BY 1""")
COPIED = sa.text("""\
SELECT relid, tuples_processed AS rows FROM pg_stat_progress_copy
JOIN pg_stat_activity USING (pid) WHERE application_name = :name""")
# the builds of a project that are connected to this database, and how many connections each has
BUILDS = """\
SELECT application_name, count(*) AS connections FROM pg_stat_activity
WHERE datname = current_database() AND starts_with(application_name, '{project}@')
GROUP BY 1 ORDER BY 1"""


def builds_query(project: str) -> str:
    """Return the SQL that lists a project's connected builds, each as `<project>@<revision>`."""
    return BUILDS.format(project=project)  # letters, digits and _ . -, as Project checks


@asynccontextmanager
async def autocommit(url: str | URL) -> AsyncIterator[AsyncConnection]:
    """Yield a connection to the database at the URL, on which each statement commits."""
    async with connected(url) as engine, autocommit_of(engine) as connection:
        yield connection


@asynccontextmanager
async def autocommit_of(engine: AsyncEngine) -> AsyncIterator[AsyncConnection]:
    """Yield a connection of the engine on which each statement commits."""
    async with engine.execution_options(isolation_level="AUTOCOMMIT").connect() as connection:
        yield connection


async def major_of(connection: AsyncConnection) -> int:
    """Return the server's major version."""
    return int(await connection.scalar(MAJOR))


async def current_schema(engine: AsyncEngine) -> str | None:
    """Return the schema in which the engine's connections create tables; None without one."""
    async with autocommit_of(engine) as connection:
        schema: str | None = await connection.scalar(CURRENT_SCHEMA)
        return schema


async def roles_of(connection: AsyncConnection) -> set[str]:
    """Return the roles that the database depends on."""
    return set(await connection.scalars(ROLES))


async def unknown_roles(connection: AsyncConnection, names: Collection[str]) -> list[str]:
    """Return those of the roles that the server lacks."""
    return list(await connection.scalars(UNKNOWN_ROLES, {"names": list(names)}))


async def create_roles(connection: AsyncConnection, names: Collection[str]) -> None:
    """Create those of the roles that the server lacks, without login; for scratch servers."""
    quote = connection.dialect.identifier_preparer.quote_identifier
    for name in await unknown_roles(connection, names):
        await connection.execute(sa.text(f"CREATE ROLE {quote(name)}".replace(":", r"\:")))


@asynccontextmanager
async def copied_rows(
    engine: AsyncEngine, application_name: str, advance: Callable[[int], None]
) -> AsyncIterator[None]:
    """Tell `advance` how many more rows a program of that name has copied, until the end."""
    over = asyncio.Event()
    watcher = asyncio.create_task(watch_copies(engine, application_name, advance, over))
    try:
        yield
    finally:
        over.set()
        await watcher


async def watch_copies(
    engine: AsyncEngine, application_name: str, advance: Callable[[int], None], over: asyncio.Event
) -> None:
    """Poll the progress of COPY until `over` is set; finished tables are not in the view."""
    copied: dict[int, int] = {}  # rows by table
    with suppress(DBAPIError):  # progress is worth no failure
        async with autocommit_of(engine) as connection:
            while not over.is_set():
                for relid, rows in await connection.execute(COPIED, {"name": application_name}):
                    advance(max(0, rows - copied.get(relid, 0)))
                    copied[relid] = max(rows, copied.get(relid, 0))
                with suppress(TimeoutError):
                    async with asyncio.timeout(POLL):
                        await over.wait()
