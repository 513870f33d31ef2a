"""Which of the rows that a rehearsal begins with are changed by clients, and which by nobody.

Clients change one row in seven. The values of the others can be compared before and after a
revision. Rows whose key is a number are told apart by the number, all others by a list of the keys
as text, which is kept in temporary tables of the rehearsal's own connection.
"""

from collections.abc import Callable, Collection

import asyncpg

from safely.rehearsal.application_tables import Table
from safely.rehearsal.connection import quoted

CHANGED_ONE_IN = 7
MOST_CHANGED = 1_000  # rows of a table without numbers that clients change

Row = tuple[object, ...]
"""The key of a row: the values of its columns."""


class RowShares:
    """By table, the rows that clients may change and those that they leave alone."""

    def __init__(self) -> None:
        self.largest: dict[str, int] = {}  # key at the beginning, of tables whose rows are numbered
        self.changeable: dict[str, list[Row]] = {}  # keys, of the other tables
        self.lists: dict[str, str] = {}  # the temporary tables with the keys of untouched rows

    async def divide(
        self,
        connection: asyncpg.Connection,
        tables: Collection[Table],
        place: Callable[[str], str],
    ) -> None:
        """Divide the rows that are there now.

        The connection must stay open: `untouched` gives conditions for it alone.
        """
        for table in tables:
            if table.is_numbered:
                query = f"SELECT coalesce(max({key_of(table)}), 0) FROM {place(table.name)}"
                self.largest[table.name] = await connection.fetchval(query)
            elif table.key:
                await self.list_keys(connection, table, place(table.name))

    async def list_keys(self, connection: asyncpg.Connection, table: Table, place: str) -> None:
        """Write down the keys of untouched rows, and remember some of those that may change."""
        is_changed = f"hashtextextended({key_text(table)}, 0) % {CHANGED_ONE_IN} = 0"
        name = f"pg_temp.untouched_{len(self.lists)}"
        columns = ", ".join(
            f"{quoted(column.name)}::text AS untouched_key_{number}"
            for number, column in enumerate(table.key)
        )
        await connection.execute(f"DROP TABLE IF EXISTS {name}")
        await connection.execute(
            f"CREATE TEMPORARY TABLE {name} AS SELECT {columns} FROM {place} WHERE NOT {is_changed}"
        )
        await connection.execute(f"ANALYZE {name}")
        self.lists[table.name] = name
        self.changeable[table.name] = [
            tuple(row)
            for row in await connection.fetch(
                f"SELECT {key_of(table)} FROM {place} WHERE {is_changed} LIMIT {MOST_CHANGED}"
            )
        ]

    def forget(self, table: str) -> None:
        """Compare the rows of a table no more: some of them are gone."""
        for rows in (self.largest, self.changeable, self.lists):
            rows.pop(table, None)

    def untouched(self, table: Table) -> str | None:
        """Return the condition of a table's rows that no client touches; None: there are none."""
        if table.is_numbered and self.largest.get(table.name):
            key = key_of(table)
            return f"{key} <= {self.largest[table.name]} AND {key} % {CHANGED_ONE_IN} <> 0"
        if table.key and table.name in self.lists:
            same = " AND ".join(
                f"untouched_key_{number} = {quoted(column.name)}::text"
                for number, column in enumerate(table.key)
            )
            return f"EXISTS (SELECT FROM {self.lists[table.name]} WHERE {same})"
        return None


def key_of(table: Table) -> str:
    """Return the columns of a table's key as SQL; empty: it has none."""
    return ", ".join(quoted(column.name) for column in table.key)


def key_text(table: Table) -> str:
    """Return a row's key as one text, as SQL."""
    return f"concat_ws('/', {key_of(table)})"


def condition(table: Table, of: str = "") -> str:
    """Return the condition of the row whose key is $1, $2, …; `of`: the table's alias and a dot."""
    return " AND ".join(
        f"{of}{quoted(column.name)} = ${number}" for number, column in enumerate(table.key, start=1)
    )
