"""Connections on which nothing happens end: half-sent heads soon, idle ones late.

The server has one timer for both, and none for a connection that never sent anything. A load
balancer keeps connections for minutes; a head that takes longer than seconds is an attack.
"""

import asyncio
import logging
import os
import socket
import stat
import struct
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from email.utils import formatdate
from typing import Any, cast

from litestar.enums import ScopeType
from litestar.types import ASGIApp, Receive, Scope, Send

from service.errors import RequestTimeout
from service.http.layers.unread_body import METHODS_WITH_BODY
from service.http.problems import MEDIA_TYPE, problem_of
from service.schemas import encode
from service.stopping import Stop

INTERVAL = 2.0  # seconds between two looks at the connections
STOP_INTERVAL = 0.25  # seconds between two looks while the worker stops
STOP_TIMEOUT = 1.0  # seconds in which something must happen then on a connection without a request
HEAD_TIMEOUT = 5.0  # seconds that the head of a request may take
IDLE_TIMEOUT = 620.0  # seconds; load balancers keep idle connections for at most 600
CROWDED = 0.75  # of the connections that are possible: from then on idle ones end soon, too
SLICE = 50  # connections that are looked at before requests get their turn
# <linux/tcp.h>: tcpi_unacked, tcpi_bytes_acked, tcpi_bytes_received
TCP_INFO = struct.Struct("24xI92xQQ")
SUPPORTED = sys.platform == "linux"

Peer = tuple[str, int]

log = logging.getLogger("service")


@dataclass(slots=True)
class Connection:
    """The state of one TCP connection at the last look: bytes sent and received, and since when."""

    sent: int  # bytes that the client has acknowledged, and the handshake counts as one
    received: int  # bytes
    since: float  # when both were first seen to be so
    head_since: float | None = None  # when the client was first seen to have sent a part of a head

    def compare(self, last: "Connection", *, heads: bool) -> None:
        """Take over what has not changed since the `last` look, while no request was running."""
        if (self.sent, self.received) == (last.sent, last.received):
            self.since, self.head_since = last.since, last.head_since
        elif heads and self.received > last.received and self.sent <= last.sent:
            # bytes came and no response went: they are the beginning of a head
            self.head_since = last.head_since or self.since


def late_head_response() -> bytes:
    """Return the response of HTTP/1.1 to a request whose head did not come to its end."""
    refusal = RequestTimeout(f"the head of the request took longer than {HEAD_TIMEOUT:g} s")
    body = encode(problem_of(refusal, ""))
    lines = (
        f"HTTP/1.1 {refusal.status.value} {refusal.status.phrase}",
        f"content-type: {MEDIA_TYPE}",
        "cache-control: no-store",
        f"content-length: {len(body)}",
        "connection: close",
        f"date: {formatdate(usegmt=True)}",
    )
    return "\r\n".join((*lines, "", "")).encode() + body


def subtract_one(counts: dict[Peer, int], peer: Peer) -> None:
    """Subtract one from a count; a count of 0 is left out."""
    if counts[peer] == 1:
        del counts[peer]
    else:
        counts[peer] -= 1


