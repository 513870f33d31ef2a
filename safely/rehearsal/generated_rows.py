"""Rows that the server generates, any number of them, for any table.

A column's name decides on its values where it says something, such as `email`; elsewhere the type
does. Values are SQL over `generated.n`, a number that no other row of the table has.
"""

from collections.abc import Callable

import asyncpg

from safely.errors import first_line
from safely.rehearsal.application_tables import NUMBERS, Column, Table, parents_first
from safely.rehearsal.connection import quoted

GIVEN_NAMES = (
    "Ada", "Grace", "José", "Zoë", "Søren", "Łukasz", "Anaïs", "Jürgen", "Nguyệt", "Иван",
    "Δημήτρης", "美咲", "محمد", "Mary Ann", "Olga", "Ramesh", "Chloé", "Wei", "ADAM", "mia",
)  # fmt: skip
FAMILY_NAMES = (
    "Lovelace", "Hopper", "García Márquez", "O'Brien", "Müller", "Kierkegaard", "Wałęsa",
    "Þórsdóttir", "Петров", "Παπαδόπουλος", "田中", "حسن", "van der Berg", "Smith",
    "Smith-Jones", "Ñúñez", "Davis, Jr.", 'Ray "Boom Boom" Mancini', "al-Fārābī", "de Souza",
)  # fmt: skip
MAIL_DOMAINS = 5000
ONE_IN = 10  # rows has NULL in a column that may be NULL
LONG_ENOUGH = 40  # characters: every generated text fits
HEADER = 4  # what PostgreSQL adds to a length in a type modifier
TEXTS = ("text", "varchar", "citext")
FIXED_WIDTH = (*NUMBERS, "uuid")  # an array of these is indexed at once, however long it is
FEW_PARENTS = 1_000  # rows that are referenced where an array is searched from its beginning

UNSUITABLE = (  # errors with which the database refuses a generated value
    asyncpg.IntegrityConstraintViolationError,
    asyncpg.DataError,
    asyncpg.SyntaxOrAccessError,
    asyncpg.FeatureNotSupportedError,
)

N = "generated.n"
BY_TYPE = {  # numbers from 1 on: many rules demand that, and so do references without a key
    "text": f"'word ' || {N}",
    "varchar": f"'word ' || {N}",
    "bpchar": f"{N}::text",
    "citext": f"'word ' || {N}",
    "int2": f"(1 + {N} % 100)::int2",
    "int4": f"(1 + {N} % 100)::int4",
    "int8": f"1 + {N} % 100",
    "numeric": f"(1 + {N} % 1000) / 10.0",
    "float4": f"((1 + {N} % 1000) / 10.0)::float4",
    "float8": f"((1 + {N} % 1000) / 10.0)::float8",
    "money": f"(1 + {N} % 1000)::int::money",
    "bool": f"{N} % 2 = 0",
    "date": f"date '1970-01-01' + ({N} % 18000)::int",
    "time": f"time '00:00' + {N} % 86400 * interval '1 second'",
    "timetz": f"timetz '00:00Z' + {N} % 86400 * interval '1 second'",
    "timestamp": f"timestamp '1970-01-01' + {N} % 500000 * interval '1 hour'",
    "timestamptz": f"timestamptz '1970-01-01Z' + {N} % 500000 * interval '1 hour'",
    "interval": f"{N} % 1000 * interval '1 minute'",
    "uuid": "gen_random_uuid()",
    "bytea": f"decode(md5({N}::text), 'hex')",
    "json": f"json_build_object('n', {N})",
    "jsonb": f"jsonb_build_object('n', {N})",
    "inet": f"'192.0.2.1'::inet + {N} % 200",
    "cidr": "'192.0.2.0/24'::cidr",
    "tsvector": f"to_tsvector('simple', 'word ' || {N})",
    "int4range": f"int4range(({N} % 100)::int4, ({N} % 100)::int4 + 1)",
    "int8range": f"int8range({N}, {N} + 1)",
}
BY_TYPE_UNIQUE = {
    **dict.fromkeys((*NUMBERS, "numeric", "float4", "float8"), N),
    "date": f"date '1970-01-01' + ({N} % 1999993)::int",
    "timestamp": f"timestamp '1970-01-01' + {N} * interval '1 second'",
    "timestamptz": f"timestamptz '1970-01-01Z' + {N} * interval '1 second'",
}

Place = Callable[[str], str]
"""Returns where rows of a table are, as an SQL identifier."""


class NoValueError(Exception):
    """A column needs a value, and none is known for its type."""


