"""Partitioned tables: indexes without blocking, and partitions that come and go by themselves."""

from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine

from tests.chain import NEXT, later
from tests.commands import run_alembic, run_migrations, start_alembic
from tests.databases import Databases, query, run_script, wait_for_blocked_migration, write
from tests.migrated import leftovers, state_of
from tests.revisions import Revision, write_revision

NOTE = 'sa.Column("note", sa.Text())'
LATER = (
    'sa.Column("seen", sa.Integer()), sa.Column("user_id", sa.BigInteger()), '
    'sa.ForeignKeyConstraint(["user_id"], ["users.id"], name="fk_m_user")'
)
TABLE = """\
safely.create_table(
    "m",
    sa.Column("id", sa.BigInteger(), sa.Identity(), primary_key=True),
    sa.Column("day", sa.Date(), primary_key=True),
    sa.Column("note", sa.Text()),
    postgresql_partition_by="RANGE (day)",
)"""
PARTITIONS = [
    "CREATE TABLE m_2025 PARTITION OF m FOR VALUES FROM ('2025-01-01') TO ('2026-01-01') "
    "PARTITION BY HASH (id)",
    "CREATE TABLE m_2025_0 PARTITION OF m_2025 FOR VALUES WITH (MODULUS 2, REMAINDER 0)",
    'CREATE TABLE "M 1" PARTITION OF m_2025 FOR VALUES WITH (MODULUS 2, REMAINDER 1)',
    "CREATE TABLE m_rest PARTITION OF m DEFAULT",
    "INSERT INTO m (day, note) SELECT date '2025-06-01' + n, n FROM generate_series(1, 500) AS n",
]
INDEXES = """\
safely.create_index("idx_m_note", "m", [sa.text("lower(note)")])
safely.create_unique_constraint("uq_m_note", "m", ["note", "day", "id"])"""
NO_INDEXES = """\
safely.drop_constraint("uq_m_note", "m", "unique")
safely.drop_index("idx_m_note", "m")"""
WITHOUT = """\
SELECT relname FROM pg_class
WHERE relkind = 'r' AND relispartition AND (
  SELECT count(*) FROM pg_index JOIN pg_inherits ON inhrelid = indexrelid
  WHERE indrelid = pg_class.oid AND indisvalid) <> 3"""
CHANGES = [
    ('safely.drop_column("m", "note")', 'safely.add_column("m", sa.Column("note", sa.Text()))'),
    (
        'safely.add_column("m", sa.Column("seen", sa.Integer()))\n'
        'safely.require_column("m", "seen", fill=7)\n'
        'safely.create_check_constraint("ck_m_seen", "m", "seen > 0")',
        'safely.drop_constraint("ck_m_seen", "m", "check")\n'
        'safely.allow_null("m", "seen")\nsafely.drop_column("m", "seen")',
    ),
    (
        'safely.add_column("m", sa.Column("user_id", sa.BigInteger()))\n'
        'safely.create_foreign_key("fk_m_user", "m", "users", ["user_id"], ["id"])',
        'safely.drop_constraint("fk_m_user", "m", "foreignkey")\n'
        'safely.drop_column("m", "user_id")',
    ),
    ('safely.drop_table("m")', TABLE.replace(NOTE, LATER)),
]


@pytest.fixture(params=["postgresql"])
async def databases(
    request: pytest.FixtureRequest, all_databases: dict[str, Databases]
) -> Databases:
    return all_databases[request.param]


@pytest.fixture
async def partitioned(url: str, engine: AsyncEngine, clone: Path, revision: Revision) -> Path:
    """Return a clone with a partitioned table, with rows, and indexes in the revision to come."""
    revision(TABLE, 'safely.drop_table("m")')
    run_alembic(url, "upgrade", "head", cwd=clone)
    for statement in PARTITIONS:
        await write(engine, statement)
    assert "no drift" in drift_of(url, clone)
    write_revision(clone, 2, INDEXES, NO_INDEXES)
    return clone


def drift_of(url: str, clone: Path) -> str:
    """Return what `drift` prints."""
    return run_migrations(url, "drift", cwd=clone).stdout


async def test_a_build_that_was_killed_at_a_partition_goes_on_or_leaves_nothing(
    url: str, engine: AsyncEngine, partitioned: Path, driver: Any
) -> None:
    before = await state_of("postgresql", url)
    run_alembic(url, "upgrade", "head", cwd=partitioned)
    assert await query(engine, WITHOUT) == []
    after = await state_of("postgresql", url)
    run_alembic(url, "downgrade", NEXT, cwd=partitioned)
    assert await state_of("postgresql", url) == before

    for command in ("upgrade head", f"downgrade {NEXT}"):
        transaction = driver.transaction()
        await transaction.start()  # CONCURRENTLY waits for whoever writes
        await driver.execute("INSERT INTO m_rest (id, day) SELECT -1, '2001-01-01'")
        upgrade = await start_alembic(url, "upgrade", "head", cwd=partitioned)
        await wait_for_blocked_migration(engine)
        upgrade.kill()
        await upgrade.communicate()
        await transaction.rollback()
        run_alembic(url, *command.split(), cwd=partitioned)
        assert await leftovers("postgresql", url) == []
        expected = before if "downgrade" in command else after
        assert await state_of("postgresql", url) == expected
        run_alembic(url, "downgrade", NEXT, cwd=partitioned)
        assert await state_of("postgresql", url) == before


