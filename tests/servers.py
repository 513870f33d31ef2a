"""The service as a process of its own, on a port of its own."""

import asyncio
import json
import os
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx

from tests.paths import ROOT


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@asynccontextmanager
async def process(**environment: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """`python -m service`, stopped at the end whatever happens."""
    service = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "service",
        cwd=ROOT,
        env={**os.environ, **environment},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        yield service
    finally:
        if service.returncode is None:
            service.terminate()
        await service.communicate()


async def until_ready(client: httpx.AsyncClient) -> None:
    async with asyncio.timeout(30):
        while True:
            try:
                if (await client.get("/health/live")).is_success:
                    return
            except httpx.TransportError:
                await asyncio.sleep(0.05)


async def listening(service: asyncio.subprocess.Process) -> str:
    """The line that says where it listens; that of the request which asked may come before."""
    assert service.stderr is not None
    while line := await asyncio.wait_for(service.stderr.readline(), 30):
        event = str(json.loads(line)["event"])
        if event.startswith("listening"):
            return event
    raise AssertionError("it ended")
