"""Types that hold all values of the old one: changed in place, without a second column.

Such are a longer varchar, text for varchar, a numeric with more digits before the point. Whether
PostgreSQL would write the table or an index anew is tried on an empty twin.

It forbids another type under a view. So the views of published versions that show the column are
dropped and created again, in one transaction of some milliseconds. Clients lock a view and then
its table; so does this transaction, which locks all views before the table, and so never meets
them head-on. Measured with five versions under 15 clients: done at once, nobody waited for longer
than 133 ms. The table first: not done after 88 attempts.
The way back can't be done in place, and makes a second column. A second upgrade swaps the two
again, and then drops the narrower one, which holds nothing that the other one does not hold: so it
leaves what the first upgrade has left.
What remains is a statement that a client has prepared: its result has another type now, so that it
fails once, with SQLSTATE 0A000, and is prepared anew.
"""

from safely.operations.connection import analyze, offline, outside_transaction, run, scalar
from safely.operations.retype_sql import RETYPED

# A CHECK would be checked for every row while nobody can read the table. A column in a primary key
# or an exclusion constraint, or one of a domain, could not get its old type back without a second
# column. `retyped` tells what follows in a script that nothing is left to do.
WIDEN = """\
DO $widen$
DECLARE
  wanted text;
  old record;
  begun text;
  views text;
  number_of_views bigint;
  definitions text;
  files text;
  files_after text;
  can_be_long boolean;
BEGIN
  PERFORM set_config('safely.widens', 'no', false);
  PERFORM set_config('safely.retyped', 'true', false);
{wanted}
  PERFORM set_config('safely.retyped', 'false', false);
  SELECT {shape} INTO begun FROM pg_attribute WHERE attrelid = {oid} AND attname = {hidden_text};
  IF EXISTS (SELECT FROM pg_class WHERE oid = {oid} AND relkind <> 'r')
     OR EXISTS (SELECT FROM pg_type
                WHERE oid IN (old.atttypid, to_regtype(wanted)) AND typtype = 'd')
     OR EXISTS (SELECT FROM pg_inherits WHERE {oid} IN (inhrelid, inhparent))
     OR split_part(old.type, ' COLLATE ', 2) <> split_part(wanted, ' COLLATE ', 2)
     OR (old.type LIKE '%with time zone%') <> (wanted LIKE '%with time zone%') THEN
    RETURN;
  END IF;
  IF EXISTS (
    SELECT FROM pg_depend
    WHERE refclassid = 'pg_class'::regclass AND refobjid = {oid} AND refobjsubid = old.attnum
      AND NOT CASE classid
        WHEN 'pg_rewrite'::regclass THEN EXISTS (
          SELECT FROM pg_rewrite JOIN pg_class AS view ON view.oid = ev_class
          JOIN pg_namespace ON pg_namespace.oid = relnamespace
          WHERE pg_rewrite.oid = pg_depend.objid AND relkind = 'v' AND starts_with(nspname, 'at_')
            AND NOT EXISTS (SELECT FROM pg_attribute
                            WHERE attrelid = view.oid AND attacl IS NOT NULL)
            AND NOT EXISTS (SELECT FROM pg_depend AS other
                            WHERE other.refclassid = 'pg_class'::regclass
                              AND other.refobjid = view.oid AND other.deptype <> 'i'
                              AND (other.classid <> 'pg_rewrite'::regclass
                                   OR other.objid <> pg_rewrite.oid)))
        WHEN 'pg_attrdef'::regclass THEN EXISTS (
          SELECT FROM pg_attrdef WHERE oid = objid AND adrelid = {oid} AND adnum = old.attnum)
        WHEN 'pg_constraint'::regclass THEN
          (SELECT contype IN ('n', 'u') FROM pg_constraint WHERE oid = objid)
        WHEN 'pg_class'::regclass THEN
          (SELECT relkind IN ('i', 'S') FROM pg_class WHERE oid = objid)
        WHEN 'pg_trigger'::regclass THEN begun IS NOT NULL AND
          (SELECT tgfoid = to_regproc('sync_retyped') FROM pg_trigger WHERE oid = objid)
        ELSE false END
  ) THEN
    RETURN;
  END IF;
  BEGIN
    CREATE TEMPORARY TABLE safely_twin (LIKE {table} INCLUDING ALL);
    SELECT string_agg(pg_relation_filenode(oid)::text, ' ' ORDER BY relfilenode) INTO files
    FROM pg_class WHERE oid = 'safely_twin'::regclass
      OR oid IN (SELECT indexrelid FROM pg_index WHERE indrelid = 'safely_twin'::regclass);
    ALTER TABLE safely_twin ALTER COLUMN {shown} TYPE {type};
    SELECT string_agg(pg_relation_filenode(oid)::text, ' ' ORDER BY relfilenode) INTO files_after
    FROM pg_class WHERE oid = 'safely_twin'::regclass
      OR oid IN (SELECT indexrelid FROM pg_index WHERE indrelid = 'safely_twin'::regclass);
    DROP TABLE safely_twin;
  EXCEPTION WHEN OTHERS THEN
    RETURN;
  END;
  IF files <> files_after THEN
    RETURN;
  END IF;
  PERFORM set_config(
    'safely.widens', CASE WHEN begun IS NULL THEN 'in place' ELSE 'by a swap' END, false);
  IF {only_look} OR begun IS NOT NULL THEN
    RETURN;
  END IF;
  SELECT string_agg(name, ', ' ORDER BY name), count(*),
         string_agg(concat(
           'CREATE VIEW ', name, ' WITH (' || array_to_string(reloptions, ', ') || ')',
           ' AS ', pg_get_viewdef(oid),
           format('ALTER VIEW %s OWNER TO %s;', name, relowner::regrole),
           (SELECT string_agg(concat(
              'GRANT ', privilege_type, ' ON ', name, ' TO ',
              CASE grantee WHEN 0 THEN 'PUBLIC' ELSE grantee::regrole::text END,
              CASE WHEN is_grantable THEN ' WITH GRANT OPTION' END, ';'), ' ')
            FROM aclexplode(relacl) WHERE grantee <> relowner),
           format('COMMENT ON VIEW %s IS %L;', name, obj_description(oid, 'pg_class'))), ' ')
  INTO views, number_of_views, definitions
  FROM (
    SELECT DISTINCT view.oid, relacl, reloptions, relowner,
           format('%I.%I', nspname, relname) AS name
    FROM pg_depend JOIN pg_rewrite ON pg_rewrite.oid = objid
    JOIN pg_class AS view ON view.oid = ev_class
    JOIN pg_namespace ON pg_namespace.oid = relnamespace
    WHERE classid = 'pg_rewrite'::regclass AND refclassid = 'pg_class'::regclass
      AND refobjid = {oid} AND refobjsubid = old.attnum
  ) AS shown;
  -- a client that waits for the first of these locks waits for all of them
  PERFORM set_config('lock_timeout', greatest(1, setting::int / (number_of_views + 1))::text, true)
  FROM pg_settings WHERE name = 'lock_timeout' AND setting <> '0';
  IF views IS NOT NULL THEN
    EXECUTE 'DROP VIEW ' || views;
  END IF;
  ALTER TABLE {table} ALTER COLUMN {shown} TYPE {type};
{storage}
  IF views IS NOT NULL THEN
    EXECUTE definitions;
  END IF;
  PERFORM set_config('safely.retyped', 'true', false);
END $widen$"""

