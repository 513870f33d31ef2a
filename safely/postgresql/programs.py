"""PostgreSQL's own programs: where they are, and how they are run on a database of ours."""

import asyncio
import os
import re
import signal
import subprocess
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import IO

from alembic.util import CommandError

from safely.postgresql.server import asking, major_of, make_roles, roles_of
from safely.scratch import embedded
from service.settings import async_url

CHUNK = 1 << 16  # bytes
PREAMBLE = 2048  # bytes
TAIL = 512  # bytes at a script's end that are held back; its COMMIT is among them
CONNECT_TIMEOUT = "10"  # seconds
STOP_TIMEOUT = 10.0  # seconds that a program gets to stop once it is asked to
LOST = 2  # psql's exit code where the connection broke off
SOCKETS = ("/run/postgresql", "/var/run/postgresql", "/tmp", "/private/tmp")  # noqa: S108  # where the driver looks
# what would lead a program elsewhere than the URL does, or is none of its business
STRANGE = re.compile(r"PG(SERVICE|SERVICEFILE|HOSTADDR|OPTIONS|CLUSTER|APPNAME)|DATABASE_.*")
COMPLAINT = re.compile(r"\b(?:error|ERROR|FATAL|PANIC): ")
# the programs of 17 and later always say it, and servers before don't know it
NEW_SETTING, KNOWN_SINCE = b"SET transaction_timeout = 0;\n", 17

Advance = Callable[[int], None]  # is told how many rows more


def unheard(_: int) -> None:
    """Tell nobody."""


def tool(name: str, major: int) -> Path:
    """A program on PATH or in the embedded wheel: of this major version, else of the newest.

    Raises CommandError where there is none of it or of a later one.
    """
    found = {path: version for path in programs(name) if (version := version_of(path))}
    fit = [path for path, version in found.items() if version >= major]
    if fit:
        return min(fit, key=lambda path: (found[path] != major, -found[path]))
    seen = " and ".join(f"{path}, of PostgreSQL {version}" for path, version in found.items())
    raise CommandError(
        f"{name} of PostgreSQL {major or 15} or later is needed, and "
        f"{f'there is only {seen}' if seen else 'there is none'}: install PostgreSQL's client "
        f"programs, such as postgresql-client-{major or 18}, and have them on PATH"
    )


def programs(name: str) -> Iterator[Path]:
    """Every program of that name."""
    places = [Path(place) for place in os.get_exec_path()]
    if embedded.INSTALLED:
        places.append(embedded_programs())
    for place in dict.fromkeys(place.resolve() for place in places):
        if os.access(place / name, os.X_OK):
            yield place / name


def embedded_programs() -> Path:
    """Where the wheel has its programs."""
    return embedded.Server(embedded.data_directory()).programs


def embedded_major() -> int | None:
    """The major version of the wheel; None where it isn't installed."""
    return version_of(embedded_programs() / "postgres") if embedded.INSTALLED else None


def version_of(program: Path) -> int | None:
    """Its major version; None if it does not run."""
    try:
        said = subprocess.run(  # noqa: S603  # it has the name of one of PostgreSQL's programs
            [program, "--version"], capture_output=True, check=True, text=True
        ).stdout
    except (OSError, subprocess.CalledProcessError):
        return None
    found = re.search(r"\(PostgreSQL\) (\d+)", said)
    return int(found[1]) if found else None


def environment(url: str) -> dict[str, str]:
    """What leads the programs to a database: PG… variables, since a command line is public."""
    address = async_url(url)
    port = address.query.get("port") or address.port
    values = {
        "PGHOST": address.query.get("host") or address.host or nearest(port),
        "PGPORT": port,
        "PGUSER": address.username,
        "PGPASSWORD": address.password,
        "PGDATABASE": address.database,
        "PGSSLMODE": address.query.get("ssl"),
        "PGCONNECT_TIMEOUT": CONNECT_TIMEOUT,
    }
    return {name: str(value) for name, value in values.items() if value}


def nearest(port: object) -> str:
    """Where the driver connects to when a URL names no host."""
    file = f".s.PGSQL.{port or os.environ.get('PGPORT', '5432')}"
    sockets = (place for place in SOCKETS if Path(place, file).exists())
    return os.environ.get("PGHOST") or next(sockets, "localhost")


