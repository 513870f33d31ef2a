"""Send any request over HTTP/1.1 or HTTP/2, also one that no HTTP library would send."""

import socket
from collections.abc import Callable
from typing import NamedTuple

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import ConnectionTerminated, DataReceived, ResponseReceived, StreamEnded, StreamReset

from tests.abuse.raw_requests import PATIENCE, exchange, request
from tests.recorded_responses import in_one_piece

Headers = list[tuple[bytes, bytes]]


class Answer(NamedTuple):
    """A response; `status` is 0 where the connection or the stream ended without one."""

    status: int
    headers: dict[bytes, bytes]
    body: bytes


Send = Callable[[int, bytes, bytes, Headers, bytes], Answer]  # port, method, target, headers, body


def http1(port: int, method: bytes, target: bytes, headers: Headers, body: bytes = b"") -> Answer:
    """Send a request by HTTP/1.1 on a connection of its own."""
    response = exchange(port, request(method, target, *headers, body=body))
    lines = (line.partition(b": ") for line in response.head.split(b"\r\n")[1:])
    found = {name.lower(): value for name, _, value in lines}
    is_chunked = found.get(b"transfer-encoding") == b"chunked"
    return Answer(
        response.status, found, in_one_piece(response.body) if is_chunked else response.body
    )


def http2(port: int, method: bytes, target: bytes, headers: Headers, body: bytes = b"") -> Answer:
    """Send a request by HTTP/2 on a connection of its own."""
    settings = H2Configuration(
        header_encoding=False,
        validate_outbound_headers=False,
        normalize_outbound_headers=False,
        validate_inbound_headers=False,
    )
    pseudo = [
        (b":method", method),
        (b":path", target),
        (b":scheme", b"http"),
        (b":authority", b"test"),
    ]
    own = [(name.lower(), value) for name, value in headers]
    connection = H2Connection(settings)
    connection.initiate_connection()
    connection.send_headers(1, [*pseudo, *own], end_stream=not body)
    if body:
        connection.send_data(1, body, end_stream=True)
    answer = Answer(0, {}, b"")
    with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) as client:
        client.sendall(connection.data_to_send())
        while data := client.recv(65536):
            for event in connection.receive_data(data):
                if isinstance(event, ResponseReceived):
                    found = {bytes(name): bytes(value) for name, value in event.headers}
                    answer = Answer(int(found.pop(b":status")), found, b"")
                elif isinstance(event, DataReceived):
                    answer = answer._replace(body=answer.body + event.data)
                elif isinstance(event, StreamEnded | StreamReset | ConnectionTerminated):
                    return answer
            client.sendall(connection.data_to_send())
    return answer


PROTOCOLS: dict[str, Send] = {"HTTP/1.1": http1, "HTTP/2": http2}
