"""The pooler that tests put before PostgreSQL takes from a session what a real one takes."""

import asyncio

import asyncpg
import pytest

from service.embedded import Server
from tests.databases import name_of
from tests.pooler import Mode, pooler

pytestmark = pytest.mark.only("postgresql")

PID = "SELECT pg_backend_pid()"


async def connect(url: str, **settings: str) -> asyncpg.Connection:
    return await asyncpg.connect(url, statement_cache_size=0, server_settings=settings)


@pytest.mark.parametrize("mode", ["transaction", "session"])
async def test_a_client_writes_reads_and_cancels(
    server: Server, empty_url: str, mode: Mode
) -> None:
    async with pooler(server, name_of(empty_url), mode=mode) as url:
        connection = await connect(url)
        async with connection.transaction():
            await connection.execute("CREATE TABLE things (number int)")
            await connection.copy_records_to_table("things", records=[(n,) for n in range(9999)])
        assert (
            await connection.fetchval("SELECT sum(number) FROM things WHERE number < $1", 9) == 36
        )
        with pytest.raises(asyncpg.DivisionByZeroError):
            await connection.execute("SELECT 1 / 0")
        with pytest.raises(TimeoutError):
            await connection.execute("SELECT pg_sleep(60)", timeout=0.1)
        assert len(await connection.fetch("SELECT number FROM things")) == 9999
        await connection.close()


@pytest.mark.parametrize("mode", ["transaction", "session"])
async def test_only_a_session_keeps_its_backend_and_its_settings(
    server: Server, empty_url: str, mode: Mode
) -> None:
    async with pooler(server, name_of(empty_url), mode=mode) as url:
        one, other = await connect(url, lock_timeout="100ms"), await connect(url)
        assert await one.fetchval("SHOW lock_timeout") == "0"  # not what it set at startup
        await one.execute("SET lock_timeout = '50ms'")
        before = await one.fetchval(PID)

        async with other.transaction():
            seen = await other.fetchval("SHOW lock_timeout"), await other.fetchval(PID) == before
            assert seen == (("50ms", True) if mode == "transaction" else ("0", False))
            assert (await one.fetchval(PID) == before) is (mode == "session")
        await one.close()
        await other.close()


async def test_who_finds_every_backend_lent_waits(server: Server, empty_url: str) -> None:
    async with pooler(server, name_of(empty_url), size=1) as url:
        one, other = await connect(url), await connect(url)
        await one.execute("BEGIN; CREATE TABLE things ()")
        asked = asyncio.create_task(other.fetchval("SELECT to_regclass('things')"))
        assert await asyncio.wait({asked}, timeout=0.1) == (set(), {asked})
        one.terminate()
        assert await asked is None  # the transaction was not kept, and not handed on
        await other.close()


async def test_a_strict_one_refuses_settings_at_startup(server: Server, empty_url: str) -> None:
    async with pooler(server, name_of(empty_url), strict=True) as url:
        with pytest.raises(asyncpg.ProtocolViolationError) as caught:
            await connect(url, lock_timeout="100ms")
        assert str(caught.value) == "unsupported startup parameter: lock_timeout"

        connection = await connect(url, application_name="tests")
        assert await connection.fetchval("SELECT 1") == 1
        await connection.close()
