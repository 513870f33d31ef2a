"""The copy that is rehearsed on: made up, restored from a backup, or cloned from the original."""

import os
from pathlib import Path
from typing import NamedTuple

import asyncpg
from alembic.runtime.migration import MigrationContext
from alembic.util import CommandError
from sqlalchemy import Connection

from safely.backup import archive, restore
from safely.database import LOCK_TIMEOUT, connected, read, settings_found
from safely.postgresql import programs as pg_tools
from safely.rehearsal.people import fill, tables
from safely.scratch import databases as scratch
from safely.scratch import embedded
from service.settings import Settings, SettingsError, async_url


class Source(NamedTuple):
    """What the copy is made of: a file, a database, or nothing but a revision."""

    backup: Path | None = None
    clone: str | None = None  # an address
    revision: str | None = None  # that a made up one begins at; None: base
    rows: int = 0  # that it gets

    def __str__(self) -> str:
        if self.backup:
            return f"the backup {self.backup.name}"
        if self.clone:
            return "a clone of the database"
        return f"{self.rows:,} rows made up at {self.revision or 'base'}"

    async def make(self, url: str, app_role: str) -> None:
        """Fill the empty database at the address."""
        if self.backup:
            archive.refuse_other_kind(self.backup, "postgresql")
            await restore.into_scratch(self.backup, url)
        elif self.clone:
            await pg_tools.clone(self.clone, url)
        elif self.revision:
            await scratch.alembic(url, "upgrade", self.revision, app_role=app_role)
            await self.populate(url)

    async def populate(self, url: str) -> bool:
        """Give the tables their rows, where it is for us to do; tell whether there are tables."""
        connection = await asyncpg.connect(url)
        try:
            if not (self.backup or self.clone):
                await fill(connection, self.rows)
            return bool(await tables(connection))
        finally:
            await connection.close()


def configured() -> Settings | None:
    """The settings, if they or the clone have a database; none is made for this."""
    if not embedded.INSTALLED:
        raise CommandError(scratch.NOT_INSTALLED)
    try:
        settings = Settings.from_environment(os.environ)
    except SettingsError as error:
        raise CommandError(str(error)) from error
    if settings.database_url == "embedded":
        return settings_found() if embedded.locate(settings.database_address).exists else None
    url = async_url(settings.database_url)
    is_missing = url.get_backend_name() == "sqlite" and not Path(str(url.database)).exists()
    return None if is_missing else settings


def to_clone(settings: Settings | None) -> str:
    """The address of the database to clone; raise CommandError where there is none."""
    if settings is None:
        raise CommandError("there is no database to clone: set DATABASE_URL")
    if async_url(settings.database_url).get_backend_name() != "postgresql":
        raise CommandError(
            "a rehearsal is on PostgreSQL, and DATABASE_URL names an SQLite file, which can't be "
            "cloned there: use --rows"
        )
    return settings.database_url


async def where_it_is(settings: Settings | None) -> str | None:
    """The revision of the configured database; None where it is empty, or there is none."""

    def newest(connection: Connection) -> str | None:
        return max(MigrationContext.configure(connection).get_current_heads(), default=None)

    if settings is None:
        return None
    async with connected(settings, LOCK_TIMEOUT) as engine:
        return await read(engine, newest)
