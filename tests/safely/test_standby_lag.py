"""Migrations wait while a streaming standby lags, and say for whom."""

import asyncio
import os
import re
import signal
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from safely.scratch.embedded import Server
from tests import dying_databases
from tests.app import serving
from tests.commands import run_alembic, start_alembic
from tests.dying_databases import dying_server
from tests.forkserver import Running
from tests.migrated import leftovers
from tests.replication import catch_up, pause_replay, resume_replay, standby_of, value

PATIENCE = 30.0  # seconds until what does not come fails the test
POLL = 0.01  # seconds between two looks at the primary, which has no event for a standby's lag
NAMELESS = "INSERT INTO users (name) SELECT NULL FROM generate_series(1, 3000)"
LAGS = "SELECT coalesce(max(replay_lag) > '100ms', false) FROM pg_stat_replication"
# the age of what is replayed, also while the standby is silent
LAG = """\
SELECT coalesce(max(extract(epoch FROM greatest(replay_lag, '0')))::float, 0)
FROM pg_stat_replication WHERE replay_lsn < pg_current_wal_flush_lsn()"""
STARTUP = "SELECT pid FROM pg_stat_activity WHERE backend_type = 'startup'"
BATCH = 1.0  # seconds by which one batch may exceed the limit on a busy machine
MISSING = "SELECT count(*) FROM users WHERE name IS NULL"
# transactions, snapshots and locks on tables that the migration holds
HELD = """\
SELECT count(*) FROM pg_stat_activity LEFT JOIN pg_locks USING (pid)
WHERE application_name = 'migrations'
  AND (backend_xmin IS NOT NULL OR backend_xid IS NOT NULL OR relation IS NOT NULL)"""
LIMITED = ("-x", "max_lag=50ms", "upgrade", "0005")


@pytest.fixture(scope="module")
def pair() -> Iterator[tuple[Server, Server]]:
    """Yield a primary and its standby."""
    with tempfile.TemporaryDirectory() as name:  # tmp_path is too long for the path of a socket
        place = Path(name)
        with (
            dying_server(place / "primary", "-c", "fsync=off") as primary,
            standby_of(primary, place / "one", "-c", "fsync=off") as standby,
        ):
            yield primary, standby


async def lag(primary: Server, standby: Server, connection: asyncpg.Connection) -> None:
    """Add rows for a backfill, and return once the standby is seen to lag over 100 ms."""
    await catch_up(primary, standby)
    await pause_replay(standby)
    await connection.execute(NAMELESS)
    async with asyncio.timeout(PATIENCE):
        while not await connection.fetchval(LAGS):
            await connection.execute("SELECT pg_logical_emit_message(false, 'test', 'WAL')")
            await asyncio.sleep(POLL)


async def waiting(url: str) -> Running:
    """Return a migration that has said that it waits for the standby."""
    upgrade = await start_alembic(url, *LIMITED)
    async with asyncio.timeout(PATIENCE):
        while line := (await upgrade.stdout.readline()).decode():
            if "waiting for a standby" in line:
                assert re.search(
                    r"standby: one \([\d.]+ m?s and \d+ [KM]iB behind\); max_lag", line
                )
                return upgrade
    raise AssertionError("the migration ended without waiting")


async def interrupted(url: str, number: signal.Signals) -> str:
    """Send a signal to a migration that waits for the standby; return the rest of its output."""
    upgrade = await waiting(url)
    os.kill(upgrade.process.pid or 0, number)
    printed = await output(upgrade)
    assert upgrade.returncode != 0
    return printed


async def output(process: Running, patience: float = PATIENCE) -> str:
    """Return the rest of what the process prints, once it has ended."""
    async with asyncio.timeout(patience):
        printed, _ = await process.communicate()
    return printed.decode()


@asynccontextmanager
async def slow(standby: Server) -> AsyncIterator[None]:
    """Let the standby replay for a tenth of the time, as one with slower disks would."""
    over = asyncio.Event()

    async def replay_in_turns() -> None:
        pid = int(str(await value(standby, STARTUP)))
        try:
            while not over.is_set():
                os.kill(pid, signal.SIGSTOP)
                await asyncio.sleep(0.045)
                os.kill(pid, signal.SIGCONT)
                await asyncio.sleep(0.005)
        finally:
            os.kill(pid, signal.SIGCONT)

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(replay_in_turns())
        try:
            yield
        finally:
            over.set()


@asynccontextmanager
async def watched(connection: asyncpg.Connection) -> AsyncIterator[list[float]]:
    """Yield a list that grows by the standby's lag, in seconds, as the primary sees it."""
    lags, over = [0.0], asyncio.Event()

    async def look() -> None:
        while not over.is_set():
            lags.append(await connection.fetchval(LAG))
            await asyncio.sleep(POLL)

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(look())
        try:
            yield lags
        finally:
            over.set()


async def shown(url: str) -> tuple[dict[str, Any], str]:
    """Return /evolution.json and the page /evolution of a service that uses the database."""
    async with serving(database_url=url) as client:
        return (await client.get("/evolution.json")).json(), (await client.get("/evolution")).text


