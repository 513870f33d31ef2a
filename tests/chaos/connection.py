"""An HTTP/1.1 client that costs little: the processors are shared with what is measured."""

import asyncio
import socket
from typing import NamedTuple

CRLF = b"\r\n"


class CutOffError(ConnectionError):
    """The connection ended after the head of a response, before its end."""


class Response(NamedTuple):
    """A response, whole."""

    status: int
    headers: dict[str, str]
    body: bytes


class Connection:
    """A connection to the service; it connects when it is first used, and again after an end."""

    def __init__(self, port: int, *, keep_alive: bool) -> None:
        self.port = port
        self.keep_alive = keep_alive
        self.connected_to = 0
        self.reader: asyncio.StreamReader | None = None
        self.writer: asyncio.StreamWriter | None = None

    async def request(self, method: str, path: str, body: bytes = b"", **headers: str) -> Response:
        """Send a request and return its response; raise OSError where none comes.

        CutOffError, an OSError too, is raised where only the beginning of a response came.
        """
        head = {"Host": "localhost", **headers}
        if body or method in {"POST", "PATCH"}:
            head["Content-Length"] = str(len(body))
        if not self.keep_alive:
            head["Connection"] = "close"
        lines = [f"{method} {path} HTTP/1.1"]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in head.items()]
        try:
            reader, writer = await self.connect()
            writer.write("\r\n".join(lines).encode() + 2 * CRLF + body)
            response = await self.read(reader)
        except asyncio.IncompleteReadError as error:
            self.close()
            raise ConnectionResetError("the connection ended without a response") from error
        except BaseException:
            self.close()
            raise
        if not self.keep_alive or response.headers.get("connection") == "close":
            self.close()
        return response

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Return the streams, of a new connection where the service has closed the last one.

        So it is where `port` was changed.
        """
        is_old = self.connected_to != self.port
        if self.reader is None or self.writer is None or self.reader.at_eof() or is_old:
            self.close()
            self.connected_to = self.port
            self.reader, self.writer = await asyncio.open_connection("127.0.0.1", self.port)
            own = self.writer.get_extra_info("socket")
            own.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return self.reader, self.writer

    async def read(self, reader: asyncio.StreamReader) -> Response:
        """Read a response."""
        head = (await reader.readuntil(2 * CRLF)).decode("latin-1")
        first, *lines = head.rstrip().split("\r\n")
        headers = {
            name.lower(): value for name, _, value in (line.partition(": ") for line in lines)
        }
        try:
            body = await self.read_body(reader, headers)
        except (OSError, asyncio.IncompleteReadError) as error:
            raise CutOffError("the response was cut off") from error
        return Response(int(first.split(" ", 2)[1]), headers, body)

    async def read_body(self, reader: asyncio.StreamReader, headers: dict[str, str]) -> bytes:
        """Read a body, of a known length or in chunks."""
        if headers.get("transfer-encoding") != "chunked":
            return await reader.readexactly(int(headers.get("content-length", "0")))
        body = bytearray()
        while size := int(await reader.readuntil(CRLF), 16):
            body += await reader.readexactly(size)
            await reader.readexactly(2)
        await reader.readexactly(2)
        return bytes(body)

    def close(self) -> None:
        """Close the connection at once."""
        if self.writer is not None:
            self.writer.transport.abort()
        self.reader = self.writer = None
