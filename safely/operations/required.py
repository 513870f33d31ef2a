"""Columns, required while older builds still write NULL."""

import sqlalchemy as sa

from safely.operations.aside import aside
from safely.operations.backfill import backfill, refuse_other_key
from safely.operations.connection import (
    Refused,
    ask,
    literal,
    offline,
    outside_transaction,
    postgresql,
    quoted,
    regclass,
    revision,
    run,
)
from safely.operations.constraints import add_check
from safely.operations.rebuild import rebuilt

Fill = str | int | sa.TextClause

# The trigger says UPDATE OF its column, and PostgreSQL keeps that as a number which follows
# renames, and which pg_dump writes as the name of the day: no name or number is kept by us.
# Its WHEN does the same, and spares every row that has a value the call of the function.
FILL_FUNCTION = """\
CREATE OR REPLACE FUNCTION fill_missing() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER AS $fill$
DECLARE
  filled text;
  type text;
  value jsonb;
BEGIN
  SELECT attname, format_type(atttypid, atttypmod) INTO STRICT filled, type
  FROM pg_trigger JOIN pg_attribute ON attrelid = tgrelid AND attnum = tgattr[0]
  WHERE tgrelid = tg_relid AND tgname = tg_name;
  IF to_jsonb(new) ->> filled IS NULL THEN
    -- a JSON null is a value
    EXECUTE format(
      'SELECT to_jsonb(CASE WHEN written.%1$I IS NULL THEN (%2$s)::%3$s ELSE written.%1$I END)
       FROM (SELECT ($1).*) AS written', filled, tg_argv[0], type) INTO value USING new;
    new := jsonb_populate_record(new, jsonb_build_object(filled, value));
  END IF;
  RETURN new;
END $fill$"""

# the number in the name only keeps two of them apart; the revision is for `purge`
CREATE_FILL_TRIGGER = """\
DO $create$
DECLARE
  number smallint := (
    SELECT attnum FROM pg_attribute WHERE attrelid = {oid} AND attname = {column}
  );
BEGIN
  -- who writes through a view has no rights on the schema that an expression may refer to
  EXECUTE format('ALTER FUNCTION fill_missing() SET search_path = %I, pg_temp', current_schema);
  EXECUTE format(
    'CREATE OR REPLACE TRIGGER %I BEFORE INSERT OR UPDATE OF %I ON %I '
    'FOR EACH ROW WHEN (new.%I IS NULL) EXECUTE FUNCTION fill_missing(%L, %L)',
    'fill_missing_' || number, {column}, {table}, {column}, {fill}, {revision}
  );
END $create$"""

DROP_FILL_TRIGGER = """\
DO $drop$
DECLARE
  name text := ({trigger});
BEGIN
  IF name IS NOT NULL THEN
    EXECUTE format('DROP TRIGGER %I ON %I', name, {table});
  END IF;
  IF NOT EXISTS (SELECT FROM pg_trigger WHERE tgfoid = to_regproc('fill_missing')) THEN
    DROP FUNCTION IF EXISTS fill_missing();
  END IF;
END $drop$"""

# its expression, without the texts in quotes
USED_BY = r"""
SELECT tgname FROM pg_trigger
WHERE tgrelid = {oid} AND tgfoid = to_regproc('fill_missing')
  AND regexp_replace(split_part(encode(tgargs, 'escape'), '\000', 1), $$'[^']*'$$, '', 'g')
      ~ {column}"""

# by another revision than the one at work
HELPED_BY = r"""
SELECT tgname FROM pg_trigger JOIN pg_attribute ON attrelid = tgrelid AND attnum = ANY (tgattr)
WHERE tgrelid = {oid} AND attname = {column}
  AND (tgfoid = to_regproc('fill_missing')
       AND split_part(encode(tgargs, 'escape'), '\000', 2) <> {own}
       OR tgfoid = to_regproc('sync_retyped')
       AND split_part(encode(tgargs, 'escape'), '\000', 1) <> {prefix})
LIMIT 1"""

FILL_TRIGGER = """\
SELECT tgname FROM pg_trigger JOIN pg_attribute ON attrelid = tgrelid AND attnum = tgattr[0]
WHERE tgrelid = {oid} AND attname = {column} AND tgfoid = to_regproc('fill_missing')"""


def require_column(table_name: str, column_name: str, *, fill: Fill | None = None) -> None:
    """Make a column NOT NULL while older builds still write NULL.

    With `fill`, a trigger puts that value in for them and the old rows are filled in batches;
    it stays until `allow_null`, and follows renames. `fill` is a value, or an expression over
    the row for a column whose values must differ: sa.text("'unknown-' || id").
    Without `fill`, rows that hold NULL are refused, and so are writers that send it from then on.
    PostgreSQL: a CHECK is validated while everybody writes, so that SET NOT NULL needs no scan.
    SQLite: the rows are filled and the table is copied; there is no trigger.
    """
    column = quoted(column_name)
    if fill is not None:
        refuse_other_key(table_name)
        refuse_helped(table_name, column_name)
        if postgresql():
            with outside_transaction():
                create_fill_trigger(table_name, column_name, fill)
        backfill(table_name, f"{column} = {expression(fill)}", where=f"{column} IS NULL")
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


def refuse_helped(table_name: str, column_name: str) -> None:
    """Raise Refused where a trigger already sees to this column for older builds.

    Two of them would undo each other's work, and what a client wrote.
    """
    if offline() or not postgresql():
        return
    found = named(table_name, column_name)
    if trigger := ask(
        HELPED_BY.format(**found, prefix=literal(aside("")), own=literal(revision()))
    ):
        raise Refused(
            f"{table_name}.{column_name} is what {trigger} sees to for older builds: purge those "
            "first (python -m migrations purge --before REV)"
        )


def refuse_used(table_name: str, column_name: str) -> None:
    """Raise Refused where a fill-in expression says this column's name, which is to change."""
    if offline() or not postgresql():
        return
    used = USED_BY.format(oid=regclass(table_name), column=literal(rf"\m{column_name}\M"))
    if trigger := ask(used):
        raise Refused(
            f"{table_name}.{column_name} is what {trigger} fills another column in from, by its "
            "name: purge the builds that need that first (python -m migrations purge)"
        )


def create_fill_trigger(table_name: str, column_name: str, fill: Fill) -> None:
    """Fill the value in for builds that don't know that it is required."""
    run(FILL_FUNCTION)
    given = literal(expression(fill))
    found = named(table_name, column_name)
    run(CREATE_FILL_TRIGGER.format(**found, fill=given, revision=literal(revision())))


def expression(fill: Fill) -> str:
    """The value as SQL."""
    return fill.text if isinstance(fill, sa.TextClause) else literal(fill)


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
    found = named(table_name, column_name)
    run(DROP_FILL_TRIGGER.format(**found, trigger=FILL_TRIGGER.format(**found)))
