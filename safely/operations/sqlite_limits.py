"""Refusals of the options and rules that SQLite lacks, before anything is touched.

Without meaning on SQLite, and accepted: how PostgreSQL builds or stores an index (CONCURRENTLY,
`postgresql_using`, `_ops`, `_with`, `_tablespace`, `_include`), since that only changes its speed;
comments, which SQLite doesn't keep, so that `alembic check` doesn't compare them there either; and
an `Identity()` of an INTEGER PRIMARY KEY, to which SQLite gives numbers anyway.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ExcludeConstraint
from sqlalchemy.exc import CompileError
from sqlalchemy.schema import SchemaItem

from safely.operations.connection import Refused, rows, scalar, type_sql

LOST = {  # options that decide which rows are allowed, with the spelling for SQLite
    "postgresql_where": "give sqlite_where the same condition",
    "postgresql_nulls_not_distinct": "SQLite takes each NULL for another value: leave it out, or "
    "make a unique index on coalesce(…)",
}
NUMBERS = ("start", "increment", "minvalue", "maxvalue")  # of Identity()


def refuse_lost_options(name: str, options: Mapping[str, Any]) -> None:
    """Raise Refused for an option without which other rows would be allowed."""
    for option, remedy in LOST.items():
        wanted = options.get(option)
        if wanted is None or wanted is False:
            continue
        if options.get(option.replace("postgresql_", "sqlite_")) is None:
            raise Refused(f"SQLite would ignore {option} of {name}: {remedy}")


def refuse_match(name: str, match: str | None, local_cols: Sequence[str]) -> None:
    """Raise Refused for MATCH FULL of several columns, which SQLite reads and does not obey."""
    if match and match.upper() != "SIMPLE" and len(local_cols) > 1:
        raise Refused(
            f"SQLite would ignore match={match!r} of {name}: leave it out, and add a CHECK that "
            f"all of {', '.join(local_cols)} are NULL, or none"
        )


def refuse_not_unique(name: str, referent_table: str, remote_cols: Sequence[str]) -> None:
    """Raise Refused for a foreign key to columns that aren't unique: no row could be written."""
    if not scalar("SELECT 1 FROM pragma_table_xinfo(?)", referent_table):
        raise Refused(
            f"{name} can't be added: there is no table {referent_table}. Create that first; where "
            "two tables refer to each other, add one key afterwards, with "
            "safely.create_foreign_key"
        )
    key = sorted(column.lower() for column in remote_cols)
    keys = rows(
        "SELECT group_concat(lower(name)) FROM pragma_table_xinfo(?) WHERE pk UNION ALL "
        "SELECT group_concat(lower(info.name)) FROM pragma_index_list(?) AS list, "
        'pragma_index_info(list.name) AS info WHERE list."unique" AND NOT list.partial '
        "GROUP BY list.name",
        referent_table,
        referent_table,
    )
    if key not in [sorted(columns.split(",")) for (columns,) in keys if columns]:
        raise Refused(
            f"{name} can't be added: {', '.join(remote_cols)} of {referent_table} "
            f"{'is' if len(remote_cols) == 1 else 'are'} not unique, so a row could refer to two. "
            "Create a unique constraint there first, with safely.create_unique_constraint"
        )


def refuse_keys_not_unique(table: sa.Table) -> None:
    """Raise Refused for a foreign key of a new table to columns that aren't unique."""
    for key in table.foreign_key_constraints:
        if key.referred_table.name != table.name:
            remote = [element.column.name for element in key.elements]
            name = key.name if isinstance(key.name, str) else "a foreign key"
            refuse_not_unique(f"{name} of {table.name}", key.referred_table.name, remote)


def refuse_impossible_constraint(name: str, constraint: sa.Constraint) -> None:
    """Raise Refused for a constraint that SQLite would not enforce as it is defined."""
    if isinstance(constraint, ExcludeConstraint):
        raise Refused(
            f"SQLite has no exclusion constraints, such as {name}: leave it out, or keep to "
            "PostgreSQL"
        )
    if isinstance(constraint, sa.ForeignKeyConstraint):
        refuse_match(name, constraint.match, constraint.column_keys)
    elif constraint.deferrable or constraint.initially:
        raise Refused(
            f"{name} can't be deferrable: SQLite checks what is unique at once. Leave out "
            "deferrable= and initially="
        )
    refuse_lost_options(name, dialect_options(constraint))


def refuse_impossible_column(table_name: str, column: sa.Column[Any]) -> None:
    """Raise Refused for a type or a numbering that SQLite lacks."""
    name = f"{table_name}.{column.name}"
    refuse_missing_type(name, column.type)
    if column.identity is None:
        return
    numbers = {getattr(column.identity, option) for option in NUMBERS}
    if numbers - {None, 1} or column.identity.cycle:
        raise Refused(
            f"SQLite would number {name} from 1 in steps of 1: leave the options of Identity() "
            "out, or keep to PostgreSQL"
        )
    if not column.primary_key:
        raise Refused(
            f"{name} can't be numbered by SQLite, which does that for a primary key only: fill it "
            "in from the application, or keep to PostgreSQL"
        )


def refuse_missing_type(name: str, type_: sa.types.TypeEngine[Any]) -> None:
    """Raise Refused for a type that SQLite lacks, or takes for another one."""
    if isinstance(type_, sa.types.NullType):
        raise Refused(f"{name} has no type: write it into sa.Column")
    try:
        declared = type_sql(type_)
    except CompileError as error:
        raise Refused(
            f"{name} has the type {type_!r}, which SQLite lacks: give it another one there, such "
            f"as {type(type_).__name__}(…).with_variant(sa.JSON(), 'sqlite')"
        ) from error
    if declared == "UUID":
        raise Refused(
            f"{name} has the type sa.UUID, which SQLite takes for a number, so that zeros are lost "
            "and digits rounded: write sa.Uuid(), which is the same on PostgreSQL"
        )


def dialect_options(item: SchemaItem) -> dict[str, Any]:
    """Return the options of an index or a constraint that are for one database."""
    options: Iterable[tuple[str, Any]] = getattr(item, "dialect_kwargs", {}).items()
    return dict(options)
