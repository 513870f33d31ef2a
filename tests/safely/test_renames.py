"""Tables, constraints and indexes under another name, on both databases."""

import re
from collections.abc import AsyncIterator
from functools import partial
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

import safely
from tests.databases import query, write
from tests.operating import revision_on

SETUP = (
    "CREATE TABLE owners (id INTEGER PRIMARY KEY)",
    "CREATE TABLE pets (id INTEGER, name TEXT, age INTEGER, owner INTEGER, PRIMARY KEY (id), "
    "CONSTRAINT uq UNIQUE (name), CONSTRAINT ck CHECK (age > 0), CONSTRAINT fk FOREIGN KEY (owner) "
    "REFERENCES owners (id) ON DELETE CASCADE DEFERRABLE INITIALLY DEFERRED)",
    "CREATE INDEX ix ON pets (age) WHERE age > 7",
    "INSERT INTO owners VALUES (1)",
    "INSERT INTO pets VALUES (1, 'Rex', 7, 1)",
)
STATE = {
    "postgresql": (
        "SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid) FROM pg_constraint "
        "WHERE contype <> 'n' AND conrelid IN (to_regclass('pets'), to_regclass('dogs')) "
        "UNION ALL SELECT tablename, indexname, indexdef FROM pg_indexes "
        "WHERE tablename IN ('pets', 'dogs') ORDER BY 1, 2"
    ),
    "sqlite": "SELECT tbl_name, name, replace(sql, '\"', '') FROM sqlite_master "
    "WHERE tbl_name IN ('pets', 'dogs') AND sql IS NOT NULL ORDER BY 1, 2",
}
RENAMES: dict[str, tuple[Any, Any]] = {  # up, down
    "table": (
        lambda: safely.rename_table("pets", "dogs"),
        lambda: safely.rename_table("dogs", "pets"),
    ),
    "check": (
        lambda: safely.rename_constraint("ck", "pets", "ck_dogs"),
        lambda: safely.rename_constraint("ck_dogs", "pets", "ck"),
    ),
    "unique": (
        lambda: safely.rename_constraint("uq", "pets", "uq_dogs"),
        lambda: safely.rename_constraint("uq_dogs", "pets", "uq"),
    ),
    "foreign key": (
        lambda: safely.rename_constraint("fk", "pets", "fk_dogs"),
        lambda: safely.rename_constraint("fk_dogs", "pets", "fk"),
    ),
    "index": (
        lambda: safely.rename_index("ix", "pets", "ix_dogs"),
        lambda: safely.rename_index("ix_dogs", "pets", "ix"),
    ),
}
REFUSED = {
    "there is no table cats": lambda: safely.rename_table("cats", "dogs"),
    "pets can't become owners: there is such a table": lambda: safely.rename_table(
        "pets", "owners"
    ),
    "pets has no constraint nothing": lambda: safely.rename_constraint("nothing", "pets", "x"),
    "ck of pets can't become uq: that name is taken": lambda: safely.rename_constraint(
        "ck", "pets", "uq"
    ),
    "pets has no index nothing": lambda: safely.rename_index("nothing", "pets", "x"),
    "ix of pets can't become owners: that name is taken": lambda: safely.rename_index(
        "ix", "pets", "owners"
    ),
}


@pytest.fixture
async def engine(empty_url: str) -> AsyncIterator[AsyncEngine]:
    """Yield an engine on the tables; as migrations need it, it enforces no foreign key (SQLite)."""
    drivers = ("sqlite:", "sqlite+aiosqlite:"), ("postgresql:", "postgresql+asyncpg:")
    for plain, driver in drivers:
        empty_url = empty_url.replace(plain, driver)
    engine = create_async_engine(empty_url)
    for statement in SETUP:
        await write(engine, statement)
    yield engine
    await engine.dispose()


async def test_names_change_up_and_down_and_nothing_else(engine: AsyncEngine) -> None:
    """A rename that a killed run has made is no error."""
    state = partial(query, engine, STATE[engine.dialect.name])
    before = await state()
    async with revision_on(engine, "0042") as run:
        for up, down in RENAMES.values():
            await run(up)
            after = await state()
            assert after != before
            assert "dogs" in str(after)
            await run(up)
            assert await state() == after
            await run(down, up=False)
            await run(down, up=False)
            assert as_written(await state()) == as_written(before)
        for words, rename in REFUSED.items():
            with pytest.raises(safely.Refused, match=words):
                await run(rename)
    assert await query(engine, "SELECT name, age, owner FROM pets") == [("Rex", 7, 1)]


def as_written(rows: list[Any]) -> list[Any]:
    """Return the rows without white space, and with the clauses of a table in one order."""
    return [
        (*row[:2], sorted(re.sub(r"[\s)]", "", str(row[2]).lower()).split(","))) for row in rows
    ]


async def test_what_is_set_aside_comes_along(engine: AsyncEngine) -> None:
    async with revision_on(engine, "0042") as run:
        await run(lambda: safely.drop_column("pets", "age"))
        await run(lambda: safely.rename_table("pets", "dogs"))
        await run(lambda: safely.add_column("dogs", sa.Column("age", sa.Integer())), up=False)
    assert await query(engine, "SELECT age FROM dogs") == [(7,)]


@pytest.mark.only("postgresql")
async def test_the_index_of_a_constraint_is_renamed_with_it(engine: AsyncEngine) -> None:
    async with revision_on(engine, "0042") as run:
        with pytest.raises(safely.Refused, match=r"write safely\.rename_constraint"):
            await run(lambda: safely.rename_index("uq", "pets", "x"))
        await run(lambda: safely.rename_constraint("pets_pkey", "pets", "pk"))
    assert await query(engine, "SELECT to_regclass('pk') IS NOT NULL") == [(True,)]
