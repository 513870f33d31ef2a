"""The sessions of imports and exports."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from sqlalchemy import func, insert, select, text
from sqlalchemy.ext.asyncio import AsyncSession

from service.database import Database
from service.models import SCHEMA_REVISION
from service.settings import Settings
from service.transfer.lines import Row
from service.transfer.rejections import Rejections
from service.transfer.sessions import Transfers
from service.transfer.staging import merge, staged
from service.users import USERS

COUNT = select(func.count()).select_from(USERS)
ROWS = [Row(1, "Ada", None, None, has_age=False)]


@asynccontextmanager
async def opened(url: str, pool_size: int = 4) -> AsyncIterator[tuple[Database, Transfers]]:
    settings = Settings(database_url=url, pool_size=pool_size)
    database = Database(settings, SCHEMA_REVISION)
    async with database.open():
        yield database, Transfers(settings, database)


async def create(database: Database, name: str) -> None:
    async with database.write() as session:
        await session.execute(insert(USERS).values(full_name=name))


async def users_of(database: Database) -> int | None:
    async with database.read() as session:
        return await session.scalar(COUNT)


async def test_a_guard_is_held_until_the_import_is_committed(url: str) -> None:
    async with opened(url) as (database, transfers):
        counts = []

        @asynccontextmanager
        async def guard(_: AsyncSession) -> AsyncIterator[None]:
            counts.append(await users_of(database))
            yield
            counts.append(await users_of(database))

        async def rows() -> AsyncIterator[list[Row]]:
            yield ROWS

        async with transfers.import_session(guard) as session, staged(session, rows()) as count:
            await merge(session, count, "skip", Rejections())
            counts.append(await users_of(database))
        assert counts == [0, 0, 1]


async def test_others_write_until_all_lines_are_staged_and_the_merge_sees_it(url: str) -> None:
    async with opened(url) as (database, transfers):

        async def rows() -> AsyncIterator[list[Row]]:
            yield ROWS
            await create(database, "Before the last line")
            yield [Row(number, "Ada", None, None, has_age=False) for number in range(2, 20_002)]
            await create(database, "After the last line")

        async with transfers.import_session() as session, staged(session, rows()) as count:
            assert await session.scalar(COUNT) == 2
            await merge(session, count, "skip", Rejections())
        assert await users_of(database) == 2 + 20_001


async def test_an_import_that_fails_leaves_its_connection_as_it_was(url: str) -> None:
    async def failing() -> AsyncIterator[list[Row]]:
        yield ROWS
        raise ConnectionResetError

    async def rows() -> AsyncIterator[list[Row]]:
        yield ROWS

    async with opened(url, pool_size=1) as (database, transfers):
        with pytest.raises(ConnectionResetError):
            async with transfers.import_session() as session, staged(session, failing()):
                pass
        for _ in range(2):
            async with transfers.import_session() as session, staged(session, rows()) as count:
                await merge(session, count, "fail", Rejections())
        assert await users_of(database) == 2


async def test_all_statements_of_an_export_see_one_snapshot(url: str) -> None:
    async with opened(url) as (database, transfers):
        async with transfers.export_session() as session:
            assert await session.scalar(COUNT) == 0
            await create(database, "Too late")
            assert await session.scalar(COUNT) == 0
        async with transfers.export_session() as session:
            assert await session.scalar(COUNT) == 1


async def test_the_connection_of_an_export_reads_what_is_committed_afterwards(url: str) -> None:
    async with opened(url, pool_size=1) as (database, transfers):
        async with transfers.export_session() as session:
            assert await session.scalar(COUNT) == 0
        await create(database, "Ada")
        async with database.read() as session:
            assert await session.scalar(COUNT) == 1
            if database.is_postgresql:
                isolation = await session.scalar(text("SHOW transaction_isolation"))
                timeout = await session.scalar(text("SHOW statement_timeout"))
                assert (isolation, timeout) == ("read committed", "2500ms")
                first, second = [
                    await session.scalar(select(func.txid_current())) for _ in range(2)
                ]
                assert first != second  # AUTOCOMMIT again
