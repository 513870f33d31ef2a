"""SQLAlchemy's types for the types of columns in SQL."""

from postgast import nodes, pg_query_pb2
from postgast.nodes import AstNode, TypeName

from safely.lint.parsing import copied, every, expression, message, strings, type_sql
from safely.lint.spellings.literals import string_literal
from safely.lint.spellings.names import Unspelled

IDENTITY = 'sa.BigInteger().with_variant(sa.Integer(), "sqlite"), sa.Identity()'
SERIALS = {
    "bigserial": "sa.BigInteger()",
    "serial": "sa.Integer()",
    "serial2": "sa.SmallInteger()",
    "serial4": "sa.Integer()",
    "serial8": "sa.BigInteger()",
    "smallserial": "sa.SmallInteger()",
}
TYPES = {  # by the names that the parser gives them
    "bool": "sa.Boolean()",
    "bytea": "sa.LargeBinary()",
    "date": "sa.Date()",
    "float4": "sa.REAL()",
    "float8": "sa.Double()",
    "int2": "sa.SmallInteger()",
    "int4": "sa.Integer()",
    "int8": "sa.BigInteger()",
    "uuid": "sa.Uuid()",
    **SERIALS,
}
DIALECT_TYPES = {  # names in sqlalchemy.dialects.postgresql
    "cidr", "citext", "datemultirange", "daterange", "hstore", "inet", "int4multirange",
    "int4range", "int8multirange", "int8range", "json", "jsonb", "jsonpath", "macaddr", "macaddr8",
    "money", "nummultirange", "numrange", "oid", "regclass", "regconfig", "tsmultirange",
    "tsquery", "tsrange", "tstzmultirange", "tstzrange", "tsvector",
}  # fmt: skip
TIMES = {  # SQLAlchemy's type and that of the dialect, which has a precision
    "time": ("sa.Time({})", "postgresql.TIME({})"),
    "timestamp": ("sa.DateTime({})", "postgresql.TIMESTAMP({})"),
    "timestamptz": ("sa.DateTime({})", "postgresql.TIMESTAMP({})"),
    "timetz": ("sa.Time({})", "postgresql.TIME({})"),
}
SIZED = {
    "bit": "postgresql.BIT({})",
    "numeric": "sa.Numeric({})",
    "varbit": "postgresql.BIT({}, varying=True)",
}
TEXTS = {"bpchar": "sa.CHAR({})", "text": "sa.Text({})", "varchar": "sa.String({})"}


def type_of(column: nodes.ColumnDef) -> str:
    """Return SQLAlchemy's type for the type of a column; `…` where it has none."""
    type_ = column.type_name
    if type_ is None:
        raise Unspelled
    *schema, name = strings(type_.names)
    collation = collation_of(column.coll_clause)
    if schema not in ([], ["pg_catalog"]) or type_.setof or type_.pct_type or collation == "…":
        return "…"
    element = element_type(name, type_, collation)
    if not type_.array_bounds or element == "…":
        return element
    dimensions = len(type_.array_bounds)
    more = f", dimensions={dimensions}" if dimensions > 1 else ""
    return f"postgresql.ARRAY({element}{more})"


def element_type(name: str, type_: TypeName, collation: str) -> str:
    """Return SQLAlchemy's type for a type by its name, apart from the array."""
    sizes = [expression(size) for size in type_.typmods]
    if name in TEXTS:
        collate = [f"collation={string_literal(collation)}"] if collation else []
        return TEXTS[name].format(", ".join([*sizes, *collate]))
    if collation:
        return "…"
    if name == "interval":
        return interval(type_)
    if name in TIMES:
        plain, precise = TIMES[name]
        zone = ["timezone=True"] if name.endswith("tz") else []
        precision = [f"precision={size}" for size in sizes]
        return (precise if sizes else plain).format(", ".join([*zone, *precision]))
    return SIZED[name].format(", ".join(sizes)) if name in SIZED else without_size(name, sizes)


def without_size(name: str, sizes: list[str]) -> str:
    """Return SQLAlchemy's type for a type that has no size; `…` where it has none."""
    if sizes:
        return "…"
    return f"postgresql.{name.upper()}()" if name in DIALECT_TYPES else TYPES.get(name, "…")


def interval(type_: TypeName) -> str:
    """Return SQLAlchemy's type for an interval, with its fields and its precision."""
    text = type_sql(pg_query_type(type_)).upper().removeprefix("INTERVAL").strip()
    fields, _, precision = text.partition("(")
    options = []
    if fields.strip():
        options.append(f"fields={string_literal(fields.strip())}")
    if precision:
        options.append(f"precision={precision.rstrip(')').strip()}")
    return f"postgresql.INTERVAL({', '.join(options)})" if options else "sa.Interval()"


def pg_query_type(type_: TypeName) -> TypeName:
    """Return the type without its array bounds."""
    plain = copied(type_)
    del message(plain).array_bounds[:]
    return plain


def collation_of(clause: nodes.CollateClause | None) -> str:
    """Return the name of a collation; empty without one, `…` for one with a schema."""
    names = strings(clause.collname) if clause else []
    return "" if not names else names[0] if len(names) == 1 else "…"


def is_serial(column: nodes.ColumnDef) -> bool:
    """Return whether the type of a column is a serial."""
    return column.type_name is not None and strings(column.type_name.names)[-1] in SERIALS


def identity(column: nodes.ColumnDef, table: AstNode | None) -> str:
    """Return the spelling of a new table's column that numbers the rows, as an identity."""
    keys = [
        constraint
        for constraint in every(table, nodes.Constraint)
        if constraint.contype == pg_query_pb2.CONSTR_PRIMARY
    ]
    is_key = any(column.colname in strings(constraint.keys) for constraint in keys) or any(
        constraint.contype == pg_query_pb2.CONSTR_PRIMARY
        for constraint in every(column, nodes.Constraint)
    )
    key = ", primary_key=True" if is_key else ""
    return f"sa.Column({string_literal(column.colname)}, {IDENTITY}{key})"
