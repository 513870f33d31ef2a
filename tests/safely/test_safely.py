"""The operations of safely, called by a revision that Alembic runs on a real database."""

import asyncio
import json
import os
import pty
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine

from tests.chain import HEAD, NEXT
from tests.commands import run_alembic
from tests.databases import (
    engine_for,
    query,
    revision_of,
    run_script,
    wait_for_blocked_migration,
    write,
)
from tests.revisions import Revision

ACCEPT_DRIFT = ("-x", "drift=accept")  # the test has edited the schema by hand
INVALID = "SELECT count(*) FROM pg_index WHERE NOT indisvalid"
ADD_INDEX = 'safely.create_index("idx_email_age", "users", ["email", "age"])'


@pytest.mark.only("postgresql")
async def test_an_invalid_index_that_a_killed_run_left_is_replaced(
    url: str, engine: AsyncEngine, clone: Path, revision: Revision, driver: Any
) -> None:
    # a concurrent build that times out leaves an INVALID index
    blocker = driver.transaction()
    await blocker.start()
    await driver.execute("INSERT INTO users (full_name) VALUES ('A')")
    async with engine.connect() as connection:
        other = (await connection.get_raw_connection()).driver_connection
        assert other is not None
        await other.execute("SET lock_timeout = '50ms'")
        with pytest.raises(asyncpg.LockNotAvailableError):
            await other.execute("CREATE INDEX CONCURRENTLY idx_email_age ON users (email)")
        await connection.invalidate()
    await blocker.rollback()
    assert await query(engine, INVALID) == [(1,)]

    revision(ADD_INDEX)
    log = run_alembic(url, *ACCEPT_DRIFT, "upgrade", "head", cwd=clone).stderr
    assert "idx_email_age was left INVALID by an earlier run: dropping it" in log
    assert await query(engine, INVALID) == [(0,)]
    (definition,) = (await query(engine, "SELECT pg_get_indexdef('idx_email_age'::regclass)"))[0]
    assert definition.endswith("(email, age)")


@pytest.mark.only("postgresql")
@pytest.mark.parametrize("other", ["INDEX idx_x ON users (age)", "INDEX idx_x ON users (email)"])
async def test_another_index_of_that_name_is_not_taken_for_the_one_wanted(
    url: str, engine: AsyncEngine, clone: Path, revision: Revision, other: str
) -> None:
    await write(engine, f"CREATE {other}")
    revision('safely.create_index("idx_x", "users", ["email"], unique=True)')
    process = run_alembic(url, *ACCEPT_DRIFT, "upgrade", "head", cwd=clone, check=False)
    assert process.returncode != 0
    assert "there is another idx_x already: it is btree (" in process.stdout

    await write(engine, "DROP INDEX idx_x")
    await write(engine, "CREATE UNIQUE INDEX idx_x ON users (email)")
    run_alembic(url, *ACCEPT_DRIFT, "upgrade", "head", cwd=clone)


@pytest.mark.only("postgresql")
async def test_an_index_is_built_however_long_an_old_transaction_stays_open(
    url: str, engine: AsyncEngine, clone: Path, revision: Revision, driver: Any
) -> None:
    """`lock_timeout`, 100 ms, would end CONCURRENTLY's wait for old transactions."""
    revision(ADD_INDEX)
    blocker = driver.transaction()
    await blocker.start()
    await driver.execute("INSERT INTO users (full_name) VALUES ('A')")
    upgrade = asyncio.create_task(asyncio.to_thread(run_alembic, url, "upgrade", "head", cwd=clone))
    await wait_for_blocked_migration(engine)
    await asyncio.sleep(0.3)  # three times the timeout: it must outlast it
    assert not upgrade.done()
    await blocker.commit()
    await upgrade
    assert await query(engine, INVALID) == [(0,)]
    assert await query(engine, "SELECT to_regclass('idx_email_age') IS NOT NULL") == [(True,)]


