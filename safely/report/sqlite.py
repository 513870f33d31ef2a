"""What SQLite tells, beside the ledger: not who is connected, nor who migrates."""

from collections.abc import Iterator
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy import Connection, text

from safely.ledger import snapshot
from safely.ledger.ledger import LOG, as_text
from safely.operations.aside import PREFIX
from service.evolution.schemas import Aside

COLUMNS = text(f"""\
SELECT tables.name AS place, columns.name AS hidden
FROM sqlite_master AS tables, pragma_table_info(tables.name) AS columns
WHERE tables.type = 'table' AND columns.name GLOB '{PREFIX}[0-9]*' ORDER BY 1, 2""")
TABLES = text(f"""\
SELECT name FROM sqlite_master WHERE type = 'table' AND name GLOB '{PREFIX}[0-9]*' ORDER BY 1""")


class SQLite:
    """A database of one file."""

    kind = "sqlite"
    is_closed = False

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.name = Path(str(connection.engine.url.database)).name
        self.server = f"SQLite {connection.scalar(text('SELECT sqlite_version()'))}"
        self.tables = set(sa.inspect(connection).get_table_names())
        self.has_ledger = LOG.name in self.tables

    def revision(self) -> str | None:
        """Where it is."""
        if "alembic_version" not in self.tables:
            return None
        found: str | None = self.connection.scalar(
            text("SELECT max(version_num) FROM alembic_version")
        )
        return found

    def snapshot(self) -> str | None:
        """The schema as it stands."""
        found: str | None = self.connection.scalar(sa.select(as_text(snapshot.SQLITE)))
        return found

    def published(self) -> list[str]:
        """Nothing is published here: builds use the tables themselves."""
        return []

    def builds(self) -> None:
        """Nobody knows."""

    def running(self) -> None:
        """Nobody knows."""

    def aside(self) -> Iterator[Aside]:
        """What is set aside; the space that it holds could only be told by reading all of it."""
        for table, hidden in self.connection.execute(COLUMNS):
            revision, _, name = hidden.removeprefix(PREFIX).partition("_")
            yield Aside(kind="column", revision=revision, name=f"{table}.{name}", bytes=None)
        for (hidden,) in self.connection.execute(TABLES):
            revision, _, name = hidden.removeprefix(PREFIX).partition("_")
            yield Aside(kind="table", revision=revision, name=name, bytes=None)