async def test_every_change_goes_up_down_and_up_again(
    url: str, engine: AsyncEngine, partitioned: Path
) -> None:
    run_alembic(url, "upgrade", "head", cwd=partitioned)
    for number, change in enumerate(CHANGES, start=3):
        write_revision(partitioned, number, *change)
    run_alembic(url, "upgrade", later(len(CHANGES) + 1), cwd=partitioned)
    await write(
        engine,
        "CREATE TABLE m_2027 PARTITION OF m FOR VALUES FROM ('2027-01-01') TO ('2028-01-01')",
    )
    for version in (later(2), later(3), later(4)):
        await write(engine, f"INSERT INTO at_{version}.m (day) VALUES ('2027-02-02')")
    assert await query(engine, "SELECT count(*), min(seen) FROM m_2027") == [(3, 7)]
    up = await state_of("postgresql", url)
    run_alembic(url, "upgrade", "head", cwd=partitioned)
    assert await query(engine, f"SELECT count(*) FROM at_{later(4)}.m") == [(503,)]
    run_alembic(url, "downgrade", later(2), cwd=partitioned)
    run_alembic(url, "upgrade", later(len(CHANGES) + 1), cwd=partitioned)
    assert await state_of("postgresql", url) == up
    await write(engine, "ALTER TABLE m DETACH PARTITION m_2027")
    await write(engine, "DROP TABLE m_rest")
    assert "no drift" in drift_of(url, partitioned)

    run_alembic(url, "upgrade", "head", cwd=partitioned)
    for before in (later(5), later(6)):  # a column of each partition, then the table with them all
        purged = run_migrations(url, "purge", "--before", before, "--yes", cwd=partitioned)
        assert purged.returncode == 0, purged.stderr
        assert "no drift" in drift_of(url, partitioned)
        if before == later(5):
            run_alembic(url, "downgrade", later(5), cwd=partitioned)
            assert await query(engine, "SELECT count(*) FROM m_2025") == [(213,)]
            run_alembic(url, "upgrade", "head", cwd=partitioned)
    assert await query(engine, "SELECT relname FROM pg_class WHERE relname ~ '^(m|M 1)$'") == []


async def test_a_unique_index_needs_the_columns_by_which_rows_are_divided(
    url: str, engine: AsyncEngine, partitioned: Path
) -> None:
    write_revision(partitioned, 2, 'safely.create_index("ux", "m", ["day"], unique=True)', "pass")
    before = await state_of("postgresql", url)
    process = run_alembic(url, "upgrade", "head", cwd=partitioned, check=False)
    assert process.returncode != 0
    assert "ux can't be unique without id, by which m is partitioned" in process.stdout
    assert await state_of("postgresql", url) == before

    script = run_alembic(url, "upgrade", f"{NEXT}:{later(2)}", "--sql", cwd=partitioned).stdout
    with pytest.raises(DBAPIError, match="run `alembic upgrade`"):
        await write(engine, script.partition("COMMIT")[0].partition("BEGIN;")[2])


ELSEWHERE = """\
SELECT count(*) FROM pg_class JOIN pg_tablespace ON pg_tablespace.oid = reltablespace
WHERE spcname = 'elsewhere'"""


async def test_an_index_and_its_copy_keep_their_tablespace_and_a_script_drops_them(
    url: str, engine: AsyncEngine, partitioned: Path, driver: Any
) -> None:
    await driver.execute("SET allow_in_place_tablespaces = on")
    await driver.execute("CREATE TABLESPACE elsewhere LOCATION ''")
    create = 'safely.create_index("ix", "m", ["note"], postgresql_tablespace="elsewhere")'
    write_revision(partitioned, 2, create, 'safely.drop_index("ix", "m")')
    up, down = (f'safely.change_type("m", "note", sa.{type_}())' for type_ in ("String", "Text"))
    write_revision(partitioned, 3, up, down)
    run_alembic(url, "upgrade", later(2), cwd=partitioned)
    places = len(PARTITIONS)  # the table and its partitions
    assert await query(engine, ELSEWHERE) == [(places,)]
    run_alembic(url, "upgrade", later(3), cwd=partitioned)
    assert await query(engine, ELSEWHERE) == [(2 * places,)]
    run_alembic(url, "downgrade", later(2), cwd=partitioned)
    assert run_migrations(url, "purge", "--undone", "--yes", cwd=partitioned).returncode == 0
    script = run_alembic(url, "downgrade", f"{later(2)}:{NEXT}", "--sql", cwd=partitioned).stdout
    await run_script(engine, script)
    assert await query(engine, ELSEWHERE) == [(0,)]
