"""Names of tables, indexes and constraints, as Python strings."""

from collections.abc import Sequence

from postgast import pg_query_pb2
from postgast.nodes import RangeVar

from safely.lint.spellings.literals import optional_literal, string_literal
from safely.lint.statements import Change

LONGEST_NAME = 63  # bytes; PostgreSQL shortens the parts of a longer one


class Unspelled(Exception):  # noqa: N818  # no fault
    """A clause for which `safely` has no argument."""


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
