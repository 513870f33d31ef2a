"""The SQL of retype.py for PostgreSQL: two columns beside each other, kept in step, and swapped.

`retype.placeholders` returns the values for the placeholders.
"""

# The type with a collation that is not its own, by which two columns are told apart.
SHAPE = """\
format_type(atttypid, atttypmod) || CASE
  WHEN attcollation <> (SELECT typcollation FROM pg_type WHERE pg_type.oid = atttypid)
  THEN ' COLLATE ' || attcollation::regcollation ELSE '' END"""

# The trigger's arguments: the prefix of hidden names, the column's name in the expressions, the
# expression that makes the second of its two columns from the first, and the opposite one.
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
  name text;
  expression text;
  value jsonb;
BEGIN
  SELECT attname AS name, format_type(atttypid, atttypmod) AS type, attnum = tgattr[0] AS is_first
  INTO STRICT shown
  FROM pg_trigger JOIN pg_attribute ON attrelid = tgrelid AND attnum = ANY (tgattr)
  WHERE tgrelid = tg_relid AND tgname = tg_name AND NOT starts_with(attname, tg_argv[0]);
  SELECT attname AS name, format_type(atttypid, atttypmod) AS type, attnum = tgattr[0] AS is_first
  INTO STRICT hidden
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
  -- earlier releases of safely gave the prefix alone
  name := coalesce(tg_argv[1], source.name);
  expression := coalesce(tg_argv[CASE WHEN source.is_first THEN 2 ELSE 3 END], quote_ident(name));
  BEGIN
    EXECUTE format('SELECT to_jsonb((%s)::%s) FROM (SELECT ($1).%I AS %I) AS written',
                   expression, target.type, source.name, name) INTO value USING new;
  EXCEPTION WHEN data_exception OR integrity_constraint_violation THEN
    value := NULL;
  END;
  RETURN jsonb_populate_record(new, jsonb_build_object(target.name, value));
END $sync$"""

# the expression that the trigger has for filling in the one column from the other; encode() is
# the only way to read the arguments of a trigger
RECORDED = r"""
SELECT convert_from(decode(
  split_part(encode(tgargs, 'escape'), '\000', CASE WHEN attnum = tgattr[0] THEN 3 ELSE 4 END),
  'escape'), getdatabaseencoding())
FROM pg_trigger JOIN pg_attribute ON attrelid = tgrelid AND attnum = ANY (tgattr)
WHERE tgrelid = {oid} AND tgfoid = to_regproc('sync_retyped') AND tgnargs = 4
  AND attname = {source}"""

# only a column of the type tells how PostgreSQL spells it
WANTED = """\
  CREATE TEMPORARY TABLE safely_wanted (shown {type});
  SELECT {shape} INTO wanted FROM pg_attribute
  WHERE attrelid = 'safely_wanted'::regclass AND attname = 'shown';
  DROP TABLE safely_wanted;
  SELECT *, {shape} AS type INTO old FROM pg_attribute
  WHERE attrelid = {oid} AND attname = {shown_text};
  IF old.type = wanted THEN
    RETURN;
  END IF;"""

# why the column can't get another type, whatever type and whatever rows; none: it can
PROBLEM = """\
SELECT problem FROM (
  SELECT 1 AS place, 'it is an identity column' AS problem
  FROM pg_attribute WHERE attrelid = {oid} AND attname = {shown_text} AND attidentity <> ''
  UNION ALL
  SELECT 2, 'it is computed from other columns'
  FROM pg_attribute WHERE attrelid = {oid} AND attname = {shown_text} AND attgenerated <> ''
  UNION ALL
  SELECT 3, format('it is part of %s, which can''t be created a second time', name)
  FROM ({indexed}) AS indexed WHERE constraint_type IN ('p', 'x')
  UNION ALL
  SELECT 4, format('%s tells replicas which row is meant', relname)
  FROM ({indexed}) AS indexed JOIN pg_index ON indexrelid = index::regclass
  JOIN pg_class ON pg_class.oid = indexrelid WHERE indisreplident
  UNION ALL
  SELECT 5, format('%s depends on it', pg_describe_object(classid, objid, objsubid))
  FROM pg_depend JOIN pg_attribute ON attrelid = refobjid AND attnum = refobjsubid
  WHERE refclassid = 'pg_class'::regclass AND refobjid = {oid} AND attname = {shown_text}
    AND NOT (
      -- views go on with the old column, which is kept in step
      classid = 'pg_rewrite'::regclass
      OR classid = 'pg_attrdef'::regclass
        AND EXISTS (SELECT FROM pg_attrdef
                    WHERE oid = objid AND adrelid = attrelid AND adnum = attnum)
      OR classid = 'pg_constraint'::regclass
        AND (SELECT contype FROM pg_constraint WHERE oid = objid) IN ('c', 'n', 'p', 'u', 'x')
      OR classid = 'pg_class'::regclass
        AND (SELECT relkind FROM pg_class WHERE oid = objid) IN ('i', 'I', 'S')
      OR classid = 'pg_trigger'::regclass
        AND (SELECT tgfoid IN (to_regproc('sync_retyped'), to_regproc('fill_missing'))
             FROM pg_trigger WHERE oid = objid))
) AS problems ORDER BY place LIMIT 1"""

# what `upgrade` finds out before it changes anything, for a script; `retyped` tells the statements
# that follow whether a script before this one has done it all
REFUSE = """\
DO $refuse$
DECLARE
  wanted text;
  old record;
  reason text;
