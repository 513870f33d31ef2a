"""A table that was set aside comes back with its constraints as they were (PostgreSQL)."""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.ext.asyncio import AsyncEngine

import safely
from tests.chain import HEAD, NEXT
from tests.commands import run_alembic
from tests.databases import query, run_script, write
from tests.operating import revision_on
from tests.revisions import Revision

pytestmark = pytest.mark.only("postgresql")

SETUP = (
    "CREATE TABLE owners (id integer PRIMARY KEY)",
    "CREATE TABLE kinds (id integer, place integer, PRIMARY KEY (id, place))",
    "INSERT INTO owners VALUES (1), (2)",
    "INSERT INTO kinds VALUES (1, 1)",
    "CREATE TABLE pets (id integer PRIMARY KEY, owner integer, keeper integer, kind integer, "
    "place integer, name text CONSTRAINT uq_name UNIQUE DEFERRABLE INITIALLY DEFERRED, "
    "parent integer CONSTRAINT fk_parent REFERENCES pets (id) ON DELETE CASCADE, "
    "CONSTRAINT ck_name CHECK (name <> ''))",
    "INSERT INTO pets VALUES (1, 1, 1, 1, 1, 'Rex', NULL), (2, 2, 99, NULL, NULL, 'Tom', 1)",
    "ALTER TABLE pets ADD CONSTRAINT fk_owner FOREIGN KEY (owner) REFERENCES owners "
    "ON DELETE CASCADE DEFERRABLE INITIALLY DEFERRED",
    'ALTER TABLE pets ADD CONSTRAINT "Fk Kind" FOREIGN KEY (kind, place) REFERENCES kinds '
    "MATCH FULL ON UPDATE SET NULL",
    "COMMENT ON CONSTRAINT \"Fk Kind\" ON pets IS 'of what it''s a kind'",
    "ALTER TABLE pets ADD CONSTRAINT fk_keeper FOREIGN KEY (keeper) REFERENCES owners NOT VALID",
)
CONSTRAINTS = (
    "SELECT conname, pg_get_constraintdef(oid), convalidated, "
    "obj_description(oid, 'pg_constraint') FROM pg_constraint "
    "WHERE conrelid = to_regclass('public.pets') AND contype <> 'n' ORDER BY 1"
)
LEFT = "SELECT nspname FROM pg_namespace WHERE starts_with(nspname, 'aside_')"
COLUMNS = (
    'sa.Column("id", sa.Integer(), primary_key=True), sa.Column("owner", sa.Integer()), '
    'sa.Column("keeper", sa.Integer()), sa.Column("kind", sa.Integer()), '
    'sa.Column("place", sa.Integer()), sa.Column("name", sa.Text()), '
    'sa.Column("parent", sa.Integer())'
)
CREATE = f'safely.create_table("pets", {COLUMNS})'


def drop() -> None:
    safely.drop_table("pets")


def create() -> None:
    exec(CREATE, {"safely": safely, "sa": sa})  # noqa: S102  # as a revision has it


@pytest.fixture
async def before(empty: AsyncEngine) -> list[Any]:
    """Make the tables, set one aside, and return its constraints as they were."""
    for statement in SETUP:
        await write(empty, statement)
    constraints = await query(empty, CONSTRAINTS)
    async with revision_on(empty, "0042") as run:
        await run(drop)
    await empty.dispose()
    return constraints


async def bring_back(engine: AsyncEngine, function: Callable[[], object] = create) -> None:
    async with revision_on(engine, "0042") as run:
        await run(function, up=False)
    await engine.dispose()  # the statements that it has prepared are of other tables


async def test_all_constraints_are_as_they_were(empty: AsyncEngine, before: list[Any]) -> None:
    """Also those that the revision does not mention."""
    await write(empty, "UPDATE owners SET id = 3 WHERE id = 3")  # nothing binds the table
    await bring_back(empty)
    assert await query(empty, CONSTRAINTS) == before
    assert await query(empty, LEFT) == []
    async with revision_on(empty, "0042") as run:  # and again
        await run(drop)
    await bring_back(empty)
    assert await query(empty, CONSTRAINTS) == before


BREAKING = {  # a write of an older build, or of a newer one
    "fk_owner": "INSERT INTO aside_0042.pets (id, owner) VALUES (3, 77)",
    "Fk Kind": "INSERT INTO aside_0042.pets (id, kind) VALUES (3, 1)",
}


