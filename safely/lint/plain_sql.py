"""The safe spelling of plain SQL, which is also what Alembic prints for its own operations.

`…` stands for what the SQL doesn't tell. A spelling carries every clause of the SQL: where `safely`
has no argument for a clause, there is no spelling, or a comment that says what becomes of it.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from postgast import nodes, pg_query_pb2
from postgast.nodes import AstNode, RangeVar, TypeName

from safely.lint.parsing import (
    as_node,
    deparsed,
    every,
    expression,
    message,
    parsed,
    quoted,
    statements,
    strings,
    type_sql,
)
from safely.lint.statements import Change, changes_of

RESUMED = "  # where: must be false for a row once it is changed, else it is changed again"
NOTHING_TO_UNDO = 'safely.nothing_to_undo("why the rows stay as they are")'
FILL = "  # fill: the value for existing rows, and for builds that write none"
LABELS = "  # all labels, in their order; existing and columns for --sql and SQLite"
CASCADE = "  # CASCADE: drop what depends on it first, each in its own call"
IDENTITY = 'sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), sa.Identity())'
# functions with the same value for each row of a statement, which a test asks PostgreSQL about;
# any other function may have another value for each row
STABLE_FUNCTIONS = {
    "abs", "btrim", "concat", "current_setting", "date_trunc", "extract", "format",
    "json_build_array", "json_build_object", "jsonb_build_array", "jsonb_build_object", "left",
    "length", "lower", "ltrim", "make_date", "make_interval", "md5", "now", "overlay", "position",
    "repeat", "replace", "right", "round", "rtrim", "split_part", "statement_timestamp",
    "substring", "timezone", "to_char", "to_json", "to_jsonb", "to_timestamp",
    "transaction_timestamp", "upper",
}  # fmt: skip
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
WITHOUT_EQUALITY = {"json", "xml", "point", "polygon", "circle"}
KEY_ACTIONS = {
    "a": "",
    "c": "CASCADE",
    "d": "SET DEFAULT",
    "n": "SET NULL",
    "r": "RESTRICT",
}
PASSES = {  # ALTER TABLE executes some of its actions before others
    "drop column": 0,
    "drop constraint": 0,
    "null": 0,
    "no default": 0,
    "type": 1,
    "add column": 2,
}
LATER = 3
NAMING_ANOTHER = (nodes.ExplainStmt, nodes.PrepareStmt)  # statements in which another stands
PARAMETER = re.compile(r"(?<![:\w\\]):(?=\w++(?!:))")  # as sa.text() finds them
LONGEST_NAME = 63  # bytes; PostgreSQL shortens the parts of a longer one


class Unspelled(Exception):  # noqa: N818  # no fault
    """A clause for which `safely` has no argument."""


class Steps(NamedTuple):
    """The code to write instead of a change, one call a line."""

    first: list[str]
    """What adds a column; empty for other changes."""
    then: list[str]
    """What the column gets in calls of its own, or the whole change."""


def of_change(change: Change) -> str | None:
    """Return the code to write instead of a change; None if `safely` has nothing better."""
    steps = steps_of(change)
    return None if steps is None else "\n".join([*steps.first, *steps.then])


def steps_of(change: Change) -> Steps | None:
    """Return the code to write instead of a change, in steps; None without a spelling."""
    speller = SPELLERS.get(change.kind)
    if speller is None or change.node is None:
        return None
    try:
        lines = speller(change)
    except Unspelled:
        return None
    return lines if isinstance(lines, Steps) else Steps([], lines)


def of_text(text: str, *, up: bool) -> str | None:
    """Return the code to write instead of all statements of a text; None with nothing better.

    What has no spelling stays plain SQL, so that nothing of the text is lost. In a downgrade
    (`up` is False), values that were written since the upgrade stay.
    """
    if parsed(text).node is None:  # where one statement can't be read, others may be left out
        return None
    lines: list[str] = []
    is_better = False
    for statement in statements(text):
        changes: list[Change] = []
        if statement.node is not None and not isinstance(statement.node, NAMING_ANOTHER):
            changes = list(changes_of(statement.node))
        if isinstance(statement.node, nodes.AlterTableStmt):
            changes.sort(key=lambda change: PASSES.get(change.kind, LATER))
        spellings = [
            NOTHING_TO_UNDO if not up and loses_values(change) else of_change(change)
            for change in changes
        ]
        if not any(spellings):
            lines.append(execute(statement.text))
            continue
        is_better = True
        for change, spelling in zip(changes, spellings, strict=True):
            if spelling is not None:
                lines.append(spelling)
            elif isinstance(statement.node, nodes.AlterTableStmt):
                lines.append(execute(with_action(statement.node, change.node)))
            else:
                return None  # the parts of another statement can't be taken apart
    return "\n".join(dict.fromkeys(lines)) if is_better else None


def loses_values(change: Change) -> bool:
    """Return whether a change in a downgrade loses values that were written since the upgrade."""
    return change.kind in ("delete", "truncate", "update") and overwrites(change)


def with_action(statement: nodes.AlterTableStmt, action: AstNode) -> str:
    """Return ALTER TABLE with one of its actions alone."""
    alone = pg_query_pb2.AlterTableStmt()
    alone.CopyFrom(message(statement))
    del alone.cmds[:]
    alone.cmds.append(as_node(action))
    return deparsed(pg_query_pb2.Node(alter_table_stmt=alone))


def execute(sql: str) -> str:
    """Return the call that executes SQL as it is."""
    return f"op.execute({string_literal(without_parameters(sql))})"


# pieces of Python


def safely_call(function: str, *arguments: str, **options: str | None) -> str:
    """Return a call of `safely`, with the options that aren't None."""
    named = [f"{name}={value}" for name, value in options.items() if value is not None]
    return f"safely.{function}({', '.join([*arguments, *named])})"


