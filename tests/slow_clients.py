"""Clients that hold connections and send little or nothing: raw sockets, many at a time."""

import asyncio
import resource
import select
import socket
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager

GET = b"GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n"
HALF_HEAD = b"GET /health/live HTTP/1.1\r\nHost: x\r\nX-Slow: "
HALF_BODY = (
    b"POST /users HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
    b'Content-Length: 1000\r\n\r\n{"full_name": "'
)
HTTP2_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])
# HEADERS of POST http://x/users by HPACK's static table, with END_HEADERS and no END_STREAM
HTTP2_POST = bytes([0x83, 0x86, 0x44, 6, *b"/users", 0x41, 1, *b"x"])
HTTP2_HALF_BODY = HTTP2_PREFACE + bytes([0, 0, len(HTTP2_POST), 1, 4, 0, 0, 0, 1]) + HTTP2_POST
# GET http://x/users with END_HEADERS and END_STREAM: the connection is idle after its response
HTTP2_GET = bytes([0x82, *HTTP2_POST[1:]])
HTTP2_IDLE = HTTP2_PREFACE + bytes([0, 0, len(HTTP2_GET), 1, 5, 0, 0, 0, 1]) + HTTP2_GET
AT_ONCE = 200  # connections that are opened before their responses are awaited


def allow_many_sockets() -> None:
    """Raise this process's limit of open files as far as the system lets it."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


@contextmanager
def connections(port: int, count: int, first: bytes) -> Iterator[list[socket.socket]]:
    """Yield so many connections, on each of which `first` was sent; close them at the end."""
    allow_many_sockets()
    with ExitStack() as stack:
        sockets = []
        for _ in range(count):
            client = stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=30))
            if first:
                client.sendall(first)
            sockets.append(client)
        yield sockets


@contextmanager
def idle_connections(port: int, count: int) -> Iterator[list[socket.socket]]:
    """Yield keep-alive connections, each of which got one response and is idle now."""
    allow_many_sockets()
    with ExitStack() as stack:
        sockets: list[socket.socket] = []
        while len(sockets) < count:
            new = [
                stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=30))
                for _ in range(min(AT_ONCE, count - len(sockets)))
            ]
            for client in new:
                client.sendall(GET)
            for client in new:
                assert client.recv(4096).startswith(b"HTTP/1.1 200 ")
            sockets += new
        yield sockets


async def drip(sockets: Iterable[socket.socket], pause: float = 1.0) -> None:
    """Send a byte on each connection again and again, until this is cancelled."""
    left = list(sockets)
    while True:
        for client in list(left):
            try:
                client.send(b"a")
            except OSError:
                left.remove(client)  # the service has ended it
        await asyncio.sleep(pause)


def ended(sockets: Iterable[socket.socket]) -> int:
    """Return how many of the connections the service has ended; read what it sent before."""
    poll = select.poll()
    by_number = {client.fileno(): client for client in sockets}
    for number in by_number:
        poll.register(number, select.POLLIN)
    count = 0
    for number, _ in poll.poll(0):
        client = by_number[number]
        client.setblocking(False)  # noqa: FBT003  # the method's only parameter
        try:
            while client.recv(65536):
                pass
            count += 1
        except BlockingIOError:
            pass
        except OSError:
            count += 1
    return count


async def until_ended(sockets: list[socket.socket], limit: float) -> float:
    """Return after how many seconds the service has ended all connections.

    Raise TimeoutError if it has not within `limit` seconds.
    """
    start = time.monotonic()
    async with asyncio.timeout(limit):
        while ended(sockets) < len(sockets):
            await asyncio.sleep(0.1)
    return time.monotonic() - start


async def response_times(port: int, path: str, clients: int, seconds: float) -> list[float]:
    """Return the sorted seconds of each response to keep-alive clients; fail at any but 200."""
    end = time.monotonic() + seconds
    times: list[float] = []

    async def ask() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        while time.monotonic() < end:
            start = time.perf_counter()
            writer.write(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            head = await reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 200 "), head
            length = next(
                int(line.split(b":")[1])
                for line in head.splitlines()
                if line.lower().startswith(b"content-length")
            )
            await reader.readexactly(length)
            times.append(time.perf_counter() - start)
        writer.close()

    async with asyncio.TaskGroup() as group:
        for _ in range(clients):
            group.create_task(ask())
    return sorted(times)
