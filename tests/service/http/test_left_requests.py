"""A busy service stays ready, and requests whose client has gone give their connections back."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from http import HTTPStatus

import asyncpg
import httpx
import pytest

from tests import forkserver
from tests.databases import table_locked
from tests.servers import free_port, wait_until_ready
from tests.slow_transfers import (
    END_OF_HEADERS_AND_STREAM,
    HEADERS,
    HTTP2_PREFACE,
    SETTINGS,
    connected,
    frame,
    head,
    hpack,
)

pytestmark = pytest.mark.only("postgresql")

NEW_USER = b'{"full_name": "Ada"}'
JSON = {"Content_Type": "application/json", "Content_Length": str(len(NEW_USER))}
REQUESTS = {
    "a page": head("GET", "/users?name=a"),
    "a user": head("GET", "/users/1"),
    "a new user": head("POST", "/users", **JSON) + NEW_USER,
    "a change": head("PATCH", "/users/1", **JSON) + NEW_USER,
    "an end": head("DELETE", "/users/1"),
    "an export": head("GET", "/users/export"),
    "a page by HTTP/2": HTTP2_PREFACE
    + frame(SETTINGS, 0, 0, b"")
    + frame(
        HEADERS,
        END_OF_HEADERS_AND_STREAM,
        1,
        hpack({":method": "GET", ":scheme": "http", ":path": "/users", ":authority": "x"}),
    ),
}
USED = """\
SELECT count(*) FROM pg_stat_activity
WHERE application_name LIKE 'users@%' AND datname = current_database() AND state <> 'idle'"""


@asynccontextmanager
async def served(url: str) -> AsyncIterator[tuple[int, forkserver.Running]]:
    """Run the service with few connections and long timeouts; yield its port and its process."""
    port = free_port()
    settings = {
        "POOL_SIZE": "6",
        "STATEMENT_TIMEOUT": "20",
        "REQUEST_TIMEOUT": "30",
        "LOG_FORMAT": "json",
    }
    async with forkserver.service(DATABASE_URL=url, PORT=str(port), **settings) as process:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client:
            await wait_until_ready(client)
            for _ in range(3):
                assert (await client.get("/health/ready")).status_code == HTTPStatus.OK
        yield port, process


async def until_used(driver: asyncpg.Connection, count: int, seconds: float) -> None:
    """Return when the service uses so many connections; fail if it does not within the time."""
    async with asyncio.timeout(seconds):
        while await driver.fetchval(USED) != count:
            await asyncio.sleep(0.02)


@pytest.mark.parametrize("request_", REQUESTS.values(), ids=REQUESTS)
async def test_a_request_whose_client_has_gone_gives_its_connection_back(
    url: str, driver: asyncpg.Connection, request_: bytes
) -> None:
    async with served(url) as (port, process):
        async with table_locked(url, "users"):
            async with connected("127.0.0.1", port) as (_, writer):
                writer.write(request_)
                await until_used(driver, 1, 10)
                await asyncio.sleep(0.5)  # it waits for long already
            began = time.monotonic()
            await until_used(driver, 0, 10)
            assert time.monotonic() - began < 1.5  # and some, on a busy machine
        process.terminate()
        _, errors = await process.communicate()
    lines = [json.loads(line) for line in errors.splitlines()]
    assert [line for line in lines if line["level"] != "info"] == []


async def test_requests_that_share_a_batch_end_with_the_last_client(
    url: str, driver: asyncpg.Connection
) -> None:
    async with served(url) as (port, _), table_locked(url, "users"):
        clients = [await asyncio.open_connection("127.0.0.1", port) for _ in range(10)]
        for _, writer in clients:
            with closing(writer):
                writer.write(REQUESTS["a user"])
                await writer.drain()
                await asyncio.sleep(0.05)
                assert await driver.fetchval(USED) >= 1
        await until_used(driver, 0, 10)


async def test_a_busy_service_stays_ready(url: str, driver: asyncpg.Connection) -> None:
    async with (
        served(url) as (port, _),
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=60) as client,
    ):
        async with table_locked(url, "users"):
            pages = []
            for name in "abcdefgh":
                pages.append(asyncio.create_task(client.get(f"/users?name={name}")))
                await asyncio.sleep(0.15)  # a batch each
            await until_used(driver, 2, 10)
            for _ in range(30):
                response = await client.get("/health/ready")
                assert response.status_code == HTTPStatus.OK, response.text
                assert response.elapsed.total_seconds() < 1
                await asyncio.sleep(0.1)
        await asyncio.gather(*pages)
        assert (await client.get("/health/ready")).status_code == HTTPStatus.OK