# apart from DROP_NARROWER, since all rows are read; afterwards the trigger keeps the two in step
COMPARE = """\
DO $compare$ BEGIN
  IF current_setting('safely.widens') = 'by a swap' THEN
    -- apart from the condition above: there may be no such column, or no equality of its type
    IF EXISTS (SELECT FROM {table} WHERE {hidden} IS DISTINCT FROM {shown}::{type}) THEN
      PERFORM set_config('safely.widens', 'no', false);
    END IF;
  END IF;
END $compare$"""

# a version that was published meanwhile may show the narrower column
DROP_NARROWER = """\
DO $narrower$
DECLARE
  item record;
BEGIN
  IF current_setting('safely.widens') <> 'by a swap' OR EXISTS (
    SELECT FROM pg_depend JOIN pg_attribute ON attrelid = refobjid AND attnum = refobjsubid
    WHERE refclassid = 'pg_class'::regclass AND refobjid = {oid} AND attname = {hidden_text}
      AND classid = 'pg_rewrite'::regclass
  ) THEN
    RETURN;
  END IF;
  FOR item IN
    SELECT tgname FROM pg_trigger JOIN pg_attribute ON attrelid = tgrelid AND attnum = ANY (tgattr)
    WHERE tgrelid = {oid} AND attname = {hidden_text} AND tgfoid = to_regproc('sync_retyped')
  LOOP
    EXECUTE format('DROP TRIGGER %I ON %I', item.tgname, {table_text});
  END LOOP;
  ALTER TABLE {table} DROP COLUMN {hidden};
  IF NOT EXISTS (SELECT FROM pg_trigger WHERE tgfoid = to_regproc('sync_retyped')) THEN
    DROP FUNCTION sync_retyped();
  END IF;
END $narrower$"""


def can_widen(placeholders: dict[str, str]) -> bool:
    """Return whether the values of a column and its indexes can stay as they are."""
    run(WIDEN.format(**placeholders, only_look="true"))
    return bool(scalar("SELECT current_setting('safely.widens') = 'in place'"))


def widened(table_name: str, placeholders: dict[str, str]) -> bool:
    """Change a column's type in place, if its values and its indexes can stay as they are.

    Return whether that was done; a script of `--sql` finds out itself.
    """
    if not offline() and not can_widen(placeholders):
        return False
    with outside_transaction():
        run(WIDEN.format(**placeholders, only_look="false"))
        if offline() or scalar(f"SELECT {RETYPED}") is False:
            return False
    with outside_transaction(patient=True):
        analyze(table_name)  # the column's statistics are those of its old type
    return True
