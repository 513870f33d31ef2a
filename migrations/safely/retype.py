"""Columns of another type, and with another default.

PostgreSQL: changing a type in place rewrites the table while nobody can read it, and is refused
under a published view. So a second column of the new type stands beside the old one, a trigger
keeps the two in step whoever writes which, and at the end they swap names: older builds go on
with the old one, which is set aside. The same revision undone finds both and swaps them again.
"""

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.exc import ProgrammingError

from migrations.safely.aside import aside, refuse_references
from migrations.safely.backfill import backfill
from migrations.safely.connection import (
    Refused,
    ask,
    blind,
    canonical,
    column_there,
    empty_twin,
    literal,
    offline,
    outside_transaction,
    postgresql,
    quoted,
    regclass,
    rows,
    run,
    type_name,
    type_of,
)
from migrations.safely.constraints import attach
from migrations.safely.indexes import build, definition_of
from migrations.safely.rebuild import rebuilt

# Only the hidden one of the two is without a default, so on INSERT a value there was written by
# somebody who knows it. A value that the other type can't hold becomes NULL there.
SYNC_FUNCTION = """\
CREATE OR REPLACE FUNCTION sync_retyped() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER AS $sync$
DECLARE
  shown record;
  hidden record;
  source record;
  target record;
  value jsonb;
BEGIN
  SELECT attname AS name, format_type(atttypid, atttypmod) AS type INTO STRICT shown
  FROM pg_trigger JOIN pg_attribute ON attrelid = tgrelid AND attnum = ANY (tgattr)
  WHERE tgrelid = tg_relid AND tgname = tg_name AND NOT starts_with(attname, tg_argv[0]);
  SELECT attname AS name, format_type(atttypid, atttypmod) AS type INTO STRICT hidden
  FROM pg_trigger JOIN pg_attribute ON attrelid = tgrelid AND attnum = ANY (tgattr)
  WHERE tgrelid = tg_relid AND tgname = tg_name AND starts_with(attname, tg_argv[0]);
  source := shown;
  target := hidden;
  IF tg_op = 'INSERT' AND to_jsonb(new) ->> hidden.name IS NOT NULL
     OR tg_op = 'UPDATE' AND to_jsonb(new) -> hidden.name <> to_jsonb(old) -> hidden.name THEN
    source := hidden;
    target := shown;
  ELSIF tg_op = 'UPDATE' AND to_jsonb(new) -> shown.name = to_jsonb(old) -> shown.name
     AND to_jsonb(new) ->> hidden.name IS NOT NULL THEN
    RETURN new;
  END IF;
  BEGIN
    EXECUTE format('SELECT to_jsonb(($1).%I::%s)', source.name, target.type) INTO value USING new;
  EXCEPTION WHEN data_exception THEN
    value := NULL;
  END;
  RETURN jsonb_populate_record(new, jsonb_build_object(target.name, value));
END $sync$"""

# the type as PostgreSQL words it can only be had from a column of it
WANTED = """\
  CREATE TEMPORARY TABLE safely_wanted (shown {type});
  SELECT format_type(atttypid, atttypmod) INTO wanted FROM pg_attribute
  WHERE attrelid = 'safely_wanted'::regclass AND attname = 'shown';
  DROP TABLE safely_wanted;
  SELECT attnum, attnotnull, format_type(atttypid, atttypmod) AS type INTO old FROM pg_attribute
  WHERE attrelid = {oid} AND attname = {shown_text};
  IF old.type = wanted THEN
    RETURN;
  END IF;"""

PREPARE = """\
DO $prepare$
DECLARE
  wanted text;
  old record;
BEGIN
{wanted}
  ALTER TABLE {table} ADD COLUMN IF NOT EXISTS {hidden} {type};
  -- who writes through a view has no rights on the schema that a type may be in
  EXECUTE format('ALTER FUNCTION sync_retyped() SET search_path = %I, pg_temp', current_schema);
  EXECUTE format(
    'CREATE OR REPLACE TRIGGER %I BEFORE INSERT OR UPDATE OF {shown}, {hidden} ON {table} '
    'FOR EACH ROW EXECUTE FUNCTION sync_retyped(%L)',
    'sync_retyped_' || (SELECT min(attnum) FROM pg_attribute
                        WHERE attrelid = {oid} AND attname IN ({shown_text}, {hidden_text})),
    {prefix});
END $prepare$"""

