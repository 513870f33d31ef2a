"""A proxy between the service and PostgreSQL that harms their connections."""

import asyncio
import socket
import struct
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

RESET_ON_CLOSE = struct.pack("ii", 1, 0)  # <sys/socket.h>: linger, for 0 seconds
CHUNK = 65536  # bytes

Harm = Callable[[bytes], bytes | None]
"""Takes what PostgreSQL sends.

None: it is sent on. Bytes: they are sent instead, and the connection is reset.
"""


Alter = Callable[[bytes], bytes]
"""Takes what the service sends, and returns what is sent instead."""


class Proxy:
    """Forwards connections on a port to PostgreSQL's Unix socket.

    - `target` is the socket that new connections are forwarded to
    - while `passing` is not set, nothing that is sent arrives: not even the end of a connection
    - `harm` sees what PostgreSQL sends, `alter` what the service sends
    """

    def __init__(self, target: Path) -> None:
        self.target = target
        self.passing = asyncio.Event()
        self.passing.set()
        self.harm: Harm | None = None
        self.alter: Alter | None = None
        self.writers: set[asyncio.StreamWriter] = set()
        self.tasks: set[asyncio.Task[None]] = set()
        self.port = 0

    async def __aenter__(self) -> Self:
        """Listen on a free port."""
        await self.accept_again()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Refuse connections, and end those that there are."""
        await self.cut_off()
        self.passing.set()
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)

    async def accept_again(self) -> None:
        """Accept connections, on the port of before."""
        self.listener = await asyncio.start_server(self.accept, "127.0.0.1", self.port)
        self.port = self.listener.sockets[0].getsockname()[1]

    async def cut_off(self) -> None:
        """Close all connections, and refuse new ones."""
        self.listener.close()
        self.reset_all()

    def reset_all(self) -> None:
        """Reset all connections."""
        for writer in list(self.writers):
            reset(writer)

    def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Forward a connection, in a task of its own."""
        task = asyncio.create_task(self.forward(reader, writer))
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    async def forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Forward a connection until one of its ends is closed."""
        await self.passing.wait()  # PostgreSQL does not hear of a new one before
        try:
            behind = await asyncio.open_unix_connection(self.target)
        except OSError:
            reset(writer)
            return
        self.writers |= {writer, behind[1]}
        try:
            async with asyncio.TaskGroup() as directions:
                directions.create_task(self.send_requests(reader, behind[1]))
                directions.create_task(self.send_answers(behind[0], writer))
        except* OSError:
            pass
        finally:
            reset(writer)
            await self.passing.wait()  # nor of the end of one
            reset(behind[1])
            self.writers -= {writer, behind[1]}

    async def send_requests(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        """Send on what the service sends; raise ConnectionError at the end."""
        while data := await reader.read(CHUNK):
            if self.passing.is_set():
                writer.write(data if self.alter is None else self.alter(data))
                await writer.drain()
        raise ConnectionResetError

    async def send_answers(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        """Send on what PostgreSQL sends; raise ConnectionError at the end."""
        while data := await reader.read(CHUNK):
            if not self.passing.is_set():
                continue
            rest = None if self.harm is None else self.harm(data)
            writer.write(data if rest is None else rest)
            await writer.drain()
            if rest is not None:
                break
        raise ConnectionResetError


def reset(writer: asyncio.StreamWriter) -> None:
    """End a connection by a TCP reset, without what is still to be sent."""
    transport = writer.transport
    own: socket.socket | None = transport.get_extra_info("socket")
    if own is not None and not transport.is_closing() and own.family != socket.AF_UNIX:
        own.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
    transport.abort()
