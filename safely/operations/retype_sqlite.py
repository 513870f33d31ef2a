"""Columns of another type on SQLite, by PostgreSQL's rules.

SQLite's own CAST makes 2026 of 2026-11-26. So values are converted between the forms in which
SQLAlchemy stores each type: a date as text, a Numeric as a number, an Enum as its name.
A value that the new type can't hold, or would hold differently, is refused.

Two types of SQLAlchemy look like another one in the database. A CHAR(32) may be a Uuid: as a text
it keeps its 32 digits, without hyphens. A DATETIME may be an Interval: it is taken for a DateTime.
"""

import re
from typing import Any, NamedTuple

import sqlalchemy as sa
from alembic import op
from sqlalchemy.schema import CreateColumn

from safely.operations.aside import hidden_name, how_to_purge
from safely.operations.connection import (
    Refused,
    literal,
    qualified,
    quoted,
    refuse_offline,
    refuse_rows,
    rows,
    type_sql,
)
from safely.operations.rebuild import definition_of_table, rebuilt
from safely.operations.sqlite_limits import refuse_missing_type
from safely.operations.table_sql import Definition, Part, mentions, normalized, replaced, rule_of

Type = sa.types.TypeEngine[Any]


class Conversion(NamedTuple):
    """How values become those of another type, as SQL over the column `{v}`.

    `value` is NULL where the new type can't hold one, `same` false where it would be another one.
    """

    value: str = "{v}"
    same: str = "1"


KINDS: tuple[tuple[type[Type], str], ...] = (  # subclasses before their base
    (sa.Boolean, "boolean"),
    (sa.SmallInteger, "smallint"),
    (sa.BigInteger, "bigint"),
    (sa.Integer, "integer"),
    (sa.Float, "float"),
    (sa.Numeric, "numeric"),
    (sa.Enum, "text"),
    (sa.String, "text"),
    (sa.Uuid, "uuid"),
    (sa.Interval, "interval"),
    (sa.DateTime, "datetime"),
    (sa.Date, "date"),
    (sa.Time, "time"),
    (sa.JSON, "json"),
    (sa.LargeBinary, "binary"),
)
INTEGERS = {"smallint": 15, "integer": 31, "bigint": 63}  # bits, without the sign
NUMBERS = (*INTEGERS, "boolean", "float", "numeric")
FAMILIES = {  # kinds whose values compare alike
    **dict.fromkeys((*INTEGERS, "float", "numeric"), "number"),
    **dict.fromkeys(("date", "datetime"), "date"),
}
USING = "/* using: "
UUID_LENGTH = 32  # digits
READ_SCALE = 10  # digits behind the point with which SQLAlchemy reads a Numeric without a scale

