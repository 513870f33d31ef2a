"""Constraints, added without holding anybody up while the rows are checked."""

from collections.abc import Sequence
from typing import Any

from alembic import op
from sqlalchemy.exc import IntegrityError

from safely.operations.connection import (
    Refused,
    ask,
    literal,
    offline,
    outside_transaction,
    postgresql,
    quoted,
    regclass,
    run,
    unless,
)
from safely.operations.indexes import create_index
from safely.operations.rebuild import rebuilt

HAS_CONSTRAINT = "EXISTS (SELECT FROM pg_constraint WHERE conname = {name} AND conrelid = {table})"


def create_check_constraint(constraint_name: str, table_name: str, condition: str) -> None:
    """Add a CHECK: for new rows at once, then for the old ones while everybody goes on writing.

    PostgreSQL: NOT VALID (an instant's lock), VALIDATE in a later transaction (blocks nobody).
    SQLite: the table is copied. A constraint that is already there is only validated.
    Raises Refused where rows break it, with a query that shows them.
    """
    refuse_violations(constraint_name, table_name, condition)
    if not postgresql():
        with rebuilt(table_name) as table:
            table.create_check_constraint(op.f(constraint_name), condition)
        return
    add_check(constraint_name, table_name, condition)


def add_check(constraint_name: str, table_name: str, condition: str) -> None:
    """Add a CHECK that no row breaks, as far as was known a moment ago (PostgreSQL)."""
    add_unless_there(constraint_name, table_name, f"CHECK ({condition}) NOT VALID")
    try:
        validate(constraint_name, table_name)
    except IntegrityError:  # a row that broke it came in before the rule was there
        refuse_violations(constraint_name, table_name, condition)
        raise


def create_foreign_key(
    constraint_name: str,
    source_table: str,
    referent_table: str,
    local_cols: Sequence[str],
    remote_cols: Sequence[str],
    **options: Any,
) -> None:
    """Add a foreign key; takes what `op.create_foreign_key` takes.

    PostgreSQL: NOT VALID (an instant's lock on both tables), VALIDATE in a later transaction.
    SQLite: the table is copied. Raises Refused where rows refer to nothing, with a query.
    """
    dangling = dangling_rows(source_table, referent_table, local_cols, remote_cols)
    refuse_dangling(constraint_name, source_table, dangling)
    if not postgresql():
        with rebuilt(source_table) as table:
            table.create_foreign_key(
                op.f(constraint_name),
                referent_table,
                list(local_cols),
                list(remote_cols),
                **options,
            )
        return
    local, remote = (", ".join(map(quoted, columns)) for columns in (local_cols, remote_cols))
    actions = "".join(
        f" ON {event.removeprefix('on').upper()} {options[event]}"
        for event in ("ondelete", "onupdate")
        if options.get(event)
    )
    add_unless_there(
        constraint_name,
        source_table,
        f"FOREIGN KEY ({local}) REFERENCES {quoted(referent_table)} ({remote}){actions} NOT VALID",
    )
    try:
        validate(constraint_name, source_table)
    except IntegrityError:  # a row that refers to nothing came in before the rule was there
        refuse_dangling(constraint_name, source_table, dangling)
        raise


def dangling_rows(
    source_table: str, referent_table: str, local_cols: Sequence[str], remote_cols: Sequence[str]
) -> str:
    """The query for rows that refer to nothing."""
    local = [f"source.{quoted(column)}" for column in local_cols]
    remote = [f"referent.{quoted(column)}" for column in remote_cols]
    given = " AND ".join(f"{column} IS NOT NULL" for column in local)
    alike = " AND ".join(f"{r} = {ours}" for r, ours in zip(remote, local, strict=True))
    return (
        f"SELECT * FROM {quoted(source_table)} AS source WHERE {given} "
        f"AND NOT EXISTS (SELECT 1 FROM {quoted(referent_table)} AS referent WHERE {alike})"
    )


def refuse_dangling(constraint_name: str, source_table: str, dangling: str) -> None:
    """Raise Refused where rows refer to nothing."""
    if offline():
        return
    count = ask(f"SELECT count(*) FROM ({dangling}) AS found")
    if count:
        raise Refused(
            f"{constraint_name} can't be added: {count} row(s) of {source_table} refer to "
            f"nothing. Mend them, and run this revision again. See them with: {dangling}"
        )


def create_unique_constraint(
    constraint_name: str, table_name: str, columns: Sequence[str], **options: Any
) -> None:
    """Add a UNIQUE constraint from an index that is built concurrently."""
    if not postgresql():
        with rebuilt(table_name) as table:
            table.create_unique_constraint(op.f(constraint_name), list(columns), **options)
        return
    create_index(constraint_name, table_name, columns, unique=True)
    attach(constraint_name, table_name)


def attach(constraint_name: str, table_name: str) -> None:
    """Make the unique index of that name a constraint (PostgreSQL)."""
    add_unless_there(constraint_name, table_name, f"UNIQUE USING INDEX {quoted(constraint_name)}")


def drop_constraint(constraint_name: str, table_name: str, type_: str | None = None) -> None:
    """Drop a constraint (an instant's lock); one that is gone already is fine."""
    if postgresql():
        op.drop_constraint(op.f(constraint_name), table_name, if_exists=True)
        return
    with rebuilt(table_name) as table:
        table.drop_constraint(op.f(constraint_name), type_)


def add_unless_there(constraint_name: str, table_name: str, rule: str) -> None:
    """ALTER TABLE … ADD CONSTRAINT, unless it is there (PostgreSQL)."""
    there = HAS_CONSTRAINT.format(name=literal(constraint_name), table=regclass(table_name))
    add = f"ALTER TABLE {quoted(table_name)} ADD CONSTRAINT {quoted(constraint_name)} {rule}"
    unless(there, add)


def validate(constraint_name: str, table_name: str) -> None:
    """Check the old rows, in a transaction of its own: adding's lock would be held for long."""
    with outside_transaction(patient=True):
        run(f"ALTER TABLE {quoted(table_name)} VALIDATE CONSTRAINT {quoted(constraint_name)}")


def refuse_violations(
    constraint_name: str, table_name: str, condition: str, rows: str | None = None
) -> None:
    """Raise Refused where rows already break the condition.

    `rows`: what to look at instead of the table, such as a query that stands for it.
    """
    if offline():
        return
    breaking = f"FROM {rows or quoted(table_name)} WHERE NOT ({condition})"
    count = ask(f"SELECT count(*) {breaking}")
    if count:
        raise Refused(
            f"{constraint_name} can't be added: {count} row(s) of {table_name} break it. "
            f"Mend them, and run this revision again. See them with: SELECT * {breaking}"
        )
