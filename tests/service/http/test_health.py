"""The health checks: liveness and readiness."""

from http import HTTPStatus

import httpx
import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from tests.app import serving
from tests.chain import HEAD, NEXT, PREVIOUS
from tests.commands import run_alembic
from tests.problems import problem


async def test_a_service_at_the_head_is_ready(client: httpx.AsyncClient) -> None:
    response = await client.get("/health/ready")
    assert response.status_code == HTTPStatus.OK
    assert response.json() == {"status": "ready", "build": HEAD, "database": HEAD, "writes": True}


async def test_a_database_behind_the_build_is_not_ready_until_it_is_migrated(
    client: httpx.AsyncClient, url: str
) -> None:
    run_alembic(url, "downgrade", PREVIOUS)
    document = problem(await client.get("/health/ready"), 503, "schema-behind")
    assert document["detail"] == f"the database is at {PREVIOUS}, this build needs {HEAD}"
    run_alembic(url, "upgrade", "head")
    assert (await client.get("/health/ready")).status_code == HTTPStatus.OK


async def test_a_build_is_ready_on_a_database_ahead_of_it_where_its_version_is_published(
    client: httpx.AsyncClient, engine: AsyncEngine
) -> None:
    """SQLite has no published versions."""
    async with engine.begin() as connection:
        await connection.execute(text(f"UPDATE alembic_version SET version_num = '{NEXT}'"))
    response = await client.get("/health/ready")
    if engine.dialect.name == "sqlite":
        document = problem(response, 503, "unavailable")
        assert document["detail"] == (
            f"the database is at {NEXT}, and this build's schema, {HEAD}, is not there any more: "
            "SQLite has no published versions"
        )
        return
    assert response.json() == {"status": "ready", "build": HEAD, "database": NEXT, "writes": True}


@pytest.mark.only("postgresql")
async def test_where_the_published_version_was_purged_the_service_is_not_ready_and_says_why(
    client: httpx.AsyncClient, engine: AsyncEngine
) -> None:
    async with engine.begin() as connection:
        await connection.execute(text(f"ALTER SCHEMA at_{HEAD} RENAME TO at_{NEXT}"))
    document = problem(await client.get("/health/ready"), 503, "unavailable")
    assert document["detail"] == (
        f"the database is at {NEXT}, and this build's schema, {HEAD}, is no longer published there"
    )
    problem(await client.get("/users"), 503, "unavailable")


async def test_an_empty_database_is_not_ready(empty_url: str) -> None:
    async with serving(database_url=empty_url) as client:
        document = problem(await client.get("/health/ready"), 503, "schema-behind")
        assert document["detail"] == f"the database is at base, this build needs {HEAD}"
        problem(await client.get("/users"), 503, "unavailable")
        assert (await client.get("/health/live")).status_code == HTTPStatus.OK


UNREACHABLE = {
    "postgresql://someone:hunter2@127.0.0.1:1/users": "nothing listens there",
    "postgresql://someone:hunter2@no-such-host.invalid/users": "there is no host of that name",
    "sqlite:////no/such/directory/users.sqlite": "the file can't be opened",
}


@pytest.mark.parametrize("url", UNREACHABLE)
async def test_without_its_database_the_service_is_live_but_not_ready_and_reveals_no_secret(
    url: str,
) -> None:
    async with serving(database_url=url) as client:
        response = await client.get("/health/ready")
        document = problem(response, 503, "unavailable")
        assert UNREACHABLE[url] in document["detail"]
        assert "hunter2" not in response.text
        assert (await client.get("/health/live")).json() == {"status": "live"}
