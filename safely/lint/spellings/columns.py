"""The safe spelling of what ALTER TABLE does to a column."""

from typing import NamedTuple

from postgast import nodes, pg_query_pb2
from postgast.nodes import AstNode, RangeVar

from safely.lint.parsing import copied, expression, message, quoted
from safely.lint.spellings.column_types import is_serial, type_of
from safely.lint.spellings.constraints import rule_spelling
from safely.lint.spellings.literals import (
    optional_literal,
    safely_call,
    string_literal,
    text_literal,
)
from safely.lint.spellings.names import Unspelled, altered
from safely.lint.statements import Change
from safely.lint.volatility import is_volatile

FILL = "  # fill: the value for existing rows, and for builds that write none"


class Steps(NamedTuple):
    """The code to write instead of a change, one call a line."""

    first: list[str]
    """The calls that add a column; empty for other changes."""
    then: list[str]
    """The calls that give the column its default and its constraints, or make the whole change."""


class Definition(NamedTuple):
    """The clauses in the definition of a column, apart from its type."""

    default: AstNode | None
    not_null: bool
    generated: nodes.Constraint | None
    """An identity, or an expression by which the column is computed."""
    rules: list[nodes.Constraint]
    """CHECK, UNIQUE, REFERENCES and PRIMARY KEY."""


def definition_of(column: nodes.ColumnDef) -> Definition:
    """Return what a definition of a column says; raise Unspelled for what `safely` refuses."""
    if column.storage_name or column.compression or column.fdwoptions:
        raise Unspelled
    default, not_null, generated = None, False, None
    rules: list[nodes.Constraint] = []
    for node in column.constraints:
        if not isinstance(node, nodes.Constraint):
            raise Unspelled
        if node.contype == pg_query_pb2.CONSTR_DEFAULT:
            default = node.raw_expr
        elif is_plain_not_null(node):
            not_null = True
        elif node.contype in (pg_query_pb2.CONSTR_GENERATED, pg_query_pb2.CONSTR_IDENTITY):
            generated = node
        elif node.contype in RULES_OF_COLUMNS:
            rules.append(node)
        elif node.contype in DEFERRALS and rules:
            rules[-1] = deferred(rules[-1], node.contype)
        elif node.contype != pg_query_pb2.CONSTR_NULL:
            raise Unspelled  # NOT NULL with a name, for one
    return Definition(default, not_null, generated, rules)


def is_plain_not_null(node: nodes.Constraint) -> bool:
    """Return whether a rule of a column is NOT NULL, without a name or another clause."""
    is_special = node.conname or node.skip_validation or node.is_no_inherit
    return node.contype == pg_query_pb2.CONSTR_NOTNULL and not is_special


RULES_OF_COLUMNS = (
    pg_query_pb2.CONSTR_CHECK,
    pg_query_pb2.CONSTR_UNIQUE,
    pg_query_pb2.CONSTR_FOREIGN,
    pg_query_pb2.CONSTR_PRIMARY,
)
DEFERRALS = (
    pg_query_pb2.CONSTR_ATTR_DEFERRABLE,
    pg_query_pb2.CONSTR_ATTR_NOT_DEFERRABLE,
    pg_query_pb2.CONSTR_ATTR_DEFERRED,
    pg_query_pb2.CONSTR_ATTR_IMMEDIATE,
)


def deferred(rule: nodes.Constraint, attribute: int) -> nodes.Constraint:
    """Return a rule of a column with the attribute that stands behind it."""
    copy = copied(rule)
    if attribute in (pg_query_pb2.CONSTR_ATTR_DEFERRABLE, pg_query_pb2.CONSTR_ATTR_DEFERRED):
        message(copy).deferrable = True
    if attribute == pg_query_pb2.CONSTR_ATTR_DEFERRED:
        message(copy).initdeferred = True
    return copy


def add_column(change: Change) -> Steps:
    """Return the spelling of ADD COLUMN: the column, then what it gets in steps of its own."""
    column: nodes.ColumnDef = change.node.def_
    definition = definition_of(column)
    table, schema = altered(change)
    is_filled = definition.generated is not None and definition.generated.generated_kind != "v"
    if is_filled or any(rule.contype == pg_query_pb2.CONSTR_PRIMARY for rule in definition.rules):
        raise Unspelled  # the statement would rewrite the table, or build the index of a key
    if is_added_later(column, definition):
        plain = definition._replace(default=None, not_null=False)
    else:
        plain = definition._replace(not_null=definition.not_null and not needs_fill(definition))
    first = safely_call("add_column", table, column_of(column, plain), schema=schema)
    return Steps([first], later_steps(change))


def column_of(column: nodes.ColumnDef, definition: Definition, *more: str) -> str:
    """Return a column with its default, whether it may be NULL, and more arguments."""
    parts = [string_literal(column.colname), type_of(column)]
    if (node := definition.generated) is not None:
        is_identity = node.contype == pg_query_pb2.CONSTR_IDENTITY
        parts.append(identity(node) if is_identity else computed(node))
    if definition.default is not None:
        parts.append(f"server_default={text_literal(expression(definition.default))}")
    if definition.not_null:
        parts.append("nullable=False")
    return f"sa.Column({', '.join([*parts, *more])})"


def identity(node: nodes.Constraint) -> str:
    """Return an identity; its sequence has no options."""
    if node.options:
        raise Unspelled
    return "sa.Identity(always=True)" if node.generated_when == "a" else "sa.Identity()"


def computed(node: nodes.Constraint) -> str:
    """Return what computes a column."""
    sql = string_literal(expression(node.raw_expr))
    return f"sa.Computed({sql}, persisted={node.generated_kind == 's'})"


def needs_fill(definition: Definition) -> bool:
    """Return whether a column is NOT NULL, and nothing gives old rows a value."""
    return definition.not_null and definition.default is None and definition.generated is None


def is_added_later(column: nodes.ColumnDef, definition: Definition) -> bool:
    """Return whether the default of a column differs from row to row."""
    return is_serial(column) or is_volatile(definition.default)


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
