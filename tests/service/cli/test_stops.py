"""The service stops soon and cleanly, whenever a signal comes, and whoever gets it."""

import asyncio
import os
import random
import secrets
import signal
import sys
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

import httpx
import pytest

from tests import stops
from tests.paths import ROOT
from tests.servers import free_port, listening_event, service_process, workers_of
from tests.stops import End, Stop

pytestmark = pytest.mark.only("sqlite")

SPAWNING = """
import multiprocessing, sys
from service.cli.main import main
multiprocessing.set_start_method("spawn")
sys.exit(main(["serve"]))
"""


async def test_it_stops_soon_at_any_moment_and_kills_no_worker(url: str, *, full: bool) -> None:
    """`make stops` runs 300 of them."""
    seed = secrets.randbelow(10**6) if full else 17
    chance = random.Random(seed)  # noqa: S311  # not a secret
    count = 300 if full else len(stops.STATES)
    states = [""] * count if full else stops.STATES
    ends: list[End] = []
    at_once = asyncio.Semaphore(4)

    async def run(stop: Stop) -> None:
        async with at_once:
            ends.append(await stops.run(stop, url))
            if full:
                print(f"{len(ends):3}  {ends[-1]}", flush=True)

    async with asyncio.TaskGroup() as tasks:
        for state in states:
            tasks.create_task(run(stops.random_stop(chance, state)))
    print(summary(ends, seed))
    assert [str(end) for end in ends if end.flaw] == []


def summary(ends: list[End], seed: int) -> str:
    """Return the slowest end of each state, and how all ended, for people."""
    lines = [f"seed {seed}: {len(ends)} stops, the slowest of each state:"]
    for state in sorted({end.stop.state for end in ends}):
        slowest = max((end for end in ends if end.stop.state == state), key=lambda end: end.seconds)
        lines.append(f"  {slowest}")
    codes = Counter(end.code for end in ends if end.began)
    lines += [
        f"exit codes: {dict(codes)}",
        f"killed: {sum(end.was_killed for end in ends)}",
        f"before Python ran the service: {sum(not end.began for end in ends)}",
    ]
    return "\n".join(lines)


@contextmanager
def terminal() -> Iterator[tuple[int, int]]:
    """Yield the two ends of a terminal: what a person types into, and what programs read."""
    ends = os.openpty()
    try:
        yield ends
    finally:
        for end in ends:
            os.close(end)


async def test_ctrl_c_on_a_terminal_stops_it(url: str) -> None:
    """The terminal sends SIGINT to all processes of its foreground group."""
    with terminal() as (keyboard, screen):
        service = await asyncio.create_subprocess_exec(
            *("setsid", "--ctty", sys.executable, "-m", "service"),
            cwd=ROOT,
            env={**os.environ, "DATABASE_URL": url, "PORT": str(free_port()), "WORKERS": "2"},
            stdin=screen,
            stderr=asyncio.subprocess.PIPE,
        )
        await listening_event(service)
        os.write(keyboard, b"\x03")
        _, errors = await asyncio.wait_for(service.communicate(), 30)
        assert service.returncode == 0
        assert errors.count(b'"event": "stopped"') == 1
        assert b"Killing" not in errors


async def test_a_hangup_does_not_stop_it_below_nohup(url: str) -> None:
    port = free_port()
    service = await asyncio.create_subprocess_exec(
        *("nohup", sys.executable, "-m", "service"),
        cwd=ROOT,
        env={**os.environ, "DATABASE_URL": url, "PORT": str(port)},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    await listening_event(service)
    for process in (*workers_of(service), service.pid):
        os.kill(process, signal.SIGHUP)
    async with httpx.AsyncClient() as client:
        assert (await client.get(f"http://127.0.0.1:{port}/users", timeout=30)).is_success
    service.terminate()
    await asyncio.wait_for(service.communicate(), 30)
    assert service.returncode == 0


async def test_a_worker_that_gets_sigterm_is_replaced(url: str) -> None:
    port = free_port()
    async with service_process(DATABASE_URL=url, PORT=str(port)) as service:
        await listening_event(service)
        [worker] = workers_of(service)
        os.kill(worker, signal.SIGTERM)
        os.kill(worker, signal.SIGINT)
        os.kill(worker, signal.SIGTERM)
        async with asyncio.timeout(30):
            while worker in workers_of(service):
                await asyncio.sleep(0.05)
        async with httpx.AsyncClient() as client:
            assert (await client.get(f"http://127.0.0.1:{port}/users", timeout=30)).is_success
        service.terminate()
        _, errors = await asyncio.wait_for(service.communicate(), 30)
        assert b"worker 1 was lost: exit code 0; another starts" in errors


@asynccontextmanager
async def spawning_service(url: str, workers: int) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run the service with workers that are spawned, as on macOS, in place of forked."""
    service = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", SPAWNING),
        cwd=ROOT,
        env={
            **os.environ,
            "DATABASE_URL": url,
            "PORT": str(free_port()),
            "WORKERS": str(workers),
        },
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        await listening_event(service)
        yield service
    finally:
        if service.returncode is None:
            service.kill()
        await service.communicate()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
async def test_spawned_workers_end_with_their_parent(url: str, number: signal.Signals) -> None:
    async with spawning_service(url, workers=2) as service:
        service.send_signal(number)
        # its output ends with the last process that has it
        await asyncio.wait_for(service.communicate(), 30)
        assert service.returncode == (0 if number == signal.SIGTERM else -number)
