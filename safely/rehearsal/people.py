"""Rows that look like people, made by the server: any number of them, for any table.

What a column gets is told by its name where that says something, and by its type elsewhere.
"""

from collections.abc import Mapping
from typing import NamedTuple
from uuid import UUID

import asyncpg
from alembic.util import CommandError

from safely.run import published

GIVEN = (
    "Ada", "Grace", "José", "Zoë", "Søren", "Łukasz", "Anaïs", "Jürgen", "Nguyệt", "Иван",
    "Δημήτρης", "美咲", "محمد", "Mary Ann", "Olga", "Ramesh", "Chloé", "Wei", "ADAM", "mia",
)  # fmt: skip
FAMILY = (
    "Lovelace", "Hopper", "García Márquez", "O'Brien", "Müller", "Kierkegaard", "Wałęsa",
    "Þórsdóttir", "Петров", "Παπαδόπουλος", "田中", "حسن", "van der Berg", "Smith",
    "Smith-Jones", "Ñúñez", "Davis, Jr.", 'Ray "Boom Boom" Mancini', "al-Fārābī", "de Souza",
)  # fmt: skip
DOMAINS = 5000
NUMBERS = ("int2", "int4", "int8")
NOBODY: dict[str, object] = {  # by the type of a key: one that no row has
    **dict.fromkeys(NUMBERS, 0),
    "text": "",
    "varchar": "",
    "bytea": b"",
    "uuid": UUID(int=0),
}
ONE_IN = 10  # has no value, where it may be missing

MADE_UP_BADLY = (  # what the database says of values that a column doesn't take
    asyncpg.IntegrityConstraintViolationError,
    asyncpg.DataError,
    asyncpg.SyntaxOrAccessError,
)

BY_TYPE = {  # n: a number that no other row has
    "text": "'word ' || n",
    "varchar": "'word ' || n",
    "bpchar": "(n % 10)::text",
    "citext": "'word ' || n",
    "int2": "(n % 100)::int2",
    "int4": "(n % 100)::int4",
    "int8": "n % 100",
    "numeric": "n % 1000 / 10.0",
    "float4": "(n % 1000 / 10.0)::float4",
    "float8": "(n % 1000 / 10.0)::float8",
    "bool": "n % 2 = 0",
    "date": "date '1970-01-01' + (n % 18000)::int",
    "timestamp": "timestamp '1970-01-01' + n % 500000 * interval '1 hour'",
    "timestamptz": "timestamptz '1970-01-01Z' + n % 500000 * interval '1 hour'",
    "interval": "n % 1000 * interval '1 minute'",
    "uuid": "gen_random_uuid()",
    "bytea": "decode(md5(n::text), 'hex')",
    "json": "json_build_object('n', n)",
    "jsonb": "jsonb_build_object('n', n)",
    "inet": "'192.0.2.1'::inet + n % 200",
}

COLUMNS = """\
SELECT pg_class.relname AS table, attname AS name, typname AS type, typtype = 'e' AS enum,
  typelem <> 0 AND typlen = -1 AND typname ^@ '_' AS array,
  NOT attnotnull AS nullable, attidentity <> '' OR attgenerated <> '' AS given,
  EXISTS (SELECT FROM pg_index WHERE indrelid = attrelid AND indisprimary
          AND indkey[0] = attnum AND indnkeyatts = 1) AS key,
  EXISTS (SELECT FROM pg_index WHERE indrelid = attrelid AND indisunique
          AND indkey[0] = attnum AND indnkeyatts = 1) AS unique,
  (SELECT referent.relname FROM pg_constraint JOIN pg_class AS referent ON referent.oid = confrelid
   WHERE conrelid = attrelid AND contype = 'f' AND conkey = ARRAY[attnum] LIMIT 1) AS refers_to
FROM pg_attribute JOIN pg_class ON pg_class.oid = attrelid JOIN pg_type ON pg_type.oid = atttypid
WHERE relnamespace = $1::text::regnamespace AND relkind = ANY ($2::text[]) AND attnum > 0
  AND NOT attisdropped AND NOT starts_with(attname, '_aside_') AND pg_class.relname <> ALL ($3)
ORDER BY pg_class.relname, attnum"""


class Column(NamedTuple):
    """A column as it is when its version is published."""

    table: str
    name: str
    type: str
    enum: bool
    array: bool
    nullable: bool
    given: bool  # by the database: an identity, a generated one
    key: bool
    unique: bool
    refers_to: str | None


class Table(NamedTuple):
    """A table of a version, with what clients must know of it."""

    name: str
    columns: list[Column]

    @property
    def key(self) -> Column | None:
        """The one column by which rows are found, where it is of a usual type."""
        return next((c for c in self.columns if c.key and c.type in NOBODY), None)

    @property
    def numbered(self) -> bool:
        """Whether its rows have numbers, by which those that nobody touches can be told."""
        return self.key is not None and self.key.type in NUMBERS

    @property
    def written(self) -> list[Column]:
        """The columns that clients write."""
        return [column for column in self.columns if not column.given]