def string_literal(text: str) -> str:
    """Return a Python string, in double quotes where they need no escape."""
    return repr(text) if set('"\\') & set(text) or not text.isprintable() else f'"{text}"'


def optional_literal(text: str) -> str | None:
    """Return a Python string; None for an empty one."""
    return string_literal(text) if text else None


def text_literal(sql: str) -> str:
    """Return SQL as sa.text(), in which a colon that begins a parameter is escaped."""
    return f"sa.text({string_literal(without_parameters(sql))})"


def without_parameters(sql: str) -> str:
    """Return SQL for sa.text(): a colon that would begin a parameter is escaped."""
    return PARAMETER.sub(r"\\:", sql)


def name_list(names: Sequence[str]) -> str:
    """Return names as a Python list."""
    return f"[{', '.join(map(string_literal, names))}]"


def yes(flag: object) -> str | None:
    """Return True as Python for an option that is set, and None for one that isn't."""
    return "True" if flag else None


# names


def table_and_schema(relation: RangeVar | None) -> tuple[str, str | None]:
    """Return the table as a Python string, and its schema, where the SQL names one."""
    if relation is None:
        raise Unspelled
    return string_literal(relation.relname), optional_literal(relation.schemaname)


def altered(change: Change) -> tuple[str, str | None]:
    """Return the table and the schema of an action of ALTER TABLE; no view has a spelling."""
    if change.statement.objtype != pg_query_pb2.OBJECT_TABLE:
        raise Unspelled
    return table_and_schema(change.statement.relation)


def automatic_name(given: str, table: str, columns: Sequence[str], label: str) -> str:
    """Return the name of an index or a constraint; without one, that which PostgreSQL takes.

    `…` for one that is so long that PostgreSQL would shorten its parts.
    """
    name = given or "_".join([table, *columns, label])
    return "…" if len(name.encode()) > LONGEST_NAME else string_literal(name)


def qualified_name(parts: Sequence[str]) -> tuple[str, str | None]:
    """Return the last part as a Python string, and the schema before it if there is one."""
    *schema, name = parts
    return string_literal(name), string_literal(schema[-1]) if schema else None


# indexes


def create_index(change: Change) -> list[str]:
    """Return the spelling of CREATE INDEX."""
    node: nodes.IndexStmt = change.node
    table, schema = table_and_schema(node.relation)
    if node.relation is None or not node.relation.inh:  # ON ONLY, of a partitioned table
        raise Unspelled
    elements = [item for item in node.index_params if isinstance(item, nodes.IndexElem)]
    classes = {
        item.name: ".".join(strings(item.opclass)) for item in elements if is_only_classed(item)
    }
    where = text_literal(expression(node.where_clause)) if node.where_clause else None
    included = [
        item.name for item in node.index_including_params if isinstance(item, nodes.IndexElem)
    ]
    is_portable = (
        node.access_method == "btree"
        and not any(item.opclass for item in elements)
        and not (included or node.options or node.nulls_not_distinct or node.table_space)
    )
    call = safely_call(
        "create_index",
        automatic_index_name(node),
        table,
        f"[{', '.join(index_column(item, node) for item in elements)}]",
        schema=schema,
        unique=yes(node.unique),
        postgresql_using=None
        if node.access_method == "btree"
        else string_literal(node.access_method),
        postgresql_ops=literal_dict(classes),
        postgresql_include=name_list(included) if included else None,
        postgresql_nulls_not_distinct=yes(node.nulls_not_distinct),
        postgresql_with=storage(node.options),
        postgresql_tablespace=optional_literal(node.table_space),
        postgresql_where=where,
        sqlite_where=where if is_portable else None,
    )
    return [call]


