"""Reads an SQLite file, which tells neither who is connected nor who migrates."""

from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Literal

import sqlalchemy as sa
from sqlalchemy import Connection, text

from safely.ledger import snapshot
from safely.ledger.ledger import LOG, as_text
from safely.operations.aside import PREFIX
from safely.report.contents import SetAside
from safely.run.set_aside import set_aside_by

COLUMNS = text(f"""\
SELECT tables.name AS table_name, columns.name AS hidden
FROM sqlite_master AS tables, pragma_table_info(tables.name) AS columns
WHERE tables.type = 'table' AND columns.name GLOB '{PREFIX}*' ORDER BY 1, 2""")
TABLES = text(f"""\
SELECT name FROM sqlite_master WHERE type = 'table' AND name GLOB '{PREFIX}*' ORDER BY 1""")


class SQLite:
    """A database in one file."""

    kind: Literal["sqlite"] = "sqlite"
    is_closed = False

    def __init__(self, connection: Connection, version_table: str) -> None:
        self.connection = connection
        self.version_table = sa.table(version_table, sa.column("version_num", sa.Text))
        self.name = Path(str(connection.engine.url.database)).name
        self.server = f"SQLite {connection.scalar(text('SELECT sqlite_version()'))}"
        self.tables = set(sa.inspect(connection).get_table_names())
        self.has_ledger = LOG.name in self.tables

    def heads(self) -> list[str]:
        """Return the revisions that the database is at: usually one, none at base."""
        if self.version_table.name not in self.tables:
            return []
        return list(self.connection.scalars(sa.select(self.version_table.c.version_num)))

    def snapshot(self) -> str | None:
        """Return the schema as the ledger records it."""
        schema: str | None = self.connection.scalar(sa.select(as_text(snapshot.SQLITE)))
        return schema

    def published(self) -> list[str]:
        """Return nothing: SQLite has no schemas, so builds use the tables themselves."""
        return []

    def builds(self) -> None:
        """Return None: SQLite does not know its clients."""

    def standbys(self) -> None:
        """Return None: an SQLite file has no standbys."""

    def running(self) -> None:
        """Return None: SQLite does not know its clients."""

    def set_aside(self, ids: Collection[str]) -> Iterator[SetAside]:
        """Yield what is set aside; `ids` are known revisions.

        The space is unknown: SQLite would have to read the whole file to tell.
        """
        for table, hidden in self.connection.execute(COLUMNS):
            if parts := set_aside_by(hidden, ids):
                revision, name = parts
                yield SetAside(kind="column", revision=revision, name=f"{table}.{name}", bytes=None)
        for (hidden,) in self.connection.execute(TABLES):
            if parts := set_aside_by(hidden, ids):
                revision, name = parts
                yield SetAside(kind="table", revision=revision, name=name, bytes=None)