@pytest.mark.parametrize("key", BREAKING)
async def test_rows_that_break_one_of_the_keys_are_refused_before_anything_is_changed(
    empty: AsyncEngine, before: list[Any], key: str
) -> None:
    await write(empty, BREAKING[key])
    with pytest.raises(safely.Refused, match=f"{key} can't be added: 1 row") as refusal:
        await bring_back(empty)
    assert await query(empty, CONSTRAINTS) == []
    shown = str(refusal.value).partition("See them with: ")[2]
    assert [row[0] for row in await query(empty, shown)] == [3]

    await write(empty, "DELETE FROM aside_0042.pets WHERE id = 3")
    await bring_back(empty)
    assert await query(empty, CONSTRAINTS) == before
    assert await query(empty, "SELECT count(*) FROM pets") == [(2,)]


class Killed(Exception):  # noqa: N818  # no error of ours
    """The end of a process, before a statement."""


@contextmanager
def killed_before(engine: AsyncEngine, pattern: str) -> Iterator[None]:
    """Raise Killed in the place of the first statement that matches."""

    def look(_: Any, __: Any, statement: str, *___: Any) -> None:
        if re.search(pattern, statement):
            raise Killed

    event.listen(engine.sync_engine, "before_cursor_execute", look)
    try:
        with pytest.raises(Killed):
            yield
    finally:
        event.remove(engine.sync_engine, "before_cursor_execute", look)


@pytest.mark.parametrize("statement", ["VALIDATE CONSTRAINT", r"\$forget\$"])
@pytest.mark.parametrize("undone", [False, True])
async def test_a_run_that_was_killed_is_finished_by_the_next(
    empty: AsyncEngine, before: list[Any], statement: str, *, undone: bool
) -> None:
    """Or undone by it, and done again."""
    with killed_before(empty, statement):
        await bring_back(empty)
    await empty.dispose()
    if undone:
        async with revision_on(empty, "0042") as run:
            await run(drop)
    await bring_back(empty)
    assert await query(empty, CONSTRAINTS) == before
    assert await query(empty, LEFT) == []


async def test_a_table_that_an_earlier_release_set_aside_gets_the_keys_of_the_revision(
    empty: AsyncEngine, before: list[Any]
) -> None:
    await write(empty, "COMMENT ON SCHEMA aside_0042 IS NULL")
    keys = (
        'sa.ForeignKeyConstraint(["owner"], ["owners.id"], name="fk_owner", ondelete="CASCADE", '
        'deferrable=True, initially="DEFERRED"), '
        'sa.ForeignKeyConstraint(["kind", "place"], ["kinds.id", "kinds.place"], name="Fk Kind", '
        'match="FULL", onupdate="SET NULL", comment="of what it\'s a kind"), '
        'sa.ForeignKeyConstraint(["keeper"], ["owners.id"], name="fk_keeper", '
        "postgresql_not_valid=True)"
    )
    text = f'safely.create_table("pets", {COLUMNS}, {keys})'
    await bring_back(empty, lambda: exec(text, {"safely": safely, "sa": sa}))  # noqa: S102
    assert await query(empty, CONSTRAINTS) == before


async def test_a_draft_that_was_edited_gets_the_keys_of_its_definition(
    empty: AsyncEngine, tmp_path: Path
) -> None:
    """It was undone, and is run again."""
    await write(empty, SETUP[0])
    file = tmp_path / "0042.py"
    file.touch()

    def draft(**options: Any) -> None:
        owner = sa.Column(
            "owner", sa.Integer(), sa.ForeignKey("owners.id", name="fk_owner", **options)
        )
        safely.create_table("pets", sa.Column("id", sa.Integer(), primary_key=True), owner)

    async with revision_on(empty, "0042", file=file) as run:
        await run(draft)
        await run(drop, up=False)
        await run(lambda: draft(ondelete="CASCADE"))
    rules = [rule for _, rule, *_ in await query(empty, CONSTRAINTS)]
    assert rules[0] == "FOREIGN KEY (owner) REFERENCES owners(id) ON DELETE CASCADE"
    assert await query(empty, LEFT) == []


async def test_a_script_brings_the_constraints_back_as_well(
    url: str, engine: AsyncEngine, clone: Path, revision: Revision
) -> None:
    for statement in SETUP:
        await write(engine, statement)
    constraints = await query(engine, CONSTRAINTS)
    revision('safely.drop_table("pets")', CREATE)
    run_alembic(url, "-x", "drift=accept", "upgrade", "head", cwd=clone)
    assert await query(engine, CONSTRAINTS) == []
    script = run_alembic(url, "downgrade", f"{NEXT}:{HEAD}", "--sql", cwd=clone).stdout
    await run_script(engine, script)
    assert await query(engine, CONSTRAINTS) == constraints
    assert await query(engine, LEFT) == []