BEGIN
  PERFORM set_config('safely.retyped', 'true', false);
{wanted}
  PERFORM set_config('safely.retyped', 'false', false);
  reason := ({problem});
  IF reason IS NOT NULL THEN
    RAISE EXCEPTION '%: %. %', {cannot}, reason, {remedy};
  END IF;
  IF EXISTS ({indexed}) THEN
    RAISE EXCEPTION '%', {has_indexes};
  END IF;
  IF {is_cast} AND old.type || wanted LIKE '%with time zone%'
     AND split_part(old.type, '(', 1) || split_part(old.type, ')', 2)
      <> split_part(wanted, '(', 1) || split_part(wanted, ')', 2) THEN
    RAISE EXCEPTION '%', {depends_on_zone};
  END IF;
  IF old.type LIKE '% COLLATE %' AND NOT {names_collation}
     AND (SELECT typcollation <> 0 FROM pg_type WHERE pg_type.oid = to_regtype(wanted)) THEN
    RAISE EXCEPTION '%', {loses_collation};
  END IF;
  BEGIN
    EXECUTE {forward_query};
  EXCEPTION WHEN syntax_error_or_access_rule_violation THEN
    RAISE EXCEPTION '%: %. %', {cannot}, sqlerrm, {write_using};
  END;
  BEGIN
    EXECUTE 'SELECT (' || coalesce({back_text}, ({recorded}), {expression}) || ')::'
      || split_part(old.type, ' COLLATE ', 1) || ' FROM ' || {converted};
  EXCEPTION WHEN syntax_error_or_access_rule_violation THEN
    RAISE EXCEPTION '%: %. %', {cannot}, sqlerrm, {write_back} || old.type || {for_builds};
  END;
END $refuse$"""
RETYPED = "current_setting('safely.retyped') = 'true'"

PREPARE = """\
DO $prepare$
DECLARE
  wanted text;
  old record;
  begun text;
  forward text := {forward_text};
  backward text := coalesce({back_text}, ({recorded}), {expression});
  first record;
  second record;
BEGIN
{wanted}
  ALTER TABLE {table} ADD COLUMN IF NOT EXISTS {hidden} {type};
  SELECT {shape} INTO begun FROM pg_attribute WHERE attrelid = {oid} AND attname = {hidden_text};
  IF begun <> wanted THEN
    RAISE EXCEPTION '% was to become % when this revision began, and is now to become %',
                    {shown_text}, begun, wanted;
  END IF;
  -- the function runs for writers whose search_path lacks the schema that a type may be in
  EXECUTE format('ALTER FUNCTION sync_retyped() SET search_path = %I, pg_temp', current_schema);
  SELECT attname, attnum INTO first FROM pg_attribute
  WHERE attrelid = {oid} AND attname IN ({shown_text}, {hidden_text}) ORDER BY attnum LIMIT 1;
  SELECT attname INTO second FROM pg_attribute
  WHERE attrelid = {oid} AND attname IN ({shown_text}, {hidden_text}) ORDER BY attnum DESC LIMIT 1;
  EXECUTE format(
    'CREATE OR REPLACE TRIGGER %I BEFORE INSERT OR UPDATE OF %I, %I ON %I '
    'FOR EACH ROW EXECUTE FUNCTION sync_retyped(%L, %L, %L, %L)',
    'sync_retyped_' || first.attnum, first.attname, second.attname, {table_text}, {prefix},
    {shown_text},
    CASE WHEN first.attname = {shown_text} THEN forward ELSE backward END,
    CASE WHEN first.attname = {shown_text} THEN backward ELSE forward END);
