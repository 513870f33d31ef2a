"""Enums in a project's models: written by autogenerate, run up and down, and purged."""

import pytest

from tests.foreign import Project
from tests.foreign_projects import Shop

COLUMN = 'state: Mapped[str | None] = mapped_column(Enum({}, name="state"))'
FIRST, SECOND = '"new", "old"', '"new", "used", "worn"'


@pytest.mark.only("postgresql")
@pytest.mark.parametrize("kind_of_project", [Shop])
def test_autogenerate_writes_enums_and_check_is_green_afterwards(
    project: Project, *, full: bool
) -> None:
    if not full:
        pytest.skip("needs --full: tests/migrations/test_chain.py has the same in small")
    source = "from sqlalchemy import Enum\n" + project.models.read_text(encoding="utf-8")
    start = project.revisions[-1]

    def generated(models: str) -> str:
        """Return the body of the revision that autogenerate writes for the models."""
        project.models.write_text(models, encoding="utf-8")
        known = set(project.revisions)
        project.alembic("check", code=255)
        project.alembic("revision", "--autogenerate", "-m", "enums")
        [new] = set(project.revisions) - known
        [file] = (project.directory / "migrations/versions").glob(f"*{new}*")
        project.alembic("upgrade", "head")
        assert "No new upgrade operations" in project.alembic("check")
        return file.read_text(encoding="utf-8").partition("def upgrade")[2]

    body = generated(f"{source}    {COLUMN.format(FIRST)}\n")
    assert "safely.create_enum('state', 'new', 'old'" in body
    assert body.index("create_enum") < body.index("add_column")
    assert body.index("drop_column") < body.index("drop_enum")

    body = generated(f"{source}    {COLUMN.format(SECOND)}\n")
    assert "# if a label was only renamed, write renamed={'old': ...}" in body
    assert "safely.change_enum('state', 'new', 'used', 'worn', existing=['new', 'old']" in body

    body = generated(source)
    assert body.index("drop_column") < body.index("drop_enum")

    project.alembic("downgrade", start)
    project.alembic("upgrade", "head")
    assert "No new upgrade operations" in project.alembic("check")
    project.safely("drift")
    types = "SELECT typname FROM pg_type WHERE typname ~ 'state$' AND typtype = 'e'"
    assert len(project.rows(types)) == 1
    project.safely("purge", "--before", project.revisions[-1], "--yes")
    assert project.rows(types) == []
