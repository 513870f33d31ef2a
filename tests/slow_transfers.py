"""Clients of imports and exports that send or read next to nothing, over raw sockets."""

import asyncio
import struct
from asyncio import StreamReader, StreamWriter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

ENDLESS = 2**40  # bytes that an import announces
HTTP2_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RST_STREAM, SETTINGS, GOAWAY = 0, 1, 3, 4, 7  # types of HTTP/2 frames
END_OF_HEADERS_AND_STREAM = 0x5


@asynccontextmanager
async def connected(host: str, port: int) -> AsyncIterator[tuple[StreamReader, StreamWriter]]:
    """Connect to the service; close the connection at the end."""
    reader, writer = await asyncio.open_connection(host, port)
    try:
        yield reader, writer
    finally:
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()


def head(method: str, path: str, **headers: str) -> bytes:
    """Return the head of a request by HTTP/1.1."""
    lines = [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([f"{method} {path} HTTP/1.1", "Host: service", *lines, "", ""]).encode()


async def trickling_import(
    host: str, port: int, content: bytes = b"full_name\n", *, interval: float = 1.0, **headers: str
) -> bytes:
    """Send the content of a CSV, then a byte at each interval; return the response when it comes.

    It is empty where the service closes the connection instead.
    """
    headers = {"Content_Type": "text/csv", "Content_Length": str(ENDLESS), **headers}
    async with connected(host, port) as (reader, writer):
        writer.write(head("POST", "/users/import", **headers) + content)
        answer = asyncio.create_task(reader.read(2**16))
        while not (await asyncio.wait({answer}, timeout=interval))[0]:
            writer.write(b"x")
        with suppress(OSError):
            return await answer
        return b""


async def trickling_export(  # noqa: PLR0913  # what a client may do
    host: str,
    port: int,
    path: str = "/users/export",
    *,
    seconds: float,
    interval: float = 1.0,
    content: bytes = b"",
    **headers: str,
) -> bytes:
    """Read a byte at each interval for some seconds, then all at once; return what was read.

    With `content`, it is the response to the import of this CSV.
    A complete response ends in its last chunk, `0\\r\\n\\r\\n`.
    """
    async with connected(host, port) as (reader, writer):
        headers = {"Connection": "close", **headers}
        if content:
            headers |= {"Content_Type": "text/csv", "Content_Length": str(len(content))}
        writer.write(head("POST" if content else "GET", path, **headers) + content)
        response = b""
        with suppress(OSError):
            for _ in range(round(seconds / interval)):
                response += await reader.read(1)
                await asyncio.sleep(interval)
            while piece := await reader.read(2**16):
                response += piece
        return response


async def closed_window_export(
    host: str, port: int, path: str = "/users/export", **headers: str
) -> list[int]:
    """Ask by HTTP/2 and never open the window; return the types of all frames that come.

    The last is RST_STREAM or GOAWAY, unless the service closes the connection.
    """
    fields = {":method": "GET", ":scheme": "http", ":path": path, ":authority": "service"}
    fields |= {name.replace("_", "-").lower(): value for name, value in headers.items()}
    async with connected(host, port) as (reader, writer):
        writer.write(HTTP2_PREFACE + frame(SETTINGS, 0, 0, b""))
        writer.write(frame(HEADERS, END_OF_HEADERS_AND_STREAM, 1, hpack(fields)))
        types: list[int] = []
        with suppress(OSError, EOFError):
            while not types or types[-1] not in (RST_STREAM, GOAWAY):
                start = await reader.readexactly(9)
                await reader.readexactly(int.from_bytes(start[:3]))
                types.append(start[3])
        return types


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    """Return a frame of HTTP/2 (RFC 9113, 4.1)."""
    return len(payload).to_bytes(3) + struct.pack(">BBI", kind, flags, stream) + payload


def hpack(fields: dict[str, str]) -> bytes:
    """Return the fields as literals without indexing (RFC 7541, 6.2.2), each up to 126 bytes."""
    pairs = ((name.encode(), value.encode()) for name, value in fields.items())
    return b"".join(
        b"\0" + bytes([len(name)]) + name + bytes([len(value)]) + value for name, value in pairs
    )
