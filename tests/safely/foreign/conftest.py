"""Projects apart from this repository: each is written once, and a test gets a copy of it."""

import zlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.databases import Databases
from tests.foreign import Originals, Project
from tests.foreign_projects import Garden, Library, Shop

DATABASES = ["postgresql", "sqlite"]
KINDS: list[type[Project]] = [Garden, Shop, Library]


def pytest_collection_modifyitems(items: list[pytest.Item], config: pytest.Config) -> None:
    """Without --full, run a test of all projects on one database each, and on both databases."""
    if config.getoption("--full"):
        return
    here = Path(__file__).parent
    runs: dict[str, list[pytest.Function]] = {}
    for item in items:
        if isinstance(item, pytest.Function) and item.path.is_relative_to(here):
            runs.setdefault(f"{item.path}::{item.originalname}", []).append(item)
    left_out = [
        item
        for name, variants in runs.items()
        if len({kind_of(item) for item in variants}) == len(KINDS)
        for item in variants
        if not is_in_suite(name, item)
    ]
    items[:] = [item for item in items if item not in left_out]
    config.hook.pytest_deselected(items=left_out)


def kind_of(item: pytest.Function) -> type[Project] | None:
    """Return the project of a test's run, if it has one."""
    callspec = getattr(item, "callspec", None)
    return callspec and callspec.params.get("kind_of_project")


def is_in_suite(name: str, item: pytest.Function) -> bool:
    """Return whether a project is tried on a database: as on a chessboard, which a name turns."""
    database = str(item.callspec.params.get("databases"))
    kind = kind_of(item)
    if kind is None or database not in DATABASES:
        return True
    number = zlib.crc32(name.rpartition("/")[2].encode()) + KINDS.index(kind)
    return (number + DATABASES.index(database)) % 2 == 0


@pytest.fixture(scope="session")
def originals(tmp_path_factory: pytest.TempPathFactory) -> Originals:
    return Originals(tmp_path_factory.mktemp("foreign"))


@pytest.fixture(params=KINDS, ids=lambda kind: str(kind.name))
def kind_of_project(request: pytest.FixtureRequest) -> type[Project]:
    """Return a project's class; a test that names no other runs on all three."""
    kind: type[Project] = request.param
    return kind


@pytest.fixture
async def project(
    kind_of_project: type[Project], databases: Databases, originals: Originals, tmp_path: Path
) -> AsyncIterator[Project]:
    """Yield a project at the head, with rows, for this test alone."""
    project = await originals.copy(kind_of_project, databases, tmp_path / kind_of_project.name)
    yield project
    await databases.drop(project.url)
