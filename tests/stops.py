"""Stop the service at a random moment, by any signal, in any state, and see how it ends."""

import asyncio
import os
import random
import signal
import socket
import time
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tests.servers import free_port, listening_event, service_process
from tests.slow_clients import GET, HALF_BODY, HALF_HEAD, HTTP2_HALF_BODY, HTTP2_IDLE
from tests.slow_transfers import connected

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)
START_UP = 2.5  # seconds, about; a stop during it comes at any moment of them
LATER = 1.5  # seconds after the service listens in which other stops come
CLIENTS = 8  # of a load
SOON = 5.0  # seconds in which the service ends, if no request goes on
GRACE = 20.0  # seconds in which it ends anyway
ENDLESS = "endless import"
IMPORT = (
    b"POST /users/import HTTP/1.1\r\nHost: x\r\nContent-Type: text/csv\r\n"
    b"Content-Length: 1000000000\r\n\r\nfull_name\n"
)
WRITE = (
    b"POST /users HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
    b'Content-Length: 22\r\n\r\n{"full_name": "Stops"}'
)
HALF_SENT = {
    "idle HTTP/2": HTTP2_IDLE,
    "half-sent head": HALF_HEAD,
    "half-sent body": HALF_BODY,
    "half-sent body by HTTP/2": HTTP2_HALF_BODY,
}
STATES = ("start-up", "start-up", "idle", "load", *HALF_SENT)  # more stops during the start
ENDLESS_SHARE = 0.03  # of all stops: each takes as long as it may
# the parent alone; its process group, as a terminal does; each process, as systemd does
Target = Literal["parent", "group", "all"]
TARGETS: tuple[Target, ...] = ("parent", "group", "all")


@dataclass(frozen=True)
class Stop:
    """A signal, the processes that get it, and the moment at which it comes."""

    workers: int
    state: str
    number: signal.Signals
    target: Target
    moment: float  # seconds after the start of the process, or after it listens
    pauses: tuple[float, ...] = ()  # seconds before each further signal of an impatient person

    def __str__(self) -> str:
        times = f"{1 + len(self.pauses)} x " if self.pauses else ""
        return (
            f"{times}{self.number.name} to {self.target}, {self.state} + {self.moment:.3f} s, "
            f"{self.workers} workers"
        )


@dataclass(frozen=True)
class End:
    """How the service ended after a stop."""

    stop: Stop
    seconds: float  # until the last process had ended
    code: int
    began: bool  # whether Python had begun to run the service when the signal came
    errors: str  # standard error

    @property
    def was_killed(self) -> bool:
        """Whether a worker was killed, or lost by a failure."""
        return "Killing" in self.errors or "was lost" in self.errors

    @property
    def flaw(self) -> str | None:
        """The fault of this end in words; None if there is none."""
        if not self.began:  # the signal ended Python itself
            return None
        if self.was_killed:
            return "a worker was killed"
        if "Traceback" in self.errors:
            return "it left a traceback"
        if self.code != 0:
            return f"its exit code was {self.code}"
        limit = GRACE if self.stop.state == ENDLESS else SOON
        return f"it took longer than {limit} s" if self.seconds > limit else None

    def __str__(self) -> str:
        flaw = f": {self.flaw}\n{self.errors}" if self.flaw else ""
        return f"{self.seconds:6.2f} s, exit code {self.code}, {self.stop}{flaw}"


def random_stop(chance: random.Random, state: str = "") -> Stop:
    """Return any stop, or one in this state."""
    if not state:
        state = ENDLESS if chance.random() < ENDLESS_SHARE else chance.choice(STATES)
    return Stop(
        workers=chance.choice((1, 2)),
        state=state,
        number=chance.choice(STOP_SIGNALS),
        target=chance.choice(TARGETS),
        moment=chance.uniform(0, START_UP if state == "start-up" else LATER),
        pauses=tuple(chance.uniform(0, 0.3) for _ in range(chance.choice((0, 0, 0, 3)))),
    )


async def run(stop: Stop, url: str) -> End:
    """Start the service, stop it, and return how it ended."""
    port = free_port()
    environment = {
        "DATABASE_URL": url,
        "PORT": str(port),
        "WORKERS": str(stop.workers),
        "ACCESS_LOG": "off",
    }
    async with service_process(0, "own", **environment) as service:
        if stop.state != "start-up":
            await listening_event(service)
        async with in_state(stop.state, port):
            await asyncio.sleep(stop.moment)  # the moment is the point
            began = is_prepared(service.pid)
            start = time.monotonic()
            send(stop, service.pid)
            for pause in stop.pauses:
                await asyncio.sleep(pause)
                if service.returncode is None:
                    send(stop, service.pid)
            _, errors = await asyncio.wait_for(service.communicate(), 60)
            seconds = time.monotonic() - start
    code = service.returncode
    assert code is not None
    return End(stop, seconds, code, began, errors.decode())


def is_prepared(pid: int) -> bool:
    """Return whether a process has blocked SIGTERM, or has a handler for it."""
    status = dict(
        line.split(":\t", 1)
        for line in Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines()
    )
    signals = int(status["SigBlk"], 16) | int(status["SigCgt"], 16)
    return bool(signals & 1 << (signal.SIGTERM - 1))


def send(stop: Stop, pid: int) -> None:
    """Send the signal of a stop to its target; `pid` is the parent's."""
    if stop.target == "group":
        with suppress(ProcessLookupError):
            os.killpg(pid, stop.number)
        return
    members = session_of(pid) if stop.target == "all" else [pid]
    for member in members:
        with suppress(ProcessLookupError):
            os.kill(member, stop.number)


def session_of(pid: int) -> list[int]:
    """Return the processes of the session that the process leads, itself the first."""
    members = [pid]
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            member, rest = path.read_text().split(" ", 1)
            if int(rest.rsplit(")", 1)[1].split()[3]) == pid and int(member) != pid:
                members.append(int(member))
    return members


@asynccontextmanager
async def in_state(state: str, port: int) -> AsyncIterator[None]:
    """Put the service into a state for the time of the block."""
    if state == "load":
        clients = (keep_asking(port, WRITE if number % 2 else GET) for number in range(CLIENTS))
        async with meanwhile(*clients):
            yield
    elif state == ENDLESS:
        async with meanwhile(keep_importing(port)):
            yield
    elif first := HALF_SENT.get(state):
        with socket.create_connection(("127.0.0.1", port)) as client:
            client.sendall(first)
            yield
    else:
        yield


@asynccontextmanager
async def meanwhile(*clients: Coroutine[None, None, None]) -> AsyncIterator[None]:
    """Run the clients for the time of the block."""
    tasks = [asyncio.create_task(client) for client in clients]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def keep_importing(port: int) -> None:
    """Send an import fast enough, and never its end."""
    async with connected("127.0.0.1", port) as (_, writer):
        writer.write(IMPORT)
        while True:
            writer.write(b"Endless\n" * 16384)
            await writer.drain()
            await asyncio.sleep(0.5)


async def keep_asking(port: int, request: bytes) -> None:
    """Send the request again and again, each after the response to the one before."""
    while True:
        with suppress(OSError, EOFError):
            async with connected("127.0.0.1", port) as (reader, writer):
                while True:
                    writer.write(request)
                    await reader.readuntil(b"}")
        await asyncio.sleep(0.01)