# an empty twin is altered plainly, and then asked how the rules read for the new column
COPY_RULES = """\
DO $rules$
DECLARE
  wanted text;
  old record;
  item record;
BEGIN
{wanted}
  CREATE TEMPORARY TABLE safely_twin (LIKE {table} INCLUDING CONSTRAINTS);
  ALTER TABLE safely_twin DROP COLUMN {hidden} CASCADE;
  ALTER TABLE safely_twin ALTER COLUMN {shown} TYPE {type} USING {shown}::{type};
  ALTER TABLE safely_twin RENAME COLUMN {shown} TO {hidden};
  IF old.attnotnull THEN
    ALTER TABLE safely_twin ADD CONSTRAINT {required} CHECK ({hidden} IS NOT NULL);
  END IF;
  FOR item IN
    SELECT {prefix} || conname AS name, pg_get_constraintdef(pg_constraint.oid) AS rule
    FROM pg_constraint JOIN pg_attribute ON attrelid = conrelid AND attnum = ANY (conkey)
    WHERE conrelid = 'safely_twin'::regclass AND attname = {hidden_text} AND contype = 'c'
  LOOP
    IF NOT EXISTS (SELECT FROM pg_constraint WHERE conrelid = {oid} AND conname = item.name) THEN
      EXECUTE format('ALTER TABLE {table} ADD CONSTRAINT %I %s NOT VALID', item.name, item.rule);
    END IF;
  END LOOP;
  DROP TABLE safely_twin;
END $rules$"""

VALIDATE_RULES = """\
DO $validate$
DECLARE
  item record;
BEGIN
  FOR item IN
    SELECT conname FROM pg_constraint
    WHERE conrelid = {oid} AND NOT convalidated AND starts_with(conname, {prefix})
  LOOP
    EXECUTE format('ALTER TABLE {table} VALIDATE CONSTRAINT %I', item.conname);
  END LOOP;
END $validate$"""

SWAP = """\
DO $swap$
DECLARE
  wanted text;
  old record;
  given text;
  item record;
BEGIN
{wanted}
  SELECT pg_get_expr(adbin, adrelid) INTO given FROM pg_attrdef
  WHERE adrelid = {oid} AND adnum = old.attnum;
  ALTER TABLE {table} ALTER COLUMN {shown} DROP DEFAULT;
  ALTER TABLE {table} RENAME COLUMN {shown} TO _swap;
  ALTER TABLE {table} RENAME COLUMN {hidden} TO {shown};
  ALTER TABLE {table} RENAME COLUMN _swap TO {hidden};
  IF given IS NOT NULL THEN
    EXECUTE format('ALTER TABLE {table} ALTER COLUMN {shown} SET DEFAULT CAST(%s AS {type})',
                   given);
  END IF;
  IF old.attnotnull THEN
    ALTER TABLE {table} ALTER COLUMN {shown} SET NOT NULL;
    ALTER TABLE {table} ALTER COLUMN {hidden} DROP NOT NULL;
    ALTER TABLE {table} DROP CONSTRAINT {hidden_required};
  END IF;
  FOR item IN
    SELECT 'ALTER TABLE {table} RENAME CONSTRAINT %I TO %I' AS change, conname::text AS name
    FROM pg_constraint AS made
    WHERE conrelid = {oid} AND EXISTS (
      SELECT FROM pg_constraint
      WHERE conrelid = {oid} AND {prefix} || conname = made.conname)
    UNION ALL
    SELECT 'ALTER INDEX %I RENAME TO %I', relname::text
    FROM pg_index AS made JOIN pg_class ON pg_class.oid = indexrelid
    WHERE indrelid = {oid}
      AND NOT EXISTS (SELECT FROM pg_constraint WHERE conindid = indexrelid AND conrelid = {oid})
      AND EXISTS (
        SELECT FROM pg_index JOIN pg_class AS original ON original.oid = indexrelid
        WHERE indrelid = {oid} AND {prefix} || original.relname = pg_class.relname)
  LOOP
    EXECUTE format(item.change, item.name, '_swap');
    EXECUTE format(item.change, substr(item.name, {length}), item.name);
    EXECUTE format(item.change, '_swap', substr(item.name, {length}));
  END LOOP;
END $swap$"""

