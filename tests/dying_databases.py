"""Databases that fail at a chosen moment of a migration.

Two kinds: a proxy before PostgreSQL that fails one request of its clients (`wire`), and a server
of its own that is killed or restarted when a moment has come (`dying_server`, `moment`).
"""

import asyncio
import os
import re
import select
import shutil
import signal
import subprocess
from asyncio import StreamReader, StreamWriter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import asyncpg

from safely.scratch.embedded import Server
from tests.forkserver import Running

SOCKET = ".s.PGSQL.5432"
STARTUP = (196608).to_bytes(4)  # protocol 3.0; other first messages ask for TLS, or cancel
ENDS_REQUEST = (b"S", b"Q", b"H")  # Sync and a simple query; Flush, without a ReadyForQuery
READY, BACKEND_KEY, TERMINATE = b"Z", b"K", b"X"
FLUSH = b"H\0\0\0\4"
READS = re.compile(rb"\s*(SELECT|SHOW|SET|RESET|BEGIN|ROLLBACK)\b")
FAILED_TRANSACTION = {b"I": b"I", b"T": b"E", b"E": b"E"}  # status after an error, by that before
PATIENCE = 60.0  # seconds until a moment that does not come fails the test

Loss = Literal["request", "answer", "backend", "outage", "client"]
"""The part of an exchange that is lost: request; answer; the server's process, by
pg_terminate_backend; the whole server, which stays away until `Wire.restore`; or the client's
process, by SIGKILL, once the server has its request (see `Wire.process`)."""

# each is a query with one boolean column, true as soon as the moment has come
MOMENTS = {
    "a step writes to the ledger": "SELECT EXISTS (SELECT FROM pg_locks "
    "WHERE relation = to_regclass('migration_log') AND mode = 'RowExclusiveLock' AND granted)",
    "an index is built concurrently": "SELECT EXISTS (SELECT FROM pg_stat_progress_create_index "
    "WHERE command = 'CREATE INDEX CONCURRENTLY')",
    "a backfill has committed a batch": "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE "
    "application_name = 'migrations' AND query LIKE 'WITH safely_batch AS MATERIALIZED%' "
    "AND query NOT LIKE '%pg_stat_activity%')",
    "a step is begun": "SELECT EXISTS (SELECT FROM migration_log WHERE state = 'started')",
    # see `hold_commits`
    "a step commits": "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE "
    "application_name = 'migrations' AND wait_event = 'SyncRep')",
    "a migration waits for a lock": "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE "
    "application_name = 'migrations' AND wait_event_type = 'Lock')",
}


@dataclass(frozen=True)
class Fault:
    """The failure of one request: what is lost, or the SQLSTATE with which it is answered."""

    at: int  # the number of the request, from 1; 0: none fails
    loss: Loss | None = None
    state: str = ""
    counts_commits: bool = False  # whether `at` counts only requests that commit something


@dataclass(eq=False)
class Client:
    """A connection through the proxy."""

    reader: StreamReader
    writer: StreamWriter
    server_reader: StreamReader
    server_writer: StreamWriter
    pid: int = 0  # of the server's process
    status: bytes = b"I"  # of its transaction, from the last ReadyForQuery
    prepared: dict[bytes, bytes] = field(default_factory=dict)  # statements by their names
    lost_answer: bytes | None = None  # ends with a message that begins so; None: none is lost

    def commits_by(self, request: bytes) -> bool:
        """Return whether the request commits something, by itself or with what was done before."""
        sql = b""
        for kind, body in messages(request):
            if kind == b"P":
                name, sql, *_ = body.split(b"\0")
                self.prepared[name] = sql
            elif kind == b"B":
                sql = self.prepared.get(body.split(b"\0")[1], b"")
            elif kind == b"Q":
                sql = body
        if sql.startswith(b"COMMIT"):
            return True
        is_executed = any(kind in (b"E", b"Q") for kind, _ in messages(request))
        return is_executed and self.status == b"I" and not READS.match(sql)

    def abort(self) -> None:
        """Close both sides at once, without saying goodbye."""
        for writer in (self.writer, self.server_writer):
            writer.transport.abort()


