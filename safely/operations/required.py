"""Columns that are made NOT NULL while older builds still write NULL."""

import re

import sqlalchemy as sa

from safely.operations.aside import hidden_prefix
from safely.operations.backfill import backfill
from safely.operations.connection import (
    Refused,
    catalogue_value,
    expression_sql,
    literal,
    offline,
    outside_transaction,
    postgresql,
    qualified,
    quoted,
    refuse_hidden_rows,
    refuse_rows,
    regclass,
    revision,
    rows,
    run,
    scalar,
)
from safely.operations.constraints import add_check
from safely.operations.halves import is_left_out
from safely.operations.keys import refuse_without_key
from safely.operations.rebuild import rebuilt
from safely.operations.table_sql import Definition

Fill = str | int | sa.TextClause

# UPDATE OF names the column that is filled in. PostgreSQL stores its number, which follows renames,
# and pg_dump writes the name that it has then; so the function reads the name from the catalogue.
# The trigger's WHEN follows renames too, and saves the call for every row that has a value.
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

# the number only makes the name unique in the table; `purge` needs the revision
CREATE_FILL_TRIGGER = """\
DO $create$
DECLARE
  number smallint := (
    SELECT attnum FROM pg_attribute WHERE attrelid = {oid} AND attname = {column}
  );
BEGIN
  -- the function runs for writers whose search_path lacks the schema that an expression refers to
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

# the triggers with an expression that uses the column; what stands in quotes is text
USED_BY = r"""
SELECT tgname FROM pg_trigger
WHERE tgrelid = {oid} AND tgfoid = to_regproc('fill_missing')
  AND regexp_replace(split_part(encode(tgargs, 'escape'), '\000', 1), $$'[^']*'$$, '', 'g')
      ~ {column}"""

# the trigger of another revision that writes the column, and that revision; encode() spells both
# alike
WRITTEN_BY = r"""
SELECT tgname, convert_from(decode(CASE
    WHEN tgfoid = to_regproc('fill_missing') THEN second
    ELSE regexp_replace(first, '^_aside_(.*)_$', '\1') END, 'escape'), getdatabaseencoding())
FROM pg_trigger JOIN pg_attribute ON attrelid = tgrelid AND attnum = ANY (tgattr),
  split_part(encode(tgargs, 'escape'), '\000', 1) AS first,
  split_part(encode(tgargs, 'escape'), '\000', 2) AS second
WHERE tgrelid = {oid} AND attname = {column}
  AND (tgfoid = to_regproc('fill_missing') AND second <> {revision}
       OR tgfoid = to_regproc('sync_retyped') AND first <> {prefix})
LIMIT 1"""

FILL_TRIGGER = """\
SELECT tgname FROM pg_trigger JOIN pg_attribute ON attrelid = tgrelid AND attnum = tgattr[0]
WHERE tgrelid = {oid} AND attname = {column} AND tgfoid = to_regproc('fill_missing')"""


def require_column(
    table_name: str, column_name: str, *, fill: Fill | None = None, schema: str | None = None
) -> None:
    """Make a column NOT NULL while older builds still write NULL.

    Alembic spells it `op.alter_column(…, nullable=False)`.

    `fill` is a value, or an expression over the row where values must differ, such as
    `sa.text("'unknown-' || id")`. A trigger writes it in the place of NULL, for builds that don't
    know of the requirement, and old rows are filled in batches (`safely.backfill`). The trigger
    stays until `safely.allow_null`, and follows renames.
    Without `fill`, rows that hold NULL are refused, and builds that write NULL get an error.

    PostgreSQL: SHARE ROW EXCLUSIVE for an instant (the trigger), ACCESS EXCLUSIVE for three
    instants (a CHECK, NOT NULL, the CHECK goes); the rows are checked in between, in a transaction
    that blocks nobody, so that SET NOT NULL reads none.
    SQLite: old rows are filled in and the table is copied; there is no trigger.
    The opposite is `safely.allow_null`; values that were filled in stay.
    Raise Refused where rows hold NULL and there is no `fill`; where a trigger of another revision
    writes the column; and with `fill` for a table without a primary key or a unique index of NOT
    NULL columns.

    Example: `safely.require_column("customers", "name", fill="Unknown")`
    """
    if is_left_out(schema, table_name, column_name):
        return
    refuse_hidden_rows(table_name)
    column = quoted(column_name)
    if fill is not None:
        refuse_without_key(table_name)
        refuse_other_trigger(table_name, column_name)
        if postgresql():
            with outside_transaction():
                create_fill_trigger(table_name, column_name, fill)
        backfill(table_name, f"{column} = {fill_sql(fill)}", where=f"{column} IS NULL")
    refuse_null(table_name, column_name)
    if not postgresql():
        with rebuilt(table_name) as table:
            table.set_nullable(column_name, nullable=False)
        return
    check = helping_check(table_name, column_name)
    if offline() or not catalogue_value("attnotnull", table_name, column_name):
        add_check(check, table_name, f"{column} IS NOT NULL")
    with outside_transaction():
        # two statements: a single one would drop the CHECK first, and then read every row
        run(f"ALTER TABLE {quoted(table_name)} ALTER COLUMN {column} SET NOT NULL")
        run(f"ALTER TABLE {quoted(table_name)} DROP CONSTRAINT IF EXISTS {quoted(check)}")


def helping_check(table_name: str, column_name: str) -> str:
    """Return the name of the CHECK with which SET NOT NULL need read no rows (PostgreSQL)."""
    return f"ck_{table_name}_{column_name}_required"


def refuse_other_trigger(table_name: str, column_name: str) -> None:
    """Raise Refused where a trigger of another revision writes this column for older builds.

    Two of them would undo each other's work, and overwrite what a client wrote.
    """
    if offline() or not postgresql():
        return
    written_by = WRITTEN_BY.format(
        **placeholders(table_name, column_name),
        prefix=escaped(hidden_prefix()),
        revision=escaped(revision()),
    )
    for trigger, other in rows(written_by):
        raise Refused(
            f"{table_name}.{column_name} is written by the trigger {trigger} for builds before "
            f"{other}, and a second one would undo its work: purge those builds first (python -m "
            f"safely purge --before {other})"
        )


def escaped(text: str) -> str:
    """Return SQL for a text as `encode(…, 'escape')` spells it in a trigger's arguments."""
    return f"encode(convert_to({literal(text)}, getdatabaseencoding()), 'escape')"


