"""Clients that misbehave, beside those that don't."""

import asyncio
import json
import time
from collections.abc import Awaitable, Callable

from tests.chaos.run import LOADED, Run, fault

TOO_SLOW = 2.0  # seconds that no other client's request may take meanwhile
HEAD = b"POST /users HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
IDLE_REQUEST = b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n\r\n"
SLOW_IMPORT = (
    b"POST /users/import HTTP/1.1\r\nHost: localhost\r\nContent-Type: text/csv\r\n"
    b"Content-Length: 1000000\r\n\r\nfull_name,email,age\n"
)
EXPORT = b"GET /users/export HTTP/1.1\r\nHost: localhost\r\n\r\n"
EXPORT_ROWS = 20_000

Visit = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@fault("1,100 idle connections", "each after a request, kept for 15 s")
async def idle_connections(run: Run) -> None:
    await crowd(run, 1_100, idle)


@fault("10,000 idle connections", "each after a request, kept for 15 s")
async def many_idle_connections(run: Run) -> None:
    await crowd(run, 10_000, idle)


@fault("1,100 half-sent heads", "connections that never end their head, for 15 s")
async def half_sent_heads(run: Run) -> None:
    await crowd(run, 1_100, half_a_head)


@fault("1,100 slow bodies", "creates that send a byte of their body each second, for 15 s")
async def slow_bodies(run: Run) -> None:
    await crowd(run, 1_100, slow_body)


@fault("20 slow imports", "imports that send a byte each second, for 15 s")
async def slow_imports(run: Run) -> None:
    began = time.monotonic()
    await crowd(run, 20, slow_import)
    refused = [
        entry for entry in run.since(began) if "import" in entry.request and not entry.is_success
    ]
    run.complaints += [f"held up by slow ones: {entry}" for entry in refused[:5]]


@fault(
    "clients leave exports",
    f"8 clients at a time begin an export of {EXPORT_ROWS:,} users, and leave; for 10 s",
)
async def exports_left(run: Run) -> None:
    async with run.administrator() as administrator:
        await administrator.execute(
            "INSERT INTO users (full_name) SELECT $1 || '-' || n FROM generate_series(1, $2) AS n",
            LOADED, EXPORT_ROWS,
        )  # fmt: skip
    deadline = time.monotonic() + 10 * run.size.scale

    async def leave_again_and_again() -> None:
        while time.monotonic() < deadline:
            reader, writer = await asyncio.open_connection("127.0.0.1", run.service.port)
            writer.write(EXPORT)
            await reader.read(1_000)
            writer.transport.abort()

    async with asyncio.TaskGroup() as tasks:
        for _ in range(8):
            tasks.create_task(leave_again_and_again())
    run.returned()
    run.complaints += [f"logged as an error: {line}" for line in errors_logged(run)[:3]]


async def crowd(run: Run, number: int, visit: Visit) -> None:
    """Let so many connections do the same for a while, and look what it does to the others."""
    if run.size.scale < 1:
        number //= 10
    began = time.monotonic()
    connections: list[asyncio.StreamWriter] = []
    visits: list[asyncio.Task[None]] = []
    try:
        for _ in range(number):
            try:
                async with asyncio.timeout(30):
                    reader, writer = await asyncio.open_connection("127.0.0.1", run.service.port)
            except OSError as error:
                run.complaints.append(f"no {len(connections) + 1}th connection: {error}")
                break
            connections.append(writer)
            visits.append(asyncio.ensure_future(visit(reader, writer)))
        await run.last(15)
    finally:
        for task in visits:
            task.cancel()
        await asyncio.gather(*visits, return_exceptions=True)
        for connection in connections:
            connection.transport.abort()
    run.returned()
    await run.recovered()  # a request that waited for the others to leave has ended then
    held_up = [entry for entry in run.since(began) if entry.end - entry.start > TOO_SLOW]
    run.complaints += [f"held up: {entry}" for entry in held_up[:5]]


async def idle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Send one request, and keep the connection."""
    writer.write(IDLE_REQUEST)
    await reader.read(1_000)


async def half_a_head(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Send the beginning of a head."""
    writer.write(HEAD)


async def slow_body(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Send a create, and a byte of its body each second."""
    writer.write(HEAD + b"Content-Length: 1000\r\n\r\n")
    await drip(writer)


async def slow_import(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Send an import, and a byte of it each second."""
    writer.write(SLOW_IMPORT)
    await drip(writer)


async def drip(writer: asyncio.StreamWriter) -> None:
    """Send a byte each second."""
    while not writer.is_closing():
        writer.write(b" ")
        await asyncio.sleep(1)


def errors_logged(run: Run) -> list[str]:
    """Return the messages that the service logged as errors."""
    lines = run.service.log.read_text(encoding="utf-8").splitlines()
    entries = [json.loads(line) for line in lines if line.startswith("{")]
    return [
        str(entry.get("event")).partition("\n")[0]
        for entry in entries
        if entry.get("level") == "error"
    ]