# `=` converts the text to a number only if all of it is one
NUMBER = "CASE WHEN CAST({v} AS NUMERIC) = CAST({v} AS TEXT) THEN CAST({v} AS NUMERIC) END"
DIGITS = "ltrim({v}, ' +-0123456789')"
INTEGER = (
    "CASE WHEN typeof(CAST({v} AS NUMERIC)) = 'integer' AND rtrim(" + DIGITS + ") = '' "
    "AND CAST({v} AS NUMERIC) = CAST({v} AS TEXT) THEN CAST({v} AS INTEGER) END"
)
TRUE = "'t', 'tr', 'tru', 'true', 'y', 'ye', 'yes', 'on', '1'"
FALSE = "'f', 'fa', 'fal', 'fals', 'false', 'n', 'no', 'of', 'off', '0'"
BOOLEAN = (
    f"CASE WHEN lower(trim({{v}})) IN ({TRUE}) THEN 1 "
    f"WHEN lower(trim({{v}})) IN ({FALSE}) THEN 0 END"
)
DATE = "CASE WHEN date({v}, '+0 days') IS {v} THEN {v} END"  # '+0 days' makes March of February 30
FRACTION = (
    "({t} = '' OR {t} GLOB '.[0-9]*' AND substr({t}, 2) NOT GLOB '*[^0-9]*' AND length({t}) < 8)"
)
TIME = (
    "CASE WHEN time(substr({v}, 1, 8), '+0 days') IS substr({v}, 1, 8) AND "
    + FRACTION.format(t="substr({v}, 9)")
    + " THEN substr({v}, 1, 8) || '.' || substr(substr({v}, 10) || '000000', 1, 6) END"
)
WITH_SECONDS = "(trim({v}) || iif(length(trim({v})) = 5, ':00', ''))"
DATETIME = (
    "CASE WHEN date(substr({v}, 1, 10), '+0 days') IS substr({v}, 1, 10) "
    "AND substr({v}, 11, 1) IN (' ', 'T') "
    "AND time(substr({v}, 12, 8), '+0 days') IS substr({v}, 12, 8) AND "
    + FRACTION.format(t="substr({v}, 20)")
    + " THEN substr({v}, 1, 10) || ' ' || substr({v}, 12, 8) || '.' "
    "|| substr(substr({v}, 21) || '000000', 1, 6) END"
)
MIDNIGHT = " 00:00:00.000000"
UUID = ("CASE WHEN length({hex}) = 32 AND {hex} NOT GLOB '*[^0-9a-f]*' THEN {hex} END").replace(
    "{hex}", "lower(replace(trim(trim({v}), '{}'), '-', ''))"
)
WITHOUT_ZEROS = "rtrim(rtrim({v}, '0'), '.')"
CAST_BACK = "CAST(CAST({v} AS REAL) AS INTEGER) = {v}"  # ends at the largest integer
FLOAT_TEXT = (
    "CASE WHEN {v} = CAST({v} AS INTEGER) AND abs({v}) < 1e15 "
    "THEN CAST(CAST({v} AS INTEGER) AS TEXT) "
    "WHEN CAST(CAST({v} AS TEXT) AS REAL) = {v} THEN replace(CAST({v} AS TEXT), '.0e', 'e') "
    "ELSE printf('%!.17g', {v}) END"
)

CONVERSIONS: dict[tuple[str, str], Conversion] = {
    ("boolean", "integer"): Conversion(),
    ("boolean", "text"): Conversion("CASE {v} WHEN 1 THEN 'true' WHEN 0 THEN 'false' END"),
    ("integer", "boolean"): Conversion("{v} <> 0", "{v} IN (0, 1)"),
    ("text", "boolean"): Conversion(BOOLEAN),
    ("float", "text"): Conversion(FLOAT_TEXT),
    ("numeric", "text"): Conversion("CAST({v} AS TEXT)"),
    ("float", "numeric"): Conversion(),
    ("numeric", "float"): Conversion("CAST({v} AS REAL)"),
    ("text", "float"): Conversion(NUMBER),
    ("text", "numeric"): Conversion(NUMBER),
    ("date", "datetime"): Conversion(f"({DATE}) || '{MIDNIGHT}'"),
    ("datetime", "date"): Conversion(
        f"substr({DATETIME}, 1, 10)", f"substr({DATETIME}, 11) = '{MIDNIGHT}'"
    ),
    ("date", "text"): Conversion(),
    ("text", "date"): Conversion(DATE.replace("{v}", "trim({v})")),
    ("datetime", "text"): Conversion(WITHOUT_ZEROS.replace("{v}", DATETIME)),
    ("text", "datetime"): Conversion(
        f"coalesce({DATETIME}, ({DATE}) || '{MIDNIGHT}')".replace("{v}", "trim({v})")
    ),
    ("time", "text"): Conversion(WITHOUT_ZEROS.replace("{v}", TIME)),
    ("text", "time"): Conversion(TIME.replace("{v}", WITH_SECONDS)),
    ("json", "text"): Conversion("CAST({v} AS TEXT)"),
    # SQLite keeps a number of JSON as a number
    ("text", "json"): Conversion(
        "CASE WHEN json_valid({v}) THEN {v} END",
        "(json_type({v}) <> 'integer' OR typeof(CAST({v} AS NUMERIC)) = 'integer')",
    ),
    ("text", "uuid"): Conversion(UUID),
    ("binary", "text"): Conversion(r"'\x' || lower(hex({v}))"),
    ("text", "binary"): Conversion(r"CASE WHEN instr({v}, '\') = 0 THEN CAST({v} AS BLOB) END"),
}
for integer in INTEGERS:
    CONVERSIONS |= {
        (integer, "text"): Conversion("CAST({v} AS TEXT)"),
        ("text", integer): Conversion(INTEGER),
        (integer, "numeric"): Conversion(),
        (integer, "float"): Conversion(
            "CAST({v} AS REAL)", f"{CAST_BACK} AND CAST({{v}} AS REAL) < 9223372036854775807.0"
        ),
        ("numeric", integer): Conversion("CAST({v} AS INTEGER)", "CAST({v} AS INTEGER) = {v}"),
        ("float", integer): Conversion("CAST({v} AS INTEGER)", "CAST({v} AS INTEGER) = {v}"),
        **{(integer, other): Conversion() for other in INTEGERS},
    }