def automatic_index_name(node: nodes.IndexStmt) -> str:
    """Return the name of an index; without one, that which PostgreSQL takes, or `…`."""
    table = node.relation.relname if node.relation else ""
    items = [*node.index_params, *node.index_including_params]
    names = [word_for(item) for item in items if isinstance(item, nodes.IndexElem)]
    if not node.idxname and ("" in names or len(set(names)) < len(names)):
        return "…"
    return automatic_name(node.idxname, table, names, "idx")


def word_for(item: nodes.IndexElem) -> str:
    """Return the word for a column in the name that PostgreSQL takes for an index.

    Empty for an expression for which it has a rule of its own.
    """
    if isinstance(item.expr, nodes.FuncCall):
        return strings(item.expr.funcname)[-1]
    return item.name or ("expr" if isinstance(item.expr, nodes.A_Expr) else "")


def is_only_classed(item: nodes.IndexElem) -> bool:
    """Return whether a column of an index has an operator class, and nothing else."""
    return bool(item.name and item.opclass) and not (
        item.collation
        or item.opclassopts
        or item.ordering != pg_query_pb2.SORTBY_DEFAULT
        or item.nulls_ordering != pg_query_pb2.SORTBY_NULLS_DEFAULT
    )


def index_column(item: nodes.IndexElem, index: nodes.IndexStmt) -> str:
    """Return a column of an index: its name, or sa.text() for all that is more than a name."""
    if is_only_classed(item):
        return string_literal(item.name)
    alone = pg_query_pb2.IndexStmt(
        relation=pg_query_pb2.RangeVar(relname="t", inh=True, relpersistence="p"),
        access_method="btree",
        index_params=[as_node(item)],
    )
    sql = deparsed(pg_query_pb2.Node(index_stmt=alone))
    sql = sql.partition("(")[2].rpartition(")")[0]
    if item.name and sql == quoted(item.name):
        return string_literal(item.name)
    if index.unique and item.opclass:
        raise Unspelled  # the search for duplicates would take the operator class for SQL
    return text_literal(sql)


def literal_dict(items: dict[str, str]) -> str | None:
    """Return a dictionary of strings as Python; None for an empty one."""
    pairs = (f"{string_literal(key)}: {string_literal(value)}" for key, value in items.items())
    return f"{{{', '.join(pairs)}}}" if items else None


def storage(options: Sequence[AstNode]) -> str | None:
    """Return storage parameters, in WITH, as a Python dictionary; None without one."""
    pairs = []
    for option in options:
        if not isinstance(option, nodes.DefElem) or option.defnamespace:
            raise Unspelled
        pairs.append(f"{string_literal(option.defname)}: {storage_value(option.arg)}")
    return f"{{{', '.join(pairs)}}}" if pairs else None


def storage_value(node: AstNode | None) -> str:
    """Return the value of a storage parameter as Python."""
    if node is None:
        return "True"
    if isinstance(node, nodes.Integer):
        return str(node.ival)
    if isinstance(node, nodes.Float):
        return node.fval
    if isinstance(node, nodes.String):
        return string_literal(node.sval)
    if isinstance(node, TypeName):  # a word, such as off
        return string_literal(strings(node.names)[-1])
    raise Unspelled


# columns


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
    plain = pg_query_pb2.TypeName()
    plain.CopyFrom(message(type_))
    del plain.array_bounds[:]
    return TypeName(plain)


def collation_of(clause: nodes.CollateClause | None) -> str:
    """Return the name of a collation; empty without one, `…` for one with a schema."""
    names = strings(clause.collname) if clause else []
    return "" if not names else names[0] if len(names) == 1 else "…"


