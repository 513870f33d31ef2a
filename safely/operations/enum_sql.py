"""The SQL of enums.py for PostgreSQL: labels, which are hidden and never removed, and their rules.

What PostgreSQL has no place for stands at the end of a type's comment, in a line of its own:
`safely: {"hidden": ["sad"], "set aside by": "0012"}`.
"""

# the type of this name in the schema that is migrated
OID = """\
(SELECT pg_type.oid FROM pg_type JOIN pg_namespace ON pg_namespace.oid = typnamespace
 WHERE nspname = current_schema AND typname = {name})"""

NOTE = "(regexp_match(obj_description({oid}, 'pg_type'), 'safely: ([^\\n]*)$'))[1]::jsonb"

ALL_LABELS = """\
(SELECT coalesce(array_agg(enumlabel::text ORDER BY enumsortorder), '{{}}') FROM pg_enum
 WHERE enumtypid = {oid})"""

# those that the newest build may use
LABELS = """\
(SELECT coalesce(array_agg(enumlabel::text ORDER BY enumsortorder), '{{}}') FROM pg_enum
 WHERE enumtypid = {oid} AND NOT coalesce({note} -> 'hidden' ? enumlabel, false))"""

# COMMENT ON takes no expression
WRITE_NOTE = """\
  EXECUTE format('COMMENT ON TYPE %I.%I IS %L', current_schema, {name}, nullif(concat_ws(
    E'\\n',
    nullif(regexp_replace(obj_description({oid}, 'pg_type'), '\\n?safely: [^\\n]*$', ''), ''),
    'safely: ' || nullif(jsonb_strip_nulls(jsonb_build_object(
      'hidden', (SELECT jsonb_agg(enumlabel ORDER BY enumsortorder) FROM pg_enum
                 WHERE enumtypid = {oid} AND enumlabel <> ALL ({shown}::text[])),
      'set aside by', {revision}::text))::text, '{{}}')), ''));"""

CREATE = """\
DO $create$
BEGIN
  IF {oid} IS NULL THEN
    {create};
    RETURN;
  END IF;
  IF NOT ({labels} @> {wanted} AND {labels} <@ {wanted}) THEN
    RAISE EXCEPTION '%', format({other_labels}, array_to_string({labels}, ', '));
  END IF;
  IF {note} ? 'set aside by' THEN
{write_note}
  END IF;
END $create$"""

NOTE_DOWN = """\
DO $note$
BEGIN
  IF {oid} IS NOT NULL THEN
{write_note}
  END IF;
END $note$"""

# until the columns have their new labels, these are hidden
ADD_LABELS = """\
DO $add$
DECLARE
  shown text[] := {labels};
BEGIN
  {statements};
{write_note}
END $add$"""

# the columns of a type, or of arrays of it, that builds of today use; and what else depends on it
DEPENDENTS = """\
SELECT 'column' AS kind, relname::text AS relation, attname::text AS name
FROM pg_attribute JOIN pg_class ON pg_class.oid = attrelid
JOIN pg_namespace ON pg_namespace.oid = relnamespace
WHERE atttypid IN ({oid}, (SELECT typarray FROM pg_type WHERE pg_type.oid = {oid}))
  AND NOT attisdropped AND relkind IN ('r', 'p') AND NOT relispartition
  AND nspname = current_schema AND NOT starts_with(attname, '_aside_')
UNION ALL
SELECT 'other', '', pg_describe_object(classid, objid, objsubid)
FROM pg_depend
WHERE refclassid = 'pg_type'::regclass
  AND refobjid IN ({oid}, (SELECT typarray FROM pg_type WHERE pg_type.oid = {oid}))
  AND (classid = 'pg_type'::regclass AND deptype = 'n'
       OR classid = 'pg_class'::regclass
          AND EXISTS (
            SELECT FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace
            WHERE pg_class.oid = objid AND NOT starts_with(nspname, 'aside_')
              AND (relkind IN ('c', 'f')
                   OR relkind IN ('r', 'p') AND NOT relispartition AND nspname <> current_schema)))
ORDER BY 1, 2, 3"""

# the name of the CHECK that keeps other labels out of a column, and its labels; the type itself has
# all that any build uses
RULE_NAME = """\
(SELECT conname::text FROM pg_constraint JOIN pg_attribute ON attrelid = conrelid
   AND attnum = ANY (conkey)
 WHERE conrelid = {table_oid} AND attname = {column} AND contype = 'c'
   AND conname ~ {pattern} LIMIT 1)"""
RULE_LABELS = """\
(SELECT replace((regexp_match(pg_get_expr(conbin, conrelid), '''(.*)''::text\\[\\]'))[1],
                '''''', '''')::text[]
 FROM pg_constraint WHERE conrelid = {table_oid} AND conname = {rule})"""
RULE = """\
format(CASE (SELECT typcategory FROM pg_attribute JOIN pg_type ON pg_type.oid = atttypid
             WHERE attrelid = {table_oid} AND attname = {column})
         WHEN 'A' THEN 'CHECK (array_remove(%I::text[], NULL) <@ %L::text[]) NOT VALID'
         ELSE 'CHECK (%I::text = ANY (%L::text[])) NOT VALID' END, {column}, {labels})"""