async def test_a_unique_index_over_duplicates_is_refused_with_a_query_that_shows_them(
    url: str, engine: AsyncEngine, clone: Path, revision: Revision
) -> None:
    await write(engine, "INSERT INTO users (full_name) VALUES ('Bob'), ('bob'), ('Ada')")
    revision('safely.create_index("idx_x", "users", [sa.text("lower(full_name)")], unique=True)')
    process = run_alembic(url, "upgrade", "head", cwd=clone, check=False)
    assert process.returncode != 0
    assert "1 value(s) of lower(full_name) stand in more than one row of users" in process.stdout
    assert "Traceback" not in process.stderr
    duplicates = await query(engine, process.stdout.partition("See them with: ")[2].strip())
    assert [row[:2] for row in duplicates] == [("bob", 2)]

    await write(engine, "DELETE FROM users WHERE full_name = 'bob'")
    run_alembic(url, "upgrade", "head", cwd=clone)
    with pytest.raises(DBAPIError):
        await write(engine, "INSERT INTO users (full_name) VALUES ('ADA')")


async def test_revision_0008_refuses_duplicate_emails_and_changes_nothing(
    url: str, engine: AsyncEngine
) -> None:
    run_alembic(url, "downgrade", "0007")
    rows = "INSERT INTO users (full_name, email) VALUES ('A', 'a@b.cd'), ('B', 'A@b.cd')"
    await write(engine, rows)
    process = run_alembic(url, "upgrade", "head", check=False)
    assert process.returncode != 0
    assert "idx_user_email can't be unique: 1 value(s) of lower(email)" in process.stdout
    assert await revision_of(engine) == "0007"


async def test_a_check_that_rows_break_is_refused_and_nothing_is_changed(
    url: str, engine: AsyncEngine, clone: Path, revision: Revision
) -> None:
    await write(engine, "INSERT INTO users (full_name, age) VALUES ('A', 5), ('B', 50)")
    revision('safely.create_check_constraint("ck_users_adult", "users", "age >= 18")')
    process = run_alembic(url, "upgrade", "head", cwd=clone, check=False)
    assert process.returncode != 0
    assert "ck_users_adult can't be added: 1 row(s) of users break it" in process.stdout
    await write(engine, "INSERT INTO users (full_name, age) VALUES ('C', 5)")

    await write(engine, "DELETE FROM users WHERE age < 18")
    run_alembic(url, "upgrade", "head", cwd=clone)
    with pytest.raises(DBAPIError, match="ck_users_adult"):
        await write(engine, "INSERT INTO users (full_name, age) VALUES ('D', 5)")


@pytest.mark.only("postgresql")
async def test_a_check_is_validated_in_a_later_transaction_than_it_is_added(
    url: str, clone: Path, revision: Revision
) -> None:
    revision('safely.create_check_constraint("ck_users_adult", "users", "age >= 18")')
    script = run_alembic(url, "upgrade", f"{HEAD}:{NEXT}", "--sql", cwd=clone).stdout
    added, committed = script.index("NOT VALID"), script.index("COMMIT;")
    assert added < committed < script.index("VALIDATE CONSTRAINT ck_users_adult")


@pytest.mark.only("postgresql")
async def test_a_user_written_without_a_name_after_0005_is_named_unknown(
    url: str, engine: AsyncEngine
) -> None:
    """Also after the rename: the trigger finds its column by number."""
    run_alembic(url, "downgrade", "0005")
    await write(engine, "INSERT INTO users (name) VALUES (NULL)")
    run_alembic(url, "upgrade", "head")
    await write(engine, "INSERT INTO users (full_name, email) VALUES (NULL, 'a@b.cd')")
    await write(engine, "UPDATE users SET full_name = NULL, age = 7 WHERE email = 'a@b.cd'")
    rows = await query(engine, "SELECT full_name, email, age FROM users ORDER BY id")
    assert rows == [("Unknown", None, None), ("Unknown", "a@b.cd", 7)]


@pytest.mark.only("postgresql")
async def test_the_trigger_and_its_function_go_with_the_requirement(
    url: str, engine: AsyncEngine
) -> None:
    run_alembic(url, "downgrade", "0004")
    assert await query(engine, "SELECT to_regproc('fill_missing') IS NULL") == [(True,)]
    await write(engine, "INSERT INTO users (name) VALUES (NULL)")
    assert await query(engine, "SELECT name FROM users") == [(None,)]