class Definition(NamedTuple):
    """What a definition of a column says, apart from its type."""

    default: AstNode | None
    not_null: bool
    computed: nodes.Constraint | None
    rules: list[nodes.Constraint]
    """CHECK, UNIQUE and REFERENCES."""


def definition_of(column: nodes.ColumnDef) -> Definition:
    """Return what a definition of a column says; raise Unspelled for what `safely` refuses."""
    if column.storage_name or column.compression or column.fdwoptions:
        raise Unspelled
    default, not_null, computed = None, False, None
    rules: list[nodes.Constraint] = []
    for node in column.constraints:
        if not isinstance(node, nodes.Constraint):
            raise Unspelled
        if node.contype == pg_query_pb2.CONSTR_DEFAULT:
            default = node.raw_expr
        elif is_plain_not_null(node):
            not_null = True
        elif node.contype == pg_query_pb2.CONSTR_GENERATED and node.generated_kind == "v":
            computed = node
        elif node.contype in RULES_OF_COLUMNS:
            rules.append(node)
        elif node.contype in DEFERRALS and rules:
            rules[-1] = deferred(rules[-1], node.contype)
        elif node.contype != pg_query_pb2.CONSTR_NULL:
            raise Unspelled  # a primary key, an identity, a column that is computed for each row
    return Definition(default, not_null, computed, rules)


def is_plain_not_null(node: nodes.Constraint) -> bool:
    """Return whether a rule of a column is NOT NULL, without a name or another clause."""
    is_special = node.conname or node.skip_validation or node.is_no_inherit
    return node.contype == pg_query_pb2.CONSTR_NOTNULL and not is_special


RULES_OF_COLUMNS = (
    pg_query_pb2.CONSTR_CHECK,
    pg_query_pb2.CONSTR_UNIQUE,
    pg_query_pb2.CONSTR_FOREIGN,
)
DEFERRALS = (
    pg_query_pb2.CONSTR_ATTR_DEFERRABLE,
    pg_query_pb2.CONSTR_ATTR_NOT_DEFERRABLE,
    pg_query_pb2.CONSTR_ATTR_DEFERRED,
    pg_query_pb2.CONSTR_ATTR_IMMEDIATE,
)


def deferred(rule: nodes.Constraint, attribute: int) -> nodes.Constraint:
    """Return a rule of a column with the attribute that stands behind it."""
    copy = pg_query_pb2.Constraint()
    copy.CopyFrom(message(rule))
    if attribute in (pg_query_pb2.CONSTR_ATTR_DEFERRABLE, pg_query_pb2.CONSTR_ATTR_DEFERRED):
        copy.deferrable = True
    copy.initdeferred = copy.initdeferred or attribute == pg_query_pb2.CONSTR_ATTR_DEFERRED
    return nodes.Constraint(copy)


def add_column(change: Change) -> Steps:
    """Return the spelling of ADD COLUMN: the column, then what it gets in steps of its own."""
    column: nodes.ColumnDef = change.node.def_
    definition = definition_of(column)
    table, schema = altered(change)
    options = [string_literal(column.colname), type_of(column)]
    is_later = is_added_later(column, definition)
    if definition.computed is not None:
        sql = string_literal(expression(definition.computed.raw_expr))
        options.append(f"sa.Computed({sql}, persisted=False)")
    if definition.default is not None and not is_later:
        options.append(f"server_default={text_literal(expression(definition.default))}")
    if definition.not_null and not needs_fill(definition) and not is_later:
        options.append("nullable=False")
    first = safely_call("add_column", table, f"sa.Column({', '.join(options)})", schema=schema)
    return Steps([first], later_steps(change))


def needs_fill(definition: Definition) -> bool:
    """Return whether a column is NOT NULL, and nothing gives old rows a value."""
    return definition.not_null and definition.default is None and definition.computed is None


def is_added_later(column: nodes.ColumnDef, definition: Definition) -> bool:
    """Return whether the default of a column differs from row to row."""
    return is_serial(column) or is_volatile(definition.default)


def is_serial(column: nodes.ColumnDef) -> bool:
    """Return whether the type of a column is a serial."""
    return column.type_name is not None and strings(column.type_name.names)[-1] in SERIALS


def is_volatile(default: AstNode | None) -> bool:
    """Return whether a default may have another value for each row."""
    calls = every(default, nodes.FuncCall)
    return any(strings(call.funcname)[-1] not in STABLE_FUNCTIONS for call in calls)