def value(column: Column, place: Place, parents: int) -> str:
    """Return a column's value as SQL over `generated.n`.

    A foreign key references one of the first `parents` rows. Raise NoValueError for a type that is
    not known here, unless the column may be NULL.
    """
    if column.parent and column.parent_column:
        return reference(column, place(column.parent), quoted(column.parent_column), parents)
    if column.label:
        return column.label  # a literal takes the enum's type by itself, within CASE it would not
    if column.is_array:
        return "'{}'"
    if column.type not in BY_TYPE:
        if column.is_nullable:
            return "NULL"
        raise NoValueError(f"no value is known for the type {column.type} of {column.name}")
    sql = value_that_is_not_null(column)
    if not column.is_nullable:
        return sql
    one_in = 5 * ONE_IN if "email" in column.name else ONE_IN
    return f"CASE WHEN {N} % {one_in} <> 7 THEN {sql} END"


def reference(column: Column, place: str, parent_column: str, parents: int) -> str:
    """Return the key of a row of the parent as SQL; NULL where it has no rows.

    Of two references that are unique together, the second one counts differently: the pairs are
    all different until every row has been paired with every other.
    """
    limit = parents if column.type in FIXED_WIDTH else min(parents, FEW_PARENTS)
    size = "nullif(cardinality(keys), 0)"
    index = f"({N} + {N} / {size}) % {size}" if column.is_second_parent else f"{N} % {size}"
    array = f"ARRAY(SELECT {parent_column} FROM {place} LIMIT {limit})"
    return f"(SELECT keys[1 + {index}] FROM (SELECT {array} AS keys) AS parent)"


def value_that_is_not_null(column: Column) -> str:
    """Return a value of a known type as SQL over `generated.n`."""
    name = column.name.lower()
    length = column.modifier - HEADER if column.modifier >= HEADER else LONG_ENOUGH
    if column.type in TEXTS and "email" in name:
        sql = f"'person.' || {N} || '@mail' || {N} * 7919 % {MAIL_DOMAINS} || '.example.org'"
    elif column.type in TEXTS and "name" in name and not column.is_unique:
        sql = f"{one_of(GIVEN_NAMES, 1)} || ' ' || {one_of(FAMILY_NAMES, 7)}"
    elif column.type == "numeric" and column.modifier >= HEADER and not column.is_unique:
        # PostgreSQL packs precision and scale into the modifier
        precision, scale = length >> 16 & 0xFFFF, length & 0x7FF
        numbers = 10 ** max(0, min(3, precision - scale)) - 1
        sql = f"1 + {N} % {numbers}" if numbers else f"{N} % 1"
    else:
        by_type = BY_TYPE | BY_TYPE_UNIQUE if column.is_unique else BY_TYPE
        sql = by_type[column.type]
    is_short = column.type in (*TEXTS, "bpchar") and length < LONG_ENOUGH
    return f"right({sql}, {length})" if is_short else sql  # its end differs from row to row


def one_of(names: tuple[str, ...], step: int) -> str:
    """Return SQL for one of the names; each `step` numbers it is another."""
    texts = ", ".join("'" + name.replace("'", "''") + "'" for name in names)
    return f"(ARRAY[{texts}])[1 + {N} / {step} % {len(names)}]"


async def fill(
    connection: asyncpg.Connection, tables: list[Table], place: Place, rows: int
) -> dict[str, str]:
    """Give each table about so many rows; return why not, by the tables that get none.

    Rows that revisions have inserted stay. Where values for all columns don't suit a table, NULL
    and defaults are tried.
    """
    left_out: dict[str, str] = {}
    for table in parents_first(tables):
        target = place(table.name)
        present = await connection.fetchval(f"SELECT count(*) FROM {target}")
        if present >= rows:
            continue
        without_equals = " ON CONFLICT DO NOTHING" if present else ""  # refused below rules
        for columns in (table.writable, table.required):
            try:
                await connection.execute(
                    insertion(
                        target, columns, [value(column, place, rows) for column in columns],
                        f"generate_series(1::bigint, {rows}) AS generated (n)",
                    )
                    + without_equals
                )  # fmt: skip
            except (*UNSUITABLE, NoValueError) as error:
                left_out[table.name] = first_line(error)
            else:
                left_out.pop(table.name, None)
                break
        await connection.execute(f"VACUUM (ANALYZE) {target}")
    return left_out


def insertion(target: str, columns: list[Column], values: list[str], source: str) -> str:
    """Return the INSERT of a row for each row of the source, with values over `generated.n`."""
    names = ", ".join(quoted(column.name) for column in columns)
    of_columns = f" ({names})" if names else ""  # without columns, the defaults are taken
    return f"INSERT INTO {target}{of_columns} SELECT {', '.join(values)} FROM {source}"
