"""Clients of imports and exports that are slow or leave, and a database that stops answering."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from http import HTTPStatus
from typing import Any

import httpx
import psutil  # type: ignore[import-untyped]  # it brings no types
import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from safely.scratch.embedded import Server
from service.http.imports import FIRST_PART
from service.http.minimum_rate import READING_LAG, SENDING_LAG
from tests import forkserver, slow_transfers
from tests.app import serving
from tests.problems import problem
from tests.servers import free_port, wait_until_ready
from tests.transfers import import_users

ADA = "full_name\nAda\n"
ROWS = 100_000  # more than the buffers between a database and a client hold
SENDING_RATE = str(SENDING_LAG // 4)  # bytes a second: a client that stops has four seconds
READING_RATE = str(2 * READING_LAG)


class Service:
    """A service in a process of its own, with one place for an import or export."""

    def __init__(self, process: forkserver.Running, port: int, client: httpx.AsyncClient) -> None:
        self.process = process
        self.place = ("127.0.0.1", port)
        self.client = client

    async def export_length(self) -> int:
        """Return how many users an export by another client has."""
        response = await self.client.get("/users/export")
        assert response.status_code == HTTPStatus.OK, response.text
        return response.content.count(b"\n")

    async def answers_exports_by(self, status: HTTPStatus) -> None:
        """Return when an export is answered with this status; fail after 20 seconds."""
        async with asyncio.timeout(20):
            while (await self.client.get("/users/export")).status_code != status:
                await asyncio.sleep(0.02)

    async def logs(self, beginning: str) -> None:
        """Return when it has logged an event that begins so; fail after 30 seconds."""
        async with asyncio.timeout(30):
            while line := await self.process.stderr.readline():
                if json.loads(line)["event"].startswith(beginning):
                    return

    async def stop(self) -> list[dict[str, Any]]:
        """Stop it; return the lines of its log."""
        self.process.terminate()
        _, errors = await self.process.communicate()
        return [json.loads(line) for line in errors.splitlines()]


@asynccontextmanager
async def served(url: str, **settings: str) -> AsyncIterator[Service]:
    port = free_port()
    settings = {"POOL_SIZE": "2", "POOL_TIMEOUT": "10", "LOG_FORMAT": "json", **settings}
    async with (
        forkserver.service(DATABASE_URL=url, PORT=str(port), **settings) as process,
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=60) as client,
    ):
        await wait_until_ready(client)
        yield Service(process, port, client)


async def fill(engine: AsyncEngine) -> None:
    """Create users with names that can't be compressed much."""
    name = "md5(i::text)" if engine.dialect.name == "postgresql" else "hex(randomblob(16))"
    numbers = f"WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {ROWS})"
    async with engine.begin() as connection:
        await connection.execute(
            text(f"{numbers} INSERT INTO users (full_name) SELECT {name} FROM n")
        )


