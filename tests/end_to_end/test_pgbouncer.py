"""The service behind the real PgBouncer, as Debian installs it, and limits of PgBouncer's."""

import asyncio
import logging
import re
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from functools import partial
from http import HTTPStatus
from typing import NamedTuple

import asyncpg
import httpx
import pytest

from safely.scratch.embedded import Server
from tests.app import serving
from tests.checking_clients import load
from tests.databases import name_of
from tests.pgbouncer import pgbouncer
from tests.pgbouncer_packages import SUITES
from tests.problems import problem
from tests.servers import free_port, service_process, wait_until_ready

pytestmark = pytest.mark.only("postgresql")

CLIENTS = 32
# the suite's other tests use the same cores; `--full` runs with what the service has by default
PATIENT = {"POOL_TIMEOUT": "10", "REQUEST_TIMEOUT": "30"}
SOON = 5.0  # seconds within which a client is refused
SENT_AT_CONNECTING = "statement_timeout,idle_in_transaction_session_timeout,lock_timeout"


Services = Callable[[str], AbstractAsyncContextManager[list[httpx.AsyncClient]]]


class Variant(NamedTuple):
    """A version of PgBouncer, and the settings in which it differs from Debian's."""

    suite: str
    settings: dict[str, object]


TRANSACTION: dict[str, object] = {"pool_mode": "transaction"}
VARIANTS = {
    "1.18, transactions": Variant("bookworm", TRANSACTION),
    "1.24, transactions": Variant("trixie", TRANSACTION),
    "1.18, three servers": Variant("bookworm", TRANSACTION | {"default_pool_size": 3}),
    "1.18, ignores settings": Variant(
        "bookworm", TRANSACTION | {"ignore_startup_parameters": SENT_AT_CONNECTING}
    ),
    "1.24, no prepared statements": Variant("trixie", TRANSACTION | {"max_prepared_statements": 0}),
    "1.24, few prepared statements": Variant(
        "trixie", TRANSACTION | {"max_prepared_statements": 2, "default_pool_size": 3}
    ),
    "1.18, sessions": Variant("bookworm", {"pool_mode": "session"}),
    "1.24, sessions": Variant("trixie", {"pool_mode": "session", "default_pool_size": 40}),
}
AS_INSTALLED = ("1.18, transactions", "1.24, transactions")


@asynccontextmanager
async def two_processes(
    url: str, patience: Mapping[str, str] = PATIENT
) -> AsyncIterator[list[httpx.AsyncClient]]:
    """Yield clients of two processes of the service on one database."""
    quiet = {"ACCESS_LOG": "off", "LOG_LEVEL": "ERROR", "METRICS": "0", **patience}
    async with AsyncExitStack() as stack:
        clients = []
        for port in (free_port(), free_port()):
            process = service_process(DATABASE_URL=url, PORT=str(port), **quiet)
            await stack.enter_async_context(process)
            client = httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=60)
            clients.append(await stack.enter_async_context(client))
        for client in clients:
            await wait_until_ready(client)
        yield clients


@asynccontextmanager
async def two_apps(url: str) -> AsyncIterator[list[httpx.AsyncClient]]:
    """Yield clients of two apps on one database, in this process."""
    quiet = {"access_log": "off", "metrics": False, "pool_timeout": 10.0, "request_timeout": 30.0}
    async with (
        serving(database_url=url, **quiet) as one,
        serving(database_url=url, **quiet) as other,
    ):
        yield [one, other]


@pytest.mark.parametrize("name", VARIANTS)
async def test_two_services_answer_all_clients_with_their_own_users(
    server: Server, url: str, name: str, *, full: bool
) -> None:
    """Processes number their prepared statements alike; two apps of one process do not.

    Starting processes takes seconds, so only the usual variants have them in the suite.
    """
    suite, settings = VARIANTS[name]
    seconds = 60 if full else 5 if name in AS_INSTALLED else 1.5
    services: Services = two_processes if name in AS_INSTALLED else two_apps
    if full:
        services = partial(two_processes, patience={})
    async with (
        pgbouncer(server, suite, **settings) as pooler,
        services(pooler.url(name_of(url))) as clients,
    ):
        result = await load(clients, clients=CLIENTS, seconds=seconds)
    print(f"\nPgBouncer {name}: {result}")
    assert result.wrong == []
    assert result.count > CLIENTS * seconds


async def test_a_direct_connection_beside_it(url: str, *, full: bool) -> None:
    """A direct connection gets the same load: the difference in rate is the cost of PgBouncer."""
    if not full:
        pytest.skip("a comparison for --full")
    async with two_processes(url, {}) as clients:
        result = await load(clients, clients=CLIENTS, seconds=60)
    print(f"\ndirect: {result}")
    assert result.wrong == []


