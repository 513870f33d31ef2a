"""Migrations wait while a streaming standby lags, and say for whom."""

import asyncio
import os
import re
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import pytest

from safely.scratch.embedded import Server
from tests import dying_databases
from tests.commands import run_alembic, start_alembic
from tests.dying_databases import dying_server
from tests.forkserver import Running
from tests.migrated import leftovers
from tests.replication import catch_up, pause_replay, resume_replay, standby_of

PATIENCE = 30.0  # seconds until what does not come fails the test
POLL = 0.01  # seconds between two looks at the primary, which has no event for a standby's lag
NAMELESS = "INSERT INTO users (name) SELECT NULL FROM generate_series(1, 3000)"
LAGS = "SELECT coalesce(max(replay_lag) > '100ms', false) FROM pg_stat_replication"
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


async def output(process: Running) -> str:
    """Return the rest of what the process prints, once it has ended."""
    async with asyncio.timeout(PATIENCE):
        printed, _ = await process.communicate()
    return printed.decode()


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
    await resume_replay(standby)
    printed = await output(upgrade)
    assert "no standby lags any more: going on after" in printed
    assert upgrade.returncode == 0, printed
    assert await connection.fetchval(MISSING) == 0

    for number in (signal.SIGINT, signal.SIGTERM):
        run_alembic(url, "-x", "max_lag=off", "downgrade", "0004")
        await lag(primary, standby, connection)
        upgrade = await waiting(url)
        os.kill(upgrade.process.pid or 0, number)
        printed = await output(upgrade)
        assert upgrade.returncode != 0
        assert number != signal.SIGINT or "it goes on from there" in printed
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
    await connection.execute("GRANT pg_read_all_stats TO plain")
    assert "standby" not in run_alembic(url, "-x", "max_lag=10s", "upgrade", "head").stderr
    await connection.close()
