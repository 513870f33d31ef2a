"""Live and ready."""

from http import HTTPStatus

import httpx
import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from tests.test_bad_input import problem
from tests.world import run_alembic, serving


async def test_a_service_at_the_head_is_ready(client: httpx.AsyncClient) -> None:
    response = await client.get("/health/ready")
    assert response.status_code == HTTPStatus.OK
    assert response.json() == {"status": "ready", "build": "0008", "database": "0008"}


async def test_behind_its_build_it_is_not_ready_and_recovers_when_the_migration_arrives(
    client: httpx.AsyncClient, url: str
) -> None:
    run_alembic(url, "downgrade", "0007")
    document = problem(await client.get("/health/ready"), 503, "schema-behind")
    assert document["detail"] == "the database is at 0007, this build needs 0008"
    run_alembic(url, "upgrade", "head")
    assert (await client.get("/health/ready")).status_code == HTTPStatus.OK


async def test_ahead_of_its_build_it_is_ready(
    client: httpx.AsyncClient, engine: AsyncEngine
) -> None:
    async with engine.begin() as connection:
        await connection.execute(text("UPDATE alembic_version SET version_num = '0009'"))
    response = await client.get("/health/ready")
    assert response.json() == {"status": "ready", "build": "0008", "database": "0009"}


@pytest.mark.only("postgresql")
async def test_where_its_schema_was_purged_it_is_not_ready_and_says_so(
    client: httpx.AsyncClient, engine: AsyncEngine
) -> None:
    async with engine.begin() as connection:
        await connection.execute(text("ALTER SCHEMA at_0008 RENAME TO at_0009"))
    document = problem(await client.get("/health/ready"), 503, "unavailable")
    assert document["detail"] == (
        "the database is at 0009, and this build's schema, 0008, is no longer published there"
    )
    problem(await client.get("/users"), 503, "unavailable")


async def test_an_empty_database_is_not_ready(empty_url: str) -> None:
    async with serving(database_url=empty_url) as client:
        document = problem(await client.get("/health/ready"), 503, "schema-behind")
        assert document["detail"] == "the database is at base, this build needs 0008"
        problem(await client.get("/users"), 503, "unavailable")
        assert (await client.get("/health/live")).status_code == HTTPStatus.OK


UNREACHABLE = {
    "postgresql://someone:hunter2@127.0.0.1:1/users": "nothing listens there",
    "postgresql://someone:hunter2@no-such-host.invalid/users": "there is no host of that name",
    "sqlite:////no/such/directory/users.sqlite": "the file can't be opened",
}


@pytest.mark.parametrize("url", UNREACHABLE)
async def test_without_its_database_it_lives_but_is_not_ready_and_tells_no_secret(
    url: str,
) -> None:
    async with serving(database_url=url) as client:
        response = await client.get("/health/ready")
        document = problem(response, 503, "unavailable")
        assert UNREACHABLE[url] in document["detail"]
        assert "hunter2" not in response.text
        assert (await client.get("/health/live")).json() == {"status": "live"}
