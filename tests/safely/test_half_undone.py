"""The half of an operation that was killed is undone by its opposite, without a trace."""

from collections.abc import Callable
from functools import partial
from itertools import count

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

import safely
from tests.databases import query, write
from tests.operating import run_body

pytestmark = pytest.mark.only("postgresql")

TABLES = (
    "CREATE TABLE owners (id integer PRIMARY KEY)",
    "INSERT INTO owners SELECT generate_series(1, 3)",
    "CREATE TABLE pets (id integer PRIMARY KEY, owner integer, name text)",
    "INSERT INTO pets SELECT n, n % 3 + 1, CASE WHEN n > 2 THEN 'Pet ' || n END "
    "FROM generate_series(1, 5) AS n",
)
CATALOGUE = """\
SELECT 'column' AS kind, attname AS name, attnotnull::text AS definition FROM pg_attribute
WHERE attrelid = 'pets'::regclass AND attnum > 0
UNION ALL SELECT 'constraint', conname, pg_get_constraintdef(oid) FROM pg_constraint
WHERE conrelid = 'pets'::regclass
UNION ALL SELECT 'index', relname, indisvalid::text FROM pg_index
JOIN pg_class ON pg_class.oid = indexrelid WHERE indrelid = 'pets'::regclass
UNION ALL SELECT 'trigger', tgname, '' FROM pg_trigger
WHERE tgrelid = 'pets'::regclass AND NOT tgisinternal
UNION ALL SELECT 'function', proname, '' FROM pg_proc WHERE pronamespace = 'public'::regnamespace
ORDER BY 1, 2"""
OPPOSITES: dict[str, tuple[Callable[[], object], Callable[[], object]]] = {
    "require": (
        partial(safely.require_column, "pets", "name", fill="Unknown"),
        partial(safely.allow_null, "pets", "name"),
    ),
    "index": (
        partial(safely.create_index, "ix_name", "pets", ["name"]),
        partial(safely.drop_index, "ix_name", "pets"),
    ),
    "unique": (
        partial(safely.create_unique_constraint, "uq_name", "pets", ["name"]),
        partial(safely.drop_constraint, "uq_name", "pets", "unique"),
    ),
    "check": (
        partial(safely.create_check_constraint, "ck_name", "pets", "name <> ''"),
        partial(safely.drop_constraint, "ck_name", "pets", "check"),
    ),
    "foreign key": (
        partial(safely.create_foreign_key, "fk_owner", "pets", "owners", ["owner"], ["id"]),
        partial(safely.drop_constraint, "fk_owner", "pets", "foreignkey"),
    ),
}


@pytest.mark.parametrize("name", OPPOSITES)
async def test_the_opposite_leaves_nothing_of_the_half(engine: AsyncEngine, name: str) -> None:
    """Killed before each of its statements in turn."""
    operation, opposite = OPPOSITES[name]
    for statement in TABLES:
        await write(engine, statement)
    before = await query(engine, CATALOGUE)
    for kill_before in count(1):
        is_done = await run_body(engine, operation, up=True, kill_before=kill_before)
        assert await run_body(engine, opposite, up=False)
        assert await query(engine, CATALOGUE) == before, kill_before
        if is_done:
            break
