"""The safe spelling of CREATE TABLE."""

from postgast import nodes, pg_query_pb2
from postgast.nodes import AstNode, RangeVar

from safely.lint.parsing import strings
from safely.lint.spellings.column_types import is_serial, type_of
from safely.lint.spellings.columns import RULES_OF_COLUMNS, column_of, definition_of
from safely.lint.spellings.constraints import constraint_name, rule_spelling
from safely.lint.spellings.indexes import storage
from safely.lint.spellings.literals import optional_literal, safely_call, string_literal
from safely.lint.spellings.names import Unspelled, automatic_name, table_and_schema
from safely.lint.statements import Change

INTEGERS = ("sa.BigInteger()", "sa.Integer()", "sa.SmallInteger()")


def create_table(change: Change) -> list[str]:
    """Return the spelling of CREATE TABLE: the columns and the key, then the other constraints."""
    node: nodes.CreateStmt = change.node
    relation: RangeVar = change.node.relation
    table, schema = table_and_schema(relation)
    is_special = node.inh_relations or node.partspec or node.of_typename or node.access_method
    if relation.relpersistence != "p" or is_special:
        raise Unspelled
    rules = [rule for item in node.table_elts for rule in rules_of(item)]
    keys = [rule for rule, _ in rules if rule.contype == pg_query_pb2.CONSTR_PRIMARY]
    key = [name for rule, own in rules if rule in keys for name in own or strings(rule.keys)]
    others = [(rule, own) for rule, own in rules if rule not in keys]
    names = [constraint_name(relation.relname, *rule) for rule in others]
    if len(set(names)) < len(names):  # PostgreSQL numbers the names that it takes
        raise Unspelled
    columns = [item for item in node.table_elts if isinstance(item, nodes.ColumnDef)]
    call = safely_call(
        "create_table",
        table,
        *(column_of_table(column, key) for column in columns),
        *(primary_key(relation.relname, rule, key) for rule in keys),
        schema=schema,
        postgresql_tablespace=optional_literal(node.tablespacename),
        postgresql_with=storage(node.options),
    )
    return [call, *(rule_spelling(relation, *rule) for rule in others)]


def rules_of(item: AstNode) -> list[tuple[nodes.Constraint, list[str]]]:
    """Return a constraint of a table, or those of a column, with the column."""
    if isinstance(item, nodes.ColumnDef):
        return [(rule, [item.colname]) for rule in definition_of(item).rules]
    if not isinstance(item, nodes.Constraint) or item.contype not in RULES_OF_COLUMNS:
        raise Unspelled  # LIKE, EXCLUDE
    if item.skip_validation:  # which has no effect in CREATE TABLE
        raise Unspelled
    return [(item, [])]


def column_of_table(column: nodes.ColumnDef, key: list[str]) -> str:
    """Return a column of a new table, whose primary key has these columns."""
    definition = definition_of(column)
    is_key = key == [column.colname]  # SQLAlchemy makes a serial of an integer that is the key
    if is_serial(column) and not is_key:
        raise Unspelled
    is_counted = is_serial(column) or definition.generated is not None
    more = ["autoincrement=False"] if is_key and not is_counted else []
    plain = definition._replace(not_null=definition.not_null and column.colname not in key)
    return column_of(column, plain, *(more if type_of(column) in INTEGERS else []))


def primary_key(table: str, rule: nodes.Constraint, columns: list[str]) -> str:
    """Return the primary key of a new table."""
    has_options = rule.options or rule.indexspace or rule.including or rule.without_overlaps
    if has_options or rule.deferrable or rule.initdeferred:
        raise Unspelled
    names = ", ".join(map(string_literal, columns))
    name = automatic_name(rule.conname, table, [], "pkey")
    return f"sa.PrimaryKeyConstraint({names}, name=safely.f({name}))"
