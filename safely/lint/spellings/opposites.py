"""The way down: the calls of `safely` that undo what an upgrade does.

`…` stands for what only the author knows, such as the type that a column had.
"""

import ast
from collections.abc import Iterator
from typing import NamedTuple

from postgast import nodes, pg_query_pb2

from safely.lint.parsing import every, strings
from safely.lint.source import Call, Source
from safely.lint.spellings import plain_sql
from safely.lint.spellings.calls import code
from safely.lint.spellings.constraints import constraint_name
from safely.lint.spellings.indexes import automatic_index_name
from safely.lint.spellings.literals import safely_call, string_literal
from safely.lint.spellings.names import altered, table_and_schema
from safely.lint.spellings.plain_sql import NOTHING_TO_UNDO, REQUIRED, REST
from safely.lint.statements import Change

RULE_TYPES = {
    pg_query_pb2.CONSTR_CHECK: '"check"',
    pg_query_pb2.CONSTR_FOREIGN: '"foreignkey"',
    pg_query_pb2.CONSTR_UNIQUE: '"unique"',
}
LABELS_BEFORE = "  # the labels before"
NOTHING = {  # kinds of changes that leave nothing to undo
    "comment",
    "create temporary table",
    "lock",
    "lock rows",
    "refresh materialized view",
    "reindex",
    "select",
    "set",
    "vacuum",
    "validate",
}


class Rule(NamedTuple):
    """A constraint that a change adds."""

    name: str  # as a Python string
    columns: set[str]
    drop: str
    """The call that drops it."""
    is_key: bool
    """Whether it is a foreign key, with which no column can be set aside."""


def rules_of(change: Change) -> Iterator[Rule]:
    """Yield the constraints that a change adds, also those in the definition of a column."""
    if change.kind == "add column":
        column = change.node.def_
        for node in column.constraints:
            if isinstance(node, nodes.Constraint) and node.contype in RULE_TYPES:
                yield rule_of(change, node, [column.colname])
    elif change.kind in ("check", "foreign key", "unique"):
        yield rule_of(change, change.node.def_, [])


def rule_of(change: Change, node: nodes.Constraint, columns: list[str]) -> Rule:
    """Return a constraint; `columns` is the one in whose definition it stands, if any."""
    mentioned = [strings(column.fields)[-1] for column in every(node.raw_expr, nodes.ColumnRef)]
    own = {*columns, *strings(node.keys), *strings(node.fk_attrs), *mentioned}
    name = constraint_name(change.statement.relation.relname, node, columns)
    table, schema = altered(change)
    call = safely_call("drop_constraint", name, table, RULE_TYPES[node.contype], schema=schema)
    return Rule(name, own, call, node.contype == pg_query_pb2.CONSTR_FOREIGN)


def of_change(change: Change) -> list[str] | None:
    """Return the calls that undo a change; None where that can't be told."""
    if change.kind in NOTHING:
        return []
    steps = plain_sql.spelled(OPPOSITES, change)
    return None if steps is None else steps.then


def new_column(change: Change) -> list[str]:
    """Return what undoes ADD COLUMN: its constraints are dropped first."""
    table, schema = altered(change)
    name = string_literal(change.node.def_.colname)
    drop = safely_call("drop_column", table, name, schema=schema)
    return [*allowed_nulls(change), *(rule.drop for rule in rules_of(change)), drop]


def allowed_nulls(change: Change) -> list[str]:
    """Return the call that undoes the NOT NULL of a new column, if it gets it in a second step."""
    table, schema = altered(change)
    steps = plain_sql.steps_of(change)
    is_required = steps and any("require_column" in step for step in steps.then)
    name = string_literal(change.node.def_.colname)
    return [safely_call("allow_null", table, name, schema=schema)] if is_required else []


def new_index(change: Change) -> list[str]:
    """Return what undoes CREATE INDEX."""
    table, schema = table_and_schema(change.node.relation)
    return [safely_call("drop_index", automatic_index_name(change.node), table, schema=schema)]


LABELS = "change_enum({table}, …"
OPPOSITES: dict[str, plain_sql.Speller] = {
    "add column": new_column,
    "add label": LABELS + REST + LABELS_BEFORE,
    "check": lambda change: [rule.drop for rule in rules_of(change)],
    "create index": new_index,
    "create table": "drop_table({table}{schema})",
    "default": "change_default({table}, {name}, …{schema})",
    "drop column": "add_column({table}, sa.Column({name}, …){schema})",
    "foreign key": lambda change: [rule.drop for rule in rules_of(change)],
    "no default": "change_default({table}, {name}, …{schema})",
    "not null": "allow_null({table}, {column}{schema})",
    "null": REQUIRED,
    "rename column": "rename_column({table}, {new}, {name}{schema})",
    "rename constraint": "rename_constraint({new}, {table}, {name}{schema})",
    "rename index": "rename_index({new}, …, {table}{schema})",
    "rename label": LABELS + ", renamed={{{new}: {name}}}" + REST + LABELS_BEFORE,
    "rename table": "rename_table({new}, {table}{schema})",
    "type": "change_type({table}, {name}, …{schema})",
    "unique": lambda change: [rule.drop for rule in rules_of(change)],
    "update": lambda _: [NOTHING_TO_UNDO],
}
# of the operations of `safely`: the opposite, the arguments that it takes over by their places, and
# those that follow
OWN_OPPOSITES: dict[str, tuple[str, tuple[int, ...], tuple[str, ...]]] = {
    "allow_null": ("require_column", (0, 1), ("fill=…",)),
    "change_comment": ("change_comment", (0, 1), ("…",)),
    "change_default": ("change_default", (0, 1), ("…",)),
    "change_type": ("change_type", (0, 1), ("…",)),
    "create_check_constraint": ("drop_constraint", (0, 1), ('"check"',)),
    "create_enum": ("drop_enum", (0,), ()),
    "create_foreign_key": ("drop_constraint", (0, 1), ('"foreignkey"',)),
    "create_index": ("drop_index", (0, 1), ()),
    "create_table": ("drop_table", (0,), ()),
    "create_unique_constraint": ("drop_constraint", (0, 1), ('"unique"',)),
    "drop_enum": ("create_enum", (0,), ("…",)),
    "rename_column": ("rename_column", (0, 2, 1), ()),
    "rename_constraint": ("rename_constraint", (2, 1, 0), ()),
    "rename_index": ("rename_index", (2, 1, 0), ()),
    "rename_table": ("rename_table", (1, 0), ()),
    "require_column": ("allow_null", (0, 1), ()),
}


def of_own_call(source: Source, call: Call) -> list[str] | None:
    """Return what undoes a call of `safely`; None where that can't be told."""
    arguments = [code(source, node) for node in call.arguments()]
    if call.name == "backfill":
        return [NOTHING_TO_UNDO]
    schema = next(
        (code(source, option.value) for option in call.options() if option.arg == "schema"), None
    )
    if call.name == "add_column":
        column = source.resolve(call.arguments()[1]) if len(arguments) > 1 else None
        if not isinstance(column, ast.Call) or not column.args:
            return None
        name = code(source, column.args[0])
        return [safely_call("drop_column", arguments[0], name, schema=schema)]
    if call.name not in OWN_OPPOSITES:
        return None
    function, places, more = OWN_OPPOSITES[call.name]
    if len(arguments) <= max(places):
        return None
    return [safely_call(function, *(arguments[place] for place in places), *more, schema=schema)]
