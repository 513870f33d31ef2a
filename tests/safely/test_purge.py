"""Purge names what it can't drop before it drops anything, and can be stopped anywhere."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from tests import forkserver
from tests.chain import HEAD, NEXT, NUMBERS, PREVIOUS
from tests.commands import run_alembic, run_migrations
from tests.databases import query, wait_for_blocked_migration, write
from tests.migrated import state_of
from tests.paths import ROOT
from tests.revisions import Revision

DROP_AGE = 'safely.drop_column("users", "age")'
ADD_AGE = 'safely.add_column("users", sa.Column("age", sa.Integer()))'
ASIDE = f"_aside_{NEXT}_age"
# what somebody else has made, how purge names it, and how it is dropped
NEEDING = [
    (f"CREATE VIEW report AS SELECT {ASIDE} FROM users", "view report", "VIEW report"),
    (
        f"CREATE MATERIALIZED VIEW kept AS SELECT {ASIDE} FROM users",
        "materialized view kept",
        "MATERIALIZED VIEW kept",
    ),
    (
        f"CREATE POLICY adult ON users USING ({ASIDE} > 17)",
        "policy adult on table users",
        "POLICY adult ON users",
    ),
    (
        f"CREATE PUBLICATION ages FOR TABLE users (id, {ASIDE})",
        "publication of table users in publication ages",
        "PUBLICATION ages",
    ),
    (
        f"CREATE FUNCTION oldest() RETURNS int BEGIN ATOMIC SELECT max({ASIDE}) FROM users; END",
        "function oldest()",
        "FUNCTION oldest()",
    ),
    (
        "CREATE VIEW at_0001.short AS SELECT id FROM at_0001.users",
        "view at_0001.short",
        "VIEW at_0001.short",
    ),
    ("CREATE TABLE at_0002.mine (id int)", "table at_0002.mine", "TABLE at_0002.mine"),
    ("CREATE VIEW outside AS SELECT id FROM at_0003.users", "view outside", "VIEW outside"),
]
LEDGER = "SELECT message FROM migration_log WHERE direction = 'purge' ORDER BY id"


@pytest.mark.only("postgresql")
async def test_what_others_have_made_is_named_before_anything_is_dropped(
    url: str, engine: AsyncEngine, clone: Path, revision: Revision
) -> None:
    revision(DROP_AGE, ADD_AGE)
    run_alembic(url, "upgrade", "head", cwd=clone)
    for create, _, _ in NEEDING:
        await write(engine, create)
    run_alembic(url, "-x", "drift=accept", "upgrade", "head", cwd=clone)
    before = await state_of("postgresql", url)
    process = run_migrations(url, "purge", "--before", NEXT, "--yes", cwd=clone)
    assert process.returncode == 1
    assert "nothing was purged" in process.stdout
    listed = run_migrations(url, "purge", "--before", NEXT, "--yes", "--json", cwd=clone)
    assert listed.returncode == 1
    named = {name for names in json.loads(listed.stdout)["needed_by"].values() for name in names}
    assert named == {name for _, name, _ in NEEDING}
    assert all(name in process.stdout for name in named)
    assert await state_of("postgresql", url) == before
    assert await query(engine, LEDGER) == []

    for _, _, thing in NEEDING:
        await write(engine, f"DROP {thing}")
    run_alembic(url, "-x", "drift=accept", "upgrade", "head", cwd=clone)
    assert run_migrations(url, "purge", "--before", NEXT, "--yes", cwd=clone).returncode == 0


@pytest.mark.only("sqlite")
async def test_a_view_on_a_column_that_is_aside_is_named_on_sqlite(
    url: str, engine: AsyncEngine, clone: Path, revision: Revision
) -> None:
    revision(DROP_AGE, ADD_AGE)
    run_alembic(url, "upgrade", "head", cwd=clone)
    await write(engine, f"CREATE VIEW report AS SELECT {ASIDE} FROM users")
    run_alembic(url, "-x", "drift=accept", "upgrade", "head", cwd=clone)
    process = run_migrations(url, "purge", "--before", NEXT, "--yes", cwd=clone)
    assert process.returncode == 1
    assert "needed by view report" in process.stdout
    assert await query(engine, f"SELECT {ASIDE} FROM report") == []


@pytest.mark.only("postgresql")
async def test_a_view_on_a_published_version_is_named_before_its_revision_is_undone(
    url: str, engine: AsyncEngine
) -> None:
    await write(engine, f"CREATE VIEW outside AS SELECT id FROM at_{PREVIOUS}.users")
    run_alembic(url, "-x", "drift=accept", "upgrade", "head")
    before = await state_of("postgresql", url)
    process = run_alembic(url, "downgrade", "-2", check=False)
    assert process.returncode != 0
    assert "view outside would stand in the way" in process.stdout
    assert await state_of("postgresql", url) == before


@pytest.mark.only("postgresql")
async def test_a_purge_killed_after_any_drop_has_it_in_the_ledger_and_can_be_run_again(
    url: str, engine: AsyncEngine, driver: Any, *, full: bool
) -> None:
    dropped = [f"published version {number}" for number in NUMBERS[:-1]]
    dropped.append("trigger fill_missing_2 on users, which fills in for builds before 0005")
    for stop in range(1, len(dropped)) if full else (1, 5, 8):
        held = "users" if stop == len(dropped) - 1 else f"at_{NUMBERS[stop]}.users"
        transaction = driver.transaction()
        await transaction.start()
        await driver.execute(f"SELECT FROM {held}")
        purge = await forkserver.start(
            "migrations",
            *("purge", "--before", HEAD, "--yes"),
            cwd=ROOT,
            environment={**os.environ, "DATABASE_URL": url},
        )
        await wait_for_blocked_migration(engine)
        purge.kill()
        await purge.communicate()
        await transaction.rollback()
        noted = "; ".join(message for (message,) in await query(engine, LEDGER)).split("; ")
        assert noted == dropped[:stop]
        left = "SELECT count(*) FROM pg_namespace WHERE starts_with(nspname, 'at_')"
        assert await query(engine, left) == [(len(NUMBERS) - stop,)]
        assert run_migrations(url, "drift").returncode == 0

    assert run_migrations(url, "purge", "--before", HEAD, "--yes").returncode == 0
    noted = "; ".join(message for (message,) in await query(engine, LEDGER)).split("; ")
    assert noted == dropped
    assert run_migrations(url, "drift").returncode == 0
    run_alembic(url, "check")