def later_steps(change: Change) -> list[str]:
    """Return what follows ADD COLUMN: default, rows, NOT NULL, rules."""
    column: nodes.ColumnDef = change.node.def_
    definition = definition_of(column)
    table, schema = altered(change)
    name = string_literal(column.colname)
    lines = []
    if is_added_later(column, definition):
        sql = expression(definition.default)
        default = text_literal(sql) if sql else "…"
        filled = string_literal(f"{quoted(column.colname)} = {sql or '…'}")
        where = string_literal(f"{quoted(column.colname)} IS NULL")
        lines.append(safely_call("change_default", table, name, default, schema=schema))
        lines.append(safely_call("backfill", table, filled, where=where, schema=schema))
        if definition.not_null or is_serial(column):
            lines.append(safely_call("require_column", table, name, schema=schema))
    elif needs_fill(definition):
        lines.append(require_column(table, name, schema))
    relation: RangeVar = change.statement.relation
    lines += [rule_spelling(relation, rule, [column.colname]) for rule in definition.rules]
    return lines


def require_column(table: str, column: str, schema: str | None = None) -> str:
    """Return the spelling of SET NOT NULL, for Python expressions."""
    return safely_call("require_column", table, column, fill="…", schema=schema) + FILL


def of_column(
    function: str, last_argument: Callable[[Change], str] | None = None
) -> Callable[[Change], list[str]]:
    """Return a speller of a call with the table, the column and perhaps one more argument."""

    def speller(change: Change) -> list[str]:
        table, schema = altered(change)
        more = [last_argument(change)] if last_argument else []
        name = string_literal(change.node.name)
        return [safely_call(function, table, name, *more, schema=schema)]

    return speller


def not_null(change: Change) -> list[str]:
    """Return the spelling of SET NOT NULL; a constraint with a name of its own has none."""
    if isinstance(change.node.def_, nodes.Constraint):
        raise Unspelled
    table, schema = altered(change)
    return [require_column(table, string_literal(change.node.name), schema)]


def conversion(change: Change) -> str:
    """Return what stands after USING in ALTER COLUMN TYPE; empty without it."""
    return expression(change.node.def_.raw_default)


def change_type(change: Change) -> list[str]:
    """Return the spelling of ALTER COLUMN TYPE."""
    column: nodes.ColumnDef = change.node.def_
    table, schema = altered(change)
    using = optional_literal(conversion(change))
    name, type_ = string_literal(change.node.name), type_of(column)
    return [safely_call("change_type", table, name, type_, using=using, schema=schema)]


def drop(function: str) -> Callable[[Change], list[str]]:
    """Return a speller of DROP COLUMN or DROP CONSTRAINT."""

    def speller(change: Change) -> list[str]:
        table, schema = altered(change)
        name = string_literal(change.node.name)
        arguments = (table, name) if function == "drop_column" else (name, table)
        return [safely_call(function, *arguments, schema=schema) + cascade(change)]

    return speller


def cascade(change: Change) -> str:
    """Return a comment about CASCADE, which no operation of `safely` has; empty without it."""
    return CASCADE if change.node.behavior == pg_query_pb2.DROP_CASCADE else ""


# constraints


def rule_name(change: Change) -> str:
    """Return the name of an index or a constraint as a Python string, as the database has it."""
    if isinstance(change.node, nodes.IndexStmt):
        return automatic_index_name(change.node)
    rule = change.node.def_
    if not isinstance(rule, nodes.Constraint):  # it is dropped
        return string_literal(change.node.name)
    return constraint_name(change.statement.relation.relname, rule, [])


def constraint_name(table: str, rule: nodes.Constraint, columns: list[str]) -> str:
    """Return the name of a constraint as a Python string.

    `columns` is the column in whose definition it stands, if any.
    """
    return automatic_name(rule.conname, table, *automatic_parts(rule, columns))


def automatic_parts(rule: nodes.Constraint, columns: list[str]) -> tuple[list[str], str]:
    """Return the columns and the word of which PostgreSQL makes the name of a constraint."""
    if rule.contype == pg_query_pb2.CONSTR_FOREIGN:
        return columns or strings(rule.fk_attrs), "fkey"
    if rule.contype == pg_query_pb2.CONSTR_UNIQUE:
        return [*(columns or strings(rule.keys)), *strings(rule.including)], "key"
    mentioned = {strings(column.fields)[-1] for column in every(rule.raw_expr, nodes.ColumnRef)}
    # a CHECK has the column in its name where it is about one alone
    return list(mentioned) if len(mentioned) == 1 else [], "check"


