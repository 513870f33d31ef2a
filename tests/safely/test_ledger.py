"""The ledger, and what is refused because of it: edited files and schemas, missing ledgers."""

import asyncio
import json
import re
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from safely.ledger.checksum import checksum, short
from safely.scratch.embedded import Server
from tests.chain import HEAD, NEXT, NUMBERS, VERSIONS
from tests.commands import run_alembic, run_alembic_at_once, run_migrations, start_alembic
from tests.databases import Databases, name_of, query, revision_of, run_script, write
from tests.pgbouncer import pgbouncer
from tests.pgbouncer_packages import SUITES
from tests.revisions import FAILS_HALFWAY, Revision

LEDGER = "SELECT revision, direction, state FROM migration_log ORDER BY id"


async def entries(engine: AsyncEngine) -> list[Any]:
    """Return revision, direction and state of the ledger's rows."""
    return await query(engine, LEDGER)


async def test_every_step_up_and_down_leaves_a_row(empty_url: str, empty: AsyncEngine) -> None:
    run_alembic(empty_url, "upgrade", "0003")
    run_alembic(empty_url, "downgrade", "-1")
    assert await entries(empty) == [
        ("0001", "upgrade", "done"),
        ("0002", "upgrade", "done"),
        ("0003", "upgrade", "done"),
        ("0003", "downgrade", "done"),
    ]
    ((message, seconds, attempts, waited, name, host, build, digest, snapshot),) = await query(
        empty,
        "SELECT message, duration, attempts, longest_lock_wait, username, host, build, checksum, "
        "snapshot FROM migration_log WHERE revision = '0002'",
    )
    assert (message, attempts, build) == ("add email", 1, HEAD)
    assert 0 < seconds < 60
    assert waited >= 0
    assert name
    assert host
    assert digest == checksum(VERSIONS[1])
    recorded = str(json.loads(snapshot))
    assert re.search(r"\bemail\b", recorded)
    assert not re.search(r"\bage\b", recorded)


async def test_eight_at_once_note_each_revision_once(empty_url: str, empty: AsyncEngine) -> None:
    ran = await run_alembic_at_once(empty_url, 8, "upgrade", "head")
    assert [code for code, _ in ran] == [0] * 8, ran
    assert await entries(empty) == [(number, "upgrade", "done") for number in NUMBERS]


@pytest.mark.only("postgresql")
async def test_the_ledger_tells_how_often_a_step_was_tried_and_how_long_it_waited(
    url: str, engine: AsyncEngine, clone: Path, revision: Revision, driver: Any
) -> None:
    revision('safely.add_column("users", sa.Column("phone", sa.Text()))')
    async with driver.transaction():
        await driver.execute("SELECT * FROM users")
        impatient = ("-x", "patience=0.5")
        run_alembic(url, *impatient, "upgrade", "head", cwd=clone, check=False)
    assert (await entries(engine))[-1] == (HEAD, "upgrade", "done")  # it was one transaction

    ((upgrade,),) = await query(engine, "SELECT count(*) FROM migration_log")
    blocker = await asyncpg.connect(url)
    transaction = blocker.transaction()
    await transaction.start()
    await blocker.execute("SELECT * FROM users")
    process = await start_alembic(url, "upgrade", "head", cwd=clone)
    while b"trying again" not in await process.stdout.readline():
        pass
    await transaction.commit()
    await blocker.close()
    await process.communicate()
    rows = await query(
        engine,
        f"SELECT attempts, longest_lock_wait FROM migration_log WHERE id > {upgrade} "
        f"AND revision = '{NEXT}'",
    )
    ((attempts, waited),) = rows
    assert attempts >= 2
    assert 0.02 < waited < 1


async def test_an_applied_file_that_was_edited_is_refused_with_both_checksums(
    url: str, engine: AsyncEngine, clone: Path
) -> None:
    path = clone / "migrations/versions" / VERSIONS[2].name
    was = checksum(path)
    path.write_text(path.read_text("utf-8").replace("150", "130"), "utf-8")
    now = checksum(path)
    for command in (("upgrade", "head"), ("downgrade", "-1")):
        process = run_alembic(url, *command, cwd=clone, check=False)
        assert process.returncode != 0
        assert (
            f"{path.name}: applied with checksum {short(was)}, is now {short(now)}"
            in process.stdout
        )
        assert process.stderr == ""
    assert await revision_of(engine) == HEAD

    run_alembic(url, "-x", "drift=accept", "upgrade", "head", cwd=clone)
    run_alembic(url, "downgrade", "-1", cwd=clone)


