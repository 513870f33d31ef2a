"""A project apart from this repository, in a directory of its own, and the commands it runs."""

import hashlib
import os
import re
import shutil
import sqlite3
import subprocess
import sys
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, ClassVar, Self

import sqlalchemy as sa
from alembic.script import ScriptDirectory

from tests import forkserver
from tests.databases import Databases, name_of, path_of
from tests.paths import ROOT

REVISION = '''\
"""{message}."""

import sqlalchemy as sa
{imports}

revision = {revision!r}
down_revision = {before!r}


def upgrade() -> None:
    {up}


def downgrade() -> None:
    {down}
'''
DRIVERS = {"postgresql": "postgresql+psycopg", "sqlite": "sqlite+pysqlite"}
ASYNC_DRIVERS = {"postgresql": "postgresql+asyncpg", "sqlite": "sqlite+aiosqlite"}


def install(directory: Path) -> Path:
    """Make an environment in the directory, with safely; return the directory of its programs.

    The other distributions are those that run the tests. Python reads no .pth file in a directory
    that a .pth file names, so this repository is not on the path.
    """
    venv, source = directory / "venv", directory / "safely"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", venv], check=True)
    python = venv / "bin/python"
    [own] = venv.glob("lib/python*/site-packages")
    [shared] = (path for path in sys.path if path.endswith("site-packages"))
    (own / "shared.pth").write_text(shared, encoding="utf-8")
    # a copy: building leaves nothing in the checkout
    shutil.copytree(ROOT / "safely", source, ignore=shutil.ignore_patterns("__pycache__"))
    pip = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet", "--no-index"]
    subprocess.run([*pip, "--no-deps", "--no-build-isolation", str(source)], check=True)
    for program in ("alembic", "squawk"):
        text = (Path(sys.executable).parent / program).read_bytes()
        if text.startswith(b"#!"):
            text = f"#!{python}\n".encode() + text.partition(b"\n")[2]
        (venv / "bin" / program).write_bytes(text)
        (venv / "bin" / program).chmod(0o755)
    return venv / "bin"


