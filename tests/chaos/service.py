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

    async def kill_worker(self) -> bool:
        """Kill one of its workers; return whether another takes its place, and listens.

        False where the service has ended instead.
        """
        before, listening = self.workers(), listeners(self.port)
        os.kill(before[0], signal.SIGKILL)
        async with asyncio.timeout(START_TIMEOUT):
            while self.running.returncode is None:
                now = self.workers()
                replaced = before[0] not in now and len(now) == len(before)
                if replaced and listeners(self.port) == listening and await self.answers():
                    return True
                await asyncio.sleep(POLL)
        return False

    async def kill(self) -> None:
        """Kill its main process; the workers end when they notice."""
        workers = self.workers()
        self.running.kill()
        await self.running.wait()
        async with asyncio.timeout(STOP_TIMEOUT):
            while any(map(runs, workers)):
                await asyncio.sleep(POLL)

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
