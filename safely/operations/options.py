"""Options that an operation can't obey: each is refused by its name, before anything is changed.

SQLAlchemy and Alembic pass over an option that CREATE TABLE or the database has no words for, and
record the revision as done. Options of other databases, such as `mysql_engine`, say nothing about
PostgreSQL and SQLite, and are passed over here as well.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import sqlalchemy as sa
from alembic import op
from alembic.operations.ops import CreateTableOp
from sqlalchemy.exc import ArgumentError
from sqlalchemy.schema import CreateTable, DefaultClause

from safely.operations.connection import Refused, postgresql
from safely.operations.sqlite_limits import (
    dialect_options,
    refuse_impossible_column,
    refuse_impossible_constraint,
    refuse_lost_options,
)

OTHER_DATABASES = ("mariadb_", "mssql_", "mysql_", "oracle_")
UNIQUE_RULES = (sa.PrimaryKeyConstraint, sa.UniqueConstraint)
KEY = re.compile(r'\s*(?:"([^"]+)"|([\w$]+))(?:\s|$)')  # a column by which rows are divided
CONFLICT = {  # options of a column on SQLite, and the rule that each is about
    "on_conflict_not_null": "nullable=False",
    "on_conflict_primary_key": "primary_key=True",
    "on_conflict_unique": "unique=True",
}


def refuse_unknown(operation: str, options: Mapping[str, object]) -> None:
    """Raise Refused for an option that no database has, or that would change nothing."""
    for name in options:
        if not name.startswith(OTHER_DATABASES):
            raise Refused(
                f"safely.{operation}(…, {name}=…) would change nothing: the operation has no such "
                "option. Leave it out, or correct its name"
            )


def refuse_off(operation: str, **always_on: bool | None) -> None:
    """Raise Refused where one of these options is False.

    Each of them is always on: a run that was killed is run again, and meets its own work.
    """
    for name, value in always_on.items():
        if value is False:
            raise Refused(
                f"safely.{operation}(…, {name}=False): it is always on, so that the operation can "
                "be run again after it was killed. Leave it out"
            )


def table_of(table_name: str, items: tuple[sa.schema.SchemaItem, ...], **options: Any) -> sa.Table:
    """Return the table that `create_table` is to make; raise Refused for what it can't obey."""
    try:
        table = CreateTableOp(table_name, items, **options).to_table(op.get_context())
    except (ArgumentError, TypeError) as error:
        raise Refused(f"safely.create_table({table_name!r}, …): {error}") from error
    for column in table.columns:
        refuse_sequence(table_name, column)
    refuse_ignored(table, options.get("prefixes") or ())
    for key in table.foreign_key_constraints:
        defer_as_postgresql(key)
        key.use_alter = False  # CREATE TABLE would leave it to an ALTER TABLE that nobody writes
    return table


def refuse_ignored(table: sa.Table, prefixes: Iterable[str]) -> None:
    """Raise Refused for the first option of a table that CREATE TABLE would pass over.

    `prefixes` are the words before TABLE.
    """
    for column in table.columns:
        refuse_ignored_in_column(table.name, column)
    for constraint in table.constraints:
        name = constraint.name if isinstance(constraint.name, str) else None
        refuse_ignored_in_constraint(name, table.name, constraint)
    for index in table.indexes:
        refuse_ignored_in_index(index, table.name)
    refuse_first(table.name, of_table(table, prefixes))


def refuse_ignored_in_column(table_name: str, column: sa.Column[Any]) -> None:
    """Raise Refused for the first option of a column that the database would pass over."""
    refuse_first(f"{table_name}.{column.name}", of_column(column))
    if not postgresql():
        refuse_impossible_column(table_name, column)


def refuse_sequence(table_name: str, column: sa.Column[Any]) -> None:
    """Raise Refused for a sequence in a revision, which no operation makes.

    In the models it is fine: the application asks for its values.
    """
    default = column.default
    if isinstance(default, sa.Sequence) and not default.optional:
        reason = (
            "no operation makes it. Write sa.Identity(), or make the sequence with op.execute and "
            f"write server_default=sa.text(\"nextval('{default.name}')\")"
        )
        refuse_first(f"{table_name}.{column.name}", [(f"Sequence({default.name!r})", reason)])


def refuse_ignored_in_constraint(
    name: str | None, table_name: str, constraint: sa.Constraint
) -> None:
    """Raise Refused for the first option of a constraint that the database would pass over."""
    is_key = isinstance(constraint, sa.ForeignKeyConstraint)
    place = f"{name or ('a foreign key' if is_key else 'a constraint')} of {table_name}"
    refuse_first(place, of_constraint(constraint))
    if not postgresql():
        refuse_impossible_constraint(place, constraint)


def refuse_ignored_in_index(index: sa.Index, table_name: str) -> None:
    """Raise Refused for an option of an index without which SQLite would allow other rows."""
    if not postgresql():
        refuse_lost_options(f"{index.name} of {table_name}", dialect_options(index))


