"""`alembic upgrade head` on a database in use, and several of them at once."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from tests.chain import HEAD, NUMBERS
from tests.commands import run_alembic, run_alembic_at_once, start_alembic
from tests.databases import revision_of
from tests.revisions import Revision


async def test_eight_migrators_at_once_succeed_and_run_each_step_once(
    empty_url: str, empty: AsyncEngine
) -> None:
    ran = await run_alembic_at_once(empty_url, 8, "upgrade", "head")
    assert [code for code, _ in ran] == [0] * 8, ran
    assert await revision_of(empty) == HEAD
    committed = sum(output.count("the database is at") for _, output in ran)
    assert committed >= 1
    run_alembic(empty_url, "check")

    ran = await run_alembic_at_once(empty_url, 8, "downgrade", "base")
    assert [code for code, _ in ran] == [0] * 8, ran
    assert await revision_of(empty) is None


@pytest.mark.only("postgresql")
async def test_a_migrator_that_waits_names_the_one_at_work_and_gives_up(
    url: str, driver: Any
) -> None:
    run_alembic(url, "downgrade", "-1")
    await driver.execute("SELECT pg_advisory_lock(1970496882)")
    pid = await driver.fetchval("SELECT pg_backend_pid()")
    process = run_alembic(url, "-x", "patience=1", "upgrade", "head", check=False)
    assert process.returncode != 0
    assert f"another migrator is at work (pid {pid}, since " in process.stdout
    await driver.execute("SELECT pg_advisory_unlock(1970496882)")
    run_alembic(url, "upgrade", "head")


@asynccontextmanager
async def clients(url: str, number: int) -> AsyncIterator[list[float]]:
    """Run clients that read and write; yield the list of their queries' durations in seconds."""
    waits: list[float] = []
    finished = asyncio.Event()

    async def client(identity: int) -> None:
        connection = await asyncpg.connect(url)
        while not finished.is_set():
            began = time.monotonic()
            await connection.fetch("SELECT id, email FROM users LIMIT 10")
            await connection.execute("UPDATE users SET age = 5 WHERE id = $1", identity)
            waits.append(time.monotonic() - began)
            await asyncio.sleep(0.005)
        await connection.close()

    async with asyncio.TaskGroup() as tasks:
        for identity in range(1, number + 1):
            tasks.create_task(client(identity))
        try:
            yield waits
        finally:
            finished.set()


ADD_PHONE = (
    'safely.add_column("users", sa.Column("phone", sa.Text()))',
    'safely.drop_column("users", "phone")',
)
HAS_PHONE = """\
SELECT count(*) FROM pg_attribute WHERE attrelid = 'users'::regclass AND attname = 'phone'"""


@pytest.mark.only("postgresql")
async def test_a_blocker_is_named_and_outlasted_while_clients_are_served(
    url: str, clone: Path, revision: Revision, driver: Any, *, full: bool
) -> None:
    """An open transaction that has read a table blocks every ALTER of it."""
    revision(*ADD_PHONE)
    await driver.execute(
        "INSERT INTO users (full_name) SELECT 'N' || n FROM generate_series(1, 99) n"
    )
    await driver.execute("SET application_name = 'a long report'")
    for arguments, expected in ((("upgrade", "head"), 1), (("downgrade", "-1"), 0)):
        blocker = driver.transaction()
        await blocker.start()
        pid = await driver.fetchval("SELECT pg_backend_pid() FROM users")
        async with clients(url, 16 if full else 4) as waits:
            upgrade = await start_alembic(url, *arguments, cwd=clone)
            began = time.monotonic()
            attempts: list[str] = []
            while len(attempts) < 4 or time.monotonic() - began < (5 if full else 0):
                line = (await upgrade.stdout.readline()).decode()
                assert line, "it ended under the blocker"
                attempts += [line] if "trying again" in line else []
            blocked = time.monotonic() - began
            served = len(waits)
            await blocker.commit()
            assert await upgrade.wait() == 0
        print(f"{served} served in {blocked:.1f} s, the longest waited {max(waits) * 1000:.0f} ms")
        named = f"a lock was held for too long by pid {pid}, a long report, in a transaction for"
        assert named in attempts[-1]
        assert "SELECT pg_backend_pid() FROM users; trying again" in attempts[-1]
        assert served > 50
        # queued behind the migration, clients would have waited for the blocker to end
        assert max(waits) < (0.25 if full else blocked / 2)
        assert await driver.fetchval(HAS_PHONE) == expected


@pytest.mark.only("postgresql")
async def test_a_step_that_never_gets_its_lock_is_given_up_and_can_be_run_again(
    url: str, engine: AsyncEngine, clone: Path, revision: Revision, driver: Any
) -> None:
    revision('safely.add_column("users", sa.Column("phone", sa.Text()))')
    async with driver.transaction():
        await driver.execute("SELECT * FROM users")
        arguments = ("-x", "patience=0.5", "upgrade", "head")
        process = run_alembic(url, *arguments, cwd=clone, check=False)
    assert process.returncode != 0
    assert "gave up after 0.5 s: a lock was held for too long by pid" in process.stdout
    assert "Traceback" not in process.stderr
    assert await revision_of(engine) == HEAD
    run_alembic(url, "upgrade", "head", cwd=clone)


async def test_a_relative_target_is_not_overshot_when_a_step_is_tried_again(
    url: str, engine: AsyncEngine
) -> None:
    """`-2` is two steps, whatever happens between them."""
    await run_alembic_at_once(url, 1, "downgrade", "-2")
    assert await revision_of(engine) == NUMBERS[-3]
    run_alembic(url, "upgrade", "+2")
    assert await revision_of(engine) == HEAD


@pytest.mark.parametrize(
    "argument",
    [
        "patience=long",
        "patience=nan",
        "lock_timeout=soon",
        "lock_timeout=1s",
        "lock_timeout=0ms",
        "max_lag=soon",
        "max_lag=0s",
        "max_lag=10",
    ],
)
async def test_an_argument_that_can_not_be_used_is_one_clear_line(url: str, argument: str) -> None:
    process = run_alembic(url, "-x", argument, "downgrade", "-1", check=False)
    assert process.returncode != 0
    assert f"-x {argument.partition('=')[0]}=… takes " in process.stdout
    assert process.stderr == ""
