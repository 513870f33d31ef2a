"""Rows are walked along the key of their table, whatever its columns are called and hold."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql as pg
from sqlalchemy.ext.asyncio import AsyncEngine

from tests.commands import run_alembic
from tests.databases import query, write
from tests.operating import upgrade_beside_tables
from tests.revisions import Revision

ACCEPT_DRIFT = ("-x", "drift=accept")  # the tests make tables of their own
ROWS = 500

# the types of the key's columns, and SQL for their values in row number n
KEYS: dict[str, list[tuple[sa.types.TypeEngine[Any], str]]] = {
    "smallint": [(sa.SmallInteger(), "n - 250")],
    "bigint with gaps": [(sa.BigInteger(), "power(n - 250, 3)")],
    "numeric": [(sa.Numeric(), "n * 1.37")],
    "double": [(sa.Double(), "n / 3.0")],
    "uuid": [(sa.Uuid(), "md5(n::text)::uuid")],
    "text": [(sa.Text(), "CASE WHEN n % 2 = 0 THEN 'Ä' ELSE 'z' END || md5(n::text)")],
    "text in the order of bytes": [(sa.Text(collation="C"), "chr(64 + n % 50) || n")],
    "char": [(sa.CHAR(9), "n::text")],
    "bytea": [(sa.LargeBinary(), "decode(md5(n::text), 'hex')")],
    "bits": [(pg.BIT(12), "n::bit(12)")],
    "date": [(sa.Date(), "date '2026-11-26' - n")],
    "timestamp": [(sa.DateTime(timezone=True), "now() - n * interval '1 microsecond'")],
    "interval": [(sa.Interval(), "n * interval '1 month 2 seconds'")],
    "inet": [(pg.INET(), "inet '10.0.0.0' + n")],
    "range": [(pg.INT4RANGE(), "int4range(n, n + 3)")],
    "array": [(pg.ARRAY(sa.Text()), "ARRAY['a,b', n::text]")],
    "domain": [(pg.DOMAIN("code", sa.Text()), "'x''\"' || n")],
    "enum, boolean and number": [
        (sa.Enum("small", "large", name="size"), "(ARRAY['small', 'large'])[n % 2 + 1]::size"),
        (sa.Boolean(), "n % 3 = 0"),
        (sa.Integer(), "n"),
    ],
    "two of text": [(sa.Text(), "chr(65 + n % 7)"), (sa.Text(), "md5(n::text)")],
}
CHANGE = (
    'safely.backfill("Order {}", "times = times + 1, \\"Is %\\" = true", '
    "where='NOT \"Is %\"', batch=90)"
)


def table(metadata: sa.MetaData, name: str) -> sa.Table:
    """Return a table with this kind of key; its names need quotes."""
    key = [
        sa.Column(f"Key: {place}%", type_, primary_key=True, autoincrement=False)
        for place, (type_, _) in enumerate(KEYS[name])
    ]
    return sa.Table(
        f"Order {name}",
        metadata,
        sa.Column("Is %", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.Column("times", sa.Integer(), server_default="0", nullable=False),
        *key,
    )


def filling(name: str, first: int, last: int) -> str:
    """Return the SQL that inserts rows of these numbers."""
    columns = ", ".join(f'"Key\\: {place}%"' for place in range(len(KEYS[name])))
    values = ", ".join(value for _, value in KEYS[name]).replace(":", r"\:")
    return (
        f'INSERT INTO "Order {name}" ({columns}) '
        f"SELECT {values} FROM generate_series({first}, {last}) AS n ORDER BY md5(n\\:\\:text)"
    )


@asynccontextmanager
async def writing(engine: AsyncEngine) -> AsyncIterator[None]:
    """Insert, change and delete rows of every table, until the block ends."""
    ended = asyncio.Event()

    async def write_on() -> None:
        number = 10 * ROWS
        while not ended.is_set():
            number += 1
            for name in KEYS:
                if name != "smallint" or number < 2**15:
                    await write(engine, filling(name, number, number))
                await write(
                    engine,
                    f'UPDATE "Order {name}" SET times = times WHERE ctid IN '
                    f'(SELECT ctid FROM "Order {name}" ORDER BY random() LIMIT 5)',
                )

    task = asyncio.create_task(write_on())
    yield
    ended.set()
    await task


@pytest.mark.only("postgresql")
@pytest.mark.parametrize("by", ["alembic", "a script"])
async def test_every_row_is_changed_once_whatever_the_key(
    url: str, engine: AsyncEngine, clone: Path, revision: Revision, by: str
) -> None:
    metadata = sa.MetaData()
    for name in KEYS:
        table(metadata, name)
    async with engine.begin() as connection:
        await connection.run_sync(metadata.create_all)
    for name in KEYS:
        await write(engine, filling(name, 1, ROWS))
    revision("\n".join(map(CHANGE.format, KEYS)))
    async with writing(engine):
        await upgrade_beside_tables(url, engine, clone, by)
    for name in KEYS:
        times = f'SELECT times, count(*) FROM "Order {name}" GROUP BY times ORDER BY times DESC'
        (most, changed), *others = await query(engine, times)
        assert (most, changed >= ROWS) == (1, True), name
        # those that were written behind the last walk
        assert sum(count for _, count in others) < ROWS, name


UNIQUE = "CREATE UNIQUE INDEX one_plant ON plants (garden, place)"


async def test_a_table_without_a_primary_key_is_walked_along_a_unique_index(
    url: str, engine: AsyncEngine, clone: Path, revision: Revision
) -> None:
    await write(
        engine, "CREATE TABLE plants (garden text NOT NULL, place integer NOT NULL, name text)"
    )
    await write(engine, "INSERT INTO plants VALUES ('a', 1, 'rose'), ('b', 1, NULL)")
    revision('safely.backfill("plants", "name = \'fern\'", where="name IS NULL")')
    process = run_alembic(url, *ACCEPT_DRIFT, "upgrade", "head", cwd=clone, check=False)
    assert process.returncode != 0
    assert "plants has no primary key, and no unique index" in process.stdout
    assert "Traceback" not in process.stderr

    await write(engine, "CREATE UNIQUE INDEX partly ON plants (place) WHERE garden = 'a'")
    process = run_alembic(url, *ACCEPT_DRIFT, "upgrade", "head", cwd=clone, check=False)
    assert process.returncode != 0
    await write(engine, UNIQUE)
    run_alembic(url, *ACCEPT_DRIFT, "upgrade", "head", cwd=clone)
    names = await query(engine, "SELECT name FROM plants ORDER BY garden")
    assert names == [("rose",), ("fern",)]


async def test_duplicates_are_shown_with_the_keys_of_their_rows(
    url: str, engine: AsyncEngine, clone: Path, revision: Revision
) -> None:
    await write(
        engine,
        'CREATE TABLE plants ("Garden" text, place integer, name text, '
        'PRIMARY KEY ("Garden", place))',
    )
    await write(engine, "INSERT INTO plants VALUES ('a', 1, 'rose'), ('b', 2, 'rose')")
    await write(engine, "CREATE TABLE keyless (name text)")
    await write(engine, "INSERT INTO keyless VALUES ('rose'), ('rose')")
    for name, keys in (("plants", "a b 1 2"), ("keyless", "")):
        revision(f'safely.create_index("ix_name", "{name}", ["name"], unique=True)')
        process = run_alembic(url, *ACCEPT_DRIFT, "upgrade", "head", cwd=clone, check=False)
        assert "ix_name can't be unique: 1 value(s) of name stand in more" in process.stdout
        shown = process.stdout.partition("See them with: ")[2].strip()
        [(value, count, ids)] = await query(engine, shown)
        assert (value, count) == ("rose", 2)
        assert set(keys.split()) <= set(str(ids))


@pytest.mark.only("postgresql")
async def test_the_planner_knows_the_values_that_a_revision_has_written(
    url: str, engine: AsyncEngine, clone: Path, revision: Revision
) -> None:
    await write(
        engine,
        "INSERT INTO users (full_name) SELECT 'Name ' || n FROM generate_series(1, 200) AS n",
    )
    revision(
        'safely.backfill("users", "age = id % 90", where="age IS NULL")\n'
        'safely.create_index("ix_upper", "users", [sa.text("upper(full_name)")])\n'
    )
    run_alembic(url, "upgrade", "head", cwd=clone)
    known = await query(engine, "SELECT tablename, attname FROM pg_stats WHERE n_distinct <> 0")
    assert {("users", "age"), ("ix_upper", "upper")} <= set(known)
