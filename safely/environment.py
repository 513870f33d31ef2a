"""A project with its revisions and its database, as its env.py has set them up."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from alembic.config import Config
from alembic.operations import Operations
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import URL, Connection
from sqlalchemy.ext.asyncio import AsyncEngine

from safely import database
from safely.project import Project

Result = TypeVar("Result")


@dataclass(frozen=True, kw_only=True)
class Environment:
    """The project, its revisions and its database: the parameter of every command."""

    project: Project
    config: Config
    """alembic.ini, as Alembic has read it."""
    script: ScriptDirectory
    engine: AsyncEngine
    """Its connections look for unqualified names in the schema of the project's tables first."""
    version_table: str = "alembic_version"
    version_table_schema: str | None = None
    lock_timeout: str = database.LOCK_TIMEOUT
    """That of the engine's connections."""
    unreachable: str = ""
    """Why the database can't be asked, for commands that can do without it; empty: it can."""

    @property
    def build(self) -> str:
        """The revision that the models describe; empty where there are no revisions."""
        return self.project.build or ", ".join(self.script.get_heads())

    def migration(self, connection: Connection, **options: Any) -> MigrationContext:
        """Return a migration context that knows the version table, outside of env.py."""
        known: dict[str, Any] = {
            "version_table": self.version_table,
            "version_table_schema": self.version_table_schema,
            "target_metadata": self.project.tables,
            "script": self.script,
            "build": self.build,
            "transactional_ddl": True,
            "transaction_per_migration": True,
        }
        return MigrationContext.configure(connection, opts=known | options)

    def revision(self, connection: Connection) -> str | None:
        """Return the revision that the database is at; None at base.

        Raise CommandError where it has several heads.
        """
        heads = self.migration(connection).get_current_heads()
        if len(heads) > 1:
            raise CommandError(
                f"the database is at {len(heads)} heads, {', '.join(sorted(heads))}: merge them "
                "first (alembic merge, alembic upgrade head)"
            )
        return heads[0] if heads else None

    def work(
        self,
        action: Callable[[MigrationContext], None],
        connection: Connection,
        options: dict[str, Any],
    ) -> None:
        """Do something in a transaction of its own in which the operations of `safely` work."""
        migration = self.migration(connection, **options)
        with (
            Operations.context(migration),
            migration.begin_transaction(_per_migration=True),
        ):
            action(migration)

    async def read(self, look: Callable[..., Result], *arguments: Any) -> Result:
        """Return what a function that only reads finds on a connection of its own."""
        return await database.read(self.engine, look, *arguments)

    @asynccontextmanager
    async def at(self, address: str | URL) -> AsyncIterator["Environment"]:
        """Yield the same project on another database, such as a scratch copy."""
        async with database.connected(address, schema=self.project.schema) as engine:
            default = database.LOCK_TIMEOUT
            yield replace(self, engine=engine, lock_timeout=default, unreachable="")
