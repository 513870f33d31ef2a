"""Running `python -m …` in a process that need not import Alembic and SQLAlchemy again.

A server that has the libraries, and nothing of this project, forks for each run; that halves the
time of a suite which calls Alembic some hundreds of times.
"""

import multiprocessing
import os
import runpy
import subprocess
import sys
import tempfile
from pathlib import Path

LIBRARIES = [
    "aiosqlite",
    "alembic.autogenerate",
    "alembic.config",
    "msgspec",
    "prometheus_client",
    "rich.progress",
    "rich.table",
    "sqlalchemy.dialects.postgresql.asyncpg",
    "sqlalchemy.dialects.sqlite.aiosqlite",
    "sqlalchemy.ext.asyncio",
]

server = multiprocessing.get_context("forkserver")
server.set_forkserver_preload(LIBRARIES)


def run(
    name: str, arguments: tuple[str, ...], *, cwd: Path, environment: dict[str, str]
) -> subprocess.CompletedProcess[str]:
    """What `python -m name arguments` says in a directory, and its exit code."""
    with tempfile.TemporaryDirectory() as directory:
        said = [Path(directory) / stream for stream in ("stdout", "stderr")]
        process = server.Process(target=become, args=(name, arguments, cwd, environment, said))
        process.start()
        process.join()
        texts = [path.read_text(encoding="utf-8") for path in said]
        code = process.exitcode
        process.close()
    return subprocess.CompletedProcess([name, *arguments], code or 0, *texts)


def become(
    name: str, arguments: tuple[str, ...], cwd: Path, environment: dict[str, str], said: list[Path]
) -> None:
    """Turn this process into the one asked for."""
    for number, path in enumerate(said, start=1):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(cwd)
    sys.argv = [name, *arguments]
    sys.path[:] = [
        str(cwd),
        *(path for path in sys.path if "site-packages" in path or "lib/python" in path),
    ]
    runpy.run_module(name, run_name="__main__", alter_sys=True)
