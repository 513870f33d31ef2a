"""Project: all that `safely` is told of the project whose revisions it runs."""

import re
from dataclasses import dataclass

import sqlalchemy as sa
from alembic.util import CommandError
from sqlalchemy.exc import NoReferenceError

LONGEST_NAME = 40  # bytes; an application_name has 63, and holds the revision too
NAME = re.compile(r"[A-Za-z][A-Za-z0-9_.-]*")


@dataclass(frozen=True, kw_only=True)
class Project:
    """A project with Alembic revisions; its env.py makes one.

    Raise CommandError, which Alembic prints as one line, for values that can't be used.
    """

    name: str = ""
    """The builds of the project connect as `<name>@<revision>` (`application_name`); the migration
    lock is made of it, too."""
    metadata: sa.MetaData | None = None
    """The tables of the models, all in one schema."""
    build: str | None = None
    """The revision that the models describe; None: the head."""
    app_role: str = ""
    """The role of the application, which may read and write the published versions (PostgreSQL);
    empty: nobody but the owner."""
    numbered: bool = False
    """Whether revisions are numbered 0001, 0002, … in one line without merges."""
    metrics_textfile: str = ""
    """The file to which each run writes its metrics, for Prometheus' textfile collector; needs the
    extra `metrics`. Empty: none."""

    def __post_init__(self) -> None:
        if not NAME.fullmatch(str(self.name)) or len(str(self.name)) > LONGEST_NAME:
            raise CommandError(
                f"Project(name={self.name!r}) in env.py: a project needs a name of letters, digits "
                f"and _ . -, of at most {LONGEST_NAME}, such as Project(name='shop', …)"
            )
        if not isinstance(self.metadata, sa.MetaData) or not self.metadata.tables:
            raise CommandError(
                f"Project(name={self.name!r}) in env.py has no tables in its metadata: import the "
                "models first, and give their Base.metadata"
            )
        if len(schemas := {table.schema for table in self.metadata.tables.values()}) > 1:
            names = ", ".join(sorted(str(schema or "the default schema") for schema in schemas))
            raise CommandError(
                f"the tables of {self.name} are in several schemas ({names}), and safely publishes "
                "the versions of one: keep the tables of a project in one schema"
            )
        refuse_dangling_keys(self.metadata)

    @property
    def tables(self) -> sa.MetaData:
        """The metadata, which `__post_init__` has checked."""
        assert self.metadata is not None  # noqa: S101  # __post_init__ raises without it
        return self.metadata

    @property
    def schema(self) -> str | None:
        """The schema of the tables; None: the connection's current one (always on SQLite)."""
        return next(iter(self.tables.tables.values())).schema

    @property
    def lock_key(self) -> int:
        """The key of the migration lock."""
        return lock_key(self.name)


def refuse_dangling_keys(metadata: sa.MetaData) -> None:
    """Raise CommandError for a foreign key to a table or a column that is not in the metadata."""
    for table in metadata.tables.values():
        for key in table.foreign_keys:
            try:
                key.column  # noqa: B018  # looks for it
            except NoReferenceError as error:
                target = key.target_fullname.rpartition(".")[0]
                raise CommandError(
                    f"a foreign key of {table.name} refers to {target}, which the metadata lacks: "
                    "import its model, and keep the tables of a project in one schema"
                ) from error


def lock_key(name: str) -> int:
    """Return the key of a project's migration lock: the first four bytes of the name.

    So migrators of releases that had a fixed key, made of four letters, wait for this one. Two
    projects in one database whose names begin alike wait for each other.
    """
    return int.from_bytes(name.encode()[:4], "big")