END $prepare$"""

# for a script: the values that the new type can't hold, or holds as something else
CHECK_VALUES = """\
DO $values$
DECLARE
  wanted text;
  old record;
  refused bigint;
BEGIN
{wanted}
  EXECUTE {count_unfilled} INTO refused;
  IF refused = 0 AND {is_cast} THEN
    BEGIN
      EXECUTE format({count_changed}, old.type) INTO refused;
    EXCEPTION WHEN undefined_function THEN
      refused := 0;  -- the type has no equality
    END;
    IF (SELECT bool_or(attname = {shown_text} AND typcategory = 'S')
           AND bool_or(attname = {hidden_text} AND typcategory <> 'S')
        FROM pg_attribute JOIN pg_type ON pg_type.oid = atttypid WHERE attrelid = {oid}) THEN
      refused := 0;  -- 007 and 7 are the same number
    END IF;
  END IF;
  IF refused > 0 THEN
    RAISE EXCEPTION '%: % row(s) hold a value that it can''t hold unchanged', {cannot}, refused;
  END IF;
END $values$"""

# An empty twin is altered in place, and then PostgreSQL spells the CHECKs for the new column. Those
# that the hidden column has kept from an earlier run may be out of date. They are not if PostgreSQL
# spells them for the shown column as they stand there: then they stay as they were written once.
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
  ALTER TABLE safely_twin ALTER COLUMN {shown} TYPE {type} USING ({forward})::{type};
  ALTER TABLE safely_twin RENAME COLUMN {shown} TO {hidden};
  IF old.attnotnull THEN
    ALTER TABLE safely_twin ADD CONSTRAINT {required} CHECK ({hidden} IS NOT NULL);
  END IF;
  CREATE TEMPORARY TABLE safely_rules AS
    SELECT {prefix} || conname AS name, pg_get_constraintdef(pg_constraint.oid) AS rule,
           pg_get_expr(conbin, conrelid) AS condition
    FROM pg_constraint JOIN pg_attribute ON attrelid = conrelid AND attnum = ANY (conkey)
    WHERE conrelid = 'safely_twin'::regclass AND attname = {hidden_text} AND contype = 'c'
      AND NOT starts_with(conname, '_aside_');  -- the labels of an enum are those of one column
  DROP TABLE safely_twin;
  CREATE TEMPORARY TABLE safely_kept (name text);
  BEGIN
    CREATE TEMPORARY TABLE safely_twin (LIKE {table} INCLUDING CONSTRAINTS);
    ALTER TABLE safely_twin DROP COLUMN {shown} CASCADE;
    EXECUTE format('ALTER TABLE safely_twin ALTER COLUMN %I TYPE %s USING NULL',
                   {hidden_text}, old.type);
    ALTER TABLE safely_twin RENAME COLUMN {hidden} TO {shown};
    INSERT INTO safely_kept
    SELECT twin.conname FROM pg_constraint AS twin JOIN pg_constraint AS live
      ON live.conrelid = {oid} AND {prefix} || live.conname = twin.conname
      AND pg_get_expr(live.conbin, live.conrelid) = pg_get_expr(twin.conbin, twin.conrelid)
    WHERE twin.conrelid = 'safely_twin'::regclass;
    DROP TABLE safely_twin;
  EXCEPTION WHEN OTHERS THEN
    NULL;  -- none can be kept
  END;
  FOR item IN
    SELECT conname FROM pg_constraint JOIN pg_attribute
      ON attrelid = conrelid AND attnum = ANY (conkey)
    WHERE conrelid = {oid} AND attname = {hidden_text} AND contype = 'c'
      AND starts_with(conname, {prefix}) AND conname NOT IN (SELECT name FROM safely_kept)
      AND (conname, pg_get_expr(conbin, conrelid)) NOT IN (SELECT name, condition FROM safely_rules)
  LOOP
    EXECUTE format('ALTER TABLE %I DROP CONSTRAINT %I', {table_text}, item.conname);
  END LOOP;
  FOR item IN
    SELECT * FROM safely_rules
    WHERE name NOT IN (SELECT conname FROM pg_constraint WHERE conrelid = {oid})
  LOOP
    EXECUTE format('ALTER TABLE %I ADD CONSTRAINT %I %s NOT VALID',
                   {table_text}, item.name, item.rule);
  END LOOP;
  DROP TABLE safely_rules, safely_kept;
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

# how long values are stored; ALTER TABLE … TYPE sets it back, too
STORAGE = """\
  SELECT typstorage <> 'p' INTO can_be_long FROM pg_attribute
  JOIN pg_type ON pg_type.oid = atttypid WHERE attrelid = {oid} AND attname = {shown_text};
  IF can_be_long AND old.attstorage <> (SELECT typstorage FROM pg_type WHERE oid = old.atttypid)
  THEN
    EXECUTE format('ALTER TABLE %I ALTER COLUMN %I SET STORAGE %s', {table_text}, {shown_text},
                   CASE old.attstorage WHEN 'p' THEN 'PLAIN' WHEN 'e' THEN 'EXTERNAL'
                     WHEN 'm' THEN 'MAIN' ELSE 'EXTENDED' END);
  END IF;
  IF can_be_long AND old.attcompression <> '' THEN
    EXECUTE format('ALTER TABLE %I ALTER COLUMN %I SET COMPRESSION %s', {table_text}, {shown_text},
                   CASE old.attcompression WHEN 'l' THEN 'lz4' ELSE 'pglz' END);
  END IF;"""

# the settings of the shown column, its comment and its grants go with its name
SWAP = """\
DO $swap$
DECLARE
  wanted text;
  old record;
  default_sql text;
  shown_name text;
  can_be_long boolean;
  item record;
