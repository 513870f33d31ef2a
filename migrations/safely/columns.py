"""Columns, added, dropped, tightened and retyped."""

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.schema import CreateColumn

from migrations.safely.backfill import backfill
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
from migrations.safely.constraints import create_check_constraint
from migrations.safely.rebuild import rebuilt

FILL_FUNCTION = """\
CREATE OR REPLACE FUNCTION fill_required() RETURNS trigger LANGUAGE plpgsql AS $fill$
DECLARE
  column_name text := (
    SELECT attname FROM pg_attribute
    WHERE attrelid = tg_relid AND attnum = tg_argv[0]::smallint
  );
BEGIN
  IF to_jsonb(new) ->> column_name IS NULL THEN
    new := jsonb_populate_record(new, jsonb_build_object(column_name, tg_argv[1]));
  END IF;
  RETURN new;
END $fill$"""

# the trigger's argument must be a literal, so the column's number is looked up and pasted in
CREATE_FILL_TRIGGER = """\
DO $create$
DECLARE
  number smallint := (
    SELECT attnum FROM pg_attribute WHERE attrelid = {table}::regclass AND attname = {column}
  );
BEGIN
  EXECUTE format(
    'CREATE OR REPLACE TRIGGER %I BEFORE INSERT OR UPDATE ON %I '
    'FOR EACH ROW EXECUTE FUNCTION fill_required(%L, %L)',
    'fill_required_' || number, {table}, number, {fill}
  );
END $create$"""

DROP_FILL_TRIGGER = """\
DO $drop$
DECLARE
  number smallint := (
    SELECT attnum FROM pg_attribute WHERE attrelid = {table}::regclass AND attname = {column}
  );
BEGIN
  EXECUTE format('DROP TRIGGER IF EXISTS %I ON %I', 'fill_required_' || number, {table});
  IF NOT EXISTS (
    SELECT FROM pg_trigger WHERE tgfoid = to_regproc('fill_required')
  ) THEN
    DROP FUNCTION IF EXISTS fill_required();
  END IF;
END $drop$"""


def add_column(table_name: str, column: sa.Column[Any], **options: Any) -> None:
    """Add a column (an instant's lock, no rewrite), its CHECK constraints in steps of their own.

    A column that a killed run already added is left as it is.
    A NOT NULL column needs a `server_default`, or older builds could not insert any more.
    """
    if not column.nullable and column.server_default is None and column.computed is None:
        raise Refused(
            f"{table_name}.{column.name} is NOT NULL without a server_default: the rows that are "
            "there have no value for it, and older builds write none. Give it a server_default, "
            "or add it nullable and tighten it in the next revision with safely.require_column"
        )
    if not postgresql():
        specification = CreateColumn(attached_copy(table_name, column)).compile(
            dialect=op.get_context().dialect
        )
        run(f"ALTER TABLE {quoted(table_name)} ADD COLUMN {specification}")
        return
    checks = [c for c in column.constraints if isinstance(c, sa.CheckConstraint)]
    column.constraints.difference_update(checks)
    op.add_column(table_name, column, if_not_exists=True, **options)
    for check in checks:
        create_check_constraint(str(check.name), table_name, str(check.sqltext))


def attached_copy(table_name: str, column: sa.Column[Any]) -> sa.Column[Any]:
    """The column on a table of its own, which is what compiling its definition asks for."""
    return sa.Table(table_name, sa.MetaData(), column).c[column.name]


def drop_column(table_name: str, column_name: str, **options: Any) -> None:
    """Drop a column with its values, its indexes and its constraints (an instant's lock)."""
    if postgresql():
        options.pop("if_exists", None)
        op.drop_column(table_name, column_name, if_exists=True, **options)
        return
    with rebuilt(table_name, dropping=column_name) as table:
        table.drop_column(column_name)


def rename_column(table_name: str, column_name: str, new_name: str) -> None:
    """Rename a column, in the catalogue only (an instant's lock); native on both databases.

    One that a killed run already renamed is left as it is.
    """
    if postgresql() and not offline() and has_column(table_name, new_name):
        if has_column(table_name, column_name):
            raise Refused(f"{table_name} has both a column {column_name} and a {new_name}")
        return
    run(
        f"ALTER TABLE {quoted(table_name)} "
        f"RENAME COLUMN {quoted(column_name)} TO {quoted(new_name)}"
    )