def faults(log: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the lines of a log that name a fault."""
    return [line for line in log if line["level"] != "info" or "Traceback" in line["event"]]


async def test_imports_that_send_next_to_nothing_keep_no_place_from_others(url: str) -> None:
    async with served(url, TRANSFER_RATE=SENDING_RATE, POOL_TIMEOUT="0.1") as service:
        slow = [
            asyncio.create_task(slow_transfers.trickling_import(*service.place, interval=0.1))
            for _ in range(5)
        ]
        await asyncio.sleep(0.2)  # they have sent some bytes by now, and go on
        response = await import_users(service.client, ADA)
        assert response.status_code == HTTPStatus.OK, response.text
        assert not any(task.done() for task in slow)
        answers = await asyncio.wait_for(asyncio.gather(*slow), 15)
        for answer in answers:
            assert answer.startswith(b"HTTP/1.1 408"), answer
            assert b"urn:problem:request-timeout" in answer
        assert faults(await service.stop()) == []


async def test_an_import_that_slows_down_is_rolled_back_and_leaves_its_place(url: str) -> None:
    content = b"full_name\n" + b"Slow\n" * (FIRST_PART // 4)
    async with served(url, TRANSFER_RATE=SENDING_RATE, POOL_TIMEOUT="0.1") as service:
        slow = asyncio.create_task(slow_transfers.trickling_import(*service.place, content))
        await service.answers_exports_by(HTTPStatus.SERVICE_UNAVAILABLE)
        await service.answers_exports_by(HTTPStatus.OK)
        # a client that still sends may see the connection closed before it reads the answer
        assert (await slow)[:12] in {b"HTTP/1.1 408", b""}
        assert await service.export_length() == 0


@pytest.mark.parametrize("encoding", ["identity", "br"])
async def test_an_export_that_is_read_slowly_is_cut_off_and_leaves_its_place(
    url: str, engine: AsyncEngine, encoding: str
) -> None:
    await fill(engine)
    async with served(url, TRANSFER_RATE=READING_RATE, POOL_SIZE="4") as service:
        slow: list[asyncio.Task[Any]] = [
            asyncio.create_task(
                slow_transfers.trickling_export(
                    *service.place, seconds=2, interval=0.1, Accept_Encoding=encoding
                )
            ),
            asyncio.create_task(
                slow_transfers.closed_window_export(*service.place, Accept_Encoding=encoding)
            ),
        ]
        await asyncio.sleep(0.2)
        assert await service.export_length() == ROWS  # within POOL_TIMEOUT
        answer = await asyncio.wait_for(slow[0], 20)
        if encoding == "identity":  # compressed, all of it fits into the buffers of HTTP/1.1
            assert not bytes(answer).endswith(b"\r\n0\r\n\r\n")
        slow[
            1
        ].cancel()  # its place is free, though the server resets no stream with a closed window
        assert faults(await service.stop()) == []


@pytest.mark.only("sqlite")
async def test_rejected_lines_that_are_read_slowly_are_cut_off(url: str) -> None:
    lines = b"full_name\n" + b",,\n" * ROWS
    async with served(url, TRANSFER_RATE=READING_RATE) as service:
        answer = await slow_transfers.trickling_export(
            *service.place,
            "/users/import?on_conflict=skip",
            seconds=2.5,
            interval=0.1,
            content=lines,
            Accept="application/x-ndjson",
        )
        assert answer.startswith(b"HTTP/1.1 200")
        assert not answer.endswith(b"\r\n0\r\n\r\n")
        assert faults(await service.stop()) == []


async def test_clients_that_leave_are_no_faults_and_leave_their_connections(
    url: str, engine: AsyncEngine
) -> None:
    await fill(engine)
    paths = ["", "?format=csv", "?sort=-full_name"]
    async with served(url, POOL_SIZE="30") as service:

        async def leave(number: int) -> None:
            encoding = "identity" if number % 2 else "br"
            async with slow_transfers.connected(*service.place) as (reader, writer):
                path = "/users/export" + paths[number % len(paths)]
                writer.write(slow_transfers.head("GET", path, Accept_Encoding=encoding))
                if number % 5:  # else it leaves before the first byte
                    await reader.read(2 ** (number % 17))

        async def leave_while_sending() -> None:
            with suppress(TimeoutError):
                async with asyncio.timeout(0.3):
                    await slow_transfers.trickling_import(*service.place, b"full_name\n" * 50_000)

        for start in range(0, 50, 5):
            await asyncio.gather(*(leave(start + number) for number in range(5)))
        await asyncio.gather(leave_while_sending(), leave_while_sending())
        async with asyncio.timeout(30):
            exports = await asyncio.gather(*(service.export_length() for _ in range(10)))
        assert exports == [ROWS] * 10
        assert faults(await service.stop()) == []


@pytest.mark.only("postgresql")
async def test_an_outage_during_an_export_is_a_warning_with_its_reason(
    url: str, engine: AsyncEngine
) -> None:
    await fill(engine)
    kill = text(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
        "WHERE application_name LIKE 'users@%' AND query LIKE 'COPY%'"
    )
    async with served(url) as service, engine.connect() as connection:
        with pytest.raises(httpx.RemoteProtocolError):  # noqa: PT012  # raised while it is read
            async with service.client.stream("GET", "/users/export") as response:
                async for _ in response.aiter_bytes():
                    await connection.execute(kill)
        (line,) = faults(await service.stop())
        assert line["level"] == "warning"
        assert line["event"].startswith("no answer for GET /users/export: ")


@pytest.mark.only("postgresql")
async def test_a_server_that_freezes_ends_transfers_in_seconds(url: str, server: Server) -> None:
    """The export has not begun its response; the import is in the middle of its body."""
    sent, stopped = asyncio.Event(), asyncio.Event()

    async def body() -> AsyncIterator[bytes]:
        yield b"full_name\n" + b"Slow\n" * (FIRST_PART // 4)
        sent.set()
        await stopped.wait()
        yield b"Slow\n"

    async with serving(database_url=url) as client:
        importing = asyncio.create_task(import_users(client, body()))
        await sent.wait()
        with frozen(server):
            began = time.monotonic()
            async with asyncio.timeout(20):
                responses = await asyncio.gather(client.get("/users/export"), importing)
            assert time.monotonic() - began < 8
        stopped.set()
        for response in responses:
            assert response.status_code == HTTPStatus.SERVICE_UNAVAILABLE
            assert response.json()["detail"].endswith("it does not answer in time")
        async with asyncio.timeout(5):
            while (await client.get("/users/export")).status_code != HTTPStatus.OK:
                await asyncio.sleep(0.05)


@pytest.mark.only("postgresql")
@pytest.mark.parametrize("is_read", [True, False], ids=["read on", "not read on"])
async def test_an_export_whose_server_freezes_is_cut_off_in_seconds(
    url: str, engine: AsyncEngine, server: Server, *, is_read: bool
) -> None:
    """It has begun its response, and so it can only end the connection."""
    await fill(engine)
    async with served(url, STATEMENT_TIMEOUT="2") as service:
        async with slow_transfers.connected(*service.place) as (reader, writer):
            writer.write(slow_transfers.head("GET", "/users/export"))
            begun = await reader.readexactly(1000)
            assert begun.startswith(b"HTTP/1.1 200 ")
            with frozen(server):
                began = time.monotonic()
                if not is_read:
                    await service.logs("no answer for GET /users/export: it does not answer")
                async with asyncio.timeout(30):
                    rest = await reader.read()
                assert time.monotonic() - began < 15
            assert not rest.endswith(b"\r\n0\r\n\r\n")
        await service.answers_exports_by(HTTPStatus.OK)


@contextmanager
def frozen(server: Server) -> Iterator[None]:
    """Suspend all processes of a PostgreSQL server."""
    pid = int((server.directory / "postmaster.pid").read_text().split()[0])
    main = psutil.Process(pid)
    processes = [main, *main.children()]
    for process in processes:
        process.suspend()
    try:
        yield
    finally:
        for process in processes:
            process.resume()


async def test_where_many_transfers_wait_another_one_is_refused_at_once(url: str) -> None:
    begun: asyncio.Queue[None] = asyncio.Queue()

    async def body() -> AsyncIterator[bytes]:
        yield b"full_name\n" + b"Slow\n" * (FIRST_PART // 4)
        begun.put_nowait(None)
        await asyncio.Event().wait()

    async with serving(database_url=url, pool_size=4, pool_timeout=1) as client:
        slow = [asyncio.create_task(import_users(client, body())) for _ in range(2)]
        for _ in slow:
            await begun.get()
        first = [asyncio.create_task(import_users(client, ADA)) for _ in range(2)]
        await asyncio.wait(first, timeout=0.5)
        second = [asyncio.create_task(import_users(client, ADA)) for _ in range(2)]
        for task in first:  # they have waited in vain
            problem(await task, HTTPStatus.SERVICE_UNAVAILABLE, "unavailable")
        response = await client.get("/users/export")
        assert not any(task.done() for task in second)
        problem(response, HTTPStatus.SERVICE_UNAVAILABLE, "unavailable")
        assert response.headers["Retry-After"] == "1"
        for task in slow + second:
            task.cancel()
        await asyncio.gather(*slow, *second, return_exceptions=True)