async def test_requiring_without_a_value_to_fill_in_refuses_rows_that_have_none(
    url: str, engine: AsyncEngine, clone: Path, revision: Revision
) -> None:
    await write(engine, "INSERT INTO users (full_name) VALUES ('A')")
    revision('safely.require_column("users", "age")')
    process = run_alembic(url, "upgrade", "head", cwd=clone, check=False)
    assert process.returncode != 0
    assert "users.age can't be required: 1 row(s) have none" in process.stdout
    await write(engine, "INSERT INTO users (full_name) VALUES ('B')")

    revision('safely.require_column("users", "age", fill=18)', 'safely.allow_null("users", "age")')
    run_alembic(url, "upgrade", "head", cwd=clone)
    assert await query(engine, "SELECT age FROM users") == [(18,), (18,)]
    run_alembic(url, "downgrade", "-1", cwd=clone)
    await write(engine, "INSERT INTO users (full_name, age) VALUES ('C', NULL)")
    assert await query(engine, "SELECT count(*) FROM users WHERE age IS NULL") == [(1,)]


BACKFILL = 'safely.backfill("users", "age = 1", where="age IS NULL", batch=100)'


async def test_a_backfill_reaches_every_row_and_only_those_that_match(
    url: str, engine: AsyncEngine, clone: Path, revision: Revision
) -> None:
    await write(engine, "INSERT INTO users (full_name, age) VALUES ('kept', 50)")
    await insert_users(engine, 1234)
    await write(engine, "DELETE FROM users WHERE id % 7 = 0")
    before = await query(engine, "SELECT count(*) FROM users")
    revision(BACKFILL)
    run_alembic(url, "upgrade", "head", cwd=clone)
    assert await query(engine, "SELECT count(*) FROM users") == before
    assert await query(engine, "SELECT count(*) FROM users WHERE age IS NULL") == [(0,)]
    assert await query(engine, "SELECT age FROM users WHERE full_name = 'kept'") == [(50,)]


async def insert_users(engine: AsyncEngine, rows: int) -> None:
    await write(
        engine,
        f"WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {rows}) "
        "INSERT INTO users (full_name) SELECT 'N' || i FROM n",
    )


@pytest.mark.only("postgresql")
async def test_a_backfill_that_was_stopped_goes_on_where_it_was(
    url: str, engine: AsyncEngine, clone: Path, revision: Revision, driver: Any
) -> None:
    """A locked row stops it halfway; the batches before it are committed, and the rest follows."""
    await insert_users(engine, 1000)
    revision(BACKFILL)
    blocker = driver.transaction()
    await blocker.start()
    await driver.execute("UPDATE users SET full_name = 'held' WHERE full_name = 'N550'")
    impatient = ("-x", "patience=0.5")
    process = run_alembic(url, *impatient, "upgrade", "head", cwd=clone, check=False)
    assert process.returncode != 0
    assert await query(engine, "SELECT count(*) FROM users WHERE age = 1") == [(500,)]
    await blocker.commit()

    run_alembic(url, "upgrade", "head", cwd=clone)
    assert await query(engine, "SELECT count(*) FROM users WHERE age = 1") == [(1000,)]


@pytest.mark.only("postgresql")
async def test_a_backfill_shows_its_progress_on_a_terminal_and_in_log_lines_elsewhere(
    url: str, engine: AsyncEngine, clone: Path, revision: Revision
) -> None:
    await insert_users(engine, 1000)
    await write(engine, "ANALYZE users")
    revision(BACKFILL, "safely.nothing_to_undo('a test')")
    log = run_alembic(url, "upgrade", "head", cwd=clone).stderr
    assert "backfill of users: 1000 rows walked" in log

    run_alembic(url, "downgrade", "-1", cwd=clone)
    terminal, stderr = pty.openpty()
    command = [sys.executable, "-m", "alembic", "upgrade", "head"]
    environment = {**os.environ, "DATABASE_URL": url, "TERM": "xterm", "COLUMNS": "100"}
    process = await asyncio.to_thread(
        subprocess.run,
        command,
        cwd=clone,
        env=environment,
        stderr=stderr,
        check=True,
    )
    os.close(stderr)
    screen = os.read(terminal, 65536).decode()
    os.close(terminal)
    assert process.returncode == 0
    written = re.findall(r"\r(backfill of users: [^\r\n]*)", screen)
    assert re.match(r"backfill of users: \d+ of about 1000 rows, about [\d.]+ m?s left", written[0])
    assert re.match(r"backfill of users: 1000 rows in [\d.]+ m?s", written[-1])


