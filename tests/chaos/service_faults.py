"""Faults of the service's own processes, and of its clock."""

import asyncio

from tests.chaos.run import Run, fault
from tests.chaos.service import Service
from tests.chaos.worlds import sqlite, with_clock
from tests.servers import free_port

CLOCKS = ("+3600", "-3600", "+43200", "-43200", "+0")  # seconds from the right time
CLOCK_SECONDS = 3  # for each of them; libfaketime notices within a second
UNREADY_TIMEOUT = 10.0  # seconds that readiness may take to fail after SIGTERM


@fault("a worker killed, `WORKERS=1`", "SIGKILL of the worker, five times in a row", WORKERS="1")
async def worker_killed(run: Run) -> None:
    await kill_workers(run)


@fault("a worker killed, `WORKERS=2`", "SIGKILL of one of them, five times in a row", WORKERS="2")
async def one_of_two_workers_killed(run: Run) -> None:
    await kill_workers(run)


@fault("the service killed", "SIGKILL of its main process; started again 1 s later")
async def parent_killed(run: Run) -> None:
    await kill_and_start(run)


@fault(
    "the service killed, `WORKERS=2`",
    "SIGKILL of its main process; started again 1 s later",
    WORKERS="2",
)
async def parent_of_two_killed(run: Run) -> None:
    await kill_and_start(run)


@fault("the service killed on SQLite", "SIGKILL, 20 times; started again at once", world=sqlite)
async def killed_on_sqlite(run: Run) -> None:
    for _ in range(max(2, round(20 * run.size.scale))):
        with run.killing():
            await run.service.kill()
            await run.service.start()
        await asyncio.sleep(0.5)
    run.returned()


@fault(
    "SIGTERM with `DRAIN_TIME=3`",
    "a second service runs beside it; clients go there, as by a load balancer, "
    "0.5 s after readiness fails",
    DRAIN_TIME="3",
)
async def drained(run: Run) -> None:
    second = Service(free_port(), run.service.log.with_suffix(".second.log"), run.environment)
    await second.start()
    first, run.service = run.service, second
    first.running.terminate()
    async with asyncio.timeout(UNREADY_TIMEOUT):
        while await first.answers("/health/ready"):
            await asyncio.sleep(0.02)
    await asyncio.sleep(0.5)
    for client in run.clients:
        client.connection.port = second.port
    await first.running.wait()
    run.returned()


@fault(
    "the clock jumps",
    "the service's, by libfaketime: 1 h ahead, 1 h back, 12 h ahead, 12 h back, and right again",
    world=with_clock,
)
async def clock_jumps(run: Run) -> None:
    assert run.world.clock is not None
    for clock in CLOCKS:
        run.world.clock.write_text(clock, encoding="utf-8")
        await asyncio.sleep(max(1.5, CLOCK_SECONDS * run.size.scale))
    run.returned()


async def kill_workers(run: Run) -> None:
    """Kill a worker, again and again; each time the service is complete."""
    await run.service.is_complete()
    run.began()
    for _ in range(max(1, round(5 * run.size.scale))):
        with run.killing():
            await run.service.kill_worker()
        if not await run.service.is_complete():
            run.complaints.append("the service ended with its worker")
            await run.service.start()
        await asyncio.sleep(1)
    run.returned()


async def kill_and_start(run: Run) -> None:
    """Kill the service's main process, and start the service again."""
    with run.killing():
        await run.service.kill()
        await run.last(1)
        await run.service.start()
    run.returned()
