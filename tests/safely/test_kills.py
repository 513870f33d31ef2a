"""A migration that is killed at any moment is completed by the next run."""

import asyncio
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

from tests import forkserver
from tests.chain import HEAD
from tests.commands import run_alembic, start_alembic
from tests.databases import (
    Databases,
    engine_for,
    revision_of,
    wait_for_blocked_migration,
    write,
)
from tests.migrated import leftovers, state_of
from tests.paths import ROOT

LOAD = {
    "postgresql": "INSERT INTO users (name) SELECT CASE WHEN n % 10 > 0 THEN 'Name ' || n END "
    "FROM generate_series(1, :rows) AS n",
    "sqlite": "WITH RECURSIVE numbers (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers "
    "LIMIT :rows) INSERT INTO users (name) "
    "SELECT CASE WHEN n % 10 > 0 THEN 'Name ' || n END FROM numbers",
}
OPPOSITE = {"upgrade": "downgrade base", "downgrade": "upgrade head"}
PATIENCE = 120.0  # seconds


class Run(NamedTuple):
    """A command that ran without being killed."""

    command: str
    seconds: float
    result: dict[str, Any]  # the state of the database afterwards


def start(url: str, output: Path, command: str) -> BaseProcess:
    """Start Alembic; its output goes to the file."""
    environment = {**os.environ, "DATABASE_URL": url}
    with output.open("wb") as file:
        streams = (file.fileno(), file.fileno())
        return forkserver.spawn(
            "alembic", command.split(), streams, cwd=ROOT, environment=environment
        )


def text_of(output: Path) -> str:
    """Return what a command has printed."""
    return output.read_text(encoding="utf-8")


async def run_to_the_end(url: str, output: Path, command: str) -> float:
    """Run the command; return how many seconds it took."""
    began = time.monotonic()
    process = start(url, output, command)
    await asyncio.to_thread(process.join, PATIENCE)
    process.kill()  # after the deadline; otherwise it has ended
    assert process.exitcode == 0, text_of(output)
    return time.monotonic() - began


async def run_and_kill(url: str, output: Path, command: str, seconds: float) -> str | None:
    """Run the command, kill it after `seconds`; return its step, None if it ended before."""
    process = start(url, output, command)
    await asyncio.to_thread(process.join, seconds)
    if process.exitcode is not None:
        assert process.exitcode == 0, text_of(output)
        return None
    process.kill()
    await asyncio.to_thread(process.join)
    running = re.findall(r"Running (\w+) (\w*) -> (\w*)", text_of(output))
    if not running:
        return "before the first step"
    direction, older, newer = running[-1]
    return f"{direction} {newer if direction == 'upgrade' else older}"


@asynccontextmanager
async def database_with_rows(databases: Databases, output: Path, rows: int) -> AsyncIterator[str]:
    """Yield a database at 0001 with so many users."""
    url = await databases.empty()
    await run_to_the_end(url, output, "upgrade 0001")
    engine = engine_for(url)
    await write(engine, LOAD[databases.kind].replace(":rows", str(rows)))
    await engine.dispose()
    yield url
    await databases.drop(url)


@pytest.mark.parametrize("reversed_first", [False, True], ids=["run again", "turned round"])
async def test_a_migration_killed_at_any_moment_is_completed_by_the_next_run(
    databases: Databases, tmp_path: Path, *, full: bool, reversed_first: bool
) -> None:
    """Upgrade, downgrade, and upgrade again, each killed and then run to its end.

    With `reversed_first`, the opposite command runs between the two.
    """
    kind, output = databases.kind, tmp_path / "output"
    rows, kills = (50_000, 100) if full else (2_000, 3)
    seed = time.time_ns() % 10**6
    chance = random.Random(seed)  # noqa: S311  # not a secret

    runs = []
    async with database_with_rows(databases, output, rows) as url:
        for command in ("upgrade head", "downgrade base", "upgrade head"):
            seconds = await run_to_the_end(url, output, command)
            runs.append(Run(command, seconds, await state_of(kind, url)))

    interrupted: Counter[str] = Counter()
    tries = 0
    while interrupted.total() < kills:
        async with database_with_rows(databases, output, rows) as url:
            for number, run in enumerate(runs):
                if interrupted.total() == kills:
                    break
                tries += 1
                moment = chance.uniform(0.1, 0.95) * run.seconds
                when = await run_and_kill(url, output, run.command, moment)
                interrupted.update([when] if when else [])
                if when is None:  # it was done: the machine is faster than when it was measured
                    runs[number] = run._replace(seconds=moment)
                if reversed_first:
                    await run_to_the_end(url, output, OPPOSITE[run.command.split()[0]])
                await run_to_the_end(url, output, run.command)
                at = f"seed {seed}, killed in {when}"
                assert await state_of(kind, url) == run.result, at
                assert await leftovers(kind, url) == [], at
    took = ", ".join(f"{run.command} {run.seconds:.2f} s" for run in runs)
    print(f"\n{kind}, {rows} rows, seed {seed}: {took}")
    print(f"{interrupted.total()} of {tries} kills interrupted something: {dict(interrupted)}")


@pytest.mark.only("postgresql")
@pytest.mark.parametrize("command", ["upgrade head", "downgrade 0005"])
async def test_the_next_run_waits_for_the_statement_of_a_killed_run(
    databases: Databases, empty_url: str, command: str
) -> None:
    """The server builds the index to its end before it notices that the client is gone."""
    run_alembic(empty_url, "upgrade", "0006")
    engine = engine_for(empty_url)
    await write(engine, "INSERT INTO users (full_name) VALUES ('A')")
    async with engine.connect() as reader:
        await reader.execute(text("UPDATE users SET full_name = 'B'"))  # CONCURRENTLY waits for it
        first = await start_alembic(empty_url, "upgrade", "head")
        await wait_for_blocked_migration(engine)
        first.kill()
        await first.communicate()
        second = await start_alembic(empty_url, *command.split())
        line = await second.stdout.readline()
        assert not second.stdout.at_eof(), line
        await asyncio.sleep(0.3)  # a wait inside a statement would deadlock now
        await reader.commit()
        rest, _ = await second.communicate()
    assert second.returncode == 0, (line + rest).decode()
    assert await revision_of(engine) == (HEAD if command == "upgrade head" else "0005")
    assert await leftovers(databases.kind, empty_url) == []
    await engine.dispose()