@pytest.mark.only("postgresql")
async def test_every_spelling_prints_sql_that_does_the_same(
    url: str, engine: AsyncEngine, clone: Path, revision: Revision
) -> None:
    """The script of `--sql`, sent by hand, has the same result as Alembic."""
    body = """\
safely.add_column("users", sa.Column(
    "phone", sa.Text(), sa.CheckConstraint("length(phone) > 2", name="ck_users_phone")))
safely.backfill("users", "phone = 'none: yet'", where="phone IS NULL", batch=10)
safely.require_column("users", "phone", fill="none")
safely.create_index("idx_users_phone", "users", ["phone"])
safely.create_unique_constraint("uq_users_id_phone", "users", ["id", "phone"])
safely.create_foreign_key("fk_self", "users", "users", ["id"], ["id"])
safely.change_default("users", "age", "9")
safely.change_type("users", "age", sa.BigInteger())
safely.rename_column("users", "phone", "telephone")"""
    await insert_users(engine, 95)
    revision(body)
    script = run_alembic(url, "upgrade", f"{HEAD}:{NEXT}", "--sql", cwd=clone).stdout
    assert await query(engine, "SELECT count(*) FROM pg_attribute WHERE attname = 'telephone'") == [
        (0,)
    ]
    async with engine.connect() as connection:
        psql = (await connection.get_raw_connection()).driver_connection
        assert psql is not None
        for statement in script.split(";\n\n"):
            if statement.strip():
                await psql.execute(statement)
    by_hand = await table_of(engine)
    assert by_hand["rows"] == [("none: yet", 95)]

    other = await second_database(url)
    try:
        second = engine_for(other)
        await insert_users(second, 95)
        run_alembic(other, "upgrade", "head", cwd=clone)
        assert await table_of(second) == by_hand
        await second.dispose()
    finally:
        connection = await asyncpg.connect(url)
        await connection.execute(f'DROP DATABASE "{other.partition("?")[0].rpartition("/")[2]}"')
        await connection.close()


async def second_database(url: str) -> str:
    """Make another database at the head."""
    connection = await asyncpg.connect(url)
    await connection.execute("CREATE DATABASE twin TEMPLATE head")
    await connection.close()
    place, _, options = url.partition("?")
    return f"{place.rpartition('/')[0]}/twin?{options}"


async def table_of(engine: AsyncEngine) -> dict[str, Any]:
    """Return the table users: columns, constraints, indexes, triggers, and some rows."""
    return {
        "columns": await query(
            engine,
            "SELECT attname, atttypid::regtype::text, attnotnull, "
            "(SELECT pg_get_expr(adbin, adrelid) FROM pg_attrdef "
            " WHERE adrelid = attrelid AND adnum = attnum) "
            "FROM pg_attribute WHERE attrelid = 'users'::regclass AND attnum > 0 ORDER BY attnum",
        ),
        "constraints": await query(
            engine,
            "SELECT conname, pg_get_constraintdef(oid), convalidated FROM pg_constraint "
            "WHERE conrelid = 'users'::regclass ORDER BY 1",
        ),
        "indexes": await query(
            engine,
            "SELECT pg_get_indexdef(indexrelid), indisvalid FROM pg_index "
            "WHERE indrelid = 'users'::regclass ORDER BY 1",
        ),
        "triggers": await query(
            engine,
            "SELECT pg_get_triggerdef(oid) FROM pg_trigger "
            "WHERE tgrelid = 'users'::regclass AND NOT tgisinternal ORDER BY 1",
        ),
        "rows": await query(engine, "SELECT telephone, count(*) FROM users GROUP BY 1"),
    }


