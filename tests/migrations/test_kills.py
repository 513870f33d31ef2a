"""Killed at any moment, a migration is carried on by the next run as if nothing had happened."""

import asyncio
import json
import os
import random
import re
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from sqlalchemy import text

from migrations.ledger import SNAPSHOT
from tests import forkserver
from tests.chain import HEAD
from tests.commands import run_alembic, start_alembic
from tests.databases import (
    Databases,
    engine_for,
    query,
    revision_of,
    wait_for_blocked_migration,
    write,
)
from tests.paths import ROOT

LOAD = {
    "postgresql": "INSERT INTO users (name) SELECT CASE WHEN n % 10 > 0 THEN 'Name ' || n END "
    "FROM generate_series(1, :rows) AS n",
    "sqlite": "WITH RECURSIVE numbers (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers "
    "LIMIT :rows) INSERT INTO users (name) "
    "SELECT CASE WHEN n % 10 > 0 THEN 'Name ' || n END FROM numbers",
}
# every column, also those that are set aside
ROWS = {
    "postgresql": "SELECT md5(string_agg(to_jsonb(t)::text, ' ' ORDER BY t)) FROM {} AS t",
    "sqlite": "SELECT * FROM {} ORDER BY 1",
}
OTHERS = "('alembic_version', 'migration_log', 'sqlite_sequence')"  # not the application's
PLACES = {
    "postgresql": "SELECT relid::regclass::text FROM pg_stat_user_tables "
    f"WHERE relname NOT IN {OTHERS} ORDER BY 1",
    "sqlite": "SELECT name FROM sqlite_master "
    f"WHERE type = 'table' AND name NOT IN {OTHERS} ORDER BY 1",
}
RENAMED = re.compile(r'^CREATE TABLE "(\w+)"')  # how SQLite spells a table that was aside once
LEFT_BEHIND = {
    "postgresql": "SELECT 'index ' || indexrelid::regclass FROM pg_index WHERE NOT indisvalid "
    "UNION ALL SELECT 'lock ' || locktype FROM pg_locks JOIN pg_stat_activity USING (pid) "
    "WHERE application_name = 'migrations' AND datname = current_database() "
    "UNION ALL SELECT 'lock ' || locktype FROM pg_locks JOIN pg_database ON oid = database "
    "WHERE locktype = 'advisory' AND datname = current_database()",
    "sqlite": "SELECT integrity_check FROM pragma_integrity_check WHERE integrity_check <> 'ok'",
}
UNFINISHED = "SELECT direction, revision FROM migration_log WHERE state = 'started'"
STILL_THERE = """\
SELECT count(*) FROM pg_stat_activity
WHERE application_name = 'migrations' AND datname = current_database()"""
OPPOSITE = {"upgrade": "downgrade base", "downgrade": "upgrade head"}
PATIENCE = 120.0  # seconds


class Leg(NamedTuple):
    """A stretch of the way that a database goes."""

    command: str
    seconds: float  # that it takes when nobody disturbs it
    result: dict[str, Any]  # what the database is like then


def begun(url: str, said: Path, command: str) -> BaseProcess:
    """The command, in a process of its own, which need not import everything first."""
    environment = {**os.environ, "DATABASE_URL": url}
    with said.open("wb") as file:
        streams = (file.fileno(), file.fileno())
        return forkserver.spawn(
            "alembic", command.split(), streams, cwd=ROOT, environment=environment
        )


def all_of(said: Path) -> str:
    return said.read_text(encoding="utf-8")


async def to_the_end(url: str, said: Path, command: str) -> float:
    """Run the command; return how many seconds it took."""
    began = time.monotonic()
    process = begun(url, said, command)
    await asyncio.to_thread(process.join, PATIENCE)
    process.kill()  # only if it is still there, in vain
    assert process.exitcode == 0, all_of(said)
    return time.monotonic() - began


async def killed(url: str, said: Path, command: str, seconds: float) -> str | None:
    """Run the command for so long; return what it did when it was killed, if it was not done."""
    process = begun(url, said, command)
    await asyncio.to_thread(process.join, seconds)
    if process.exitcode is not None:
        assert process.exitcode == 0, all_of(said)
        return None
    process.kill()
    await asyncio.to_thread(process.join)
    running = re.findall(r"Running (\w+) (\w*) -> (\w*)", all_of(said))
    if not running:
        return "before the first step"
    direction, older, newer = running[-1]
    return f"{direction} {newer if direction == 'upgrade' else older}"


