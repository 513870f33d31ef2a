"""A commit under synchronous replication that reached no standby is never acknowledged."""

import asyncio
from pathlib import Path

import pytest
from sqlalchemy import text

from service.database import Database
from service.errors import OutcomeUnknown
from service.settings import Settings
from tests.chaos.postgresql import Postgresql, started
from tests.databases import execute

CANCEL = "SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE wait_event = 'SyncRep'"


async def test_a_commit_whose_wait_for_a_standby_was_cancelled_is_of_unknown_outcome(
    tmp_path: Path,
) -> None:
    with started(Postgresql(tmp_path / "postgresql")) as server:
        url = server.url("postgres")
        silenced = "ALTER ROLE postgres SET client_min_messages = 'error'"
        await execute(url, "CREATE TABLE written (it int)", silenced, "SELECT 1")
        await execute(
            url,
            "ALTER SYSTEM SET synchronous_standby_names = 'nobody'",
            "SELECT pg_reload_conf()",
        )
        database = Database(Settings(database_url=url), "0009")

        async def cancel_the_wait() -> None:
            while not await execute(url, CANCEL):
                await asyncio.sleep(0.01)

        async with database.open(), asyncio.timeout(30):
            cancelling = asyncio.create_task(cancel_the_wait())
            with pytest.raises(OutcomeUnknown):
                async with database.write() as session:
                    await session.execute(text("INSERT INTO written VALUES (1)"))
            await cancelling
        assert await execute(url, "SELECT it FROM written") != []