async def test_a_schema_that_was_edited_by_hand_is_refused_until_it_is_accepted(
    url: str, engine: AsyncEngine
) -> None:
    await write(engine, "CREATE INDEX surprise ON users (age)")
    for command in (("upgrade", "head"), ("downgrade", "-1")):
        process = run_alembic(url, *command, check=False)
        assert process.returncode != 0
        assert f"the schema is not as upgrade {HEAD}" in process.stdout
        assert re.search(r"index surprise.*: was added", process.stdout)
        assert "-x drift=accept" in process.stdout
        assert process.stderr == ""
    assert await revision_of(engine) == HEAD

    run_alembic(url, "-x", "drift=accept", "downgrade", "-1")
    assert (HEAD, "accept", "done") in await entries(engine)
    run_alembic(url, "upgrade", "head")


async def test_drift_takes_accept_or_refuse(url: str) -> None:
    process = run_alembic(url, "-x", "drift=ignore", "upgrade", "head", check=False)
    assert process.returncode != 0
    assert "-x drift=… takes accept or refuse" in process.stdout


async def test_another_major_version_is_recorded_anew_and_not_taken_for_drift(
    url: str, engine: AsyncEngine
) -> None:
    await write(engine, "UPDATE migration_log SET server = 'another', snapshot = '{}'")
    process = run_migrations(url, "drift")
    assert process.returncode == 2
    assert "recorded by" in process.stdout
    run_alembic(url, "downgrade", "-1")
    assert run_migrations(url, "drift").returncode == 0


async def test_a_database_without_a_ledger_is_refused_and_can_be_adopted(
    url: str, engine: AsyncEngine
) -> None:
    """The database was migrated by these revisions before there was a ledger."""
    await write(engine, "INSERT INTO users (full_name) VALUES ('Ada')")
    if engine.dialect.name == "postgresql":
        for number in NUMBERS:
            await write(engine, f"DROP SCHEMA at_{number} CASCADE")
    await write(engine, "DROP TABLE migration_log")
    for command in (("upgrade", "head"), ("downgrade", "-1")):
        process = run_alembic(url, *command, check=False)
        assert process.returncode != 0
        assert f"the database is at {HEAD}, and has no migration_log" in process.stdout
        assert "alembic stamp" in process.stdout
        assert process.stderr == ""

    assert f"the database is at {HEAD}" in run_alembic(url, "stamp", HEAD).stderr
    assert await entries(engine) == [(HEAD, "stamp", "done")]
    assert run_migrations(url, "drift").returncode == 0
    if engine.dialect.name == "postgresql":
        assert await query(engine, f"SELECT full_name FROM at_{HEAD}.users") == [("Ada",)]
    run_alembic(url, "downgrade", "0001")
    run_alembic(url, "upgrade", "head")
    assert await query(engine, "SELECT full_name FROM users") == [("Ada",)]


async def test_tables_without_a_recorded_revision_are_refused(
    empty_url: str, empty: AsyncEngine
) -> None:
    await write(empty, "CREATE TABLE users (id bigint)")
    process = run_alembic(empty_url, "upgrade", "head", check=False)
    assert process.returncode != 0
    assert "the database has users already, and nothing says which revision" in process.stdout
    assert process.stderr == ""


@pytest.mark.only("postgresql")
async def test_stamp_publishes_only_the_newest_and_takes_nothing_back(
    url: str, engine: AsyncEngine
) -> None:
    published = "SELECT nspname FROM pg_namespace WHERE nspname ~ '^at_' ORDER BY 1"
    everything = await query(engine, published)
    run_alembic(url, "stamp", "0005")
    assert await query(engine, published) == everything
    await write(engine, "DROP SCHEMA at_0006 CASCADE")
    run_alembic(url, "stamp", "0006")
    assert ("at_0006",) not in await query(engine, published)
    await write(engine, f"DROP SCHEMA at_{HEAD} CASCADE")
    run_alembic(url, "stamp", "head")
    assert (f"at_{HEAD}",) in await query(engine, published)
    stamped = [row[:2] for row in await entries(engine)][-3:]
    assert stamped == [("0005", "stamp"), ("0006", "stamp"), (HEAD, "stamp")]