def add_constraint(change: Change) -> list[str]:
    """Return the spelling of ADD CONSTRAINT."""
    return [rule_spelling(change.statement.relation, change.node.def_, [])]


def rule_spelling(relation: RangeVar, rule: nodes.Constraint, columns: list[str]) -> str:
    """Return the call that adds a rule; `columns` are those that it belongs to, if any."""
    if rule.contype == pg_query_pb2.CONSTR_FOREIGN:
        return foreign_key(relation, rule, columns or strings(rule.fk_attrs))
    if rule.contype == pg_query_pb2.CONSTR_UNIQUE:
        return unique(relation, rule, columns or strings(rule.keys))
    return check(relation, rule)


def check(relation: RangeVar, rule: nodes.Constraint) -> str:
    """Return the spelling of a CHECK."""
    if rule.is_no_inherit or not rule.is_enforced:
        raise Unspelled
    table, schema = table_and_schema(relation)
    return safely_call(
        "create_check_constraint",
        constraint_name(relation.relname, rule, []),
        table,
        string_literal(expression(rule.raw_expr)),
        schema=schema,
        postgresql_not_valid=yes(rule.skip_validation),
    )


def unique(relation: RangeVar, rule: nodes.Constraint, columns: list[str]) -> str:
    """Return the spelling of UNIQUE."""
    if rule.options or rule.indexspace or rule.indexname or rule.without_overlaps:
        raise Unspelled
    table, schema = table_and_schema(relation)
    included = strings(rule.including)
    return safely_call(
        "create_unique_constraint",
        constraint_name(relation.relname, rule, columns),
        table,
        name_list(columns),
        schema=schema,
        postgresql_nulls_not_distinct=yes(rule.nulls_not_distinct),
        postgresql_include=name_list(included) if included else None,
        **deferral(rule),
    )


def foreign_key(relation: RangeVar, rule: nodes.Constraint, columns: list[str]) -> str:
    """Return the spelling of a foreign key."""
    matches = {"s": None, "f": '"FULL"'}
    if not rule.is_enforced or rule.fk_matchtype not in matches or rule.fk_with_period:
        raise Unspelled
    table, schema = table_and_schema(relation)
    referent, referent_schema = table_and_schema(rule.pktable)
    remote = strings(rule.pk_attrs)
    on_delete = KEY_ACTIONS[rule.fk_del_action]
    if set_columns := strings(rule.fk_del_set_cols):
        on_delete += f" ({', '.join(map(quoted, set_columns))})"
    return safely_call(
        "create_foreign_key",
        constraint_name(relation.relname, rule, columns),
        table,
        referent,
        name_list(columns),
        name_list(remote) if remote else "[…]",
        source_schema=schema,
        referent_schema=referent_schema,
        ondelete=optional_literal(on_delete),
        onupdate=optional_literal(KEY_ACTIONS[rule.fk_upd_action]),
        match=matches[rule.fk_matchtype],
        postgresql_not_valid=yes(rule.skip_validation),
        **deferral(rule),
    )


def deferral(rule: nodes.Constraint) -> dict[str, str | None]:
    """Return the options that say when a rule is checked."""
    return {
        "deferrable": yes(rule.deferrable),
        "initially": '"DEFERRED"' if rule.initdeferred else None,
    }


# other objects


def dropped(function: str) -> Callable[[Change], list[str]]:
    """Return a speller of DROP INDEX, DROP TABLE or DROP TYPE, for one of its objects."""

    def speller(change: Change) -> list[str]:
        names = [part.strip('"').replace('""', '"') for part in split_name(change)]
        name, schema = qualified_name(names)
        note = cascade(change)
        if function == "drop_enum" and not note:
            note = "  # for an enum"
        return [safely_call(function, name, schema=schema) + note]

    return speller


def split_name(change: Change) -> list[str]:
    """Return the parts of the name of an object that is dropped."""
    for item in change.node.objects:
        parts = strings(item.items if isinstance(item, nodes.List) else getattr(item, "names", []))
        if ".".join(map(quoted, parts)) in (change.parts.get("name"), change.parts.get("table")):
            return parts
    raise Unspelled


