"""Bad input of any kind is refused in one line, before anything is changed."""

import sqlite3
from contextlib import closing

import pytest

from tests.databases import Databases, path_of
from tests.foreign import Project
from tests.foreign_projects import Garden

PROJECT = 'Project(name="garden", metadata=Base.metadata)'
GUARDED = "    async with guarded("
CONFIGURED = '    context.configure(url=config.get_main_option("sqlalchemy.url"))\n'
BAD_ENV = {  # what stands in env.py instead of what, and words of the line that refuses it
    "a project without a name": (PROJECT, "Project(metadata=Base.metadata)", "needs a name"),
    "a name that no connection can have": (
        PROJECT,
        'Project(name="my garden", metadata=Base.metadata)',
        "letters, digits",
    ),
    "a project without metadata": (PROJECT, 'Project(name="garden")', "no tables"),
    "a metadata without tables": (
        PROJECT,
        'Project(name="garden", metadata=type(Base.metadata)())',
        "no tables",
    ),
    "an env.py that configures before the first step": (
        GUARDED,
        CONFIGURED + GUARDED,
        "context.configure",
    ),
}
BAD_ADDRESSES = {  # and the name of the driver that the line proposes
    "postgresql+pg8000://me@nowhere.example/garden": "postgresql+asyncpg",
    "sqlite+pysqlcipher:///garden.sqlite": "sqlite+aiosqlite",
    "mysql+aiomysql://me@nowhere.example/garden": "postgresql+asyncpg",
}


@pytest.fixture(params=["sqlite"])
async def databases(
    request: pytest.FixtureRequest, all_databases: dict[str, Databases]
) -> Databases:
    """Return the databases of SQLite: these errors come before a database is asked."""
    return all_databases[request.param]


@pytest.fixture(params=[Garden], ids=["garden"])
def kind_of_project(request: pytest.FixtureRequest) -> type[Project]:
    kind: type[Project] = request.param
    return kind


@pytest.fixture
def pending(project: Project) -> Project:
    """Return a project with a revision that an upgrade would run."""
    project.add_revision(
        'safely.add_column("plants", sa.Column("note", sa.Text()))',
        'safely.drop_column("plants", "note")',
    )
    return project


def content(project: Project) -> list[str]:
    """Return schema and rows of the database."""
    with closing(sqlite3.connect(path_of(project.url))) as connection:
        return list(connection.iterdump())


def refused(project: Project, *command: str, code: int) -> str:
    """Run a command that must fail and change nothing; return the last line that it printed."""
    before = content(project)
    printed = project.run(*command, code=code)
    assert content(project) == before
    assert "Traceback" not in printed
    return printed.splitlines()[-1]


@pytest.mark.parametrize("case", BAD_ENV)
def test_alembic_refuses_an_env_py_in_one_line(pending: Project, case: str) -> None:
    right, wrong, words = BAD_ENV[case]
    pending.change_env([(right, wrong)])
    assert words in refused(pending, "alembic", "upgrade", "head", code=255)


def test_python_m_safely_refuses_an_env_py_in_one_line(pending: Project) -> None:
    right, wrong, words = BAD_ENV["a project without a name"]
    pending.change_env([(right, wrong)])
    assert words in refused(pending, "python", "-m", "safely", "drift", code=2)


@pytest.mark.parametrize("address", BAD_ADDRESSES)
def test_a_driver_that_can_not_be_used_is_named_with_one_that_can(
    pending: Project, address: str
) -> None:
    ini = pending.directory / "alembic.ini"
    right = f"sqlalchemy.url = sqlite+aiosqlite:///{path_of(pending.url)}"
    text = ini.read_text(encoding="utf-8")
    assert right in text
    ini.write_text(text.replace(right, f"sqlalchemy.url = {address}"), encoding="utf-8")
    line = refused(pending, "alembic", "upgrade", "head", code=255)
    assert address.partition(":")[0] in line
    assert BAD_ADDRESSES[address] in line


@pytest.mark.parametrize(
    ("command", "code", "words"),
    [
        (["python", "-m", "safely", "drift", "--bogus"], 2, "--bogus"),
        (["python", "-m", "safely", "drft"], 2, "drft"),
        (["python", "-m", "safely", "-c", "missing.ini", "drift"], 2, "missing.ini"),
        (["alembic", "-x", "drfit=accept", "upgrade", "head"], 255, "drfit"),
        (["alembic", "-x", "drift=yes", "upgrade", "head"], 255, "drift"),
        (["alembic", "-x", "lock_timeout=5s", "upgrade", "head"], 255, "lock_timeout"),
    ],
)
def test_an_unknown_option_is_named(
    pending: Project, command: list[str], code: int, words: str
) -> None:
    assert words in refused(pending, *command, code=code)


def test_guarded_says_that_alembic_runs_it(pending: Project) -> None:
    program = (
        "import asyncio\n"
        "from garden.models import Base\n"
        "from safely.env import Project, create_engine, guarded\n"
        "async def main():\n"
        f"    engine = create_engine({pending.url!r})\n"
        f"    async with guarded({PROJECT}, engine) as steps:\n"
        "        async for step in steps:\n"
        "            pass\n"
        "asyncio.run(main())\n"
    )
    before = content(pending)
    last = pending.run("python", "-c", program, code=1).splitlines()[-1]
    assert "env.py" in last
    assert "alembic" in last
    assert content(pending) == before


def test_tables_in_two_schemas_are_refused_in_one_line(pending: Project) -> None:
    with pending.models.open("a", encoding="utf-8") as models:
        models.write("\n\nclass Tool(Base):\n    __tablename__ = 'tools'\n")
        models.write("    __table_args__ = {'schema': 'shed'}\n")
        models.write("    id: Mapped[int] = mapped_column(primary_key=True)\n")
    assert "several schemas" in refused(pending, "alembic", "upgrade", "head", code=255)


def test_an_id_that_can_not_be_used_is_refused_before_a_file_is_written(project: Project) -> None:
    revisions = project.revisions
    for revision, words in (("a b", "can't be the id"), (revisions[-1], "there is such a")):
        command = ("revision", "--autogenerate", "--rev-id", revision, "-m", "x")
        assert words in refused(project, "alembic", *command, code=255)
    assert project.revisions == revisions


def test_two_files_with_one_id_are_named(project: Project) -> None:
    last = project.revisions[-1]
    [file] = (project.directory / "migrations/versions").glob(f"{last}_*.py")
    (file.parent / "copy.py").write_bytes(file.read_bytes())
    line = refused(project, "alembic", "upgrade", "head", code=255)
    names = " and ".join(sorted([file.name, "copy.py"]))
    assert f"two revision files have the id {last}: {names}" in line
