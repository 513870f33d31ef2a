"""Send bytes that no HTTP library would send, and read what comes back."""

import socket
import time
from typing import NamedTuple

PATIENCE = 10.0  # seconds of silence, after which the service counts as hung


class RawResponse(NamedTuple):
    """A response as it came; `status` is 0 where the connection was closed without one."""

    status: int
    head: bytes
    body: bytes


def exchange(port: int, data: bytes, *, end: bool = False) -> RawResponse:
    """Send the bytes and return the response, when the service has closed the connection.

    `end`: close our side, too. The service then gives up what is unfinished, and may give no
    response at all. Closing early, before it has read everything, is no failure of the service.
    Raise TimeoutError where neither a response nor the end of the connection comes.
    """
    received = b""
    deadline = time.monotonic() + PATIENCE
    with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) as connection:
        try:
            connection.sendall(data)
            if end:
                connection.shutdown(socket.SHUT_WR)
            while piece := connection.recv(64 * 1024):
                received += piece
                assert time.monotonic() < deadline, "the response does not end"
        except TimeoutError:
            raise
        except OSError:
            pass  # refused early and closed; what came before is in `received`
    return parsed(received)


def parsed(received: bytes) -> RawResponse:
    """Return the response in these bytes."""
    received = received.removeprefix(b"HTTP/1.1 100 Continue\r\n\r\n")
    head, _, body = received.partition(b"\r\n\r\n")
    status = head[9:12]
    is_response = head.startswith(b"HTTP/1.") and status.isdigit()
    return RawResponse(int(status) if is_response else 0, head, body)


def request(
    method: bytes,
    target: bytes,
    *headers: tuple[bytes, bytes],
    body: bytes = b"",
    host: bytes = b"test",
) -> bytes:
    """Return a request whose connection ends with its response."""
    lines = [
        (b"Host", host),
        (b"Connection", b"close"),
        *headers,
        *([(b"Content-Length", b"%d" % len(body))] if body else []),
    ]
    head = b"".join(name + b": " + value + b"\r\n" for name, value in lines)
    return method + b" " + target + b" HTTP/1.1\r\n" + head + b"\r\n" + body