# a column that has only ever had the labels of its type gets its rule now
KEEP_OLD_LABELS = """\
DO $rule$
BEGIN
  IF {rule_name} IS NULL AND NOT {is_done} THEN
    EXECUTE format('ALTER TABLE %I ADD CONSTRAINT %I %s', {table}, '_aside_labels_' || (
      SELECT attnum FROM pg_attribute WHERE attrelid = {table_oid} AND attname = {column}), {rule});
  END IF;
END $rule$"""

# for the column that takes the place of the other one
KEEP_NEW_LABELS = """\
DO $rule$
DECLARE
  wanted text;
  old record;
BEGIN
{wanted}
  EXECUTE format('ALTER TABLE %I DROP CONSTRAINT IF EXISTS %I, ADD CONSTRAINT %I %s', {table_text},
                 {prefix} || {rule_name}, {prefix} || {rule_name}, {rule});
END $rule$"""

# in the place of retype_sql.WANTED: the type stays the same, and the labels differ
WANTED = """\
  SELECT *, {shape} AS type INTO old FROM pg_attribute
  WHERE attrelid = {oid} AND attname = {shown_text};
  wanted := old.type;
  IF {is_done} THEN
    RETURN;
  END IF;"""

# a default that is a label becomes the one that takes its place
SET_DEFAULT = """\
DO $default$
DECLARE
  old_default text := (SELECT pg_get_expr(adbin, adrelid) FROM pg_attrdef JOIN pg_attribute
                       ON attrelid = adrelid AND attnum = adnum
                       WHERE adrelid = {oid} AND attname = {shown_text});
  new_default text;
BEGIN
  IF old_default ~ '^''.*''::' AND coalesce(current_setting('safely.retyped', true), '') <> 'true'
  THEN
    EXECUTE format('SELECT (%s)::text FROM (SELECT %s AS %I) AS written',
                   {forward_text}, old_default, {shown_text}) INTO new_default;
    EXECUTE format('ALTER TABLE %I ALTER COLUMN %I SET DEFAULT %L', {table_text}, {shown_text},
                   new_default);
  END IF;
END $default$"""

# for a script, which converts single labels
REFUSE_ARRAY = """\
DO $array$ BEGIN
  IF (SELECT typcategory = 'A' FROM pg_attribute JOIN pg_type ON pg_type.oid = atttypid
      WHERE attrelid = {oid} AND attname = {shown_text}) THEN
    RAISE EXCEPTION '%', {message};
  END IF;
END $array$"""

# for a script: rows whose label has no counterpart, unless an older build may go on seeing it
REFUSE_ROWS = """\
DO $rows$
DECLARE
  wanted text;
  old record;
  is_lost boolean;
BEGIN
{wanted}
  EXECUTE {query} || CASE WHEN EXISTS (
    SELECT FROM pg_attribute WHERE attrelid = {oid} AND attname = {hidden_text}
  ) THEN {unless_kept} ELSE ')' END INTO is_lost;
  IF is_lost AND ({always} OR old.attnotnull) THEN
    RAISE EXCEPTION '%', {message};
  END IF;
END $rows$"""

# rules that would go on speaking of a label which their column no longer has
SPEAKING = """\
SELECT conname::text, pg_get_expr(conbin, conrelid) FROM pg_constraint
JOIN pg_attribute ON attrelid = conrelid AND attnum = ANY (conkey)
WHERE contype = 'c' AND conrelid = {oid} AND attname = {shown_text}
  AND NOT starts_with(conname, '_aside_')
UNION ALL
SELECT relname::text,
       concat_ws(' ', pg_get_expr(indpred, indrelid), pg_get_expr(indexprs, indrelid))
FROM ({indexed}) AS indexed JOIN pg_index ON indexrelid = index::regclass
JOIN pg_class ON pg_class.oid = indexrelid
ORDER BY 1"""

# columns of types with hidden labels: a new one must not take those
GUARD = """\
DO $guard$
DECLARE
  item record;
BEGIN
  FOR item IN
    SELECT attname, attnum, pg_type.typcategory, {labels} AS labels
    FROM pg_attribute JOIN pg_type ON pg_type.oid = atttypid
    JOIN pg_type AS enum ON enum.oid = CASE pg_type.typcategory WHEN 'A' THEN pg_type.typelem
                                       ELSE pg_type.oid END
    WHERE attrelid = {table_oid} AND attnum > 0 AND NOT attisdropped AND enum.typtype = 'e'
      AND {note} ? 'hidden'
      AND NOT EXISTS (SELECT FROM pg_constraint
                      WHERE conrelid = attrelid AND attnum = ANY (conkey) AND contype = 'c'
                        AND conname ~ '_aside_labels_\\d+$')
  LOOP
    EXECUTE format(
      CASE item.typcategory
        WHEN 'A' THEN 'ALTER TABLE %I ADD CONSTRAINT %I '
                      'CHECK (array_remove(%I::text[], NULL) <@ %L::text[]) NOT VALID'
        ELSE 'ALTER TABLE %I ADD CONSTRAINT %I CHECK (%I::text = ANY (%L::text[])) NOT VALID' END,
      {table}, '_aside_labels_' || item.attnum, item.attname, item.labels);
  END LOOP;
END $guard$"""
