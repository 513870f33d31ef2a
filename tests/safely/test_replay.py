"""Drift is found by replaying the revisions where there is no ledger, and nothing else is."""

import json
from pathlib import Path

import pytest
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy.ext.asyncio import AsyncEngine

from safely.database import read
from safely.ledger import replay
from safely.ledger.replay_rules import Schema, comparable, reworded
from safely.ledger.snapshot import differences
from tests.chain import HEAD, NEXT, NUMBERS, PREVIOUS
from tests.commands import run_alembic, run_migrations
from tests.databases import Databases, engine_for, write
from tests.hand_edits import PETS, SQLITE_EDITS, TRIGGER, TWELVE_EDITS, execute_script
from tests.paths import ROOT
from tests.revisions import FAILS_HALFWAY, Revision

SCRIPT = ScriptDirectory.from_config(Config(ROOT / "alembic.ini"))
MAKE_PETS = f"""\
from alembic import op
pets = 'DO $pets$ BEGIN EXECUTE $sql$' + {PETS!r} + '$sql$; END $pets$'
op.execute(sa.text(pets.replace(":", r"\\:")))"""
DROP_LEDGER = {
    "postgresql": "DROP TABLE migration_log CASCADE",
    "sqlite": "DROP TABLE migration_log",
}


async def differences_from(engine: AsyncEngine, replayed: Schema, at: str = HEAD) -> list[str]:
    """Return how the schema differs from a replay, in sentences."""
    schema = await read(engine, replay.schema_of)
    return replay.compared(replayed, schema, at, SCRIPT).differences


async def schema_after(databases: Databases, *arguments: str, cwd: Path = ROOT) -> Schema:
    url = await databases.empty()
    run_alembic(url, *arguments, cwd=cwd)
    engine = engine_for(url)
    schema = await read(engine, replay.schema_of)
    await engine.dispose()
    await databases.drop(url)
    return schema


pets: Schema = {}


@pytest.fixture
async def replayed_with_pets(databases: Databases, clone: Path, revision: Revision) -> Schema:
    """Return the schema of the chain with PETS: one object of each kind that it lacks."""
    if not pets:
        revision(MAKE_PETS)
        pets.update(await schema_after(databases, "upgrade", "head", cwd=clone))
    return pets


@pytest.mark.only("postgresql")
@pytest.mark.parametrize("edit", TWELVE_EDITS)
async def test_each_of_the_twelve_edits_is_found_without_a_ledger(
    engine: AsyncEngine, replayed_with_pets: Schema, edit: str
) -> None:
    await execute_script(engine, PETS)
    await write(engine, DROP_LEDGER["postgresql"])
    assert await differences_from(engine, replayed_with_pets, NEXT) == []
    statement, sentence = TWELVE_EDITS[edit]
    await execute_script(engine, statement)
    assert await differences_from(engine, replayed_with_pets, NEXT) == [sentence]


@pytest.mark.only("sqlite")
async def test_edits_of_sqlite_are_found_without_a_ledger(engine: AsyncEngine) -> None:
    replayed = await read(engine, replay.schema_of)
    await write(engine, DROP_LEDGER["sqlite"])
    assert await differences_from(engine, replayed) == []
    await write(engine, TRIGGER)
    for statements, _ in SQLITE_EDITS.values():
        await execute_script(engine, statements)
    sentences = [sentence.partition(": ") for sentence in await differences_from(engine, replayed)]
    assert [(name, words[:7]) for name, _, words in sentences] == [
        ("index idx_user_email", "is gone"),
        ("table teams", "was add"),
        ("table users", 'was "… '),
        ("trigger greet on users", "was add"),
        ("view names", "was add"),
    ]


async def test_the_command_tells_drift_of_a_database_without_a_ledger(
    url: str, engine: AsyncEngine
) -> None:
    await write(engine, DROP_LEDGER[engine.dialect.name])
    if engine.dialect.name == "sqlite":  # where it is quick
        process = run_migrations(url, "drift", "--against-replay")
        assert process.stdout == f"no drift from a replay of the revisions to {HEAD}\n"
        assert process.returncode == 0
    await write(engine, "CREATE INDEX surprise ON users (age)")
    process = run_migrations(url, "drift", "--against-replay", "--json")
    assert process.returncode == 1, process.stderr
    (difference,) = json.loads(process.stdout)["differences"]
    assert difference.startswith("index surprise: was added")
    assert run_migrations(url, "drift").returncode == 2