def refuse_used_by_fill(table_name: str, column_name: str) -> None:
    """Raise Refused where a fill-in expression uses the name of this column, which is to change."""
    if offline() or not postgresql():
        return
    pattern = rf"\m{re.escape(column_name)}\M"
    if trigger := scalar(USED_BY.format(oid=regclass(table_name), column=literal(pattern))):
        raise Refused(
            f"{table_name}.{column_name} is used by the trigger {trigger}, which fills in another "
            "column for older builds, by its name: purge those builds first "
            "(python -m safely purge --before REV)"
        )


def create_fill_trigger(table_name: str, column_name: str, fill: Fill) -> None:
    """Create the trigger that writes `fill` in the place of NULL, and its function (PostgreSQL)."""
    run(FILL_FUNCTION)
    run(
        CREATE_FILL_TRIGGER.format(
            **placeholders(table_name, column_name),
            fill=literal(fill_sql(fill)),
            revision=literal(revision()),
        )
    )


def fill_sql(fill: Fill) -> str:
    """Return the value to fill in as SQL."""
    return expression_sql(fill) if isinstance(fill, sa.TextClause) else literal(fill)


def placeholders(table_name: str, column_name: str) -> dict[str, str]:
    """Return what the statements above need to know of a column."""
    return {
        "oid": regclass(table_name),
        "table": literal(table_name),
        "column": literal(column_name),
    }


def refuse_null(table_name: str, column_name: str) -> None:
    """Raise Refused where rows hold NULL."""
    refuse_rows(
        f"SELECT * FROM {qualified(table_name)} WHERE {quoted(column_name)} IS NULL",
        f"{table_name}.{column_name} can't be required",
        "have none",
        "Give safely.require_column a fill=, or fill them in with safely.backfill first",
    )


def allow_null(table_name: str, column_name: str, *, schema: str | None = None) -> None:
    """Undo `safely.require_column`: allow NULL again, and drop the trigger that fills it in.

    Alembic spells it `op.alter_column(…, nullable=True)`.

    PostgreSQL: ACCESS EXCLUSIVE for an instant. SQLite: the table is copied.
    Older builds may read NULL in rows that newer builds write.
    The opposite is `safely.require_column`.

    Example: `safely.allow_null("customers", "name")`
    """
    if is_left_out(schema, table_name, column_name):
        return
    if not postgresql():
        with rebuilt(table_name) as table:
            refuse_key(table, table_name, column_name)
            table.set_nullable(column_name, nullable=True)
        return
    # a killed run of the opposite may have left its CHECK, which would go on forbidding NULL
    run(
        f"ALTER TABLE {quoted(table_name)} ALTER COLUMN {quoted(column_name)} DROP NOT NULL, "
        f"DROP CONSTRAINT IF EXISTS {quoted(helping_check(table_name, column_name))}"
    )
    column = placeholders(table_name, column_name)
    run(DROP_FILL_TRIGGER.format(**column, trigger=FILL_TRIGGER.format(**column)))


def refuse_key(table: Definition, table_name: str, column_name: str) -> None:
    """Raise Refused for a column in the primary key (SQLite; PostgreSQL refuses by itself)."""
    if table.is_key(column_name):
        raise Refused(
            f"{table_name}.{column_name} is in the primary key, which has no NULL: leave it NOT "
            "NULL, or add a column that may be NULL"
        )