class Program:
    """A program at work."""

    def __init__(self, path: Path, process: asyncio.subprocess.Process, said: IO[bytes]) -> None:
        self.path = path
        self.process = process
        self.said = said  # what it writes to standard error

    async def output(self) -> AsyncIterator[bytes]:
        """What it writes to a pipe, in chunks; the first has the settings that begin a script."""
        stdout = self.process.stdout
        assert stdout is not None  # noqa: S101  # it was asked for
        try:
            yield await stdout.readexactly(PREAMBLE)
        except asyncio.IncompleteReadError as error:
            yield error.partial
        while chunk := await stdout.read(CHUNK):
            yield chunk

    async def finish(self) -> None:
        """Wait until it is done; raise CommandError with its own words if it failed."""
        if await self.process.wait():
            raise CommandError(f"{self.path.name}: {self.complaint()}")

    def complaint(self) -> str:
        """Its last word that tells of an error, or else its last one."""
        self.said.seek(0)
        lines = self.said.read().decode(errors="replace").strip().splitlines()
        if not lines:
            return f"it ended with {self.process.returncode}"
        told = [line for line in lines if COMPLAINT.search(line)] or lines
        return " ".join(COMPLAINT.split(told[-1])[-1].split())

    async def stop(self) -> int:
        """Ask it to stop, as ^C would, so that it cancels what the server does; its exit code."""
        if self.process.returncode is None:
            self.process.send_signal(signal.SIGINT)
            if self.process.stdin is not None:
                self.process.stdin.close()
            with suppress(TimeoutError):
                return await asyncio.wait_for(self.process.wait(), STOP_TIMEOUT)
            self.process.kill()
        return await self.process.wait()


@asynccontextmanager
async def running(  # noqa: PLR0913  # each is said by its name
    path: Path,
    *arguments: str,
    url: str = "",
    name: str = "migrations",
    stdin: IO[bytes] | int = subprocess.DEVNULL,
    stdout: int = subprocess.DEVNULL,
    keeps: tuple[int, ...] = (),
) -> AsyncIterator[Program]:
    """A program at work on a database, whose server knows it by this name; stopped at the end.

    A terminal's ^C does not reach it: when it stops is decided here. What it `keeps` are open
    files, whose locks it holds, too.
    """
    variables = {key: os.environ[key] for key in os.environ if not STRANGE.fullmatch(key)}
    variables |= {"LC_ALL": "C", "PGAPPNAME": name, **(environment(url) if url else {})}
    with tempfile.TemporaryFile() as said:
        process = await asyncio.create_subprocess_exec(
            path,
            *arguments,
            env=variables,
            stdin=stdin,
            stdout=stdout,
            stderr=said,
            pass_fds=keeps,
            start_new_session=True,
        )
        program = Program(path, process, said)
        try:
            yield program
        finally:
            await program.stop()


async def pour(
    script: Program, url: str, *, major: int, advance: Advance = unheard, first: str = ""
) -> None:
    """Let psql do what `first` says, and then what a program writes, on a server of that version.

    The script's end, with its COMMIT, is held back until the program has ended well.
    """
    beside = script.path.with_name("psql")
    psql = beside if beside.exists() else tool("psql", major)
    options = ("--no-psqlrc", "--quiet", "--no-password", "--file=-")
    settings = ("--set=ON_ERROR_STOP=1", "--set=VERBOSITY=terse")
    async with running(psql, *options, *settings, url=url, stdin=subprocess.PIPE) as sink:
        stdin = sink.process.stdin
        assert stdin is not None  # noqa: S101  # it was asked for
        with suppress(ConnectionError):  # psql has failed, and will say why
            tail, unknown = first.encode(), NEW_SETTING if major < KNOWN_SINCE else b""
            async for chunk in script.output():
                held = tail + (chunk.replace(unknown, b"", 1) if unknown else chunk)
                unknown = b""
                stdin.write(held[:-TAIL])
                await stdin.drain()
                tail = held[-TAIL:]
                advance(chunk.count(b"\n"))
            await script.finish()
            stdin.write(tail)
            await stdin.drain()
        stdin.close()
        try:
            await sink.finish()
        except asyncio.CancelledError:
            if await sink.stop():
                raise  # otherwise it was too late: all is done
        except CommandError as error:
            if sink.process.returncode == LOST:
                raise CommandError(f"{error}. Look whether it was done before that") from None
            raise


async def clone(source_url: str, target_url: str, advance: Advance = unheard) -> None:
    """Copy a live database into an empty one, under its own owner; nobody is stopped meanwhile.

    The roles that it names are made there if they are missing, without login. `advance` is told
    of rows as they arrive. Raises CommandError with the program's own words where an end fails.
    """
    async with asking(source_url) as source, asking(target_url) as target:
        await make_roles(target, await roles_of(source))
        program = tool("pg_dump", await major_of(source))
        major = await major_of(target)
    options = ("--no-owner", "--no-password")
    async with running(program, *options, url=source_url, stdout=subprocess.PIPE) as script:
        await pour(script, target_url, major=major, advance=advance)