BEGIN
{wanted}
  SELECT pg_get_expr(adbin, adrelid) INTO default_sql FROM pg_attrdef
  WHERE adrelid = {oid} AND adnum = old.attnum;
  FOR item IN
    SELECT DISTINCT grantee::regrole AS role
    FROM pg_attribute CROSS JOIN aclexplode(attacl)
    WHERE attrelid = {oid} AND attname = {hidden_text} AND grantee <> 0
  LOOP
    EXECUTE format('REVOKE ALL (%I) ON %I FROM %s', {hidden_text}, {table_text}, item.role);
  END LOOP;
  ALTER TABLE {table} ALTER COLUMN {shown} DROP DEFAULT;
  ALTER TABLE {table} RENAME COLUMN {shown} TO _swap;
  ALTER TABLE {table} RENAME COLUMN {hidden} TO {shown};
  ALTER TABLE {table} RENAME COLUMN _swap TO {hidden};
  IF default_sql IS NOT NULL THEN
    BEGIN
      -- as it is written, so that it is the same again when the column gets its old type back
      EXECUTE format('ALTER TABLE %I ALTER COLUMN %I SET DEFAULT %s',
                     {table_text}, {shown_text}, default_sql);
    EXCEPTION WHEN datatype_mismatch THEN
      EXECUTE format('ALTER TABLE %I ALTER COLUMN %I SET DEFAULT CAST(%s AS %s)',
                     {table_text}, {shown_text}, default_sql, {type_text});
    END;
  END IF;
  FOR item IN
    SELECT objid::regclass AS sequence FROM pg_depend
    WHERE classid = 'pg_class'::regclass AND refclassid = 'pg_class'::regclass AND deptype = 'a'
      AND refobjid = {oid} AND refobjsubid = old.attnum
      AND (SELECT relkind FROM pg_class WHERE oid = objid) = 'S'
  LOOP
    EXECUTE format('ALTER SEQUENCE %s OWNED BY %I.%I', item.sequence, {table_text}, {shown_text});
  END LOOP;
  IF old.attnotnull THEN
    -- first the name that the new rule will get
    ALTER TABLE {table} ALTER COLUMN {hidden} DROP NOT NULL;
    ALTER TABLE {table} ALTER COLUMN {shown} SET NOT NULL;
    ALTER TABLE {table} DROP CONSTRAINT {hidden_required};
  END IF;
  EXECUTE format('COMMENT ON COLUMN %I.%I IS %L', {table_text}, {shown_text},
                 col_description({oid}, old.attnum));
  EXECUTE format('ALTER TABLE %I ALTER COLUMN %I SET STATISTICS %s', {table_text}, {shown_text},
                 coalesce(old.attstattarget, -1));
  ALTER TABLE {table} ALTER COLUMN {shown} RESET (n_distinct, n_distinct_inherited);
  IF old.attoptions IS NOT NULL THEN
    EXECUTE format('ALTER TABLE %I ALTER COLUMN %I SET (%s)', {table_text}, {shown_text},
                   array_to_string(old.attoptions, ', '));
  END IF;
{storage}
  FOR item IN
    SELECT privilege_type, is_grantable,
           CASE grantee WHEN 0 THEN 'PUBLIC' ELSE grantee::regrole::text END AS role
    FROM aclexplode(old.attacl)
  LOOP
    EXECUTE format('GRANT %s (%I) ON %I TO %s%s', item.privilege_type, {shown_text}, {table_text},
                   item.role, CASE WHEN item.is_grantable THEN ' WITH GRANT OPTION' END);
  END LOOP;
  FOR item IN
    SELECT format('ALTER TABLE %I RENAME CONSTRAINT', {table_text}) AS rename,
           ' TO ' AS separator, hidden.conname::text AS name,
           format('COMMENT ON CONSTRAINT %I ON %I IS %L', hidden.conname, {table_text},
                  obj_description(shown.oid, 'pg_constraint')) AS remark
    FROM pg_constraint AS hidden JOIN pg_constraint AS shown USING (conrelid)
    WHERE conrelid = {oid} AND {prefix} || shown.conname = hidden.conname
      AND old.attnum = ANY (shown.conkey)  -- not those of another column of this revision
    UNION ALL
    SELECT 'ALTER INDEX', ' RENAME TO ', hidden.relname::text,
           format('COMMENT ON INDEX %I IS %L', hidden.relname,
                  obj_description(shown.oid, 'pg_class'))
    FROM pg_index JOIN pg_class AS hidden ON hidden.oid = indexrelid
    JOIN pg_class AS shown ON shown.oid IN (
      SELECT other.indexrelid FROM pg_index AS other WHERE other.indrelid = {oid})
    WHERE indrelid = {oid} AND {prefix} || shown.relname = hidden.relname
      AND EXISTS (SELECT FROM pg_depend
                  WHERE classid = 'pg_class'::regclass AND objid = shown.oid
                    AND refobjid = {oid} AND refobjsubid = old.attnum)
      AND NOT EXISTS (SELECT FROM pg_constraint WHERE conindid = indexrelid AND conrelid = {oid})
  LOOP
    shown_name := substr(item.name, {length});
    EXECUTE item.remark;
    EXECUTE item.rename || format(' %I', item.name) || item.separator || '_swap';
    EXECUTE item.rename || format(' %I', shown_name) || item.separator || quote_ident(item.name);
    EXECUTE item.rename || ' _swap' || item.separator || quote_ident(shown_name);
  END LOOP;