@pytest.mark.only("sqlite")
async def test_a_copied_table_keeps_what_a_copy_loses(
    url: str, engine: AsyncEngine, clone: Path, revision: Revision
) -> None:
    """Indexes on expressions, triggers, rules, rows of other tables, and used ids stay."""
    async with engine.begin() as connection:
        for statement in (
            "INSERT INTO users (full_name, age) VALUES ('A', 1), ('B', 2), ('C', 3)",
            "DELETE FROM users WHERE full_name = 'C'",
            "CREATE TABLE pets (owner INTEGER REFERENCES users (id) ON DELETE CASCADE)",
            "INSERT INTO pets SELECT id FROM users",
            "CREATE TABLE journal (line TEXT)",
            "CREATE TRIGGER noted AFTER INSERT ON users "
            "BEGIN INSERT INTO journal VALUES (new.full_name); END",
        ):
            await connection.execute(text(statement))
    attached = (
        "SELECT type, name, sql FROM sqlite_master "
        "WHERE tbl_name = 'users' AND type <> 'table' ORDER BY name"
    )
    before = await query(engine, attached)

    revision('safely.require_column("users", "age")', 'safely.allow_null("users", "age")')
    for _ in range(2):
        run_alembic(url, *ACCEPT_DRIFT, "upgrade", "head", cwd=clone)
        assert await query(engine, attached) == before
        run_alembic(url, "downgrade", "-1", cwd=clone)
        assert await query(engine, attached) == before

    assert await query(engine, "SELECT count(*) FROM pets") == [(2,)]
    with pytest.raises(DBAPIError, match="ck_users_age"):
        await write(engine, "INSERT INTO users (full_name, age) VALUES ('D', 151)")
    await write(engine, "INSERT INTO users (full_name) VALUES ('D')")
    assert await query(engine, "SELECT id FROM users WHERE full_name = 'D'") == [(4,)]
    assert await query(engine, "SELECT line FROM journal") == [("D",)]


REWRITING = {
    "a default that differs from row to row": (
        'safely.add_column("users", sa.Column('
        '"key", sa.Uuid(), server_default=sa.text("gen_random_uuid()"), nullable=False))'
    ),
    "a computed column": (
        'safely.add_column("users", sa.Column('
        '"letters", sa.Integer(), sa.Computed("length(full_name)", persisted=True)))'
    ),
    "an identity": 'safely.add_column("users", sa.Column("n", sa.BigInteger(), sa.Identity()))',
}
STORED = "write Computed(…, persisted=False)"  # that a backfill can't fill in


@pytest.mark.only("postgresql")
@pytest.mark.parametrize("case", REWRITING)
async def test_what_would_rewrite_a_large_table_is_refused_with_the_way_round(
    url: str, engine: AsyncEngine, clone: Path, revision: Revision, case: str
) -> None:
    """By the script of `--sql` as well: when it is printed, or when it is sent."""
    await insert_users(engine, 10_001)
    revision(REWRITING[case])
    process = run_alembic(url, "upgrade", "head", cwd=clone, check=False)
    assert process.returncode != 0
    assert "while nobody can read users" in process.stdout
    assert "safely.backfill" in process.stdout
    assert (STORED in process.stdout) == (case == "a computed column")
    script = run_alembic(url, "upgrade", f"{HEAD}:{NEXT}", "--sql", cwd=clone, check=False)
    if script.returncode == 0:
        with pytest.raises(asyncpg.RaiseError, match="while nobody can read users"):
            await run_script(engine, script.stdout)
    else:
        assert "while nobody can read users" in script.stderr + script.stdout


@pytest.mark.only("postgresql")
async def test_names_that_need_quotes_get_them(
    url: str, engine: AsyncEngine, clone: Path, revision: Revision
) -> None:
    revision(
        'safely.create_table("Pets", sa.Column("id", sa.BigInteger(), primary_key=True))\n'
        'safely.add_column("Pets", sa.Column("First Name", sa.Text()))\n'
        'safely.require_column("Pets", "First Name", fill="none")\n'
        'safely.create_check_constraint("Short", "Pets", \'length("First Name") < 9\')\n'
        'safely.create_index("By Name", "Pets", ["First Name"])\n'
        'safely.rename_column("Pets", "First Name", "Name")\n'
        'safely.create_unique_constraint("Once", "Pets", ["Name"])\n'
        'safely.create_foreign_key("Own", "Pets", "users", ["id"], ["id"], ondelete="CASCADE")',
        'safely.rename_column("Pets", "Name", "First Name")\n'
        'safely.allow_null("Pets", "First Name")\nsafely.drop_column("Pets", "First Name")\n'
        'safely.drop_table("Pets")',
    )
    for _ in range(2):
        run_alembic(url, "upgrade", "head", cwd=clone)
        assert await query(engine, 'SELECT "Name" FROM "Pets"') == []
        run_alembic(url, "downgrade", "-1", cwd=clone)