@pytest.mark.only("postgresql")
async def test_a_backfill_waits_for_a_standby_that_lags(pair: tuple[Server, Server]) -> None:
    """Clients write meanwhile; ^C, SIGTERM and the end of the standby end the wait."""
    primary, standby = pair
    url = primary.url("postgres")
    run_alembic(url, "upgrade", "0004")
    connection = await asyncpg.connect(url)

    await lag(primary, standby, connection)
    upgrade = await waiting(url)
    await connection.execute("INSERT INTO users (name) VALUES ('written meanwhile')")
    assert await connection.fetchval(HELD) == 0
    evolution, page = await shown(url)
    assert evolution["running"]["waits_for_standby"]
    ((name, state, size, seconds),) = (tuple(one.values()) for one in evolution["standbys"])
    assert (name, state) == ("one", "streaming")
    assert size > 10_000
    assert seconds > 0.05
    assert "waiting for a standby" in page
    assert "It waits until a standby has caught up" in page
    await resume_replay(standby)
    printed = await output(upgrade)
    assert "no standby lags any more: going on after" in printed
    assert upgrade.returncode == 0, printed
    assert await connection.fetchval(MISSING) == 0

    run_alembic(url, "-x", "max_lag=off", "downgrade", "0004")
    await lag(primary, standby, connection)
    assert "it goes on from there" in await interrupted(url, signal.SIGINT)
    await interrupted(url, signal.SIGTERM)
    given_up = run_alembic(url, "-x", "patience=0.3", *LIMITED, check=False).stdout
    assert "gave up after 0.3 s: a standby is still more than max_lag=0.05s behind" in given_up
    assert "-x ignore_standbys=one" in given_up
    run_alembic(url, "-x", "ignore_standbys=one", *LIMITED)
    assert await connection.fetchval(MISSING) == 0
    await resume_replay(standby)

    run_alembic(url, "-x", "max_lag=off", "downgrade", "0004")
    await lag(primary, standby, connection)
    upgrade = await waiting(url)
    dying_databases.kill(standby)
    assert "no standby lags any more" in await output(upgrade)
    assert upgrade.returncode == 0
    assert await connection.fetchval(MISSING) == 0
    await connection.close()
    assert await leftovers("postgresql", url) == []
    dying_databases.start_again(standby)


@pytest.mark.only("postgresql")
async def test_a_lag_that_can_not_be_read_is_told_with_its_remedy(
    pair: tuple[Server, Server],
) -> None:
    """Where the limit was asked for, nothing is changed; else the migration goes on."""
    primary, standby = pair
    connection = await asyncpg.connect(primary.url("postgres"))
    await connection.execute("CREATE ROLE plain LOGIN")
    await connection.execute("CREATE DATABASE plain OWNER plain")
    await catch_up(primary, standby)
    url = primary.url("plain").replace("postgres@", "plain@")
    refused = run_alembic(url, *LIMITED, check=False).stdout
    assert refused == (
        "FAILED: -x max_lag can't be obeyed: this role may not see how far one is behind. As a "
        "superuser: GRANT pg_read_all_stats TO plain. Nothing was changed\n"
    )
    warned = run_alembic(url, "upgrade", "0005").stderr
    assert "batches don't wait for standbys that lag: this role may not see how far one" in warned
    evolution, page = await shown(url)
    assert evolution["standbys"] == [{"name": "one", "state": None, "bytes": None, "seconds": None}]
    assert "GRANT pg_read_all_stats TO" in page
    await connection.execute("GRANT pg_read_all_stats TO plain")
    assert "standby" not in run_alembic(url, "-x", "max_lag=10s", "upgrade", "head").stderr
    await connection.close()


@pytest.mark.only("postgresql")
async def test_the_lag_of_a_slow_standby_stays_within_the_limit_and_one_batch(
    pair: tuple[Server, Server], *, full: bool
) -> None:
    """Print the highest lag with the limit and without, and what the wait cost."""
    if not full:
        pytest.skip("takes minutes")
    rows, limit = 1_000_000, 2.0
    primary, standby = pair
    connection = await asyncpg.connect(primary.url("postgres"))
    for database in ("limited", "unlimited"):
        await connection.execute(f"CREATE DATABASE {database}")
    highest, took = {}, {}
    for database, max_lag in (("unlimited", "off"), ("limited", f"{limit}s")):
        url = primary.url(database)
        run_alembic(url, "upgrade", "0004")
        one = await asyncpg.connect(url)
        await one.execute(f"INSERT INTO users (name) SELECT NULL FROM generate_series(1, {rows})")
        await one.execute("VACUUM ANALYZE users")
        await one.close()
        await catch_up(primary, standby)
        began = time.monotonic()
        async with slow(standby), watched(connection) as lags:
            upgrade = await start_alembic(url, "-x", f"max_lag={max_lag}", "upgrade", "0005")
            await output(upgrade, patience=600)
            took[database] = time.monotonic() - began
            assert upgrade.returncode == 0
        highest[database] = max(lags)
        await catch_up(primary, standby)
    await connection.close()
    print(f"{rows:,} rows; highest lag and duration in seconds: {highest}, {took}")
    assert highest["unlimited"] > limit  # or this proves nothing
    assert highest["limited"] < limit + BATCH