async def found(kind: str, url: str) -> dict[str, Any]:
    """Where the database is, what its schema is like, where its tables are, and every row."""
    engine = engine_for(url)
    revision = await query(engine, "SELECT version_num FROM alembic_version")
    ((snapshot,),) = await query(engine, SNAPSHOT[kind].replace(":", r"\:"))
    schema = {
        name: RENAMED.sub(r"CREATE TABLE \1", definition)
        for name, definition in json.loads(snapshot).items()
    }
    places = await query(engine, PLACES[kind])
    rows = [(place, await query(engine, ROWS[kind].format(place))) for (place,) in places]
    await engine.dispose()
    return {"revision": revision, "schema": schema, "rows": rows}


async def left_behind(kind: str, url: str) -> list[Any]:
    """What no run may leave."""
    engine = engine_for(url)
    if kind == "postgresql":  # sessions end a moment later than their process
        async with asyncio.timeout(10):
            while await query(engine, STILL_THERE) != [(0,)]:
                await asyncio.sleep(0.01)
    things = await query(engine, LEFT_BEHIND[kind]) + await query(engine, UNFINISHED)
    await engine.dispose()
    return things


@asynccontextmanager
async def with_rows(databases: Databases, said: Path, rows: int) -> AsyncIterator[str]:
    """A database at 0001, with users."""
    url = await databases.empty()
    await to_the_end(url, said, "upgrade 0001")
    engine = engine_for(url)
    await write(engine, LOAD[databases.kind].replace(":rows", str(rows)))
    await engine.dispose()
    yield url
    await databases.drop(url)


@pytest.mark.parametrize("turned", [False, True], ids=["run again", "turned round"])
async def test_a_migration_killed_at_any_moment_ends_as_if_it_had_not_been(
    databases: Databases, tmp_path: Path, *, full: bool, turned: bool
) -> None:
    """Up, down, and up again with all that was set aside, each killed and then run to its end.

    Turned round: after the kill the opposite is run first.
    """
    kind, said = databases.kind, tmp_path / "said"
    rows, kills = (50_000, 100) if full else (2_000, 7 if turned else 13)
    seed = time.time_ns() % 10**6
    chance = random.Random(seed)  # noqa: S311  # not a secret

    way = []
    async with with_rows(databases, said, rows) as url:
        for command in ("upgrade head", "downgrade base", "upgrade head"):
            seconds = await to_the_end(url, said, command)
            way.append(Leg(command, seconds, await found(kind, url)))

    interrupted: Counter[str] = Counter()
    tries = 0
    while interrupted.total() < kills:
        async with with_rows(databases, said, rows) as url:
            for number, leg in enumerate(way):
                if interrupted.total() == kills:
                    break
                tries += 1
                moment = chance.uniform(0.1, 0.95) * leg.seconds
                when = await killed(url, said, leg.command, moment)
                interrupted.update([when] if when else [])
                if when is None:  # done already: the machine is faster than it was
                    way[number] = leg._replace(seconds=moment)
                if turned:
                    await to_the_end(url, said, OPPOSITE[leg.command.split()[0]])
                await to_the_end(url, said, leg.command)
                at = f"seed {seed}, killed in {when}"
                assert await found(kind, url) == leg.result, at
                assert await left_behind(kind, url) == [], at
    took = ", ".join(f"{leg.command} {leg.seconds:.2f} s" for leg in way)
    print(f"\n{kind}, {rows} rows, seed {seed}: {took}")
    print(f"{interrupted.total()} of {tries} kills interrupted something: {dict(interrupted)}")


@pytest.mark.only("postgresql")
@pytest.mark.parametrize("command", ["upgrade head", "downgrade 0005"])
async def test_what_a_killed_run_left_running_is_outlasted(
    databases: Databases, empty_url: str, command: str
) -> None:
    """Its session builds the index to the end, and only then notices that nobody is there."""
    run_alembic(empty_url, "upgrade", "0006")
    engine = engine_for(empty_url)
    await write(engine, "INSERT INTO users (full_name) VALUES ('A')")
    async with engine.connect() as reader:
        await reader.execute(text("UPDATE users SET full_name = 'B'"))  # what CONCURRENTLY awaits
        first = await start_alembic(empty_url, "upgrade", "head")
        await wait_for_blocked_migration(engine)
        first.kill()
        await first.communicate()
        second = await start_alembic(empty_url, *command.split())
        told = await second.stdout.readline()
        assert not second.stdout.at_eof(), told
        await asyncio.sleep(0.3)  # if it waits inside a statement now, the two will deadlock
        await reader.commit()
        rest, _ = await second.communicate()
    assert second.returncode == 0, (told + rest).decode()
    assert await revision_of(engine) == (HEAD if command == "upgrade head" else "0005")
    assert await left_behind(databases.kind, empty_url) == []
    await engine.dispose()
