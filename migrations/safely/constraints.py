"""Constraints, added without holding anybody up while the rows are checked."""

from collections.abc import Sequence
from typing import Any

from alembic import op

from migrations.safely.connection import (
    Refused,
    ask,
    literal,
    offline,
    outside_transaction,
    postgresql,
    quoted,
    run,
)
from migrations.safely.indexes import create_index
from migrations.safely.rebuild import rebuilt

IS_THERE = "SELECT true FROM pg_constraint WHERE conname = {} AND conrelid = {}::regclass"
ADD_UNLESS_THERE = """\
DO $add$ BEGIN
  IF ({is_there}) IS NULL THEN
    {add};
  END IF;
END $add$"""


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
    add_unless_there(
        constraint_name,
        table_name,
        f"ALTER TABLE {quoted(table_name)} ADD CONSTRAINT {quoted(constraint_name)} "
        f"CHECK ({condition}) NOT VALID",
    )
    validate(constraint_name, table_name)


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
    SQLite: the table is copied.
    """
    names = (list(local_cols), list(remote_cols))
    if not postgresql():
        with rebuilt(source_table) as table:
            table.create_foreign_key(op.f(constraint_name), referent_table, *names, **options)
        return
    if offline() or not ask(IS_THERE.format(literal(constraint_name), literal(source_table))):
        op.create_foreign_key(
            op.f(constraint_name),
            source_table,
            referent_table,
            *names,
            postgresql_not_valid=True,
            **options,
        )
    validate(constraint_name, source_table)


def create_unique_constraint(
    constraint_name: str, table_name: str, columns: Sequence[str], **options: Any
) -> None:
    """Add a UNIQUE constraint from an index that is built concurrently."""
    if not postgresql():
        with rebuilt(table_name) as table:
            table.create_unique_constraint(op.f(constraint_name), list(columns), **options)
        return
    if not offline() and ask(IS_THERE.format(literal(constraint_name), literal(table_name))):
        return
    create_index(constraint_name, table_name, columns, unique=True)
    run(
        f"ALTER TABLE {quoted(table_name)} ADD CONSTRAINT {quoted(constraint_name)} "
        f"UNIQUE USING INDEX {quoted(constraint_name)}"
    )


def drop_constraint(constraint_name: str, table_name: str, type_: str | None = None) -> None:
    """Drop a constraint (an instant's lock); one that is gone already is fine."""
    if postgresql():
        op.drop_constraint(op.f(constraint_name), table_name, if_exists=True)
        return
    with rebuilt(table_name) as table:
        table.drop_constraint(op.f(constraint_name), type_)


def add_unless_there(constraint_name: str, table_name: str, add: str) -> None:
    """Run ALTER TABLE … ADD CONSTRAINT, unless an earlier run that was killed did already."""
    is_there = IS_THERE.format(literal(constraint_name), literal(table_name))
    run(ADD_UNLESS_THERE.format(is_there=is_there, add=add))


def validate(constraint_name: str, table_name: str) -> None:
    """Check the old rows, in a transaction of its own: adding's lock would be held for long."""
    with outside_transaction(patient=True):
        run(f"ALTER TABLE {quoted(table_name)} VALIDATE CONSTRAINT {quoted(constraint_name)}")


def refuse_violations(constraint_name: str, table_name: str, condition: str) -> None:
    """Raise Refused where rows already break the condition."""
    if offline():
        return
    table = quoted(table_name)
    count = ask(f"SELECT count(*) FROM {table} WHERE NOT ({condition})")
    if count:
        raise Refused(
            f"{constraint_name} can't be added: {count} row(s) of {table_name} break it. "
            f"Nothing was changed. See them with: "
            f"SELECT * FROM {table} WHERE NOT ({condition})"
        )