class Project(ABC):
    """A project in a directory, with a database."""

    name: ClassVar[str]
    table: ClassVar[str]
    """The table whose model stands last in models.py: lines at the end belong to it."""
    column: ClassVar[tuple[str, str]]
    """A column of that table that may be NULL: its name and its type."""
    ini = "alembic.ini"  # the file with the address of the database
    version_table: ClassVar[str] = "alembic_version"
    bottom: ClassVar[str] = "base"
    """The revision down to which safely can undo."""

    def __init__(self, directory: Path, programs: Path, url: str) -> None:
        self.directory = directory
        self.programs = programs
        self.url = url
        self.configure()

    @abstractmethod
    def write(self) -> None:
        """Write the project, and bring its database to the head, with rows in it."""

    def configure(self) -> None:
        """Write the address of the database into the copy `ini` of alembic.ini; % is doubled."""
        original = self.directory / "alembic.ini"
        if original.exists():
            line = f"sqlalchemy.url = {self.with_driver(ASYNC_DRIVERS)}".replace("%", "%%")
            text = original.read_text(encoding="utf-8")
            text = re.sub(r"(?m)^sqlalchemy\.url = .*$", lambda _: line, text)
            (self.directory / self.ini).write_text(text, encoding="utf-8")

    def prepare(self) -> None:  # noqa: B027  # most projects need nothing
        """Make what an empty database needs before its first revision."""

    def moved(self, directory: Path, url: str) -> Self:
        """Return a copy of the project in another directory, with another database."""
        shutil.copytree(self.directory, directory)
        return type(self)(directory, self.programs, url)

    @property
    def on_postgresql(self) -> bool:
        return self.url.startswith("postgresql")

    @property
    def schema(self) -> str | None:
        """The schema of the tables, where they name one."""
        return None

    def qualified(self, table: str) -> str:
        """Return the table's name with its schema."""
        return f"{self.schema}.{table}" if self.schema else table

    @property
    def everything(self) -> str:
        """The query that returns all rows of the table."""
        return f"SELECT * FROM {self.qualified(self.table)} ORDER BY id"

    @property
    def env(self) -> Path:
        return self.directory / "migrations/env.py"

    @property
    def models(self) -> Path:
        return self.directory / self.name / "models.py"

    @property
    def revisions(self) -> list[str]:
        """The ids of all revisions, oldest first."""
        script = ScriptDirectory(str(self.directory / "migrations"))
        return [revision.revision for revision in script.walk_revisions()][::-1]

    @property
    def variables(self) -> dict[str, str]:
        """The environment variables of the project's commands."""
        kept = {name: os.environ[name] for name in ("HOME", "LANG", "TMPDIR") if name in os.environ}
        path = f"{self.programs}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
        # a .pyc file knows its source's time in seconds: an edit in the same second would be missed
        return {**kept, "PATH": path, "PYTHONDONTWRITEBYTECODE": "1"}

    def alembic(self, *arguments: str, code: int = 0) -> str:
        """Run alembic; fail unless it exits with this code; return its output and errors."""
        return self.run("alembic", *arguments, code=code)

    def safely(self, *arguments: str, code: int = 0) -> str:
        """Run `python -m safely`; fail unless it exits with this code; return all it printed."""
        return self.run("python", "-m", "safely", *arguments, code=code)

    def run(self, *command: str, code: int = 0) -> str:
        """Run a command; fail unless it exits with this code; return its output and errors."""
        process = self.process(command, merged=True)
        assert process.returncode == code, f"exit code {process.returncode}:\n{process.stdout}"
        return process.stdout

    def output(self, *command: str, code: int = 0) -> str:
        """Run a command; fail unless it exits with this code; return its standard output alone."""
        process = self.process(command, merged=False)
        assert process.returncode == code, process.stderr
        return process.stdout

    def process(self, command: Sequence[str], *, merged: bool) -> subprocess.CompletedProcess[str]:
        """Run a command; where it is a module of Python, in a process that has imported safely."""
        if command[0] == "alembic":
            name, arguments = "alembic", command[1:]
        elif list(command[:2]) == ["python", "-m"]:
            name, arguments = command[2], command[3:]
        else:
            return self.in_shell(command, merged=merged)
        return forkserver.run(
            name,
            arguments,
            cwd=self.directory,
            environment=self.variables,
            merged=merged,
            python=self.python,
        )

    def in_shell(
        self, command: Sequence[str], *, merged: bool = True
    ) -> subprocess.CompletedProcess[str]:
        """Run a command as a shell does, with the programs and the safely that are installed."""
        return subprocess.run(
            [shutil.which(command[0], path=self.variables["PATH"]) or command[0], *command[1:]],
            cwd=self.directory,
            env=self.variables,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT if merged else subprocess.PIPE,
            text=True,
            check=False,
        )

    async def start(self, *arguments: str) -> forkserver.Running:
        """Start alembic, with its errors in its output."""
        return await forkserver.start(
            "alembic",
            *arguments,
            cwd=self.directory,
            environment=self.variables,
            merged=True,
            python=self.python,
        )

    @property
    def python(self) -> str:
        """The Python in whose environment safely is installed."""
        return str(self.programs / "python")

    def with_driver(self, drivers: Mapping[str, str]) -> str:
        """Return the address of the database with a driver's name in it."""
        url = sa.make_url(self.url)
        url = url.set(drivername=drivers[url.get_backend_name()])
        return url.render_as_string(hide_password=False)

    @contextmanager
    def connection(self) -> Iterator[sa.Connection]:
        """Yield a connection of a tool that knows nothing of safely."""
        engine = sa.create_engine(self.with_driver(DRIVERS), poolclass=sa.NullPool)
        with engine.connect() as connection:
            yield connection

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        """Return the rows of a query."""
        with self.connection() as connection:
            return [tuple(row) for row in connection.execute(sa.text(query))]

    def execute(self, *statements: str) -> None:
        """Execute statements and commit."""
        with self.connection() as connection:
            for statement in statements:
                connection.execute(sa.text(statement))
            connection.commit()

    def columns(self) -> list[str]:
        """Return the names of the table's columns, with those that are set aside."""
        with self.connection() as connection:
            found = sa.inspect(connection).get_columns(self.table, self.schema)
        return [column["name"] for column in found]

    def published(self) -> set[str]:
        """Return the schemas of the published versions."""
        with self.connection() as connection:
            names = sa.inspect(connection).get_schema_names()
        return {name for name in names if name.startswith("at_")}

    def add_package(self, models: str) -> None:
        """Write the application: a package with models."""
        self.models.parent.mkdir(parents=True, exist_ok=True)
        (self.models.parent / "__init__.py").touch()
        self.models.write_text(models, encoding="utf-8")

    def add_to_model(self, line: str) -> None:
        """Add a line to the model of the table."""
        with self.models.open("a", encoding="utf-8") as file:
            file.write(f"    {line}\n")

    def change_env(self, changes: Sequence[tuple[str, str]]) -> None:
        """Change env.py; the old text of each change must stand in it exactly once."""
        source = self.env.read_text(encoding="utf-8")
        for old, new in changes:
            assert source.count(old) == 1, old
            source = source.replace(old, new)
        self.env.write_text(source, encoding="utf-8")

    def add_revision(self, up: str, down: str, imports: str = "import safely") -> str:
        """Write the revision after the head, as a person would; return its id."""
        revisions = self.revisions
        revision = hash_id(f"{self.name} {len(revisions)}")
        self.add_file(revision, revisions[-1], up, down, imports)
        return revision

    def add_file(
        self,
        revision: str,
        before: str | Sequence[str] | None,
        up: str,
        down: str,
        imports: str = "import safely",
    ) -> None:
        """Write the file of a revision."""
        source = REVISION.format(
            message=f"Revision {revision}",
            revision=revision,
            before=before,
            imports=imports,
            up=up.replace("\n", "\n    "),
            down=down.replace("\n", "\n    "),
        )
        file = self.directory / "migrations/versions" / f"{revision}_by_hand.py"
        file.write_text(source, encoding="utf-8")


def hash_id(text: str) -> str:
    """Return an id of twelve hexadecimal digits, as Alembic makes them."""
    return hashlib.sha256(text.encode()).hexdigest()[:12]


class Originals:
    """The projects at their heads, of which copies are made."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.programs = install(directory)
        self.written: dict[tuple[str, str], Project] = {}

    async def copy(self, kind: type[Project], databases: Databases, directory: Path) -> Project:
        """Return a copy of a project, with a copy of its database; write it when it's missing."""
        key = (kind.name, databases.kind)
        if key not in self.written:
            place = self.directory / "-".join(key)
            place.mkdir()
            project = kind(place, self.programs, await databases.empty())
            project.write()
            self.written[key] = project
        original = self.written[key]
        return original.moved(directory, await copy_of(databases, original.url))


async def copy_of(databases: Databases, url: str) -> str:
    """Copy a database; return the copy's address."""
    if databases.kind == "postgresql":
        return await databases.make(name_of(url))
    with closing(sqlite3.connect(path_of(url))) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    copy = await databases.empty()
    shutil.copy(path_of(url), path_of(copy))
    return copy
