"""The tests' pooler limits sessions as pgbouncer does."""

import asyncio

import asyncpg
import pytest

from safely.scratch.embedded import Server
from tests.databases import name_of
from tests.pooler import Mode, pooler

pytestmark = pytest.mark.only("postgresql")

PID = "SELECT pg_backend_pid()"


async def connect(url: str, **settings: str) -> asyncpg.Connection:
    return await asyncpg.connect(url, statement_cache_size=0, server_settings=settings)


@pytest.mark.parametrize("mode", ["transaction", "session"])
async def test_a_client_can_write_read_and_cancel(
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
        assert await one.fetchval("SHOW lock_timeout") == "0"  # the setting at startup was dropped
        await one.execute("SET lock_timeout = '50ms'")
        before = await one.fetchval(PID)

        async with other.transaction():
            setting_and_backend = (
                await other.fetchval("SHOW lock_timeout"),
                await other.fetchval(PID) == before,
            )
            assert setting_and_backend == (
                ("50ms", True) if mode == "transaction" else ("0", False)
            )
            assert (await one.fetchval(PID) == before) is (mode == "session")
        await one.close()
        await other.close()


async def test_a_client_waits_when_every_backend_is_in_use(server: Server, empty_url: str) -> None:
    async with pooler(server, name_of(empty_url), size=1) as url:
        one, other = await connect(url), await connect(url)
        await one.execute("BEGIN; CREATE TABLE things ()")
        waiting = asyncio.create_task(other.fetchval("SELECT to_regclass('things')"))
        assert await asyncio.wait({waiting}, timeout=0.1) == (set(), {waiting})
        one.terminate()
        assert await waiting is None  # the open transaction was rolled back
        await other.close()


async def test_a_strict_pooler_refuses_settings_at_startup(server: Server, empty_url: str) -> None:
    async with pooler(server, name_of(empty_url), strict=True) as url:
        with pytest.raises(asyncpg.ProtocolViolationError) as caught:
            await connect(url, lock_timeout="100ms")
        assert str(caught.value) == "unsupported startup parameter: lock_timeout"

        connection = await connect(url, application_name="tests")
        assert await connection.fetchval("SELECT 1") == 1
        await connection.close()