INDEXED = """\
SELECT indexrelid::regclass::text, relname, indisunique,
       (SELECT contype FROM pg_constraint
        WHERE conindid = indexrelid AND contype IN ('p', 'u', 'x'))
FROM pg_index JOIN pg_class ON pg_class.oid = indexrelid JOIN pg_attribute ON attrelid = indrelid
WHERE indrelid = {oid} AND attname = {shown_text}
  AND (attnum = ANY (indkey::smallint[])
       OR EXISTS (SELECT FROM pg_depend
                  WHERE classid = 'pg_class'::regclass AND objid = indexrelid
                    AND refobjid = indrelid AND refobjsubid = attnum))
ORDER BY 1"""

REFUSE_INDEXES = """\
DO $indexes$ BEGIN
  IF EXISTS ({indexed}) THEN
    RAISE EXCEPTION '%', {sentence};
  END IF;
END $indexes$"""


def change_type(table_name: str, column_name: str, type_: sa.types.TypeEngine[Any]) -> None:
    """Change a column's type; the old column is set aside, and both are kept in step.

    PostgreSQL: instants' locks; the rows are converted by a cast, in batches, while everybody
    works, and CHECKs and indexes are made again beside the old ones. Raises Refused where a
    value can't be converted, with a query that shows them.
    SQLite: the table is copied, and the old values stay aside.
    """
    refuse_references(table_name, column_name)
    if not postgresql():
        change_on_sqlite(table_name, column_name, type_)
        return
    if not offline() and type_of(table_name, column_name) == canonical(type_):
        return  # a run that was killed did it
    words = wording(table_name, column_name, type_)
    if not offline():
        refuse_impossible(table_name, column_name, words["type"])
    with outside_transaction():
        run(SYNC_FUNCTION)
        run(PREPARE.format(**words))
    shown, hidden = quoted(column_name), quoted(aside(column_name))
    # the trigger does it; who writes in the meantime sets it off too
    unfilled = f"{hidden} IS NULL AND {shown} IS NOT NULL"
    backfill(table_name, f"{shown} = {shown}", where=unfilled)
    refuse_unconverted(table_name, column_name, words["type"], unfilled)
    with outside_transaction():
        run(COPY_RULES.format(**words))
    with outside_transaction(patient=True):
        run(VALIDATE_RULES.format(**words))
    copy_indexes(table_name, column_name, words)
    run(SWAP.format(**words))


def wording(table_name: str, column_name: str, type_: sa.types.TypeEngine[Any]) -> dict[str, str]:
    """The two columns, for the statements above."""
    hidden, prefix = aside(column_name), aside("")
    words = {
        "oid": regclass(table_name),
        "table": quoted(table_name),
        "shown": quoted(column_name),
        "shown_text": literal(column_name),
        "hidden": quoted(hidden),
        "hidden_text": literal(hidden),
        "type": type_name(type_),
        "prefix": literal(prefix),
        "length": str(len(prefix) + 1),  # where the name begins, counted from 1
        "required": quoted(f"{column_name}_required"),
        "hidden_required": quoted(aside(f"{column_name}_required")),
    }
    return words | {"wanted": WANTED.format(**words), "indexed": INDEXED.format(**words)}


def refuse_impossible(table_name: str, column_name: str, type_: str) -> None:
    """Raise Refused where a rule, an index or the type itself forbids it, whatever the rows."""
    column = quoted(column_name)
    try:
        with empty_twin(table_name) as twin:
            run(f"ALTER TABLE {twin} ALTER COLUMN {column} DROP DEFAULT")
            run(f"ALTER TABLE {twin} ALTER COLUMN {column} TYPE {type_} USING {column}::{type_}")
    except ProgrammingError as error:
        raise Refused(
            f"{table_name}.{column_name} can't become {type_}: {last_cause(error)}. Drop what "
            "stands in the way first, or move over to a new column in steps"
        ) from error


