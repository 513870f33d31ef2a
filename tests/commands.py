"""The commands as a user types them: alembic, python -m migrations, python -m service."""

import asyncio
import os
import subprocess
from pathlib import Path

from tests import forked
from tests.paths import ROOT


def run_alembic(
    url: str, *arguments: str, check: bool = True, cwd: Path = ROOT, **environment: str
) -> subprocess.CompletedProcess[str]:
    """The command as a user types it; its output comes along when it fails unexpectedly."""
    process = run_module("alembic", url, *arguments, cwd=cwd, **environment)
    if check:
        assert process.returncode == 0, process.stdout + process.stderr
    return process


def run_migrations(url: str, *arguments: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    """`python -m migrations`, whose exit code is part of its answer."""
    return run_module("migrations", url, *arguments, cwd=cwd)


def run_module(
    name: str, url: str, *arguments: str, cwd: Path, **environment: str
) -> subprocess.CompletedProcess[str]:
    variables = {**os.environ, "DATABASE_URL": url, **environment}
    return forked.run(name, arguments, cwd=cwd, environment=variables)


async def started(url: str, *arguments: str, cwd: Path = ROOT) -> forked.Running:
    """The command, running."""
    environment = {**os.environ, "DATABASE_URL": url}
    return await forked.started(
        "alembic", *arguments, cwd=cwd, environment=environment, together=True
    )


async def several(url: str, times: int, *arguments: str) -> list[tuple[int | None, str]]:
    """The command several times at once: each exit code, and what it said."""
    processes = [await started(url, *arguments) for _ in range(times)]
    outputs = await asyncio.gather(*(process.communicate() for process in processes))
    return [
        (process.returncode, output.decode())
        for process, (output, _) in zip(processes, outputs, strict=True)
    ]


async def run(*arguments: str, **environment: str) -> tuple[int, str, str]:
    """`python -m service` with arguments: its exit code, and what it printed."""
    variables = {name: value for name, value in os.environ.items() if name != "TOKENS_FILE"}
    process = await forked.started(
        "service", *arguments, cwd=ROOT, environment=variables | environment
    )
    out, err = await process.communicate()
    return process.returncode or 0, out.decode(), err.decode()