def change_on_sqlite(
    table_name: str, column_name: str, type_: Type, using: str | None = None
) -> None:
    """Copy the table with converted values; the old ones are kept in a hidden column.

    `using` is SQL that converts the values in the place of our own conversion. It is remembered in
    a comment on the hidden column: only by it the way back knows which values are unchanged.
    """
    refuse_offline(table_name)
    refuse_missing_type(f"{table_name}.{column_name}", type_)
    definition = definition_of_table(table_name)
    refuse_unsuitable(definition, table_name, column_name, type_)
    type_ = stored(type_)
    before, wanted = definition.column(column_name).type, type_sql(type_)
    hidden = hidden_name(column_name)
    aside = begun(definition, table_name, column_name, type_)
    old = type_of_column(table_name, column_name)
    problem = f"{table_name}.{column_name} can't become {wanted}"
    refuse_rules(definition, table_name, column_name, problem, alike=family(old) == family(type_))
    if using is None:
        conversion, comment = conversion_to(problem, old, type_), ""
    else:
        conversion = Conversion(f"({replaced(using, column_name, '{v}')})")
        comment = f" {USING}{conversion.value} */"
    value, same = (part.replace("{v}", quoted(column_name)) for part in conversion)
    if aside is not None:
        # a value that nobody has changed since gets its old spelling back: '007' for 7
        there = conversion_there(aside) or conversion_between(kind_of(type_), kind_of(old)).value
        before_change = there.replace("{v}", quoted(hidden)) or "NULL"
        unchanged = f"({before_change}) IS {quoted(column_name)}"
        value = f"CASE WHEN {unchanged} THEN {quoted(hidden)} ELSE {value} END"
        same = f"{unchanged} OR {same}"
    has_value = f"SELECT * FROM {qualified(table_name)} WHERE {quoted(column_name)} IS NOT NULL"
    refuse_rows(f"{has_value} AND ({value}) IS NULL", problem, "hold something else")
    refuse_rows(f"{has_value} AND NOT ({same})", problem, "would hold another value")
    if normalized(before) == normalized(wanted):
        return  # such as an Enum with other names of the same length
    column = definition.column(column_name)
    default = converted_default(problem, column, kind_of(old), conversion)
    values = {column_name: value, hidden: quoted(column_name)}
    with rebuilt(table_name, values=values) as table:
        table.set_type(column_name, wanted)
        if default is not None:
            table.set_default(column_name, default)
        if aside is not None:
            table.drop_column(hidden)
        table.add_column(f"{quoted(hidden)} {before}{comment}")


def stored(type_: Type) -> Type:
    """Return the type by which SQLAlchemy stores the values of a type."""
    while isinstance(type_, sa.TypeDecorator) and not isinstance(type_, sa.Interval):
        type_ = type_.load_dialect_impl(op.get_context().dialect)
    return type_


def refuse_column(table_name: str, column_name: str, type_: Type) -> None:
    """Raise Refused for a column, or a type, that can't be changed whatever the rows."""
    refuse_unsuitable(definition_of_table(table_name), table_name, column_name, type_)