def has_column(table_name: str, column_name: str) -> bool:
    """Whether the table has the column (PostgreSQL)."""
    return bool(
        ask(
            "SELECT true FROM pg_attribute WHERE attrelid = $1::text::regclass "
            "AND attname = $2::text AND NOT attisdropped",
            table_name,
            column_name,
        )
    )


def require_column(table_name: str, column_name: str, *, fill: str | int | None = None) -> None:
    """Make a column NOT NULL while older builds still write NULL.

    With `fill`, a trigger puts that value in for them and the old rows are filled in batches;
    it stays until `allow_null`. The trigger finds its column by number, so it survives renames.
    Without `fill`, rows that hold NULL are refused, and so are writers that send it from then on.
    PostgreSQL: a CHECK is validated while everybody writes, so that SET NOT NULL needs no scan.
    SQLite: the rows are filled and the table is copied; there is no trigger.
    """
    column = quoted(column_name)
    if fill is not None:
        if postgresql():
            with outside_transaction():
                create_fill_trigger(table_name, column_name, fill)
        backfill(table_name, f"{column} = {literal(fill)}", where=f"{column} IS NULL")
    refuse_null(table_name, column_name)
    if not postgresql():
        with rebuilt(table_name) as table:
            table.alter_column(column_name, nullable=False)
        return
    check = f"ck_{table_name}_{column_name}_required"
    if offline() or nullable(table_name, column_name):
        create_check_constraint(check, table_name, f"{column} IS NOT NULL")
    with outside_transaction():
        # two statements: in one, the CHECK goes first and the scan is back
        run(f"ALTER TABLE {quoted(table_name)} ALTER COLUMN {column} SET NOT NULL")
        run(f"ALTER TABLE {quoted(table_name)} DROP CONSTRAINT IF EXISTS {quoted(check)}")


def create_fill_trigger(table_name: str, column_name: str, fill: str | int) -> None:
    """Fill the value in for builds that don't know that it is required."""
    run(FILL_FUNCTION)
    table, column = literal(table_name), literal(column_name)
    run(CREATE_FILL_TRIGGER.format(table=table, column=column, fill=literal(str(fill))))


def refuse_null(table_name: str, column_name: str) -> None:
    """Raise Refused where rows still have no value."""
    if offline():
        return
    table, column = quoted(table_name), quoted(column_name)
    count = ask(f"SELECT count(*) FROM {table} WHERE {column} IS NULL")
    if count:
        raise Refused(
            f"{table_name}.{column_name} can't be required: {count} row(s) have none. "
            "Give safely.require_column a fill=, or backfill them first. See them with: "
            f"SELECT * FROM {table} WHERE {column} IS NULL"
        )


def nullable(table_name: str, column_name: str) -> bool:
    """Whether the column takes NULL (PostgreSQL)."""
    return not ask(
        "SELECT attnotnull FROM pg_attribute "
        "WHERE attrelid = $1::text::regclass AND attname = $2::text",
        table_name,
        column_name,
    )


def allow_null(table_name: str, column_name: str) -> None:
    """Undo `require_column`: NULL is allowed again, and nothing is filled in any more."""
    if not postgresql():
        with rebuilt(table_name) as table:
            table.alter_column(column_name, nullable=True)
        return
    run(f"ALTER TABLE {quoted(table_name)} ALTER COLUMN {quoted(column_name)} DROP NOT NULL")
    run(DROP_FILL_TRIGGER.format(table=literal(table_name), column=literal(column_name)))


def change_type(table_name: str, column_name: str, type_: sa.types.TypeEngine[Any]) -> None:
    """Change a column's type.

    PostgreSQL: ALTER TYPE with a cast; where the stored form differs, the table is rewritten
    under a lock that stops readers too. SQLite: the table is copied.
    """
    if not postgresql():
        with rebuilt(table_name) as table:
            table.alter_column(column_name, type_=type_)
        return
    target = type_.compile(dialect=op.get_context().dialect)
    column = quoted(column_name)
    run(
        f"ALTER TABLE {quoted(table_name)} "
        f"ALTER COLUMN {column} TYPE {target} USING {column}::{target}"
    )


def change_default(table_name: str, column_name: str, server_default: Any) -> None:
    """Set a column's default for rows to come, or drop it with None (an instant's lock)."""
    if postgresql():
        op.alter_column(table_name, column_name, server_default=server_default)
        return
    with rebuilt(table_name) as table:
        table.alter_column(column_name, server_default=server_default)