@dataclass
class Wire:
    """A proxy before a PostgreSQL that counts its clients' requests, and fails one of them.

    It runs in the test's event loop: wait for other processes in a thread (`asyncio.to_thread`).
    """

    socket: Path  # of the server
    url: str = ""
    fault: Fault = Fault(0)
    requests: int = 0
    commits: list[int] = field(default_factory=list)  # the numbers of requests that commit
    failed_request: str = ""  # its beginning, for the message of an assertion
    is_away: bool = False  # new connections are closed at once
    process: Running | None = None  # of the client, where it is to be killed
    clients: set[Client] = field(default_factory=set)
    tasks: set[asyncio.Task[None]] = field(default_factory=set)

    def restore(self) -> None:
        """Let clients connect again, and no request fail."""
        self.is_away, self.fault = False, Fault(0)

    async def serve(self, reader: StreamReader, writer: StreamWriter) -> None:
        """Forward a client's messages until one side closes the connection."""
        if self.is_away:
            writer.transport.abort()
            return
        client = Client(reader, writer, *await asyncio.open_unix_connection(self.socket))
        self.clients.add(client)
        pumps = [asyncio.create_task(pump) for pump in (self.requests_of(client), answers(client))]
        self.tasks.update(pumps)
        try:
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for pump in pumps:
                pump.cancel()
            ends = await asyncio.gather(*pumps, return_exceptions=True)
            self.tasks.difference_update(pumps)
            self.clients.discard(client)
            client.writer.close()
            client.server_writer.close()
            raise_unexpected(ends)

    async def requests_of(self, client: Client) -> None:
        """Forward what a client sends, request by request."""
        while (first := await received(client.reader, kind=0))[4:8] != STARTUP:
            client.writer.write(b"N")
        client.server_writer.write(first)
        request = b""
        while (message := await received(client.reader))[:1] != TERMINATE:
            request += message
            if message[:1] in ENDS_REQUEST:
                self.requests += 1
                if is_commit := client.commits_by(request):
                    self.commits.append(self.requests)
                counted = len(self.commits) if self.fault.counts_commits else self.requests
                if counted == self.fault.at and (is_commit or not self.fault.counts_commits):
                    self.failed_request = printable(request)
                    if await self.fail(client, request):
                        return
                else:
                    client.server_writer.write(request)
                request = b""
            elif message[:1] == b"p":  # a password; the server answers without ReadyForQuery
                client.server_writer.write(request)
                request = b""

    async def fail(self, client: Client, request: bytes) -> bool:
        """Let this request fail; return whether the connection is lost by it."""
        if self.fault.state:
            status = client.status = FAILED_TRANSACTION[client.status]
            words = f"SERROR\0VERROR\0C{self.fault.state}\0Mmade by the test\0\0".encode()
            client.writer.write(framed(b"E", words))
            if not request.endswith(FLUSH):  # after that the client asks for it by a Sync
                client.writer.write(framed(READY, status))
            return False
        if self.fault.loss == "answer":
            client.lost_answer = b"" if request.endswith(FLUSH) else READY
            client.server_writer.write(request)
            await asyncio.sleep(PATIENCE)  # `answers` ends the connection before
        if self.fault.loss == "backend":
            await self.terminate(client.pid)
            client.server_writer.write(request)  # it meets the closed door, and the client its end
            return False
        if self.fault.loss == "client":
            assert self.process is not None
            client.server_writer.write(request)
            await client.server_writer.drain()
            self.process.kill()
        if self.fault.loss == "outage":
            self.is_away = True
            for other in self.clients:
                other.abort()
        client.abort()
        return True

    async def terminate(self, pid: int) -> None:
        """End a process of the server, as an administrator does, and wait until it is gone."""
        connection = await asyncpg.connect(
            host=str(self.socket.parent), user="postgres", database="postgres"
        )
        try:
            assert await connection.fetchval("SELECT pg_terminate_backend($1, 10000)", pid)
        finally:
            await connection.close()


@asynccontextmanager
async def wire(server: Server, database: str, fault: Fault) -> AsyncIterator[Wire]:
    """Run a proxy before a database that fails a request; yield it."""
    proxy = Wire(server.sockets / SOCKET, fault=fault)
    listener = await asyncio.start_server(proxy.serve, "127.0.0.1", 0)
    port = listener.sockets[0].getsockname()[1]
    proxy.url = f"postgresql://postgres@127.0.0.1:{port}/{database}"
    try:
        yield proxy
    finally:
        listener.close()
        for client in list(proxy.clients):
            client.abort()
        await listener.wait_closed()


async def answers(client: Client) -> None:
    """Forward what the server sends; an answer that is to be lost ends the connection."""
    while True:
        message = await received(client.server_reader)
        kind = message[:1]
        if kind == BACKEND_KEY:
            client.pid = int.from_bytes(message[5:9])
        if kind == READY:
            client.status = message[5:6]
        if client.lost_answer is None:
            client.writer.write(message)
        elif message.startswith(client.lost_answer):
            client.abort()
            return


async def received(reader: StreamReader, *, kind: int = 1) -> bytes:
    """Read the next message; a client's first has no byte for its kind (`kind=0`)."""
    head = await reader.readexactly(kind + 4)
    return head + await reader.readexactly(int.from_bytes(head[kind:]) - 4)


