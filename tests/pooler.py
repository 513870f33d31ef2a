"""A connection pooler like pgbouncer, as a proxy before PostgreSQL.

A client has a backend from its first message until its transaction is over (mode `transaction`),
or until it leaves (`session`). What it sets at startup is dropped, or refused where pgbouncer
refuses it (`strict`). Prepared statements stay on the backend that prepared them, as before
pgbouncer 1.21; with `statement_cache_size=0`, asyncpg gives them no names.

It runs in the test's event loop: wait for other processes in a thread (`asyncio.to_thread`).
"""

import asyncio
import secrets
from asyncio import StreamReader, StreamWriter, Task
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from safely.scratch.embedded import Server

Mode = Literal["transaction", "session"]

# the codes of a first message: a startup of protocol 3.0, or another request
STARTUP, CANCEL, SSL, GSS = (code.to_bytes(4) for code in (196608, 80877102, 80877103, 80877104))
KNOWN = {"user", "database", "application_name", "client_encoding", "datestyle", "timezone"}
KNOWN |= {"intervalstyle", "standard_conforming_strings"}


@asynccontextmanager
async def pooler(
    server: Server,
    database: str,
    *,
    mode: Mode = "transaction",
    strict: bool = False,
    size: int = 5,
) -> AsyncIterator[str]:
    """Run a pooler before a database; yield its address."""
    socket, places = server.sockets / ".s.PGSQL.5432", asyncio.Semaphore(size)
    pool = Pool(socket, database, mode, strict, places)
    listener = await asyncio.start_server(pool.accept, "127.0.0.1", 0)
    try:
        pool.idle.append(await pool.log_in())  # every client gets its parameters
        port = listener.sockets[0].getsockname()[1]
        yield f"postgresql://postgres@127.0.0.1:{port}/{database}"
    finally:
        asyncio.get_running_loop().remove_reader(listener.sockets[0].fileno())
        # asyncio fails when it closes a connection that is accepted and not handled yet
        await asyncio.sleep(0.01)
        listener.close()
        await pool.close()
        await listener.wait_closed()


def framed(body: bytes, kind: bytes = b"") -> bytes:
    return kind + (len(body) + 4).to_bytes(4) + body


async def received(reader: StreamReader, *, kind: int = 1) -> bytes:
    """Read the next message; a client's first has no byte for its kind (`kind=0`)."""
    head = await reader.readexactly(kind + 4)
    return head + await reader.readexactly(int.from_bytes(head[kind:]) - 4)


READY, TERMINATE = framed(b"I", b"Z"), framed(b"", b"X")


@dataclass(eq=False)
class Backend:
    """A connection to PostgreSQL."""

    reader: StreamReader
    writer: StreamWriter
    key: bytes = b""  # what cancels its query
    client: StreamWriter | None = None  # the one that uses it


@dataclass
class Pool:
    """The backends, and the clients that use them; clients never pipeline queries."""

    socket: Path
    database: str
    mode: Mode
    strict: bool
    places: asyncio.Semaphore
    parameters: bytes = b""  # the messages of the last backend that logged in
    idle: list[Backend] = field(default_factory=list)  # used last, lent first
    lent: dict[StreamWriter, Backend] = field(default_factory=dict)
    keys: dict[bytes, StreamWriter] = field(default_factory=dict)  # ours, one for each client
    tasks: dict[StreamWriter, Task[None]] = field(default_factory=dict)

    def run(self, work: Coroutine[Any, Any, None], writer: StreamWriter) -> None:
        """Run the coroutine as a task; close the connection when it ends."""
        self.tasks[writer] = asyncio.create_task(work)
        self.tasks[writer].add_done_callback(lambda _: writer.close())

    async def close(self) -> None:
        """Close all connections; raise errors other than disconnections."""
        for task in self.tasks.values():
            task.cancel()
        for end in await asyncio.gather(*self.tasks.values(), return_exceptions=True):
            if isinstance(end, Exception) and not isinstance(end, EOFError | ConnectionError):
                raise end

    def accept(self, reader: StreamReader, client: StreamWriter) -> None:
        self.run(self.serve(reader, client), client)

    async def serve(self, reader: StreamReader, client: StreamWriter) -> None:
        """Lend the client a backend whenever it sends a message."""
        if not await self.let_in(reader, client):
            return
        try:
            while (message := await received(reader)) != TERMINATE:
                if client not in self.lent:
                    await self.places.acquire()
                    backend = self.idle.pop() if self.idle else await self.log_in()
                    backend.client, self.lent[client] = client, backend
                self.lent[client].writer.write(message)
        finally:
            if client in self.lent:  # it may have settings or an open transaction
                self.tasks[self.take_back(client).writer].cancel()

    async def let_in(self, reader: StreamReader, client: StreamWriter) -> bool:
        """Answer a client's startup; return False if no query will follow."""
        while (first := await received(reader, kind=0))[4:8] in (SSL, GSS):
            client.write(b"N")
        if first[4:8] == CANCEL:
            await self.cancel(self.keys[first[8:]])
            return False
        names = first[8:].decode().split("\0")[:-2:2]
        unknown = [name for name in names if name.lower() not in KNOWN]
        if self.strict and unknown:
            words = f"SFATAL\0C08P01\0Munsupported startup parameter: {unknown[0]}\0\0"
            client.write(framed(words.encode(), b"E"))
            return False
        self.keys[key := secrets.token_bytes(8)] = client
        client.write(framed(bytes(4), b"R") + self.parameters + framed(key, b"K") + READY)
        return True

    async def relay(self, backend: Backend) -> None:
        """Forward the server's messages until it closes the connection."""
        try:
            while True:
                answer = await received(backend.reader)
                if client := backend.client:
                    client.write(answer)
                    if answer == READY and self.mode == "transaction":
                        self.idle.append(self.take_back(client))
        finally:
            if backend.client is not None:
                backend.client.close()
            elif backend in self.idle:
                self.idle.remove(backend)

    def take_back(self, client: StreamWriter) -> Backend:
        backend = self.lent.pop(client)
        backend.client = None
        self.places.release()
        return backend

    async def log_in(self) -> Backend:
        backend = Backend(*await asyncio.open_unix_connection(self.socket))
        words = f"user\0postgres\0database\0{self.database}\0\0"
        backend.writer.write(framed(STARTUP + words.encode()))
        parameters = b""
        while (message := await received(backend.reader)) != READY:
            if message[:1] == b"E":
                raise RuntimeError(message.decode())
            parameters += message if message[:1] == b"S" else b""
            backend.key = message[5:] if message[:1] == b"K" else backend.key
        self.parameters = parameters
        self.run(self.relay(backend), backend.writer)
        return backend

    async def cancel(self, client: StreamWriter) -> None:
        """Cancel the client's query, if one is running."""
        if backend := self.lent.get(client):
            reader, writer = await asyncio.open_unix_connection(self.socket)
            writer.write(framed(CANCEL + backend.key))
            await reader.read()  # until the server closes it
            writer.close()