@pytest.mark.parametrize("name", VARIANTS)
@pytest.mark.parametrize("method", ["GET", "PATCH"])
async def test_a_statement_ends_after_its_timeout(
    server: Server, url: str, driver: asyncpg.Connection, name: str, method: str
) -> None:
    suite, settings = VARIANTS[name]
    async with pgbouncer(server, suite, **settings) as pooler:
        address = pooler.url(name_of(url))
        async with serving(database_url=address, statement_timeout=0.3) as client:
            assert (await client.post("/users", json={"full_name": "Ada"})).is_success
            async with driver.transaction():
                await driver.execute("LOCK TABLE users IN ACCESS EXCLUSIVE MODE")
                began = time.monotonic()
                body = {"age": 5} if method == "PATCH" else None
                response = await client.request(method, "/users/1", json=body)
                assert time.monotonic() - began < 2
                problem(response, HTTPStatus.SERVICE_UNAVAILABLE, "unavailable")
                waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted"
                assert await driver.fetchval(waiting) == 0
            assert (await client.get("/users/1")).json()["age"] is None


async def refused(client: httpx.AsyncClient, caplog: pytest.LogCaptureFixture) -> str:
    """Return what the log says about a read and a write, which are both refused soon."""
    with caplog.at_level(logging.WARNING, "service"):
        async with asyncio.timeout(SOON):
            responses = await asyncio.gather(
                client.get("/users/1"), client.post("/users", json={"full_name": "Grace"})
            )
    for response in responses:
        assert response.status_code == HTTPStatus.SERVICE_UNAVAILABLE, response.text
    return "\n".join(record.getMessage() for record in caplog.records if record.name == "service")


@pytest.mark.parametrize("suite", SUITES)
async def test_too_many_clients_of_the_pooler_are_an_outage(
    server: Server, url: str, suite: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with pgbouncer(server, suite, **TRANSACTION, max_client_conn=1) as pooler:
        address = pooler.url(name_of(url))
        only = await asyncpg.connect(address, statement_cache_size=0)
        async with serving(database_url=address) as client:
            assert "no more connections" in await refused(client, caplog)
            await only.close()
            assert (await client.get("/users")).status_code == HTTPStatus.OK


@pytest.mark.parametrize("suite", SUITES)
@pytest.mark.usefixtures("databases")
async def test_what_the_server_refuses_the_pooler_is_told(
    server: Server, suite: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with (
        pgbouncer(server, suite, **TRANSACTION, server_login_retry=1) as pooler,
        serving(database_url=pooler.url("no_such_database")) as client,
    ):
        # 1.24 passes the server's code on, 1.18 its words only
        told = 'there is no database of that name|"no_such_database" does not exist'
        async with asyncio.timeout(2 * SOON):  # until PgBouncer tries again it is silent
            while not re.search(told, await refused(client, caplog)):
                pass


async def test_a_wait_for_a_server_that_ends_is_an_outage(
    server: Server, url: str, caplog: pytest.LogCaptureFixture
) -> None:
    settings = TRANSACTION | {"default_pool_size": 1, "query_wait_timeout": 1}
    async with (
        pgbouncer(server, SUITES[0], **settings) as pooler,
        serving(database_url=pooler.url(name_of(url))) as client,
    ):
        assert (await client.post("/users", json={"full_name": "Ada"})).is_success
        only = await asyncpg.connect(pooler.url(name_of(url)), statement_cache_size=0)
        transaction = only.transaction()
        await transaction.start()
        # asyncpg drops PgBouncer's words, which come just before it closes the connection
        assert "the connection was lost" in await refused(client, caplog)
        await transaction.rollback()
        await only.close()
        await until_found(client)


async def test_a_pooler_that_is_paused_or_loses_its_server_is_an_outage(
    server: Server, url: str, caplog: pytest.LogCaptureFixture
) -> None:
    quick = {"statement_timeout": 1, "pool_timeout": 0.5}
    async with (
        pgbouncer(server, SUITES[1], **TRANSACTION, server_login_retry=1) as pooler,
        serving(database_url=pooler.url(name_of(url)), **quick) as client,
    ):
        assert (await client.post("/users", json={"full_name": "Ada"})).is_success
        await pooler.command("PAUSE")
        assert await refused(client, caplog)
        await pooler.command("RESUME")
        await until_found(client)
        await pooler.lose_server()
        assert await refused(client, caplog)
        pooler.find_server()
        await until_found(client)


async def until_found(client: httpx.AsyncClient) -> None:
    """Return when the service answers again; fail if it doesn't soon."""
    async with asyncio.timeout(SOON):
        while (await client.get("/users?limit=1")).status_code != HTTPStatus.OK:
            await asyncio.sleep(0.1)
