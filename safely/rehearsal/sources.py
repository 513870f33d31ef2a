"""The copy that is rehearsed on: generated rows, a restored backup, or a clone of the database."""

from dataclasses import dataclass
from pathlib import Path

import asyncpg
from alembic.util import CommandError

from safely.backup import archive, restore
from safely.environment import Environment
from safely.ledger.ledger import LOG
from safely.postgresql import programs
from safely.rehearsal.application_tables import Table, tables_of
from safely.rehearsal.connection import CopyAddress, quoted
from safely.rehearsal.generated_rows import fill
from safely.run.table_locks import bookkeeping_tables
from safely.scratch import databases as scratch
from safely.words import count


@dataclass(frozen=True, kw_only=True)
class Source:
    """The source of the copy: a backup, another database, or else generated rows."""

    backup: Path | None = None
    clone: str | None = None
    """The address of the database to clone."""
    revision: str | None = None
    """The revision at which a copy with generated rows begins; None: base."""
    rows: int = 0
    """How many rows are generated for each table."""

    @property
    def generates_rows(self) -> bool:
        """Whether the rows of the copy are generated."""
        return not (self.backup or self.clone)

    def __str__(self) -> str:
        if self.backup:
            return f"the backup {self.backup.name}"
        if self.clone:
            return "a clone of the database"
        return f"{count(self.rows, 'generated row')} per table at {self.revision or 'base'}"


class Copy:
    """The scratch database with the copy, an empty one at first."""

    def __init__(self, environment: Environment, url: str) -> None:
        self.environment = environment
        self.address = CopyAddress(url, environment.project.schema)
        self.bookkeeping = bookkeeping_tables(environment.version_table)

    async def make(self, source: Source) -> None:
        """Fill the empty database from the source.

        A copy whose revision was applied by plain Alembic, before the project adopted `safely`,
        has no ledger, and an upgrade would refuse it. It is adopted as the project would be, by
        `alembic stamp` of its own revision. Nothing is published then, so the first clients use
        the tables themselves, as the deployed build does.
        """
        url = self.address.url
        if not (source.backup or source.clone):
            await scratch.create_schemas(self.environment, url)
        if source.backup:
            archive.refuse_other_kind(source.backup, "postgresql")
            await restore.into_scratch(source.backup, url)
        elif source.clone:
            await programs.clone(source.clone, url)
        elif source.revision:
            await self.alembic("upgrade", source.revision)
        if (reached := await self.revision()) and not await self.has_ledger():
            await self.alembic("stamp", reached)

    async def alembic(self, *arguments: str) -> str:
        """Run alembic on the copy as an operator would; return what it printed.

        Raise CommandError with its last line if it fails.
        """
        return await scratch.alembic(self.environment, self.address.url, *arguments)

    async def revision(self) -> str | None:
        """Return the revision that the copy is at; None at base.

        Raise CommandError where it has several heads.
        """
        names = [self.environment.version_table_schema, self.environment.version_table]
        table = quoted(*filter(None, names))
        async with self.address.connected() as connection:
            if await connection.fetchval("SELECT to_regclass($1) IS NULL", table):
                return None
            heads = [head for (head,) in await connection.fetch(f"SELECT version_num FROM {table}")]
        if len(heads) > 1:
            raise CommandError(
                f"the copy is at {len(heads)} heads, {', '.join(sorted(heads))}: merge them first "
                "(alembic merge, alembic upgrade head)"
            )
        return heads[0] if heads else None

    async def has_ledger(self) -> bool:
        """Return whether the schema of the application's tables has the ledger."""
        async with self.address.connected() as connection:
            exists = "SELECT to_regclass(quote_ident(current_schema) || '.' || $1) IS NOT NULL"
            return bool(await connection.fetchval(exists, LOG.name))

    async def tables(self, connection: asyncpg.Connection) -> list[Table]:
        """Return the application's tables as they are now."""
        return await tables_of(connection, self.bookkeeping)

    async def populate(self, rows: int) -> dict[str, str]:
        """Generate rows for all tables; return why not, by the tables that get none."""
        async with self.address.connected() as connection:
            schema = await connection.fetchval("SELECT current_schema")
            tables = await self.tables(connection)
            return await fill(connection, tables, lambda table: quoted(schema, table), rows)