class IdleConnections:
    """A layer that knows which connections have a running request, and ends others in time."""

    def __init__(self, app: ASGIApp, stop: Stop, port: int, limit: int) -> None:
        """Watch the process's connections to `port`, of which there may be `limit`.

        After the `stop` all end soon, so that granian, which waits for them, can end.
        """
        self.app = app
        self.stop = stop
        self.port = port
        self.limit = limit
        self.running: dict[Peer, int] = {}  # the number of requests; several in HTTP/2
        self.incomplete: dict[Peer, int] = {}  # the number of those whose body has not arrived
        self.versions: dict[Peer, str] = {}  # of HTTP, of those that had a request
        self.connections: dict[Peer, Connection] = {}
        self.crowded = False
        self.late_heads = 0  # connections that the last look ended for them
        self.watching: list[asyncio.Task[None]] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, and count it as running on its connection."""
        if scope["type"] != ScopeType.HTTP:  # the server's start
            self.watching.append(asyncio.create_task(self.stop.watch()))
            if SUPPORTED:
                self.watching.append(asyncio.create_task(self.watch()))
            await self.app(scope, receive, send)
            return
        host, number = cast("tuple[str, str | int]", scope["client"])
        peer = (host, int(number))  # granian has the port as a text
        self.running[peer] = self.running.get(peer, 0) + 1
        if SUPPORTED:
            self.versions[peer] = cast("dict[str, Any]", scope)["http_version"]
        try:
            if scope["method"] in METHODS_WITH_BODY:
                await self.pass_body_on(peer, scope, receive, send)
            else:
                await self.app(scope, receive, send)
        finally:
            subtract_one(self.running, peer)

    async def pass_body_on(self, peer: Peer, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, and count it as incomplete until its body has arrived."""
        self.incomplete[peer] = self.incomplete.get(peer, 0) + 1
        more = True

        async def receive_and_note() -> Any:
            nonlocal more
            message = await receive()
            if more and not cast("dict[str, Any]", message).get("more_body"):
                more = False
                subtract_one(self.incomplete, peer)
            return message

        try:
            await self.app(scope, receive_and_note, send)
        finally:
            if more:
                subtract_one(self.incomplete, peer)

    async def watch(self) -> None:
        """Look at all connections again and again."""
        while True:
            if self.stop.since is not None:
                await asyncio.sleep(STOP_INTERVAL)
            else:
                with suppress(TimeoutError):
                    await asyncio.wait_for(self.stop.begun.wait(), INTERVAL)
            before, self.connections = self.connections, {}
            self.late_heads = 0
            names = os.listdir("/proc/self/fd")  # noqa: PTH208  # ten thousand of Path would take long
            for index, name in enumerate(names):
                if index % SLICE == 0:
                    await asyncio.sleep(0)
                self.look_at(int(name), before)
            self.crowded = len(self.connections) > self.limit * CROWDED
            gone = self.versions.keys() - self.connections.keys() - self.running.keys()
            for peer in gone:
                del self.versions[peer]
            if self.late_heads:
                words = "connections ended whose request head took longer than %g s: %d"
                log.info(words, HEAD_TIMEOUT, self.late_heads)

    def look_at(self, descriptor: int, before: dict[Peer, Connection]) -> None:
        """End the connection, if it is one, where its time is over; else remember its state.

        The descriptor is neither copied nor closed: to close any descriptor of a file gives up all
        locks that the process has on that file, and SQLite's file is among them.
        """
        try:
            if not stat.S_ISSOCK(os.fstat(descriptor).st_mode):
                return
            connection = socket.socket(socket.AF_INET, socket.SOCK_STREAM, 0, descriptor)
        except OSError:  # another thread has just closed it
            return
        try:
            self.look_at_socket(connection, before)
        finally:
            connection.detach()

    def look_at_socket(self, connection: socket.socket, before: dict[Peer, Connection]) -> None:
        """End the connection where its time is over; else remember its state."""
        try:
            info = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, TCP_INFO.size)
            peer = connection.getpeername()[:2]
            if peer not in before and connection.getsockname()[1] != self.port:
                return
            in_flight, sent, received = TCP_INFO.unpack(info)
        except (OSError, struct.error):  # no TCP, no connection; a kernel that doesn't tell
            return
        state = Connection(sent, received, time.monotonic())
        self.connections[peer] = state
        if self.is_busy(peer):
            return
        # a client of HTTP/2 also sends what is no request; a new connection begins with 0 bytes
        heads = not in_flight and self.versions.get(peer) != "2" and peer not in self.running
        last = before.get(peer) or Connection(1, 0, state.since)
        state.compare(last, heads=heads)
        if self.is_over(state):
            with suppress(OSError):  # the client has just left
                if connection.getpeername()[:2] != peer:  # another thread may reuse the number
                    return
                if state.head_since is not None and self.stop.since is None:
                    self.late_heads += 1
                    # over HTTP/2 the server has sent something even before the first request;
                    # while bytes come, the rest of the head may have come this moment
                    if received == last.received and (peer in self.versions or sent <= 1):
                        connection.send(late_head_response())
                connection.shutdown(socket.SHUT_RDWR)

    def is_busy(self, peer: Peer) -> bool:
        """Return whether the connection has a request that must not be cut off.

        A worker that stops does not wait for a body of which nothing comes.
        """
        running = self.running.get(peer, 0)
        if self.stop.since is None:
            return running > 0
        return running > self.incomplete.get(peer, 0) and not self.stop.is_grace_over

    def is_over(self, state: Connection) -> bool:
        """Return whether the connection has had its time."""
        now = time.monotonic()
        since = state.since if state.head_since is None else state.head_since
        if self.stop.since is not None:
            return self.stop.is_grace_over or now - max(since, self.stop.since) >= STOP_TIMEOUT
        if state.head_since is not None and now - state.head_since >= HEAD_TIMEOUT:
            return True
        return now - state.since >= (HEAD_TIMEOUT if self.crowded else IDLE_TIMEOUT)
