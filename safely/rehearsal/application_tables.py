"""The application's tables and their columns, as the catalogue of PostgreSQL describes them."""

from collections.abc import Collection
from typing import NamedTuple

import asyncpg

NUMBERS = ("int2", "int4", "int8")

# key_position: the column's place in the primary key, from 0. Domains count as their base type.
COLUMNS = """\
SELECT c.relname AS table, a.attname AS name, t.typname AS type,
  CASE WHEN used.typtype = 'd' THEN used.typtypmod ELSE a.atttypmod END AS modifier,
  (SELECT quote_literal(enumlabel) FROM pg_enum WHERE enumtypid = t.oid
   ORDER BY EXISTS (  -- last those that the CHECK of safely keeps out of some column
     SELECT FROM pg_constraint JOIN pg_attribute ON attrelid = conrelid AND attnum = conkey[1]
     WHERE contype = 'c' AND conname ~ '_aside_labels_[0-9]+$' AND atttypid = t.oid
       AND NOT enumlabel = ANY (replace((regexp_match(
         pg_get_expr(conbin, conrelid), $$'(.*)'::text[[]]$$))[1], $$''$$, $$'$$)::text[])),
     enumsortorder LIMIT 1) AS label,
  t.typcategory = 'A' AS is_array,
  NOT (a.attnotnull OR used.typnotnull OR EXISTS (  -- of rows with NULL there it takes one only
    SELECT FROM pg_index WHERE indrelid = c.oid AND a.attnum = ANY (indkey::int2[])
      AND indnullsnotdistinct)) AS is_nullable,
  a.atthasdef AS has_default,
  a.attidentity <> '' OR a.attgenerated <> ''
    OR coalesce(pg_get_expr(adbin, adrelid) ^@ 'nextval(', false) AS is_given,
  (SELECT array_position(indkey::int2[], a.attnum) FROM pg_index
   WHERE indrelid = c.oid AND indisprimary) AS key_position,
  EXISTS (SELECT FROM pg_index WHERE indrelid = c.oid AND indisunique
          AND a.attnum = ANY (indkey::int2[])) AS is_unique,
  parent.relname AS parent, parent.attname AS parent_column
FROM pg_attribute AS a
JOIN pg_class AS c ON c.oid = a.attrelid
JOIN pg_type AS used ON used.oid = a.atttypid
JOIN pg_type AS t ON t.oid = CASE WHEN used.typtype = 'd' THEN used.typbasetype ELSE used.oid END
LEFT JOIN pg_attrdef ON adrelid = c.oid AND adnum = a.attnum
LEFT JOIN LATERAL (
  SELECT relname, attname FROM pg_constraint
  JOIN pg_class ON pg_class.oid = confrelid
  JOIN pg_attribute ON attrelid = confrelid AND pg_attribute.attnum = confkey[1]
  WHERE conrelid = c.oid AND contype = 'f' AND conkey = ARRAY[a.attnum]
    AND pg_class.relnamespace = c.relnamespace
  LIMIT 1) AS parent ON true
WHERE c.relnamespace = to_regnamespace($1) AND c.relkind::text = ANY ($2::text[])
  AND NOT c.relispartition AND c.relname <> ALL ($3::text[])
  AND a.attnum > 0 AND NOT a.attisdropped AND NOT starts_with(a.attname, '_aside_')
ORDER BY c.relname, a.attnum"""


class Column(NamedTuple):
    """A column of a table, or of the view that a published version has of the table."""

    table: str
    name: str
    type: str
    modifier: int
    """The type modifier, such as the length of a varchar plus 4; -1: there is none."""
    label: str | None
    """The first value of an enum, as an SQL literal."""
    is_array: bool
    is_nullable: bool
    """Whether any number of rows may have NULL in it."""
    has_default: bool
    is_given: bool
    """Whether the database makes the value: an identity, a sequence, a generated column."""
    key_position: int | None
    is_unique: bool
    """Whether it is part of a unique index."""
    parent: str | None
    """The table that its foreign key references."""
    parent_column: str | None
    is_second_parent: bool = False
    """Whether an earlier column of the table is unique and references a table, too."""


class Table(NamedTuple):
    """A table, or the view of it, with what a client must know to use it."""

    name: str
    columns: list[Column]

    @property
    def key(self) -> list[Column]:
        """The columns of the primary key, in its order; empty: it has none."""
        members = [column for column in self.columns if column.key_position is not None]
        return sorted(members, key=lambda column: column.key_position or 0)

    @property
    def is_numbered(self) -> bool:
        """Whether one column of whole numbers is the key."""
        return len(self.key) == 1 and self.key[0].type in NUMBERS

    @property
    def writable(self) -> list[Column]:
        """The columns that a client may give a value."""
        return [column for column in self.columns if not column.is_given]

    @property
    def required(self) -> list[Column]:
        """The columns that a client must give a value."""
        return [c for c in self.writable if not (c.is_nullable or c.has_default)]


async def tables_of(connection: asyncpg.Connection, bookkeeping: Collection[str]) -> list[Table]:
    """Return the tables in the connection's schema, without those that only migrations use."""
    schema = await connection.fetchval("SELECT quote_ident(current_schema)")
    rows = await connection.fetch(COLUMNS, schema, ["r", "p"], list(bookkeeping))
    return group_by_table([Column(*row) for row in rows])


async def views_of(
    connection: asyncpg.Connection, schema: str, tables: Collection[Table]
) -> list[Table]:
    """Return the views of these tables in a schema, which is given as an SQL identifier.

    A view doesn't say which columns are the key or may be NULL, so that is taken from the table's
    column of that name. A column that was renamed since then counts as required.
    """
    known = {(column.table, column.name): column for table in tables for column in table.columns}
    names = {table.name for table in tables}  # without the views that describe migrations
    columns = [Column(*row) for row in await connection.fetch(COLUMNS, schema, ["v"], [])]
    return group_by_table(
        [
            known.get((column.table, column.name), column._replace(is_nullable=False))
            for column in columns
            if column.table in names
        ]
    )


def group_by_table(columns: list[Column]) -> list[Table]:
    """Return the tables that have these columns, which come sorted by table."""
    tables: dict[str, Table] = {}
    for column in columns:
        table = tables.setdefault(column.table, Table(column.table, []))
        follows = column.is_unique and any(c.is_unique and c.parent for c in table.columns)
        table.columns.append(column._replace(is_second_parent=bool(column.parent) and follows))
    return list(tables.values())


def parents_first(tables: Collection[Table]) -> list[Table]:
    """Return each table after those that it references; a circle of tables stays as it comes."""
    ordered: list[Table] = []
    remaining = list(tables)
    while remaining:
        names = {table.name for table in remaining}
        ready = [table for table in remaining if not parents(table) & names - {table.name}]
        ordered += ready or remaining
        remaining = [table for table in remaining if table not in ordered]
    return ordered


def parents(table: Table) -> set[str]:
    """Return the names of the tables that a table references."""
    return {column.parent for column in table.columns if column.parent}