def last_cause(error: BaseException) -> str:
    """What the server itself said."""
    return last_cause(error.__cause__) if error.__cause__ else str(error)


def refuse_unconverted(table_name: str, column_name: str, type_: str, unfilled: str) -> None:
    """Raise Refused where rows hold what the new type can't."""
    if offline():
        return
    table = quoted(table_name)
    count = ask(f"SELECT count(*) FROM {table} WHERE {unfilled}")
    if count:
        raise Refused(
            f"{table_name}.{column_name} can't become {type_}: {count} row(s) hold something "
            "else. Mend them, and run this again. See them with: "
            f"SELECT * FROM {table} WHERE {unfilled}"
        )


def copy_indexes(table_name: str, column_name: str, words: dict[str, str]) -> None:
    """Build the column's indexes again, on the hidden one (PostgreSQL)."""
    if offline():
        sentence = (
            f"{table_name}.{column_name} has indexes, which a script can't build again without "
            "having seen them: run `alembic upgrade`"
        )
        run(REFUSE_INDEXES.format(**words, sentence=literal(sentence)))
        return
    for index, name, unique, constraint in rows(words["indexed"]):
        if constraint in ("p", "x"):
            raise Refused(
                f"{table_name}.{column_name} is part of {name}, which can't be made a second "
                "time: add a column of the new type, and move over to it in steps"
            )
        build(aside(name), table_name, on_hidden(index, words), unique=unique)
        if constraint == "u":
            attach(aside(name), table_name)


def on_hidden(index: str, words: dict[str, str]) -> str:
    """An index's definition as it reads for the hidden column, behind USING."""
    definition = definition_of(index)
    run("CREATE TEMPORARY TABLE safely_twin (LIKE {table})".format(**words))
    run("ALTER TABLE safely_twin DROP COLUMN {hidden}".format(**words))
    run(f"CREATE INDEX safely_wanted ON safely_twin USING {definition}")
    run(
        "ALTER TABLE safely_twin ALTER COLUMN {shown} TYPE {type} USING {shown}::{type}".format(
            **words
        )
    )
    run("ALTER TABLE safely_twin RENAME COLUMN {shown} TO {hidden}".format(**words))
    found = definition_of("safely_wanted")
    run("DROP TABLE safely_twin")
    return found


def change_on_sqlite(table_name: str, column_name: str, type_: sa.types.TypeEngine[Any]) -> None:
    """Copy the table; what the values were before stays aside, in a BLOB, which converts none."""
    if offline():
        raise Refused(blind(table_name))
    table, column, hidden = quoted(table_name), quoted(column_name), quoted(aside(column_name))
    before = type_of(table_name, column_name)
    if not column_there(table_name, aside(column_name)):
        run(f"ALTER TABLE {table} ADD COLUMN {hidden} BLOB")
        run(f"UPDATE {table} SET {hidden} = {column}")
        values = f"CAST({column} AS {type_name(type_)})"
    else:
        # what nobody has changed since gets its old value back, to the letter
        values = (
            f"CASE WHEN CAST({hidden} AS {before}) IS {column} THEN {hidden} "
            f"ELSE CAST({column} AS {type_name(type_)}) END"
        )
    run(f"ALTER TABLE {table} ADD COLUMN _swap BLOB")
    run(f"UPDATE {table} SET _swap = {values}, {hidden} = {column}")
    with rebuilt(table_name) as batch:
        batch.alter_column(column_name, type_=type_)
    run(f"UPDATE {table} SET {column} = _swap")
    run(f"ALTER TABLE {table} DROP COLUMN _swap")


def change_default(table_name: str, column_name: str, server_default: Any) -> None:
    """Set a column's default for rows to come, or drop it with None (an instant's lock)."""
    if postgresql():
        op.alter_column(table_name, column_name, server_default=server_default)
        return
    with rebuilt(table_name) as table:
        table.alter_column(column_name, server_default=server_default)
