"""Run the real PgBouncer before the tests' PostgreSQL, configured as Debian installs it."""

import asyncio
import re
import shutil
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import asyncpg
import pytest

from safely.scratch.embedded import Server, allow_passage
from tests.debian_packages import command
from tests.pgbouncer_packages import DIRECTORY, PROGRAM
from tests.servers import free_port

USER, PASSWORD = "postgres", "seldom"
START_TIMEOUT = 10.0  # seconds


@dataclass(frozen=True)
class PgBouncer:
    """A running PgBouncer."""

    port: int
    directory: Path  # of its files, and of the link to the server's socket
    sockets: Path  # of the server

    def url(self, database: str) -> str:
        """Return the address of a database behind it."""
        return f"postgresql://{USER}:{PASSWORD}@127.0.0.1:{self.port}/{database}"

    @property
    def log(self) -> str:
        """The text of PgBouncer's log file."""
        return (self.directory / "log").read_text()

    def find_server(self) -> None:
        """Lead it to the server, as at its start."""
        (self.directory / "server").symlink_to(self.sockets)

    async def lose_server(self) -> None:
        """Close its connections to the server, and let it reach none until `find_server`."""
        (self.directory / "server").unlink()
        await self.command("RECONNECT")

    async def command(self, statement: str) -> None:
        """Execute a command of its console, such as PAUSE; return when it is done."""
        console = await asyncpg.connect(self.url("pgbouncer"))
        try:
            await console.execute(statement)
        finally:
            console.terminate()  # it knows no prepared statements, and no DISCARD


def require_pgbouncer(suite: str) -> Path:
    """Return the directory of a Debian suite's PgBouncer; skip the test without one."""
    root = DIRECTORY / suite
    if not (root / PROGRAM).exists():
        pytest.skip(f"no PgBouncer of Debian {suite}: `make pgbouncer` downloads it, on Debian")
    return root


@asynccontextmanager
async def pgbouncer(server: Server, suite: str, **settings: object) -> AsyncIterator[PgBouncer]:
    """Run a Debian suite's PgBouncer before the server; skip the test without one.

    `settings` are added to Debian's pgbouncer.ini.
    """
    root = require_pgbouncer(suite)
    with TemporaryDirectory(prefix="pgbouncer-") as name:
        place, port = Path(name), free_port()
        pooler = PgBouncer(port, place, server.sockets)
        pooler.find_server()
        write_configuration(
            place,
            (root / "etc/pgbouncer/pgbouncer.ini").read_text(),
            {"listen_port": port, **settings},
        )
        if server.user is not None:  # PgBouncer refuses to run as root
            for path in (place, place / "pgbouncer.ini", place / "userlist.txt", place / "log"):
                shutil.chown(path, server.user, server.user)
            allow_passage(root / PROGRAM)
        process = await asyncio.create_subprocess_exec(
            *command(root, PROGRAM),
            str(place / "pgbouncer.ini"),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
            user=server.user,
            group=server.user,
            extra_groups=None if server.user is None else [],
            cwd="/",
        )
        try:
            await wait_until_listening(process, pooler)
            yield pooler
        finally:
            if process.returncode is None:
                process.kill()  # from 1.23 on SIGTERM waits for all clients to leave
            await process.wait()


def write_configuration(place: Path, debian: str, settings: dict[str, object]) -> None:
    """Write Debian's pgbouncer.ini with our addresses, files and settings into a directory."""
    (place / "userlist.txt").write_text(f'"{USER}" "{PASSWORD}"\n')
    (place / "log").touch()
    ours: dict[str, object] = {
        "logfile": place / "log",
        "pidfile": place / "pid",
        "auth_file": place / "userlist.txt",
        "listen_addr": "127.0.0.1",
        "unix_socket_dir": "",
        "admin_users": USER,
        **settings,
    }
    databases = f"* = host={place / 'server'} port=5432\n"
    kept = "\n".join(
        line for line in debian.splitlines() if line.partition(" =")[0] not in ours
    ).replace("[databases]\n", f"[databases]\n{databases}")
    lines = "".join(f"{name} = {value}\n" for name, value in ours.items())
    (place / "pgbouncer.ini").write_text(
        re.sub(r"^\[pgbouncer\]$", f"[pgbouncer]\n{lines}", kept, flags=re.MULTILINE)
    )


async def wait_until_listening(process: asyncio.subprocess.Process, pooler: PgBouncer) -> None:
    """Return when it accepts connections; fail with its log if it ends or takes too long."""
    async with asyncio.timeout(START_TIMEOUT):
        while process.returncode is None:
            with socket.socket() as attempt:
                if attempt.connect_ex(("127.0.0.1", pooler.port)) == 0:
                    return
            await asyncio.sleep(0.02)
    raise AssertionError(pooler.log)
