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
    regclass,
    rewrites,
    run,
)
from migrations.safely.constraints import UNLESS, add_check, create_check_constraint
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
    SELECT attnum FROM pg_attribute WHERE attrelid = {oid} AND attname = {column}
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
    SELECT attnum FROM pg_attribute WHERE attrelid = {oid} AND attname = {column}
  );
BEGIN
  EXECUTE format('DROP TRIGGER IF EXISTS %I ON %I', 'fill_required_' || number, {table});
  IF NOT EXISTS (
    SELECT FROM pg_trigger WHERE tgfoid = to_regproc('fill_required')
  ) THEN
    DROP FUNCTION IF EXISTS fill_required();
  END IF;
END $drop$"""


REWRITE_LIMIT = 10_000  # rows: some 50 ms

HAS_COLUMN = """\
SELECT EXISTS (SELECT FROM pg_attribute
               WHERE attrelid = {} AND attname = {} AND NOT attisdropped)"""


def add_column(table_name: str, column: sa.Column[Any]) -> None:
    """Add a column (an instant's lock, no rewrite), its CHECK constraints in steps of their own.

    A column that a killed run already added is left as it is.
    A NOT NULL column needs a `server_default`, or older builds could not insert any more.
    """
    refuse_without_value(table_name, column)
    alter = f"ALTER TABLE {quoted(table_name)}"
    if not postgresql():
        run(f"{alter} ADD COLUMN {definition(table_name, column)}")
        return
    checks = [c for c in column.constraints if isinstance(c, sa.CheckConstraint)]
    column.constraints.difference_update(checks)
    what = f"ADD COLUMN IF NOT EXISTS {definition(table_name, column)}"
    if not offline() and rewrites(table_name, what):
        raise Refused(
            f"{table_name}.{column.name} would be computed for every row while nobody can read "
            f"{table_name}: add it nullable and without a default, fill it in with "
            "safely.backfill, then give it its default with safely.change_default"
        )
    run(f"{alter} {what}")
    for check in checks:
        create_check_constraint(str(check.name), table_name, str(check.sqltext))


def refuse_without_value(table_name: str, column: sa.Column[Any]) -> None:
    """Raise Refused for a NOT NULL column that no old row and no older build has a value for."""
    if not column.nullable and column.server_default is None and column.computed is None:
        raise Refused(
            f"{table_name}.{column.name} is NOT NULL without a server_default: the rows that are "
            "there have no value for it, and older builds write none. Give it a server_default, "
            "or add it nullable and tighten it in the next revision with safely.require_column"
        )


def definition(table_name: str, column: sa.Column[Any]) -> str:
    """The column as CREATE TABLE would have it."""
    on_a_table = sa.Table(table_name, sa.MetaData(), column).c[column.name]
    return str(CreateColumn(on_a_table).compile(dialect=op.get_context().dialect))


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
    rename = (
        f"ALTER TABLE {quoted(table_name)} "
        f"RENAME COLUMN {quoted(column_name)} TO {quoted(new_name)}"
    )
    if postgresql():
        renamed = f"({HAS_COLUMN.format(regclass(table_name), literal(new_name))})"
        there = f"({HAS_COLUMN.format(regclass(table_name), literal(column_name))})"
        rename = UNLESS.format(condition=f"{renamed} AND NOT {there}", statement=rename)
    run(rename)


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
        add_check(check, table_name, f"{column} IS NOT NULL")
    with outside_transaction():
        # two statements: in one, the CHECK goes first and the scan is back
        run(f"ALTER TABLE {quoted(table_name)} ALTER COLUMN {column} SET NOT NULL")
        run(f"ALTER TABLE {quoted(table_name)} DROP CONSTRAINT IF EXISTS {quoted(check)}")


def create_fill_trigger(table_name: str, column_name: str, fill: str | int) -> None:
    """Fill the value in for builds that don't know that it is required."""
    run(FILL_FUNCTION)
    run(CREATE_FILL_TRIGGER.format(**named(table_name, column_name), fill=literal(str(fill))))


def named(table_name: str, column_name: str) -> dict[str, str]:
    """A column, for the statements above."""
    return {
        "oid": regclass(table_name),
        "table": literal(table_name),
        "column": literal(column_name),
    }


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
        f"SELECT attnotnull FROM pg_attribute "
        f"WHERE attrelid = {regclass(table_name)} AND attname = {literal(column_name)}"
    )


def allow_null(table_name: str, column_name: str) -> None:
    """Undo `require_column`: NULL is allowed again, and nothing is filled in any more."""
    if not postgresql():
        with rebuilt(table_name) as table:
            table.alter_column(column_name, nullable=True)
        return
    run(f"ALTER TABLE {quoted(table_name)} ALTER COLUMN {quoted(column_name)} DROP NOT NULL")
    run(DROP_FILL_TRIGGER.format(**named(table_name, column_name)))


def change_type(table_name: str, column_name: str, type_: sa.types.TypeEngine[Any]) -> None:
    """Change a column's type.

    PostgreSQL: ALTER TYPE with a cast. Where the stored form differs, the table is rewritten
    under a lock that stops readers too, so that is refused above REWRITE_LIMIT rows.
    SQLite: the table is copied.
    """
    if not postgresql():
        with rebuilt(table_name) as table:
            table.alter_column(column_name, type_=type_)
        return
    target = type_.compile(dialect=op.get_context().dialect)
    column = quoted(column_name)
    change = f"ALTER COLUMN {column} TYPE {target} USING {column}::{target}"
    if not offline() and rewrites(table_name, change):
        rows = ask(f"SELECT count(*) FROM {quoted(table_name)}")
        if rows > REWRITE_LIMIT:
            raise Refused(
                f"{table_name}.{column_name} as {target} means rewriting {rows} rows while nobody "
                f"can read {table_name}: add a column of the new type, fill it in with "
                "safely.backfill, and let the next revision drop the old one"
            )
    run(f"ALTER TABLE {quoted(table_name)} {change}")


def change_default(table_name: str, column_name: str, server_default: Any) -> None:
    """Set a column's default for rows to come, or drop it with None (an instant's lock)."""
    if postgresql():
        op.alter_column(table_name, column_name, server_default=server_default)
        return
    with rebuilt(table_name) as table:
        table.alter_column(column_name, server_default=server_default)