async def tables(connection: asyncpg.Connection) -> list[Table]:
    """The application's tables as they stand."""
    rows = await connection.fetch(
        COLUMNS, await connection.fetchval("SELECT current_schema"), ["r", "p"], published.OURS
    )
    return grouped([Column(*row) for row in rows])


async def views(connection: asyncpg.Connection, revision: str) -> list[Table]:
    """The tables of a version that was published before we came.

    What a view doesn't tell, such as which is the key, is taken from the table's column of that
    name; one that has been renamed since counts as required.
    """
    known = {
        (column.table, column.name): column
        for table in await tables(connection)
        for column in table.columns
    }
    names = {table for table, _ in known}
    rows = await connection.fetch(COLUMNS, published.schema_of(revision), ["v"], [])
    columns = [Column(*row) for row in rows]
    return grouped(
        [
            known.get((column.table, column.name), column._replace(nullable=False))
            for column in columns
            if column.table in names  # not those that tell of migrations
        ]
    )


def grouped(columns: list[Column]) -> list[Table]:
    """The tables of these columns."""
    names = dict.fromkeys(column.table for column in columns)
    return [Table(name, [c for c in columns if c.table == name]) for name in names]


def value(column: Column, rows: Mapping[str, int]) -> str:
    """What a row gets there, as SQL over `n`; raise CommandError where nothing comes to mind.

    `rows`: how many the tables have that it may refer to.
    """
    if column.refers_to:
        there = rows.get(column.refers_to, 0)
        return f"(1 + n % {there})::{column.type}" if there else "NULL"
    words = plain_value(column)
    if not column.nullable:
        return words
    one_in = 5 * ONE_IN if "email" in column.name else ONE_IN
    return f"CASE WHEN n % {one_in} <> 7 THEN {words} END"


def plain_value(column: Column) -> str:
    """The same for a value that is never missing."""
    name = column.name.lower()
    is_text = column.type in {"text", "varchar", "citext"}
    if column.unique and column.type in NUMBERS:
        return "n"
    if is_text and "email" in name:
        return f"'person.' || n || '@mail' || n * 7919 % {DOMAINS} || '.example.org'"
    if is_text and "name" in name and not column.unique:
        return f"{one_of(GIVEN, 1)} || ' ' || {one_of(FAMILY, 7)}"
    if column.enum:
        return f'(enum_range(NULL::"{column.type}"))[1]'
    if column.array:
        return f"'{{}}'::\"{column.type}\""
    if column.type not in BY_TYPE:
        raise CommandError(
            f"no value of the type {column.type} comes to mind for {column.table}.{column.name}: "
            "rehearse on a backup (--from-backup FILE) or on a clone (--clone)"
        )
    return BY_TYPE[column.type]


def one_of(names: tuple[str, ...], step: int) -> str:
    """One of some names, another for each number."""
    texts = ", ".join("'" + name.replace("'", "''") + "'" for name in names)
    return f"(ARRAY[{texts}])[1 + n / {step} % {len(names)}]"


async def fill(connection: asyncpg.Connection, rows: int) -> None:
    """Give each table that is empty so many rows; who is referred to comes first."""
    found = await tables(connection)
    counts = {table.name: rows for table in found}
    for table in in_order(found):
        if table.written and not await connection.fetchval(f'SELECT count(*) FROM "{table.name}"'):
            names = ", ".join(f'"{column.name}"' for column in table.written)
            values = ", ".join(value(column, counts) for column in table.written)
            try:
                await connection.execute(
                    f'INSERT INTO "{table.name}" ({names}) '
                    f"SELECT {values} FROM generate_series(1::bigint, {rows}) AS n"
                )
            except MADE_UP_BADLY as error:
                raise CommandError(
                    f"rows can't be made up for {table.name} ({str(error).partition(chr(10))[0]}): "
                    "rehearse on a backup (--from-backup FILE) or on a clone (--clone)"
                ) from error
        await connection.execute(f'VACUUM (ANALYZE) "{table.name}"')


def in_order(found: list[Table]) -> list[Table]:
    """Each after those that it refers to; those that refer to each other as they come."""
    ordered: list[Table] = []
    left = list(found)
    while left:
        names = {table.name for table in left}
        ready = [table for table in left if not refers(table) & names - {table.name}]
        ordered += ready or left
        left = [table for table in left if table not in ordered]
    return ordered


def refers(table: Table) -> set[str]:
    """The tables that it refers to."""
    return {column.refers_to for column in table.columns if column.refers_to}