END $swap$"""

# The rules of the hidden column of a change that is undone, which no build needs any more: they
# would refuse rows of older builds whose value it can't hold, or that differ by less than it shows.
LOOSEN = """\
DO $loosen$
DECLARE
  item record;
BEGIN
  FOR item IN
    SELECT format('ALTER TABLE %I DROP CONSTRAINT %I', {table_text}, conname) AS statement
    FROM pg_constraint JOIN pg_attribute ON attrelid = conrelid AND attnum = ANY (conkey)
    WHERE conrelid = {oid} AND attname = {hidden_text} AND contype IN ('c', 'u')
      AND starts_with(conname, {prefix})
    UNION ALL
    SELECT format('DROP INDEX %s', index) FROM ({indexed_hidden}) AS indexed
    WHERE is_unique AND constraint_type IS NULL
  LOOP
    EXECUTE item.statement;
  END LOOP;
END $loosen$"""

# a constraint's type, and when it is checked
INDEXED = """\
SELECT indexrelid::regclass::text AS index, relname AS name, indisunique AS is_unique,
       contype::text AS constraint_type,
       concat_ws(' ', CASE WHEN condeferrable THEN 'DEFERRABLE' END,
                 CASE WHEN condeferred THEN 'INITIALLY DEFERRED' END) AS deferral
FROM pg_index JOIN pg_class ON pg_class.oid = indexrelid JOIN pg_attribute ON attrelid = indrelid
LEFT JOIN pg_constraint ON conindid = indexrelid AND contype IN ('p', 'u', 'x')
WHERE indrelid = {oid} AND attname = {shown_text}
  AND (attnum = ANY (indkey::smallint[])
       OR EXISTS (SELECT FROM pg_depend
                  WHERE classid = 'pg_class'::regclass AND objid = indexrelid
                    AND refobjid = indrelid AND refobjsubid = attnum))
ORDER BY 1"""
