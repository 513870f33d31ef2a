"""Many processes write to one SQLite file: none waits for too long, and a kill loses nothing."""

import asyncio
import fcntl
import os
import random
import resource
import signal
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from http import HTTPStatus

import httpx
import pytest

from tests.databases import path_of
from tests.servers import free_port
from tests.sqlite_load import Written, differences, service, write_for

pytestmark = pytest.mark.only("sqlite")
SOONEST, LATEST = 0.1, 1.5  # seconds under load until a kill


async def test_sixteen_writers_in_eight_processes_are_all_served(url: str, *, full: bool) -> None:
    """No answer is 503 or 500, and all that was acknowledged is there once."""
    workers, clients, seconds = (8, 16, 20.0) if full else (4, 8, 2.0)
    written, port = Written(), free_port()
    async with service(url, port, workers):
        began = time.monotonic()
        await write_for(seconds, port, clients, written, "load")
        took = time.monotonic() - began
    print(f"\n{workers} processes, {clients} clients: {written.summary(took)}")
    assert set(written.statuses) == {HTTPStatus.CREATED, HTTPStatus.OK}, written.details
    assert not written.unanswered
    assert differences(path_of(url), written) == []


async def test_a_service_that_is_killed_under_load_loses_nothing(url: str, *, full: bool) -> None:
    workers, clients, kills = (8, 16, 20) if full else (2, 4, 1)
    seed = time.time_ns() % 10**6
    chance = random.Random(seed)  # noqa: S311  # not a secret
    written = Written()
    for number in range(kills):
        port = free_port()
        async with service(url, port, workers) as process:
            load = asyncio.create_task(write_for(3600, port, clients, written, f"kill{number}"))
            await asyncio.sleep(chance.uniform(SOONEST, LATEST))  # any moment
            os.killpg(process.pid, signal.SIGKILL)
            await load
    print(f"\nseed {seed}, {kills} kills: {len(written.acknowledged)} acknowledged")
    assert set(written.statuses) <= {HTTPStatus.CREATED, HTTPStatus.OK}, written.details
    assert written.acknowledged
    assert differences(path_of(url), written) == []


async def test_a_writer_that_waits_for_another_program_is_told_within_five_seconds(
    url: str, client: httpx.AsyncClient
) -> None:
    """A migration, say, holds the write lock for long; who waits behind the first is told too."""
    with closing(sqlite3.connect(path_of(url), isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        began = time.monotonic()
        answers = await asyncio.gather(
            *(client.delete(f"/users/{number}") for number in range(1, 4))
        )
        took = time.monotonic() - began
        assert [answer.status_code for answer in answers] == [HTTPStatus.SERVICE_UNAVAILABLE] * 3
        assert all("another process is writing" in answer.json()["detail"] for answer in answers)
        assert took < 5  # seconds
        other.execute("ROLLBACK")
    assert (await client.delete("/users/1")).status_code == HTTPStatus.NOT_FOUND


async def test_a_place_in_the_queue_is_passed_on_when_its_writer_has_given_up(
    url: str, client: httpx.AsyncClient
) -> None:
    assert (await client.delete("/users/1")).status_code == HTTPStatus.NOT_FOUND
    with path_of(f"{url}-writers").open("rb") as queue:
        fcntl.flock(queue, fcntl.LOCK_EX)  # as another process does
        answer = await client.delete("/users/1")
        assert answer.status_code == HTTPStatus.SERVICE_UNAVAILABLE
        assert "another process is writing" in answer.json()["detail"]
        fcntl.flock(queue, fcntl.LOCK_UN)
        assert (await client.delete("/users/1")).status_code == HTTPStatus.NOT_FOUND
        await asyncio.to_thread(fcntl.flock, queue, fcntl.LOCK_EX)  # nobody keeps it


@contextmanager
def no_file_grows_beyond(size: int) -> Iterator[None]:
    """Let the kernel refuse to write to files of this process behind so many bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


async def test_a_full_disk_is_unavailable_and_loses_nothing(
    url: str, client: httpx.AsyncClient
) -> None:
    async def create(name: str) -> int:
        user = {"email": f"{name}@example.org", "full_name": name}
        return (await client.post("/users", json=user)).status_code

    assert await create("before") == HTTPStatus.CREATED
    log = path_of(f"{url}-wal")
    with no_file_grows_beyond(log.stat().st_size):
        assert [await create("meanwhile") for _ in range(3)] == [HTTPStatus.SERVICE_UNAVAILABLE] * 3
    assert await create("after") == HTTPStatus.CREATED
    with closing(sqlite3.connect(path_of(url))) as connection:
        names = connection.execute("SELECT full_name FROM users ORDER BY id").fetchall()
        assert names == [("before",), ("after",)]
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
