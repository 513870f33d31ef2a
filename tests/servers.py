"""Start the service as a shell does: a process of its own, on a port of its own."""

import asyncio
import json
import os
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Literal

import httpx

from tests.forkserver import Running
from tests.paths import ROOT


def free_port() -> int:
    """Return a port on which nothing listens."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@asynccontextmanager
async def service_process(
    files: int = 0, session: Literal["own", "this"] = "this", /, **environment: str
) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run `python -m service`; stop it at the end, whatever happens.

    `files` limits the number of files, and thereby of connections, that a process may open.
    In a session of its own it leads a process group, as a command does on a terminal.
    """
    limit = f"ulimit -n {files};" if files else ""
    service = await asyncio.create_subprocess_exec(
        "sh",
        "-c",
        f'{limit} exec "$0" -m service',
        sys.executable,
        cwd=ROOT,
        env={**os.environ, **environment},
        start_new_session=session == "own",
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        yield service
    finally:
        if service.returncode is None:
            service.terminate()
        await service.communicate()


async def wait_until_ready(client: httpx.AsyncClient) -> None:
    """Return when the service answers; fail after 30 seconds."""
    async with asyncio.timeout(30):
        while True:
            try:
                if (await client.get("/health/live")).is_success:
                    return
            except httpx.TransportError:
                await asyncio.sleep(0.05)


async def listening_event(service: asyncio.subprocess.Process | Running) -> str:
    """Return the log event that names its address; skip those before it, of its first requests."""
    assert service.stderr is not None
    while line := await asyncio.wait_for(service.stderr.readline(), 30):
        event = str(json.loads(line)["event"])
        if event.startswith("listening"):
            return event
    raise AssertionError("it ended")


def workers_of(service: asyncio.subprocess.Process) -> list[int]:
    """Return the process ids of the service's workers."""
    path = Path(f"/proc/{service.pid}/task/{service.pid}/children")
    return [int(number) for number in path.read_text(encoding="ascii").split()]