def renamed(function: str) -> Callable[[Change], list[str]]:
    """Return a speller of RENAME."""

    def speller(change: Change) -> list[str]:
        node: nodes.RenameStmt = change.node
        if function == "rename_column" and node.relation_type != pg_query_pb2.OBJECT_TABLE:
            raise Unspelled  # of a view
        relation, schema = table_and_schema(node.relation)
        name, new = string_literal(node.subname), string_literal(node.newname)
        arguments = {
            "rename_column": (relation, name, new),
            "rename_constraint": (name, relation, new),
            "rename_index": (relation, "…", new),
            "rename_table": (relation, new),
        }
        return [safely_call(function, *arguments[function], schema=schema)]

    return speller


def change_enum(change: Change) -> list[str]:
    """Return the spelling of ADD VALUE and RENAME VALUE."""
    node: nodes.AlterEnumStmt = change.node
    name, schema = qualified_name(strings(node.type_name))
    label = string_literal(node.new_val)
    mapping = f"{{{string_literal(node.old_val)}: {label}}}" if node.old_val else None
    labels, note = ["…", label], LABELS
    if node.new_val_neighbor or node.old_val:
        labels = ["…"]
        place = (
            "in the place of" if node.old_val else "after" if node.new_val_is_after else "before"
        )
        note += f"; {label} {place} {string_literal(node.old_val or node.new_val_neighbor)}"
    return [
        safely_call(
            "change_enum", name, *labels, renamed=mapping, existing="[…]", columns="[…]",
            schema=schema,
        )
        + note
    ]  # fmt: skip


# rows


def backfill(change: Change) -> list[str]:
    """Return the spelling of UPDATE.

    Without a WHERE, it changes the rows that don't have the new value yet.
    """
    node: nodes.UpdateStmt | nodes.MergeStmt = change.node
    table, schema = table_and_schema(node.relation)
    if isinstance(node, nodes.MergeStmt):
        return [safely_call("backfill", table, "…", where="…", schema=schema) + RESUMED]
    if node.relation is None or not node.relation.inh:
        raise Unspelled
    if isinstance(node.where_clause, nodes.CurrentOfExpr):
        raise Unspelled
    own = without_alias(node)
    is_alone = change.node is change.statement and not (node.from_clause or node.with_clause)
    if own is None or not is_alone or any(every(own, nodes.ParamRef)):
        # the author must turn the other tables into subqueries
        return [safely_call("backfill", table, "…", where="…", schema=schema) + RESUMED]
    assigned = string_literal(assignments(own))
    if own.where_clause is not None:
        where, is_resumed = string_literal(expression(own.where_clause)), ends(own)
    else:
        condition = not_yet(own)
        where, is_resumed = string_literal(condition) if condition else "…", bool(condition)
    call = safely_call("backfill", table, assigned, where=where, schema=schema)
    return [call if is_resumed else call + RESUMED]


def assignments(node: nodes.UpdateStmt) -> str:
    """Return what stands after SET."""
    alone = pg_query_pb2.UpdateStmt(
        relation=pg_query_pb2.RangeVar(relname="t", inh=True, relpersistence="p"),
        target_list=message(node).target_list,
    )
    return deparsed(pg_query_pb2.Node(update_stmt=alone)).removeprefix("UPDATE t SET ")


def targets(node: nodes.UpdateStmt) -> Iterator[tuple[str, AstNode | None]]:
    """Yield each assigned column and its value; None for a value that stands not alone."""
    for target in node.target_list:
        if not isinstance(target, nodes.ResTarget):
            continue
        value = target.val
        if isinstance(value, nodes.MultiAssignRef):
            row = value.source
            value = row.args[value.colno - 1] if isinstance(row, nodes.RowExpr) else None
        yield target.name, None if target.indirection else value


def not_yet(node: nodes.UpdateStmt) -> str:
    """Return the condition that a row has not the new values yet; empty where none would do."""
    assigned = dict(targets(node))
    conditions = []
    for column, value in assigned.items():
        mentioned = {
            strings(one.fields)[-1] for one in every(value, nodes.ColumnRef) if strings(one.fields)
        }
        types = {strings(cast.names)[-1] for cast in every(value, TypeName)}
        if (
            value is None
            or isinstance(value, nodes.SetToDefault)
            or mentioned & assigned.keys()
            or is_volatile(value)
            or any(every(value, nodes.SubLink))
            or any(every(value, nodes.SQLValueFunction))
            or any(strings(call.funcname)[-1] == "now" for call in every(value, nodes.FuncCall))
            or types & WITHOUT_EQUALITY
        ):
            return ""
        conditions.append(f"{quoted(column)} IS DISTINCT FROM {operand(value)}")
    return " OR ".join(conditions)


