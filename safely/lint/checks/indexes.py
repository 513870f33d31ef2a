"""Checks of indexes against the models: those that serve no query, and those that are missing."""

from collections.abc import Iterator
from typing import NamedTuple

import sqlalchemy as sa
from postgast import nodes, pg_query_pb2

from safely.lint.directions import Direction
from safely.lint.findings import Finding
from safely.lint.parsing import every, strings
from safely.lint.rendering import Statement
from safely.lint.spellings.literals import name_list, safely_call, string_literal
from safely.lint.sql_text import unqualified
from safely.lint.statements import Change, changes

COLUMNS = 3  # an index of more columns is rarely worth what each write costs


class Index(NamedTuple):
    """An index of all rows, by columns alone."""

    name: str
    table: str
    columns: tuple[str, ...]

    def begins_with(self, columns: tuple[str, ...]) -> bool:
        """Return whether these are its first columns, in this order."""
        return self.columns[: len(columns)] == columns


def check(direction: Direction) -> Iterator[Finding]:
    """Yield the findings about indexes that are made or missing, whatever emitted them."""
    created: list[Index] = []
    added: set[tuple[str, str]] = set()  # table and column
    for statement in direction.statements:
        for change in changes(statement.text):
            if isinstance(change.node, nodes.IndexStmt):
                if direction.up:
                    yield from index(direction, statement, change, created)
                created += plain(change)
            if change.kind == "add column":
                added.add((change.table, change.node.def_.colname))
            yield from documents(direction, statement, change)
            if not statement.from_safely:
                yield from names_taken(direction, statement, change)
    if direction.up:
        for statement in direction.statements:
            for change in changes(statement.text):
                yield from foreign_key(direction, statement, change, created, added)


def index(
    direction: Direction, statement: Statement, change: Change, created: list[Index]
) -> Iterator[Finding]:
    """Yield the findings about a new index that few queries can use."""
    node = change.node
    if len(node.index_params) > COLUMNS and not node.unique:
        number = str(len(node.index_params))
        yield direction.finding("wide-index", statement, change, number=number)._replace(safe=None)
    for new in [] if node.unique else plain(change):
        earlier = [*created, *of_models(direction.metadata, new)]
        other = next((one for one in earlier if is_duplicate(new, one)), None)
        if other is not None:
            finding = direction.finding("duplicate-index", statement, change, other=other.name)
            yield finding._replace(safe=None)


def is_duplicate(new: Index, other: Index) -> bool:
    """Return whether another index of the table serves all queries that the new one serves."""
    return (
        new.name != other.name and new.table == other.table and other.begins_with(new.columns)
        # of two equal ones, each serves the other's queries
    )


def plain(change: Change) -> Iterator[Index]:
    """Yield the index of CREATE INDEX, unless it has expressions or a WHERE, or is no B-tree."""
    node = change.node
    columns = tuple(element.name for element in every(node, nodes.IndexElem))
    is_plain = all(columns) and node.where_clause is None and node.access_method in ("", "btree")
    if is_plain:
        yield Index(node.idxname, change.table, columns)


def of_models(metadata: sa.MetaData, new: Index) -> Iterator[Index]:
    """Yield the indexes that the models have beside a new one; none if they lack the new one.

    The models are those of the head: an index that a later revision replaces isn't in them.
    """
    indexes = [index for table in metadata.tables.values() for index in of_table(table)]
    if any(index.name == new.name for index in indexes):
        yield from indexes


def of_table(table: sa.Table) -> Iterator[Index]:
    """Yield the indexes of a table in the models, those of its constraints too."""
    for index in table.indexes:
        columns = tuple(
            expression.name for expression in index.expressions if isinstance(expression, sa.Column)
        )
        options = index.dialect_options["postgresql"]
        if len(columns) == len(index.expressions) and options["where"] is None:
            yield Index(str(index.name), table.name, columns)
    for constraint in table.constraints:
        if isinstance(constraint, sa.UniqueConstraint | sa.PrimaryKeyConstraint):
            columns = tuple(column.name for column in constraint.columns)
            name = str(constraint.name or f"the constraint on {', '.join(columns)}")
            yield Index(name, table.name, columns)


def foreign_key(
    direction: Direction,
    statement: Statement,
    change: Change,
    created: list[Index],
    added: set[tuple[str, str]],
) -> Iterator[Finding]:
    """Yield a finding about a foreign key of a table in the models if no index begins with it."""
    tables = [table for table in direction.metadata.tables.values() if table.name == change.table]
    # a later revision may have dropped the columns, which the models lack then
    names = {column.name for table in tables for column in table.columns}
    names |= {column for table, column in added if table == change.table}
    indexes = [*created, *(index for table in tables for index in of_table(table))]
    for columns, referent in keys(tables, change):
        if names.issuperset(columns) and not any(
            one.table == change.table and set(one.columns[: len(columns)]) == set(columns)
            for one in indexes
        ):
            parts = {"columns": ", ".join(columns), "referent": referent}
            finding = direction.finding("foreign-key-without-index", statement, change, **parts)
            index = safely_call(
                "create_index",
                "…",
                string_literal(change.table),
                name_list(columns),
            )
            yield finding._replace(safe=f"{index}  # before the foreign key")


def keys(tables: list[sa.Table], change: Change) -> Iterator[tuple[tuple[str, ...], str]]:
    """Yield the columns and the referent of each foreign key that a change adds."""
    if change.kind in ("add column", "foreign key", "create table"):
        columns = [(column, [column.colname]) for column in every(change.node, nodes.ColumnDef)]
        for node, own in [*columns, (change.node, [])]:
            for constraint in every(node, nodes.Constraint):
                names = strings(constraint.fk_attrs) or own
                if constraint.contype == pg_query_pb2.CONSTR_FOREIGN and names:
                    referent = constraint.pktable.relname if constraint.pktable else "…"
                    yield tuple(names), referent
    elif change.kind == "validate":  # `safely` adds a foreign key in a block, and validates it
        for table in tables:
            for key in table.foreign_key_constraints:
                if key.name == unqualified(change.parts.get("name", "")):
                    yield tuple(key.column_keys), key.referred_table.name


def documents(direction: Direction, statement: Statement, change: Change) -> Iterator[Finding]:
    """Yield a finding about each new column that stores a document as JSON."""
    if change.kind not in ("create table", "add column", "type"):
        return
    for column in every(change.node, nodes.ColumnDef):
        if column.type_name is not None and strings(column.type_name.names)[-1] == "json":
            finding = direction.finding("prefer-jsonb", statement, change)
            yield finding._replace(safe="postgresql.JSONB()")


def names_taken(direction: Direction, statement: Statement, change: Change) -> Iterator[Finding]:
    """Yield a finding about IF NOT EXISTS of a table, a column or an index."""
    name = {
        "create table": change.table,
        "create index": unqualified(change.parts.get("name", "")),
        "add column": unqualified(change.parts.get("column", "")),
    }.get(change.kind)
    checks = getattr(change.node, "if_not_exists", False) or getattr(
        change.node, "missing_ok", False
    )
    if name and checks:
        yield direction.finding("if-not-exists", statement, change, name=name)
