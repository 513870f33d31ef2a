"""Projects apart from this repository: each is written once, and a test gets a copy of it."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.databases import Databases
from tests.foreign import Originals, Project
from tests.foreign_projects import Garden, Library, Shop


@pytest.fixture(scope="session")
def originals(tmp_path_factory: pytest.TempPathFactory) -> Originals:
    return Originals(tmp_path_factory.mktemp("foreign"))


@pytest.fixture(params=[Garden, Shop, Library], ids=lambda kind: str(kind.name))
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