def operand(value: AstNode) -> str:
    """Return an expression as an operand, in parentheses where it may need them."""
    sql = expression(value)
    is_simple = isinstance(
        value, nodes.A_Const | nodes.ColumnRef | nodes.FuncCall | nodes.TypeCast | nodes.ParamRef
    )
    return sql if is_simple else f"({sql})"


def without_alias(node: nodes.UpdateStmt) -> nodes.UpdateStmt | None:
    """Return an UPDATE whose columns are named without an alias.

    They lose the table too, unless a subquery could take them for its own; None where a subquery
    has a table of that name.
    """
    relation = node.relation
    if relation is None:
        return None
    alias = relation.alias.aliasname if relation.alias else relation.relname
    copy = pg_query_pb2.UpdateStmt()
    copy.CopyFrom(message(node))
    own = nodes.UpdateStmt(copy)
    subqueries = [inner for inner in every(own, nodes.SelectStmt) if inner.from_clause]
    inner_names = {
        inner.alias.aliasname if inner.alias else inner.relname
        for query in subqueries
        for inner in every(query, RangeVar)
    }
    if inner_names & {alias, relation.relname}:
        return None
    for column in every(own, nodes.ColumnRef):
        *owner, _ = column.fields
        if owner and strings(owner)[-1:] == [alias]:
            fields = message(column).fields
            last = fields[-1]
            kept = pg_query_pb2.Node()
            kept.CopyFrom(last)
            del fields[:]
            if subqueries:
                name = pg_query_pb2.String(sval=relation.relname)
                fields.append(pg_query_pb2.Node(string=name))
            fields.append(kept)
    return own


def overwrites(change: Change) -> bool:
    """Return whether a change overwrites values; where it only replaces NULLs, none is lost."""
    return not isinstance(change.node, nodes.UpdateStmt) or not replaces_nulls(change.node)


def ends(node: nodes.UpdateStmt) -> bool:
    """Return whether the WHERE is false for a row once it is changed, as far as can be told."""
    values = dict(targets(node))
    return any(
        isinstance(
            values.get(column), nodes.A_Const | nodes.ColumnRef | nodes.FuncCall | nodes.TypeCast
        )
        for column in tested_for_null(node)
    )


def tested_for_null(node: nodes.UpdateStmt) -> set[str]:
    """Return the columns that the WHERE demands to be NULL."""
    return {
        strings(test.arg.fields)[-1]
        for test in required_tests(node.where_clause)
        if test.nulltesttype == pg_query_pb2.IS_NULL and isinstance(test.arg, nodes.ColumnRef)
    }


def replaces_nulls(node: nodes.UpdateStmt) -> bool:
    """Return whether the WHERE demands that each column which is assigned be NULL."""
    return {column for column, _ in targets(node)} <= tested_for_null(node)


def required_tests(condition: AstNode | None) -> Iterator[nodes.NullTest]:
    """Yield the tests for NULL that a condition demands of each row, joined by AND."""
    if isinstance(condition, nodes.NullTest):
        yield condition
    elif isinstance(condition, nodes.BoolExpr) and condition.boolop == pg_query_pb2.AND_EXPR:
        for part in condition.args:
            yield from required_tests(part)


SPELLERS: dict[str, Callable[[Change], Any]] = {
    "add column": add_column,
    "add label": change_enum,
    "check": add_constraint,
    "create index": create_index,
    "default": of_column(
        "change_default", lambda change: text_literal(expression(change.node.def_))
    ),
    "drop column": drop("drop_column"),
    "drop constraint": drop("drop_constraint"),
    "drop index": dropped("drop_index"),
    "drop table": dropped("drop_table"),
    "drop type": dropped("drop_enum"),
    "foreign key": add_constraint,
    "no default": of_column("change_default", lambda _: "None"),
    "not null": not_null,
    "null": of_column("allow_null"),
    "rename column": renamed("rename_column"),
    "rename constraint": renamed("rename_constraint"),
    "rename index": renamed("rename_index"),
    "rename label": change_enum,
    "rename table": renamed("rename_table"),
    "type": change_type,
    "unique": add_constraint,
    "update": backfill,
}