@pytest.mark.only("postgresql")
async def test_a_role_without_the_rights_is_one_clear_line(
    databases: Databases, url: str, engine: AsyncEngine
) -> None:
    await write(engine, "INSERT INTO users (full_name) VALUES ('Ada')")
    role = f"reader_of_{name_of(url)}"
    await databases.execute(f"CREATE ROLE {role} LOGIN")
    theirs = url.replace("postgres@", f"{role}@")
    before = await entries(engine)
    for revoked in ("TABLE users FROM public", "SCHEMA public FROM public"):
        await write(engine, f"REVOKE ALL ON {revoked}")
        process = run_alembic(theirs, "downgrade", "-1", check=False)
        assert process.returncode != 0
        assert "this role may not " in process.stdout
        assert "Traceback" not in process.stderr
    assert await entries(engine) == before
    assert await revision_of(engine) == HEAD
    await databases.execute(f"DROP ROLE {role}")


@pytest.mark.only("postgresql")
async def test_a_role_of_the_service_that_does_not_exist_is_one_clear_line(
    empty_url: str, empty: AsyncEngine
) -> None:
    process = run_alembic(empty_url, "upgrade", "head", check=False, APP_ROLE="nobody_here")
    assert process.returncode != 0
    assert "the application's role is no role of this server: nobody_here" in process.stdout
    assert process.stderr == ""
    assert await query(empty, "SELECT to_regclass('users')") == [(None,)]


@pytest.mark.only("postgresql")
@pytest.mark.parametrize("suite", SUITES)
@pytest.mark.parametrize("ignored", ["", "lock_timeout,statement_timeout"])
async def test_pgbouncer_is_refused_in_one_clear_line(
    server: Server, empty_url: str, empty: AsyncEngine, suite: str, ignored: str
) -> None:
    settings = {"pool_mode": "transaction", "ignore_startup_parameters": ignored}
    async with pgbouncer(server, suite, **settings) as pooler:
        url = pooler.url(name_of(empty_url))
        for _ in range(2):  # the second run meets statements that the first one prepared
            process = await asyncio.to_thread(run_alembic, url, "upgrade", "head", check=False)
            assert process.returncode != 0
            assert "the address leads through a pooler" in process.stdout
            assert process.stderr == ""
    assert await query(empty, "SELECT to_regclass('users')") == [(None,)]


@pytest.mark.only("postgresql")
async def test_a_script_writes_the_ledger_too(empty_url: str, empty: AsyncEngine) -> None:
    script = run_alembic(empty_url, "upgrade", "head", "--sql").stdout
    assert script.count("INSERT INTO migration_log") == len(NUMBERS)
    await run_script(empty, script)
    assert await entries(empty) == [(number, "upgrade", "done") for number in NUMBERS]
    assert run_migrations(empty_url, "drift").returncode == 0
    run_alembic(empty_url, "downgrade", "base")


UNDO_HALF = (
    'safely.drop_constraint("ck_users_adult", "users", "check")\n'
    'safely.drop_index("idx_users_phone", "users")\n'
    'safely.drop_column("users", "phone")'
)


@pytest.mark.only("postgresql")
async def test_half_a_step_is_no_drift_and_is_finished_by_the_next_run(
    url: str, engine: AsyncEngine, clone: Path, revision: Revision
) -> None:
    await write(engine, "INSERT INTO users (full_name, age) VALUES ('A', 5)")
    revision(FAILS_HALFWAY, UNDO_HALF)
    assert run_alembic(url, "upgrade", "head", cwd=clone, check=False).returncode != 0
    assert (await entries(engine))[-1] == (NEXT, "upgrade", "started")
    process = run_migrations(url, "drift", cwd=clone)
    assert process.returncode == 2
    assert f"upgrade {NEXT} was begun and not finished" in process.stdout

    await write(engine, "UPDATE users SET age = 18")
    run_alembic(url, "upgrade", "head", cwd=clone)
    assert (await entries(engine))[-1] == (NEXT, "upgrade", "done")
    assert run_migrations(url, "drift", cwd=clone).returncode == 0


@pytest.mark.only("postgresql")
async def test_half_a_step_is_undone_before_going_elsewhere(
    url: str, engine: AsyncEngine, clone: Path, revision: Revision
) -> None:
    """When a new revision fails on the data, a downgrade must still work."""
    await write(engine, "INSERT INTO users (full_name, age) VALUES ('A', 5)")
    revision(FAILS_HALFWAY, UNDO_HALF)
    assert run_alembic(url, "upgrade", "head", cwd=clone, check=False).returncode != 0
    log = run_alembic(url, "downgrade", "-1", cwd=clone).stderr
    assert f"upgrade {NEXT} was begun and not finished: undoing it first" in log
    assert (await entries(engine))[-2:] == [
        (NEXT, "upgrade", "undone"),
        (HEAD, "downgrade", "done"),
    ]
    assert run_migrations(url, "drift", cwd=clone).returncode == 0
    run_alembic(url, "upgrade", HEAD, cwd=clone)
    run_alembic(url, "check")