def refuse_no_conversion(table_name: str, column_name: str, type_: Type) -> None:
    """Raise Refused where there is no conversion from the type of a column to another one."""
    problem = f"{table_name}.{column_name} can't become {type_sql(type_)}"
    conversion_to(problem, type_of_column(table_name, column_name), stored(type_))


def conversion_there(aside: Part) -> str | None:
    """Return the `using` by which the values beside those that are set aside were made."""
    comments = (token for token in aside.tokens if token.startswith(USING))
    return next((comment[len(USING) : -len("*/")] for comment in comments), None)


def refuse_unsuitable(table: Definition, table_name: str, column_name: str, type_: Type) -> None:
    """Raise Refused for a column, or a type, that can't be changed whatever the rows."""
    if table.is_key(column_name):
        raise Refused(
            f"{table_name}.{column_name} is part of the primary key, which can't be created a "
            "second time: add a column of the new type, and move over to it in steps"
        )
    if rule_of(table.column(column_name), "GENERATED"):
        raise Refused(
            f"{table_name}.{column_name} is generated, so it has no values to convert: add a "
            "column of the new type, and drop this one"
        )
    if getattr(type_, "create_constraint", False):
        raise Refused(
            f"{table_name}.{column_name} would get no CHECK from create_constraint=True: leave it "
            "out, and create the CHECK with safely.create_check_constraint"
        )


def refuse_rules(
    table: Definition, table_name: str, column_name: str, problem: str, *, alike: bool
) -> None:
    """Raise Refused for an expression that uses the column, and would mean something else.

    '3' < 200 compares texts, and is false: every INSERT would break such a CHECK.
    `alike`: whether values of the new type compare as those of the old one. A column of which
    another one is generated is refused anyway, as on PostgreSQL.
    """
    rules = [
        part.sql(clause)
        for part, clause in table.rules()
        if clause.kind == "GENERATED" or (clause.kind == "CHECK" and not alike)
    ]
    if not alike:
        computed = rows(
            "SELECT sql FROM pragma_index_list(?) AS list JOIN sqlite_master USING (name) WHERE "
            "list.partial OR EXISTS (SELECT 1 FROM pragma_index_info(list.name) WHERE cid = -2)",
            table_name,
        )
        rules += [sql for (sql,) in computed]
    for rule in rules:
        if mentions(rule, column_name):
            raise Refused(
                f"{problem}: {rule} uses it. Drop the rule or the index that forbids it first, or "
                "add a column of the new type and move over to it in steps"
            )


def begun(table: Definition, table_name: str, column_name: str, type_: Type) -> Part | None:
    """Return the hidden column with the old values; None if this revision has made none yet.

    Raise Refused where it was made for another type. A BLOB is of an earlier version of safely,
    which kept values of every type in one.
    """
    if not table.has_column(hidden_name(column_name)):
        return None
    part = table.column(hidden_name(column_name))
    wanted = type_sql(type_)
    if normalized(part.type) not in ("BLOB", normalized(wanted)):
        raise Refused(
            f"{table_name}.{column_name} was to become {part.type} when this revision began, and "
            f"is now to become {wanted}: {how_to_purge()}"
        )
    return part


def family(type_: Type) -> str:
    """Return the name that a type shares with those whose values compare alike."""
    kind = kind_of(type_)
    return FAMILIES.get(kind, kind)


def kind_of(type_: Type) -> str:
    """Return how a type is stored, as a name in CONVERSIONS; empty for a type that isn't there."""
    return next((kind for base, kind in KINDS if isinstance(type_, base)), "")


def type_of_column(table_name: str, column_name: str) -> Type:
    """Return a column's type as SQLAlchemy knows it; Uuid for CHAR(32)."""
    columns = sa.inspect(op.get_bind()).get_columns(table_name)
    [type_] = (c["type"] for c in columns if c["name"].lower() == column_name.lower())
    if isinstance(type_, sa.CHAR) and type_.length == UUID_LENGTH:
        return sa.Uuid()
    return type_


