"""What a drop sets aside comes back, with its values; older builds go on; purge ends that."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine

from tests.chain import HEAD, NEXT, NUMBERS, PREVIOUS, later
from tests.commands import run_alembic, run_migrations
from tests.databases import query, revision_of, write
from tests.people import accepted
from tests.revisions import Revision, write_revision

EVERYTHING = "SELECT id, full_name, email, age FROM users ORDER BY id"


async def test_people_go_down_and_up_again_and_lose_nothing(url: str, engine: AsyncEngine) -> None:
    """Use people.csv, and rows that a build at 0001 writes in between."""
    people = accepted()
    async with engine.begin() as connection:
        await connection.execute(
            text("INSERT INTO users (full_name, email, age) VALUES (:full_name, :email, :age)"),
            people,
        )
    before = await query(engine, EVERYTHING)
    assert len(before) == 1377

    run_alembic(url, "downgrade", "0001")
    place = "at_0001.users" if engine.dialect.name == "postgresql" else "users"
    await write(engine, f"INSERT INTO {place} (name) VALUES ('Between'), (NULL)")
    await write(engine, f"UPDATE {place} SET name = 'Renamed' WHERE id = {before[0][0]}")
    run_alembic(url, "upgrade", "head")

    after = await query(engine, EVERYTHING)
    first = (before[0][0], "Renamed", *before[0][2:])
    assert after[: len(before)] == [first, *before[1:]]
    assert [row[1:] for row in after[len(before) :]] == [
        ("Between", None, None),
        ("Unknown", None, None),
    ]
    run_alembic(url, "check")

    run_alembic(url, "downgrade", "base")
    assert await revision_of(engine) is None
    run_alembic(url, "upgrade", "head")
    assert await query(engine, EVERYTHING) == after


async def test_what_was_answered_under_a_key_is_set_aside_and_brought_back(
    url: str, engine: AsyncEngine
) -> None:
    blob = {"postgresql": "'\\x00ff'::bytea", "sqlite": "x'00ff'"}[engine.dialect.name]
    await write(
        engine,
        "INSERT INTO idempotency_key (key, request, status, headers, body, expires) "
        f"VALUES ({blob}, {blob}, 201, {blob}, {blob}, 4102444800)",
    )
    everything = "SELECT * FROM idempotency_key"
    before = await query(engine, everything)
    run_alembic(url, "downgrade", "0008")
    with pytest.raises(DBAPIError, match="idempotency_key"):
        await query(engine, everything)
    run_alembic(url, "upgrade", "head")
    assert await query(engine, everything) == before
    run_alembic(url, "check")


@pytest.mark.only("postgresql")
async def test_a_build_at_0003_that_writes_no_name_is_served_after_0005(
    engine: AsyncEngine,
) -> None:
    await write(engine, "INSERT INTO at_0003.users (name, email) VALUES (NULL, 'old@example.org')")
    await write(engine, "UPDATE at_0004.users SET name = NULL WHERE email = 'old@example.org'")
    new = f"SELECT full_name, email FROM at_{HEAD}.users"
    assert await query(engine, new) == [("Unknown", "old@example.org")]


@pytest.mark.only("postgresql")
async def test_a_rule_that_is_newer_than_a_build_holds_for_it(engine: AsyncEngine) -> None:
    await write(engine, "INSERT INTO at_0002.users (name, email) VALUES ('A', 'a@example.org')")
    with pytest.raises(DBAPIError, match="idx_user_email"):
        await write(engine, "INSERT INTO at_0002.users (name, email) VALUES ('B', 'A@example.org')")


@pytest.mark.only("postgresql")
async def test_the_state_of_a_version_can_be_read_and_not_written(engine: AsyncEngine) -> None:
    state = f"at_{HEAD}.schema_state"
    assert await query(engine, f"SELECT revision FROM {state}") == [(HEAD,)]
    with pytest.raises(DBAPIError, match="cannot update view"):
        await write(engine, f"UPDATE {state} SET revision = '0001'")


@pytest.mark.only("postgresql")
async def test_a_version_that_a_killed_run_left_behind_goes_with_the_next_run(
    url: str, engine: AsyncEngine
) -> None:
    run_alembic(url, "downgrade", "-1")
    # as if it had been killed between the step's commit and the withdrawal
    await write(engine, f"CREATE SCHEMA at_{HEAD}")
    await write(engine, f"CREATE VIEW at_{HEAD}.users AS SELECT * FROM users")
    await write(engine, f"CREATE VIEW at_{HEAD}.schema_state AS SELECT '{HEAD}' AS revision")
    run_alembic(url, "-x", "drift=accept", "downgrade", PREVIOUS)
    assert await query(engine, f"SELECT to_regnamespace('at_{HEAD}')") == [(None,)]


@pytest.mark.only("postgresql")
async def test_what_somebody_put_into_a_version_is_not_dropped_with_it(
    url: str, engine: AsyncEngine
) -> None:
    await write(engine, f"CREATE TABLE at_{HEAD}.notes AS SELECT 'precious' AS note")
    process = run_alembic(url, "-x", "drift=accept", "downgrade", "-1", check=False)
    assert process.returncode != 0
    assert await query(engine, f"SELECT note FROM at_{HEAD}.notes") == [("precious",)]


AGE = (
    'safely.add_column("users", sa.Column("age", sa.Integer(), '
    'sa.CheckConstraint("age BETWEEN 0 AND 150", name=safely.f("ck_users_age"))))'
)


def write_second_revision(clone: Path, up: str, down: str) -> None:
    """Write the revision that follows the one of the fixture `revision`."""
    write_revision(clone, 2, up, down)


async def test_autogenerate_and_check_do_not_see_what_is_set_aside(
    url: str, engine: AsyncEngine, clone: Path, revision: Revision
) -> None:
    """A column with its rule and its index, and a table."""
    revision(
        'safely.create_index("idx_users_age", "users", ["age"])\n'
        'safely.create_table("pets", sa.Column("id", sa.BigInteger(), primary_key=True), '
        'sa.Column("name", sa.Text(), index=True))',
        'safely.drop_table("pets")\nsafely.drop_index("idx_users_age", "users")',
    )
    run_alembic(url, "upgrade", "head", cwd=clone)
    await write(engine, "INSERT INTO pets (id, name) VALUES (1, 'Rex')")
    write_second_revision(
        clone,
        'safely.drop_table("pets")\nsafely.drop_column("users", "age")',
        f"{AGE}\n"
        'safely.create_table("pets", sa.Column("id", sa.BigInteger(), primary_key=True), '
        'sa.Column("name", sa.Text(), index=True))',
    )
    run_alembic(url, "upgrade", "head", cwd=clone)

    models = clone / "service/models.py"
    source = models.read_text("utf-8")
    start, end = source.index("    age: Mapped"), source.index("    __table_args__")
    models.write_text(source[:start] + source[end:], "utf-8")
    assert "No new upgrade operations" in run_alembic(url, "check", cwd=clone).stdout

    run_alembic(url, "downgrade", NEXT, cwd=clone)
    assert await query(engine, "SELECT name FROM pets") == [("Rex",)]
    indexes = {
        "postgresql": "SELECT indexname FROM pg_indexes WHERE tablename IN ('users', 'pets')",
        "sqlite": "SELECT name FROM sqlite_master WHERE type = 'index'",
    }
    names = {name for (name,) in await query(engine, indexes[engine.dialect.name])}
    assert {"idx_users_age", "idx_pets_name"} <= names
    with pytest.raises(DBAPIError, match="ck_users_age"):
        await write(engine, "INSERT INTO users (full_name, age) VALUES ('X', 151)")


REFUSED = {
    "a required column without a value for newer builds": (
        'safely.add_column("users", sa.Column("code", sa.Text(), nullable=False, '
        'server_default="x"))\nsafely.change_default("users", "code", None)\n'
        'safely.drop_column("users", "code")',
        "users.code is NOT NULL and has no default: builds that don't know it",
    ),
    "a column that refers to another table": (
        'safely.create_table("teams", sa.Column("id", sa.Integer(), primary_key=True))\n'
        'safely.create_foreign_key("fk_team", "users", "teams", ["age"], ["id"])\n'
        'safely.drop_column("users", "age")',
        "users.age can't be set aside: ",
    ),
    "a reference that rows don't keep": (
        'safely.add_column("users", sa.Column("boss", sa.Integer()))\n'
        "safely.op.execute(\"INSERT INTO users (full_name, boss) VALUES ('A', 99)\")\n"
        'safely.create_foreign_key("fk_boss", "users", "users", ["boss"], ["id"])',
        "fk_boss can't be added: 1 row(s) of users refer to nothing",
    ),
    "a table that another refers to": (
        'safely.create_table("teams", sa.Column("id", sa.Integer(), primary_key=True))\n'
        'safely.create_foreign_key("fk_team", "users", "teams", ["age"], ["id"])\n'
        'safely.drop_table("teams")',
        "teams can't be set aside: ",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
async def test_what_can_not_be_set_aside_is_refused_in_words(
    url: str, clone: Path, revision: Revision, case: str
) -> None:
    body, words = REFUSED[case]
    revision(body)
    process = run_alembic(url, "upgrade", "head", cwd=clone, check=False)
    assert process.returncode != 0
    assert words in process.stdout
    assert "Traceback" not in process.stderr


async def test_a_column_that_was_set_aside_as_something_else_is_not_brought_back(
    url: str, engine: AsyncEngine, clone: Path, revision: Revision
) -> None:
    """A draft of a revision was run and undone, and then rewritten."""
    drop = 'safely.drop_column("users", "phone")'
    revision('safely.add_column("users", sa.Column("phone", sa.Text()))', drop)
    run_alembic(url, "upgrade", "head", cwd=clone)
    run_alembic(url, "downgrade", "-1", cwd=clone)
    revision('safely.add_column("users", sa.Column("phone", sa.BigInteger()))', drop)
    process = run_alembic(url, "upgrade", "head", cwd=clone, check=False)
    assert process.returncode != 0
    assert "users.phone was set aside by this revision as " in process.stdout
    assert "purge --undone" in process.stdout
    assert run_migrations(url, "purge", "--undone", "--yes", cwd=clone).returncode == 0
    run_alembic(url, "upgrade", "head", cwd=clone)
    await write(engine, "INSERT INTO users (full_name, phone) VALUES ('A', 123)")


ADD_CODE = (
    'safely.add_column("users", sa.Column("code", sa.Text()))\n'
    'safely.create_index("idx_users_code", "users", ["code"], unique=True)',
    'safely.drop_index("idx_users_code", "users")\nsafely.drop_column("users", "code")',
)
RETYPE_CODE = (
    'safely.change_type("users", "code", sa.Integer())',
    'safely.change_type("users", "code", sa.Text())',
)


async def test_a_retyped_column_gives_its_old_values_back_to_the_letter(
    url: str, engine: AsyncEngine, clone: Path, revision: Revision
) -> None:
    revision(*ADD_CODE)
    write_second_revision(clone, *RETYPE_CODE)
    run_alembic(url, "upgrade", NEXT, cwd=clone)
    await write(engine, "INSERT INTO users (full_name, code) VALUES ('A', '007'), ('B', '8')")
    run_alembic(url, "upgrade", "head", cwd=clone)

    async def codes() -> list[Any]:
        await engine.dispose()  # its prepared statements are of another type
        rows = await query(engine, "SELECT code FROM users ORDER BY full_name")
        return [code for (code,) in rows]

    assert await codes() == [7, 8]
    await write(engine, "UPDATE users SET code = 9 WHERE full_name = 'B'")
    await write(engine, "INSERT INTO users (full_name, code) VALUES ('C', 10)")
    with pytest.raises(DBAPIError, match=r"idx_users_code|users.code"):
        await write(engine, "INSERT INTO users (full_name, code) VALUES ('D', 10)")
    run_alembic(url, "downgrade", "-1", cwd=clone)
    assert await codes() == ["007", "9", "10"]
    run_alembic(url, "upgrade", "head", cwd=clone)
    assert await codes() == [7, 9, 10]
    run_alembic(url, "downgrade", HEAD, cwd=clone)
    run_alembic(url, "upgrade", "head", cwd=clone)
    assert await codes() == [7, 9, 10]


@pytest.mark.only("postgresql")
async def test_a_value_that_the_new_type_can_not_hold_is_refused_with_a_query(
    url: str, engine: AsyncEngine, clone: Path, revision: Revision
) -> None:
    revision(*ADD_CODE)
    write_second_revision(clone, *RETYPE_CODE)
    run_alembic(url, "upgrade", NEXT, cwd=clone)
    await write(engine, "INSERT INTO users (full_name, code) VALUES ('A', 'seven')")
    process = run_alembic(url, "upgrade", "head", cwd=clone, check=False)
    assert process.returncode != 0
    assert "users.code can't become INTEGER: 1 row(s) hold something else" in process.stdout
    match = re.search(r"See them with: (SELECT .*)", process.stdout)
    assert match is not None
    assert len(await query(engine, match.group(1))) == 1
    await write(engine, f"UPDATE at_{NEXT}.users SET code = '7'")
    run_alembic(url, "upgrade", "head", cwd=clone)
    assert await query(engine, "SELECT code FROM users") == [(7,)]


@pytest.mark.only("postgresql")
async def test_a_type_that_an_index_forbids_is_refused_in_words(
    url: str, clone: Path, revision: Revision
) -> None:
    revision('safely.change_type("users", "email", sa.Integer())')
    process = run_alembic(url, "upgrade", "head", cwd=clone, check=False)
    assert process.returncode != 0
    assert "users.email can't become INTEGER: function lower(integer) does not" in process.stdout
    assert "Traceback" not in process.stderr


async def test_purge_lists_asks_and_then_drops_for_good(
    url: str, engine: AsyncEngine, clone: Path, revision: Revision
) -> None:
    await write(engine, "INSERT INTO users (full_name, age) VALUES ('A', 5)")
    revision('safely.drop_column("users", "age")', AGE)
    run_alembic(url, "upgrade", "head", cwd=clone)

    unconfirmed = run_migrations(url, "purge", "--before", NEXT, cwd=clone)
    assert unconfirmed.returncode == 1
    assert f"column users.age with its values, set aside by {NEXT}" in unconfirmed.stdout
    assert "nothing was purged" in unconfirmed.stdout
    listed = run_migrations(url, "purge", "--before", NEXT, "--json", cwd=clone)
    assert listed.returncode == 1
    items = json.loads(listed.stdout)["items"]
    assert {
        "kind": "column",
        "revision": NEXT,
        "name": f"_aside_{NEXT}_age",
        "table": "users",
    } in items
    versions = [item["revision"] for item in items if item["kind"] == "version"]
    postgresql = engine.dialect.name == "postgresql"
    assert versions == (NUMBERS if postgresql else [])

    assert run_migrations(url, "purge", "--before", NEXT, "--yes", cwd=clone).returncode == 0
    again = run_migrations(url, "purge", "--before", NEXT, cwd=clone)
    assert (again.returncode, again.stdout) == (0, "there is nothing to purge\n")
    assert run_migrations(url, "drift", cwd=clone).returncode == 0
    run_alembic(url, "downgrade", "-1", cwd=clone)
    assert await query(engine, "SELECT full_name, age FROM users") == [("A", None)]
    run_alembic(url, "downgrade", "base", cwd=clone)
    run_alembic(url, "upgrade", HEAD, cwd=clone)
    run_alembic(url, "check")


async def test_a_column_is_purged_with_its_index(
    url: str, engine: AsyncEngine, clone: Path, revision: Revision
) -> None:
    revision(
        'safely.create_index("idx_users_age", "users", ["age"], unique=True)\n'
        'safely.create_index("idx_users_old", "users", [sa.text("lower(email)"), "age"])',
        'safely.drop_index("idx_users_old", "users")\nsafely.drop_index("idx_users_age", "users")',
    )
    write_second_revision(clone, 'safely.drop_column("users", "age")', AGE)
    run_alembic(url, "upgrade", "head", cwd=clone)
    await write(engine, "INSERT INTO users (full_name) VALUES ('A')")
    purged = run_migrations(url, "purge", "--before", later(2), "--yes", cwd=clone)
    assert (purged.returncode, purged.stderr) == (0, "")
    assert run_migrations(url, "drift", cwd=clone).returncode == 0
    assert await query(engine, "SELECT full_name FROM users") == [("A",)]


@pytest.mark.only("postgresql")
async def test_purge_refuses_while_an_older_build_is_connected(
    url: str, engine: AsyncEngine, driver: Any
) -> None:
    await driver.execute("SET application_name = 'users@0005'")
    process = run_migrations(url, "purge", "--before", "0006", "--yes")
    assert process.returncode == 1
    assert "users@0005 is connected (1)" in process.stdout
    assert await query(engine, "SELECT to_regnamespace('at_0001') IS NULL") == [(False,)]
    assert run_migrations(url, "purge", "--before", "0005", "--yes").returncode == 0
    assert await query(engine, "SELECT to_regnamespace('at_0004') IS NULL") == [(True,)]
    assert await query(engine, "SELECT to_regnamespace('at_0005') IS NULL") == [(False,)]


async def test_purge_of_what_is_not_there_is_one_clear_line(url: str) -> None:
    for before, words in (
        ("0042", "there is no revision 0042"),
        (HEAD, f"the database is at {PREVIOUS}"),
    ):
        run_alembic(url, "downgrade", PREVIOUS)
        process = run_migrations(url, "purge", "--before", before, "--yes")
        assert process.returncode == 2
        assert words in process.stderr
        assert "Traceback" not in process.stderr


async def test_the_log_is_a_table_for_people_and_lines_for_machines(url: str) -> None:
    process = run_migrations(url, "log")
    assert process.returncode == 0
    heading, *rows = process.stdout.splitlines()
    assert heading.split()[:4] == ["revision", "direction", "state", "message"]
    assert len(rows) == len(NUMBERS)
    assert re.match(r"0006 +upgrade +done +rename name to full_name +20\d\d-", rows[5])
    lines = [json.loads(line) for line in run_migrations(url, "log", "--json").stdout.splitlines()]
    assert [line["revision"] for line in lines] == NUMBERS
    assert {"checksum", "duration", "attempts", "longest_lock_wait"} <= set(lines[0])


async def test_drift_has_an_exit_code_for_pipelines(url: str, engine: AsyncEngine) -> None:
    process = run_migrations(url, "drift")
    assert process.returncode == 0
    assert process.stdout.startswith(f"no drift since upgrade {HEAD}")
    await write(engine, "CREATE INDEX surprise ON users (age)")
    process = run_migrations(url, "drift", "--json")
    assert process.returncode == 1
    (difference,) = json.loads(process.stdout)["differences"]
    assert "surprise" in difference


@pytest.mark.parametrize("command", [["log"], ["drift"], ["purge", "--undone"]])
async def test_the_tools_say_in_one_line_what_is_missing(
    empty_url: str, command: list[str]
) -> None:
    process = run_migrations(empty_url, *command)
    assert process.returncode == 2
    assert "there is no migration_log here" in process.stderr
    assert "Traceback" not in process.stderr
    process = run_migrations("postgresql://someone:hunter2@127.0.0.1:1/users", *command)
    assert process.returncode == 2
    assert "nothing listens there" in process.stderr
    assert "hunter2" not in process.stderr


@pytest.mark.only("postgresql")
async def test_a_column_that_is_filled_in_for_older_builds_is_not_retyped_before_they_are_purged(
    url: str, engine: AsyncEngine, clone: Path, revision: Revision
) -> None:
    revision(
        'safely.change_type("users", "full_name", sa.String(200))',
        'safely.change_type("users", "full_name", sa.Text())',
    )
    process = run_alembic(url, "upgrade", "head", cwd=clone, check=False)
    assert process.returncode != 0
    assert (
        "users.full_name is written by the trigger fill_missing_2 for builds before 0005"
        in process.stdout
    )
    purged = run_migrations(url, "purge", "--before", HEAD, "--yes", cwd=clone)
    assert purged.returncode == 0
    run_alembic(url, "upgrade", "head", cwd=clone)
    await write(engine, f"INSERT INTO at_{NEXT}.users (full_name) VALUES ('Ada')")
    assert await query(engine, f"SELECT full_name FROM at_{HEAD}.users") == [("Ada",)]


@pytest.mark.only("postgresql")
async def test_a_column_is_not_retyped_twice_before_older_builds_are_purged(
    url: str, clone: Path, revision: Revision
) -> None:
    revision(
        'safely.change_type("users", "age", sa.BigInteger())',
        'safely.change_type("users", "age", sa.Integer())',
    )
    write_second_revision(
        clone,
        'safely.change_type("users", "age", sa.Numeric())',
        'safely.change_type("users", "age", sa.BigInteger())',
    )
    process = run_alembic(url, "upgrade", "head", cwd=clone, check=False)
    assert process.returncode != 0
    assert "users.age is written by the trigger sync_retyped_" in process.stdout


@pytest.mark.only("postgresql")
async def test_a_type_that_would_cut_values_off_is_refused(
    url: str, engine: AsyncEngine, clone: Path, revision: Revision
) -> None:
    await write(engine, "INSERT INTO users (full_name, email) VALUES ('A', 'long@example.org')")
    revision('safely.change_type("users", "email", sa.String(5))')
    process = run_alembic(url, "upgrade", "head", cwd=clone, check=False)
    assert process.returncode != 0
    assert "1 row(s) would hold another value" in process.stdout


@pytest.mark.only("postgresql")
async def test_purge_leaves_the_trigger_of_a_column_that_is_aside(
    url: str, engine: AsyncEngine, clone: Path, revision: Revision
) -> None:
    revision('safely.drop_column("users", "full_name")')
    run_alembic(url, "upgrade", "head", cwd=clone)
    purged = run_migrations(url, "purge", "--before", "0006", "--yes", cwd=clone)
    assert purged.returncode == 0
    await write(engine, f"INSERT INTO at_{NEXT}.users (email) VALUES ('new@example.org')")
    assert await query(engine, f"SELECT full_name FROM at_{HEAD}.users") == [("Unknown",)]


async def test_a_refused_step_that_was_mended_is_not_taken_for_edited(
    url: str, engine: AsyncEngine, clone: Path, revision: Revision
) -> None:
    await write(engine, "INSERT INTO users (full_name) VALUES ('A')")
    add = 'safely.add_column("users", sa.Column("phone", sa.Text()))\n'
    undo = 'safely.allow_null("users", "phone")\nsafely.drop_column("users", "phone")'
    index = 'safely.create_index("idx_users_phone", "users", ["id", "phone"])\n'
    revision(add + index + 'safely.require_column("users", "phone")', undo)
    assert run_alembic(url, "upgrade", "head", cwd=clone, check=False).returncode != 0
    revision(add + index + 'safely.require_column("users", "phone", fill="none")', undo)
    run_alembic(url, "upgrade", "head", cwd=clone)
    assert run_migrations(url, "drift", cwd=clone).returncode == 0
