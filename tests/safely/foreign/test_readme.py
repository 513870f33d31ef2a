"""safely/README.md: every command in it runs, and its env.py is the one that the tests run."""

import re
import shlex
from difflib import ndiff
from pathlib import Path

import pytest

from tests.databases import Databases
from tests.foreign import Originals, Project
from tests.foreign_projects import Garden, Library
from tests.paths import ROOT

README = (ROOT / "safely/README.md").read_text(encoding="utf-8")
INSTALL = "pip install ./safely"  # run by tests/install, from the package registry


def commands(heading: str) -> list[list[str]]:
    """Return the commands below a heading."""
    section = README.split(f"# {heading}\n")[1].split("\n#")[0]
    found = re.findall(r"^    \$ (.+)$", section, flags=re.MULTILINE)
    assert found
    return [shlex.split(command) for command in found if command != INSTALL]


def run_in_shell(project: Project, command: list[str]) -> None:
    """Run a command with the programs that are installed; fail where it fails."""
    process = project.in_shell(command)
    assert process.returncode == 0, process.stdout


@pytest.fixture(params=[Garden], ids=["garden"])
def kind_of_project(request: pytest.FixtureRequest) -> type[Project]:
    kind: type[Project] = request.param
    return kind


async def test_the_commands_for_a_new_project_run(
    databases: Databases, originals: Originals, tmp_path: Path
) -> None:
    garden = Garden(tmp_path, originals.programs, await databases.empty())
    garden.add_package(garden.MODELS)
    first, *others = commands("Adopt it in five minutes: a new project")
    run_in_shell(garden, first)
    garden.configure()
    garden.change_env(garden.ADOPT_SAFELY)
    for command in others:
        run_in_shell(garden, command)
    assert garden.rows(garden.everything) == []
    await databases.drop(garden.url)


async def test_the_commands_for_a_project_with_history_and_data_run(
    databases: Databases, originals: Originals, tmp_path: Path
) -> None:
    library = Library(tmp_path, originals.programs, await databases.empty())
    library.write_history()
    books = library.rows("SELECT * FROM books ORDER BY id")
    library.change_env(library.ADOPT_SAFELY)
    for command in commands("Adopt it in five minutes: a project with history and data"):
        run_in_shell(library, command)
    assert library.rows("SELECT * FROM books ORDER BY id") == books
    await databases.drop(library.url)


@pytest.mark.only("postgresql")
def test_the_commands_of_every_day_run(project: Project) -> None:
    for command in commands("python -m safely COMMAND"):
        if "restore" in command:
            [backup] = (project.directory / "backups").iterdir()
            command[command.index("restore") + 1] = str(backup)
        run_in_shell(project, command)
    assert len(project.rows(project.everything)) == 2


@pytest.mark.only("sqlite")
def test_the_env_py_of_the_readme_is_the_one_that_is_run(project: Project, tmp_path: Path) -> None:
    project.alembic("init", "-t", "async", str(tmp_path / "untouched"))
    before = (tmp_path / "untouched/env.py").read_text("utf-8").splitlines()
    after = project.env.read_text("utf-8").splitlines()
    written = [line[2:] for line in ndiff(before, after) if line.startswith("+ ")]
    shown = README.split("```diff\n")[1].split("```")[0].splitlines()
    assert [line[1:] for line in shown if line.startswith("+")] == written


def test_each_operation_of_safely_is_in_the_readme() -> None:
    source = (ROOT / "safely/__init__.py").read_text(encoding="utf-8")
    names = set(re.findall(r'^    "([a-z_]\w*)",$', source, flags=re.MULTILINE)) - {"f"}
    assert names
    assert {name for name in names if f"`{name}" not in README} == set()