def conversion_to(problem: str, old: Type, new: Type) -> Conversion:
    """Return the conversion from one type to another, with its length, range or names.

    Raise Refused where PostgreSQL has none either.
    """
    conversion = conversion_between(kind_of(old), kind_of(new))
    if not conversion.value:
        raise Refused(
            f"{problem}: there is no conversion. Add a column of the new type, and move over to "
            "it in steps"
        )
    value, (held, same) = conversion.value, limits(old, new)
    if kind_of(new) == "text" and isinstance(old, sa.Numeric) and old.scale:
        value = f"printf('%.{old.scale}f', {{v}})"
    same = f"{conversion.same} AND {same.replace('{v}', f'({value})')}"
    held = f"{{v}} IS NOT NULL AND {held.replace('{v}', f'({value})')}"
    return Conversion(f"CASE WHEN {held} THEN {value} END", same)


def conversion_between(old: str, new: str) -> Conversion:
    """Return the conversion from one form of storing to another; without a value for none."""
    if old == new and new != "uuid":
        return Conversion()
    source = "text" if old == "uuid" else old  # a CHAR(32) may be either
    if source == new:
        return Conversion()
    return CONVERSIONS.get((source, new), Conversion(value=""))


def limits(old: Type, new: Type) -> tuple[str, str]:
    """Return when a type holds a value, and when it holds it unchanged, as SQL over `{v}`."""
    kind = kind_of(new)
    if kind in INTEGERS:
        largest = 2 ** INTEGERS[kind] - 1
        return f"{{v}} BETWEEN {-largest} - 1 AND {largest}", "1"
    if isinstance(new, sa.Enum):
        return f"{{v}} IN ({', '.join(map(literal, new.enums))})", "1"
    if isinstance(new, sa.String) and new.length is not None:
        return "1", f"length({{v}}) <= {new.length}"
    if kind == "numeric" and isinstance(new, sa.Numeric):
        held = "1"
        if new.precision is not None:
            held = f"abs({{v}}) < 1e{new.precision - (new.scale or 0)}"
        before = f"round({{v}}, {scale_of(old)})" if kind_of(old) == kind else "{v}"
        return held, f"round({{v}}, {scale_of(new)}) = {before}"
    return "1", "1"


def scale_of(type_: Type) -> int:
    """Return how many digits behind the point SQLAlchemy reads of a Numeric."""
    scale = getattr(type_, "scale", None)
    return READ_SCALE if scale is None else int(scale)


def converted_default(problem: str, column: Part, old: str, conversion: Conversion) -> str | None:
    """Return a column's default for its new type; None where it stays as it is."""
    rule = rule_of(column, "DEFAULT") or ""
    default = re.sub(r"(?is)^.*?\bDEFAULT\s*", "", rule, count=1)
    if not default or default[0] == "(" or default.upper().startswith(("CURRENT_", "NULL")):
        return None
    if old in NUMBERS:
        default = f"CAST({default} AS NUMERIC)"  # as its column would store it
    query = f"SELECT {default}, {conversion.value.replace('{v}', f'{default}')}"
    before, after = rows(query)[0]
    if after is None:
        raise Refused(
            f"{problem}: its default is {before}. Drop that first, with safely.change_default"
        )
    return None if str(before) == str(after) else f"DEFAULT {literal(after)}"


def default_rule(table_name: str, column_name: str, server_default: Any) -> str | None:
    """Return `DEFAULT …` as SQLAlchemy writes it for a column; None for no default."""
    if isinstance(server_default, sa.Computed | sa.Identity):
        raise Refused(
            f"{table_name}.{column_name} would be computed: add a column for that, and drop this "
            "one"
        )
    if server_default is None or server_default is False:
        return None
    column = sa.Column(column_name, sa.Text(), server_default=server_default)
    in_table = sa.Table(table_name, sa.MetaData(), column).c[column_name]
    part = Part(str(CreateColumn(in_table).compile(dialect=op.get_context().dialect)))
    return rule_of(part, "DEFAULT")