def defer_as_postgresql(constraint: sa.ForeignKeyConstraint) -> None:
    """Spell out on SQLite what `initially` alone means on PostgreSQL."""
    if constraint.initially and constraint.deferrable is None and not postgresql():
        is_deferred = constraint.initially.upper() == "DEFERRED"
        constraint.deferrable = is_deferred or None
        constraint.initially = constraint.initially if is_deferred else None


def refuse_first(place: str, problems: Iterable[tuple[str, str]]) -> None:
    """Raise Refused for the first of the problems: an option, and why it can't be obeyed."""
    for option, reason in problems:
        raise Refused(f"{place}: {option} can't be obeyed, since {reason}")


def of_column(column: sa.Column[Any]) -> Iterator[tuple[str, str]]:
    """Yield the options of a column that can't be obeyed, and why."""
    on_update = column.server_onupdate
    if isinstance(on_update, DefaultClause):
        yield "server_onupdate", "it makes nothing in the database. Write a trigger with op.execute"
    if column.autoincrement is True and not column.primary_key:
        yield (
            "autoincrement=True",
            "the column is not the primary key. Write sa.Identity()",
        )
    if getattr(column.name, "quote", None) is False:
        yield "quote=False", "the database would change the name. Leave it out"
    if postgresql():
        return
    rules = {
        "on_conflict_not_null": not column.nullable,
        "on_conflict_primary_key": column.primary_key,
        "on_conflict_unique": column.unique,
    }
    for name, is_there in rules.items():
        if column.dialect_options["sqlite"][name] is not None and not is_there:
            yield f"sqlite_{name}", f"the column has no {CONFLICT[name]}"


def of_constraint(constraint: sa.Constraint) -> Iterator[tuple[str, str]]:
    """Yield the options of a constraint that can't be obeyed, and why."""
    if isinstance(constraint, sa.CheckConstraint) and (
        constraint.deferrable or constraint.initially
    ):
        yield "deferrable", "a CHECK is checked at once. Leave it out"
    if not isinstance(constraint, sa.ForeignKeyConstraint):
        return
    if (constraint.match or "").upper() == "PARTIAL":
        database = "PostgreSQL" if postgresql() else "SQLite"
        yield f"match={constraint.match!r}", f"{database} does not enforce it"
    if postgresql():
        return
    if "(" in (constraint.ondelete or ""):
        yield f"ondelete={constraint.ondelete!r}", "SQLite sets all columns of the key"
    if constraint.dialect_options["sqlite"]["on_conflict"] is not None:
        yield "sqlite_on_conflict", "a foreign key has none"


def of_table(table: sa.Table, prefixes: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Yield the options of a table that can't be obeyed, and why."""
    for prefix in map(str, prefixes):
        if prefix.upper() != "UNLOGGED" or not postgresql():
            yield f"prefixes=[{prefix!r}]", "a table of the application is a plain one"
    if getattr(table.name, "quote", None) is False:
        yield "quote=False", "the database would change the name. Leave it out"
    of_postgresql = table.dialect_options["postgresql"]
    if of_postgresql["on_commit"]:
        yield "postgresql_on_commit", "only a temporary table has it"
    if of_postgresql["with_oids"]:
        yield "postgresql_with_oids", "PostgreSQL has no such tables any more"
    if postgresql() and of_postgresql["partition_by"]:
        yield from of_partitioned(table, of_postgresql["partition_by"])
    if not postgresql() and table.dialect_options["sqlite"]["autoincrement"]:
        key = table.primary_key
        is_counted = len(key.columns) == 1 and "AUTOINCREMENT" in str(
            CreateTable(table).compile(dialect=op.get_context().dialect)
        )
        if not is_counted:
            yield "sqlite_autoincrement", "the primary key is not one column that is an integer"


def of_partitioned(table: sa.Table, partition_by: str) -> Iterator[tuple[str, str]]:
    """Yield the way by which a table is divided where a unique rule of it lacks a column of that.

    `partition_by` is the SQL after PARTITION BY.
    """
    _, _, listed = partition_by.rpartition(")")[0].partition("(")
    keys = [
        (match[1] or match[2].lower()) if (match := KEY.match(part)) else part.strip()
        for part in listed.split(",")
    ]
    rules = [one for one in table.constraints if isinstance(one, UNIQUE_RULES) and one.columns]
    for rule in [*rules, *(index for index in table.indexes if index.unique)]:
        names = [column.name for column in rule.columns]
        if missing := [key for key in keys if key not in names]:
            yield (
                f"postgresql_partition_by={partition_by!r}",
                f"{rule.name or 'its primary key'} lacks {', '.join(missing)}, and PostgreSQL "
                "looks for duplicates in one partition at a time. Add that to its columns",
            )
