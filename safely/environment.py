"""A project with its revisions and its database, as its env.py has set them up."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import Connection
from sqlalchemy.ext.asyncio import AsyncEngine

from safely import database
from safely.project import Project

Result = TypeVar("Result")


@dataclass(frozen=True, kw_only=True)
class Environment:
    """What every command of `python -m safely` works with."""

    project: Project
    config: Config
    """alembic.ini, as Alembic has read it."""
    script: ScriptDirectory
    engine: AsyncEngine
    """Its connections look for unqualified names in the schema of the project's tables first."""
    version_table: str = "alembic_version"
    version_table_schema: str | None = None

    @property
    def build(self) -> str:
        """The revision that the models describe; empty where there are no revisions."""
        return self.project.build or self.script.get_current_head() or ""

    def migration(self, connection: Connection) -> MigrationContext:
        """Return a migration context that knows the version table, outside of env.py."""
        options: dict[str, Any] = {
            "version_table": self.version_table,
            "version_table_schema": self.version_table_schema,
            "target_metadata": self.project.tables,
            "script": self.script,
        }
        return MigrationContext.configure(connection, opts=options)

    def revision(self, connection: Connection) -> str | None:
        """Return the revision that the database is at; None at base.

        Raise CommandError where it has several heads.
        """
        heads = self.migration(connection).get_current_heads()
        if len(heads) > 1:
            raise CommandError(
                f"the database is at {len(heads)} heads, {', '.join(sorted(heads))}: merge them "
                "with plain Alembic first (alembic merge, alembic upgrade head)"
            )
        return heads[0] if heads else None

    async def read(self, look: Callable[..., Result], *arguments: Any) -> Result:
        """Return what a function that only reads finds on a connection of its own."""
        return await database.read(self.engine, look, *arguments)
