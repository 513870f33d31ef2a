"""The service in processes of its own, which can be killed and started again."""

import asyncio
import os
import signal
import sys
from collections.abc import Mapping
from pathlib import Path

from tests.chaos.connection import Connection
from tests.chaos.processes import children, is_resource_tracker, listeners, runs
from tests.paths import ROOT

START_TIMEOUT = 30.0  # seconds
STOP_TIMEOUT = 60.0  # seconds
POLL = 0.02  # seconds


class Service:
    """`python -m service` on a port of its own; its log is a file."""

    def __init__(self, port: int, log: Path, environment: Mapping[str, str]) -> None:
        self.port = port
        self.log = log
        self.environment = {**os.environ, **environment, "PORT": str(port)}
        self.process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        """Start it, and return when it answers."""
        with self.log.open("ab") as log:
            self.process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "service",
                cwd=ROOT, env=self.environment, stdin=asyncio.subprocess.DEVNULL,
                stdout=log, stderr=log,
            )  # fmt: skip
        async with asyncio.timeout(START_TIMEOUT):
            while not await self.answers():
                if self.process.returncode is not None:
                    raise RuntimeError(f"the service ended: {self.log.read_text('utf-8')[-2000:]}")
                await asyncio.sleep(POLL)

    async def answers(self, path: str = "/health/live") -> bool:
        """Return whether it answers with a success."""
        connection = Connection(self.port, keep_alive=False)
        try:
            async with asyncio.timeout(1):
                return (await connection.request("GET", path)).status < 300
        except OSError:
            return False

    @property
    def running(self) -> asyncio.subprocess.Process:
        """The process; it was started."""
        assert self.process is not None
        return self.process

    def workers(self) -> list[int]:
        """Return the ids of the processes that answer requests."""
        started = children(self.running.pid)
        return [process for process in started if not is_resource_tracker(process)]

    async def kill_worker(self) -> None:
        """Kill one of its workers, and return when it has ended."""
        worker = self.workers()[0]
        os.kill(worker, signal.SIGKILL)
        await ended([worker])

    async def is_complete(self) -> bool:
        """Return True as soon as all workers run, and listen; False where the service has ended.

        Each worker listens with a socket of its own; a single one with that of the main process.
        """
        workers = int(self.environment["WORKERS"])
        async with asyncio.timeout(START_TIMEOUT):
            while self.running.returncode is None:
                complete = (len(self.workers()), listeners(self.port)) == (workers, workers)
                if complete and await self.answers():
                    return True
                await asyncio.sleep(POLL)
        return False

    async def kill(self) -> None:
        """Kill its main process; the workers end when they notice."""
        workers = self.workers()
        self.running.kill()
        await self.running.wait()
        await ended(workers)

    async def stop(self) -> None:
        """Stop it by SIGTERM; kill it where that takes too long."""
        if self.process is None or self.process.returncode is not None:
            return
        self.process.terminate()
        try:
            async with asyncio.timeout(STOP_TIMEOUT):
                await self.process.wait()
        except TimeoutError:
            self.process.kill()
            await self.process.wait()


async def ended(processes: list[int]) -> None:
    """Return when all of the processes have ended."""
    async with asyncio.timeout(STOP_TIMEOUT):
        while any(map(runs, processes)):
            await asyncio.sleep(0)
