"""The safe spelling of ADD CONSTRAINT."""

from postgast import nodes, pg_query_pb2
from postgast.nodes import RangeVar

from safely.lint.parsing import every, expression, quoted, strings
from safely.lint.spellings.indexes import automatic_index_name
from safely.lint.spellings.literals import (
    name_list,
    optional_literal,
    safely_call,
    string_literal,
    yes,
)
from safely.lint.spellings.names import Unspelled, automatic_name, table_and_schema
from safely.lint.statements import Change

FOREIGN_KEY_ACTIONS = {"c": "CASCADE", "r": "RESTRICT", "n": "SET NULL", "d": "SET DEFAULT"}


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
    on_delete = FOREIGN_KEY_ACTIONS.get(rule.fk_del_action, "")
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
        onupdate=optional_literal(FOREIGN_KEY_ACTIONS.get(rule.fk_upd_action, "")),
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
