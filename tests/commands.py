"""Run the commands as a user types them: alembic, python -m migrations, python -m service."""

import asyncio
import os
import subprocess
from pathlib import Path

from tests import forkserver
from tests.paths import ROOT


def run_alembic(
    url: str, *arguments: str, check: bool = True, cwd: Path = ROOT, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run alembic; unless `check` is False, fail with its output where its exit code is not 0."""
    process = run_module("alembic", url, *arguments, cwd=cwd, **environment)
    if check:
        assert process.returncode == 0, process.stdout + process.stderr
    return process


def run_migrations(url: str, *arguments: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    """Run `python -m migrations`, whatever its exit code."""
    return run_module("migrations", url, *arguments, cwd=cwd)


def run_module(
    name: str, url: str, *arguments: str, cwd: Path, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run `python -m name` with a database's address; the other variables are ours."""
    variables = {**os.environ, "DATABASE_URL": url, **environment}
    return forkserver.run(name, arguments, cwd=cwd, environment=variables)


async def start_alembic(url: str, *arguments: str, cwd: Path = ROOT) -> forkserver.Running:
    """Start alembic, with standard error in its standard output."""
    environment = {**os.environ, "DATABASE_URL": url}
    return await forkserver.start(
        "alembic", *arguments, cwd=cwd, environment=environment, merged=True
    )


async def run_alembic_at_once(
    url: str, times: int, *arguments: str
) -> list[tuple[int | None, str]]:
    """Run alembic several times at once; return each exit code and output."""
    processes = [await start_alembic(url, *arguments) for _ in range(times)]
    outputs = await asyncio.gather(*(process.communicate() for process in processes))
    return [
        (process.returncode, output.decode())
        for process, (output, _) in zip(processes, outputs, strict=True)
    ]


async def run_service_command(*arguments: str, **environment: str) -> tuple[int, str, str]:
    """Run `python -m service` with arguments; return its exit code, output and errors."""
    variables = {name: value for name, value in os.environ.items() if name != "TOKENS_FILE"}
    process = await forkserver.start(
        "service", *arguments, cwd=ROOT, environment=variables | environment
    )
    out, err = await process.communicate()
    return process.returncode or 0, out.decode(), err.decode()