def messages(request: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield the kind and the body of each message in a request."""
    while request:
        length = int.from_bytes(request[1:5])
        yield request[:1], request[5 : length + 1]
        request = request[length + 1 :]


def framed(kind: bytes, body: bytes) -> bytes:
    """Return a message of the protocol."""
    return kind + (len(body) + 4).to_bytes(4) + body


def printable(request: bytes) -> str:
    """Return the text in a request."""
    return "".join(chr(byte) if 32 <= byte < 127 else "·" for byte in request)[:200]


def raise_unexpected(ends: list[BaseException | None]) -> None:
    """Raise an error other than a disconnection."""
    for end in ends:
        if isinstance(end, Exception) and not isinstance(end, EOFError | ConnectionError):
            raise end


@contextmanager
def dying_server(directory: Path, *options: str) -> Iterator[Server]:
    """Run a PostgreSQL of its own, which may be killed and restarted; stop it at the end.

    It is durable, as in production: `options` are added, such as `-c max_connections=20`.
    """
    server = Server(directory, *options)
    server.join()
    try:
        yield server
    finally:
        server.leave()


def kill(server: Server) -> None:
    """Kill the postmaster and all of its processes, as the kernel does when memory is short.

    Return when they are gone.
    """
    lock_file = server.directory / "postmaster.pid"
    pid = lock_file.read_text(encoding="utf-8").split()[0]
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="utf-8").split()
    handles = []
    for process in (pid, *children):
        with suppress(ProcessLookupError):
            handles.append(os.pidfd_open(int(process)))
            signal.pidfd_send_signal(handles[-1], signal.SIGKILL)
    for handle in handles:
        select.select([handle], [], [])
        os.close(handle)
    # these name a process that may not be reaped yet, and so seems to live
    lock_file.unlink()
    (server.sockets / f"{SOCKET}.lock").unlink()


def stop(server: Server) -> None:
    """Stop the server as a power cut does: no checkpoint, all connections lost."""
    server.call("pg_ctl", "-w", "-D", str(server.directory), "-m", "immediate", "stop")


def restart(server: Server) -> None:
    """Start a server that was killed or stopped; return when it answers.

    Commits are held no more.
    """
    (server.directory / "postgresql.auto.conf").write_text("", encoding="utf-8")
    server.start()


def start_again(server: Server) -> None:
    """Start a server unless it runs, such as one that met a full disk and may have stopped."""
    if server.call("pg_ctl", "-D", str(server.directory), "status", check=False) != 0:
        restart(server)


async def hold_commits(superuser: asyncpg.Connection) -> None:
    """Let no COMMIT that wrote something be answered, until the server is killed and restarted.

    It waits for a standby that there is not, and is committed all the same.
    """
    await superuser.execute("ALTER SYSTEM SET synchronous_standby_names = 'nobody'")
    await superuser.execute("SELECT pg_reload_conf()")
    while await superuser.fetchval("SHOW synchronous_standby_names") != "nobody":
        await asyncio.sleep(0)  # the next look is a round trip later


async def moment(url: str, name: str) -> None:
    """Return as soon as a moment of MOMENTS has come in the migration of a database.

    Raise TimeoutError after a minute, so that a moment that never comes fails the test.
    """
    connection = await asyncpg.connect(url)
    try:
        async with asyncio.timeout(PATIENCE):
            while not await has_come(connection, name):
                await asyncio.sleep(0)  # the next look is a round trip later
    finally:
        connection.terminate()


async def has_come(connection: asyncpg.Connection, name: str) -> bool:
    """Return whether a moment has come; one whose tables are not there yet has not."""
    try:
        return bool(await connection.fetchval(MOMENTS[name]))
    except asyncpg.UndefinedTableError:
        return False


class NoSmallDisk(Exception):  # noqa: N818  # a reason to skip, and nobody's fault
    """This machine can't make a small disk; the message says why."""


@contextmanager
def small_disk(directory: Path, megabytes: int) -> Iterator[Path]:
    """Mount a disk of some megabytes; yield its directory.

    Raise NoSmallDisk where that is not allowed: it takes root and the right to mount.
    """
    if os.geteuid() != 0 or (mount := shutil.which("mount")) is None:
        raise NoSmallDisk("mounting a small disk takes root")
    directory.mkdir(parents=True, exist_ok=True)
    options = ("-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", str(directory))
    mounted = subprocess.run([mount, *options], capture_output=True, check=False, text=True)
    if mounted.returncode != 0:
        raise NoSmallDisk(f"mounting a small disk is not allowed here: {mounted.stderr.strip()}")
    try:
        yield directory
    finally:
        umount = str(shutil.which("umount"))
        subprocess.run([umount, "--lazy", str(directory)], check=True)


def fill(directory: Path) -> Path:
    """Fill the disk of a directory with one file; return it, for it to be deleted."""
    file = directory / "filler"
    with suppress(OSError), file.open("wb", buffering=0) as opened:
        while True:
            opened.write(bytes(2**16))
    return file