async def test_what_downgrades_and_purges_leave_is_no_drift(
    databases: Databases, url: str, engine: AsyncEngine
) -> None:
    replayed = {HEAD: await read(engine, replay.schema_of)}
    for at in ("0002", PREVIOUS):
        replayed[at] = await schema_after(databases, "upgrade", at)
    run_alembic(url, "downgrade", "-1")
    assert await differences_from(engine, replayed[PREVIOUS], PREVIOUS) == []
    run_alembic(url, "downgrade", "0002")
    assert await differences_from(engine, replayed["0002"], "0002") == []
    run_migrations(url, "purge", "--undone", "--yes")
    assert await differences_from(engine, replayed["0002"], "0002") == []
    run_alembic(url, "upgrade", "head")
    assert await differences_from(engine, replayed[HEAD]) == []
    run_migrations(url, "purge", "--before", HEAD, "--yes")
    assert await differences_from(engine, replayed[HEAD]) == []
    run_alembic(url, "stamp", "0005")
    run_alembic(url, "stamp", "head")
    assert await differences_from(engine, replayed[HEAD]) == []


@pytest.mark.only("postgresql")
async def test_versions_that_were_never_published_are_not_missed(engine: AsyncEngine) -> None:
    replayed = await read(engine, replay.schema_of)
    for number in NUMBERS:
        await write(engine, f"DROP SCHEMA at_{number} CASCADE")
    assert await differences_from(engine, replayed) == []


@pytest.mark.only("postgresql")
async def test_a_trigger_for_builds_that_are_still_served_is_missed(engine: AsyncEngine) -> None:
    replayed = await read(engine, replay.schema_of)
    await write(engine, "DROP TRIGGER fill_missing_2 ON users")
    (sentence,) = await differences_from(engine, replayed)
    assert sentence.startswith("trigger fill_missing_2 on users: is gone")
    for number in NUMBERS[:4]:
        await write(engine, f"DROP SCHEMA at_{number} CASCADE")
    assert await differences_from(engine, replayed) == []
    await write(engine, "DROP FUNCTION fill_missing()")
    assert await differences_from(engine, replayed) == []


@pytest.mark.only("postgresql")
async def test_rights_that_a_deployment_gives_beforehand_are_no_drift_and_others_are(
    engine: AsyncEngine,
) -> None:
    replayed = await read(engine, replay.schema_of)
    await write(engine, "REVOKE ALL ON SCHEMA public FROM PUBLIC")
    await write(engine, "ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO pg_monitor")
    assert await differences_from(engine, replayed) == []
    await write(engine, f"GRANT SELECT ON at_{HEAD}.users TO pg_monitor")
    (sentence,) = await differences_from(engine, replayed)
    assert sentence == f'grant on at_{HEAD}.users to pg_monitor: was added ("SELECT")'


async def test_where_nothing_can_be_replayed_it_says_why(
    url: str, engine: AsyncEngine, empty_url: str, clone: Path, revision: Revision
) -> None:
    process = run_migrations(empty_url, "drift", "--against-replay")
    assert process.returncode == 2
    assert "the database is at no revision: there is nothing to replay" in process.stderr
    if engine.dialect.name == "postgresql":
        await write(engine, "INSERT INTO users (full_name, age) VALUES ('A', 5)")
        revision(FAILS_HALFWAY)
        run_alembic(url, "upgrade", "head", cwd=clone, check=False)
        process = run_migrations(url, "drift", "--against-replay", cwd=clone)
        assert process.returncode == 2
        assert f"upgrade {NEXT} was begun and not finished" in process.stderr
    await write(engine, "UPDATE alembic_version SET version_num = '9999'")
    process = run_migrations(url, "drift", "--against-replay")
    assert process.returncode == 2
    assert "the database is at 9999, which these files don't have" in process.stderr


def test_however_sqlite_words_a_table_it_is_the_same() -> None:
    grown = (
        'CREATE TABLE users (\n\tid INTEGER NOT NULL, \n\tname TEXT\n, "age" INTEGER '
        "CONSTRAINT ck_age CHECK (age IN (1, 2)))"
    )
    copied = (
        'CREATE TABLE "users" (id INTEGER NOT NULL, age INTEGER, name TEXT, _aside_0009_x TEXT, '
        "CONSTRAINT ck_age CHECK (age IN (1, 2)), CONSTRAINT ck_x CHECK (_aside_0009_x > ')'))"
    )
    other = grown.replace("(1, 2)", "(1, 3)")
    words = [reworded({"table users": statement}) for statement in (grown, copied, other)]
    assert words[0] == words[1] != words[2]


def test_a_version_of_a_revision_without_a_file_is_drift() -> None:
    schema = {"schema at_0042": "schema", "schema at_0003": "schema"}
    replayed, schema = comparable({}, schema, ["0001", "0002", "0003"])
    assert differences(replayed, schema) == ["schema at_0042: was added"]
