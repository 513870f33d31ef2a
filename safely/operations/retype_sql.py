"""The SQL of retype.py for PostgreSQL: two columns beside each other, kept in step, and swapped.

`retype.placeholders` returns the values for the placeholders.
"""

# The hidden column has no default, so a value in it on INSERT was written by a build that knows
# it. A value that the other type can't hold becomes NULL in the other column.
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

# only a column of the type tells how PostgreSQL spells it
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
  -- the function runs for writers whose search_path lacks the schema that a type may be in
  EXECUTE format('ALTER FUNCTION sync_retyped() SET search_path = %I, pg_temp', current_schema);
  EXECUTE format(
    'CREATE OR REPLACE TRIGGER %I BEFORE INSERT OR UPDATE OF %I, %I ON %I '
    'FOR EACH ROW EXECUTE FUNCTION sync_retyped(%L)',
    'sync_retyped_' || (SELECT min(attnum) FROM pg_attribute
                        WHERE attrelid = {oid} AND attname IN ({shown_text}, {hidden_text})),
    {shown_text}, {hidden_text}, {table_text}, {prefix});
END $prepare$"""

# an empty twin is altered in place, and then PostgreSQL spells the CHECKs for the new column
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
      EXECUTE format('ALTER TABLE %I ADD CONSTRAINT %I %s NOT VALID',
                     {table_text}, item.name, item.rule);
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
    EXECUTE format('ALTER TABLE %I VALIDATE CONSTRAINT %I', {table_text}, item.conname);
  END LOOP;
END $validate$"""

SWAP = """\
DO $swap$
DECLARE
  wanted text;
  old record;
  default_sql text;
  shown_name text;
  item record;
BEGIN
{wanted}
  SELECT pg_get_expr(adbin, adrelid) INTO default_sql FROM pg_attrdef
  WHERE adrelid = {oid} AND adnum = old.attnum;
  ALTER TABLE {table} ALTER COLUMN {shown} DROP DEFAULT;
  ALTER TABLE {table} RENAME COLUMN {shown} TO _swap;
  ALTER TABLE {table} RENAME COLUMN {hidden} TO {shown};
  ALTER TABLE {table} RENAME COLUMN _swap TO {hidden};
  EXECUTE format('COMMENT ON COLUMN %I.%I IS %L', {table_text}, {shown_text},
                 col_description({oid}, old.attnum));
  IF default_sql IS NOT NULL THEN
    EXECUTE format('ALTER TABLE %I ALTER COLUMN %I SET DEFAULT CAST(%s AS %s)',
                   {table_text}, {shown_text}, default_sql, {type_text});
  END IF;
  IF old.attnotnull THEN
    ALTER TABLE {table} ALTER COLUMN {shown} SET NOT NULL;
    ALTER TABLE {table} ALTER COLUMN {hidden} DROP NOT NULL;
    ALTER TABLE {table} DROP CONSTRAINT {hidden_required};
  END IF;
  FOR item IN
    SELECT format('ALTER TABLE %I RENAME CONSTRAINT', {table_text}) AS rename,
           ' TO ' AS separator, conname::text AS name
    FROM pg_constraint AS hidden
    WHERE conrelid = {oid} AND EXISTS (
      SELECT FROM pg_constraint
      WHERE conrelid = {oid} AND {prefix} || conname = hidden.conname)
    UNION ALL
    SELECT 'ALTER INDEX', ' RENAME TO ', relname::text
    FROM pg_index AS hidden JOIN pg_class ON pg_class.oid = indexrelid
    WHERE indrelid = {oid}
      AND NOT EXISTS (SELECT FROM pg_constraint WHERE conindid = indexrelid AND conrelid = {oid})
      AND EXISTS (
        SELECT FROM pg_index JOIN pg_class AS shown ON shown.oid = indexrelid
        WHERE indrelid = {oid} AND {prefix} || shown.relname = pg_class.relname)
  LOOP
    shown_name := substr(item.name, {length});
    EXECUTE item.rename || format(' %I', item.name) || item.separator || '_swap';
    EXECUTE item.rename || format(' %I', shown_name) || item.separator || quote_ident(item.name);
    EXECUTE item.rename || ' _swap' || item.separator || quote_ident(shown_name);
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

DEFERRAL = """\
SELECT concat_ws(' ', CASE WHEN condeferrable THEN 'DEFERRABLE' END,
                 CASE WHEN condeferred THEN 'INITIALLY DEFERRED' END)
FROM pg_constraint WHERE conrelid = {oid} AND conname = {name}"""

REFUSE_INDEXES = """\
DO $indexes$ BEGIN
  IF EXISTS ({indexed}) THEN
    RAISE EXCEPTION '%', {message};
  END IF;
END $indexes$"""