@pytest.mark.only("postgresql")
async def test_a_script_that_was_cut_off_can_be_sent_again(
    url: str, engine: AsyncEngine, clone: Path, revision: Revision
) -> None:
    """The script is cut off after each of its statements in turn, and then sent whole."""
    revision(
        'safely.rename_column("users", "age", "years")\n'
        'safely.add_column("users", sa.Column("phone", sa.Text()))\n'
        'safely.create_index("idx_users_phone", "users", ["phone"])\n'
        'safely.create_unique_constraint("uq_users_phone", "users", ["phone", "id"])\n'
        'safely.create_foreign_key("fk_self", "users", "users", ["id"], ["id"])\n'
        'safely.require_column("users", "phone", fill="none")\n'
        'safely.create_check_constraint("ck_users_long", "users", "length(phone) > 2")'
    )
    script = run_alembic(url, "upgrade", f"{HEAD}:{NEXT}", "--sql", cwd=clone).stdout
    statements = [statement for statement in script.split(";\n\n") if statement.strip()]
    for end in (*range(len(statements) - 2), len(statements)):
        connection = await asyncpg.connect(url)
        for statement in statements[:end]:
            await connection.execute(statement)
        await connection.close()  # rolls back what was not committed
    assert await revision_of(engine) == NEXT
    assert await query(engine, "SELECT years, phone FROM users") == []


@pytest.mark.only("postgresql")
async def test_rows_are_not_read_while_a_new_column_with_a_rule_keeps_its_lock(
    url: str, clone: Path, revision: Revision, tmp_path: Path
) -> None:
    trace = tmp_path / "trace"
    adult = 'sa.CheckConstraint("adult IN (0, 1)", name=safely.f("ck_users_adult"))'
    revision(f'safely.add_column("users", sa.Column("adult", sa.Integer(), {adult}))')
    run_alembic(url, "-x", f"trace={trace}", "upgrade", "head", cwd=clone)

    events = [json.loads(line) for line in trace.read_text(encoding="utf-8").splitlines()]
    (locked,) = (
        n for n, e in enumerate(events) if ["users", "AccessExclusive"] in e.get("locks", ())
    )
    until = next(n for n, e in enumerate(events) if n > locked and e["what"] == "over")
    assert not any("FROM users" in e["sql"].replace("(", " ") for e in events[locked + 1 : until])
    assert any("adult IN (0, 1)" in e.get("sql", "") for e in events[:locked])  # before the lock


@pytest.mark.only("postgresql")
async def test_values_that_come_back_and_break_the_rule_are_refused_before_anything_is_done(
    url: str, engine: AsyncEngine, clone: Path, revision: Revision
) -> None:
    add = 'safely.add_column("users", sa.Column("height", sa.Integer(){}))'
    drop = 'safely.drop_column("users", "height")'
    revision(add.format(""), drop)
    run_alembic(url, "upgrade", "head", cwd=clone)
    await write(engine, "INSERT INTO users (full_name, height) VALUES ('Ada', -1)")
    run_alembic(url, "downgrade", "-1", cwd=clone)

    tall = ', sa.CheckConstraint("height > 0", name=safely.f("ck_users_height"))'
    revision(add.format(tall), drop)
    process = run_alembic(url, "upgrade", "head", cwd=clone, check=False)
    assert "ck_users_height can't be added: 1 row(s) of users break it" in process.stdout
    select = process.stdout.partition("See them with: ")[2].strip()
    assert len(await query(engine, select)) == 1
    unfinished = "SELECT count(*) FROM migration_log WHERE state = 'started'"
    assert await query(engine, unfinished) == [(0,)]
    assert run_alembic(url, "current", cwd=clone).stdout.startswith(HEAD)


@pytest.mark.parametrize(
    ("rule", "spelling"),
    [
        ('sa.ForeignKey("users.id")', "safely.create_foreign_key"),
        ("unique=True", "safely.create_index"),
    ],
)
def test_a_rule_that_adding_a_column_would_leave_out_is_refused(
    url: str, clone: Path, revision: Revision, rule: str, spelling: str
) -> None:
    revision(f'safely.add_column("users", sa.Column("mentor", sa.BigInteger(), {rule}))')
    process = run_alembic(url, "upgrade", "head", cwd=clone, check=False)
    assert process.returncode != 0
    assert f"create it with {spelling}, after safely.add_column" in process.stdout
