"""Checks of what statements do together: in one transaction, or one after the other."""

from collections.abc import Iterator

from postgast import nodes

from safely.lint.checks.tables import is_in_transaction
from safely.lint.directions import Direction, description
from safely.lint.findings import Finding
from safely.lint.parsing import every
from safely.lint.rendering import Statement
from safely.lint.statements import Change, changes

OPPOSITES = {"drop table": "create table", "drop column": "add column"}
SQLALCHEMYS = "sa_savepoint_"  # begins the names of the savepoints that SQLAlchemy makes
WRITES = ("delete", "insert", "insert query", "update", "upsert")


def check(direction: Direction) -> Iterator[Finding]:
    """Yield the findings about statements that hurt because of others."""
    labels: dict[int, set[str]] = {}  # by transaction, those that it has added to enums
    for statement in direction.statements:
        if statement.from_safely:
            continue
        added = labels.setdefault(statement.transaction, set())
        for change in changes(statement.text):
            if change.kind == "transaction" and is_of_author(statement):
                yield direction.finding("transaction-control", statement, change)
            elif change.kind in WRITES and change.table.startswith(("pg_", "sql_")):
                yield direction.finding("catalogue-write", statement, change)._replace(safe=None)
            elif change.kind in OPPOSITES and comes_back(direction, statement, change):
                what = description(change)
                yield direction.finding("drop-and-create", statement, change, what=what)
            used = added & set(constants(change))
            if change.kind == "add label":
                if is_in_transaction(direction, statement):
                    added.add(change.node.new_val)
            elif used:
                label = ", ".join(sorted(used))
                finding = direction.finding(
                    "enum-value-in-transaction", statement, change, label=label
                )
                yield finding._replace(safe=None)


def is_of_author(statement: Statement) -> bool:
    """Return whether the file, or a helper that it calls, runs a statement itself.

    Alembic ends transactions as well, and SQLAlchemy makes savepoints for begin_nested().
    """
    is_of_library = statement.from_alembic or SQLALCHEMYS in statement.text
    return statement.line is not None and not is_of_library


def comes_back(direction: Direction, dropping: Statement, drop: Change) -> bool:
    """Return whether a table or a column that is dropped is created again, further below."""
    is_later = False
    for statement in direction.statements:
        is_later = is_later or statement is dropping
        for change in changes(statement.text) if is_later else ():
            if change.kind == OPPOSITES[drop.kind] and (
                description(change).lower() == description(drop).lower()
            ):
                return True
    return False


def constants(change: Change) -> Iterator[str]:
    """Yield the strings in a change."""
    for constant in every(change.node, nodes.A_Const):
        if isinstance(constant.val, nodes.String):
            yield constant.val.sval
