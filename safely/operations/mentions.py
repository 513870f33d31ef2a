"""Functions and policies that would go on asking for a column or a table (PostgreSQL).

A view, an index, a trigger's WHEN, a policy know a column by its number, which follows renames. The
body of a function is text: it names the column, and fails for every client once the name is gone.
That is found before, and refused.
"""

import re

from safely.operations.connection import (
    Refused,
    literal,
    offline,
    postgresql,
    quoted,
    regclass,
    rows,
    run,
)

# Functions that clients run without calling them: by a trigger, a policy, a CHECK or a default.
# Comments are left out of their bodies.
BODIES = r"""
SELECT format('%s (%s)', regprocedure_, caller) AS mention, body, relation FROM (
  SELECT function, function::regprocedure::text AS regprocedure_, caller, relation,
    regexp_replace(prosrc, '--[^\n]*|/\*.*?\*/', ' ', 'g') AS body
  FROM (
    SELECT tgfoid AS function, format('trigger %I on %s', tgname, tgrelid::regclass) AS caller,
           tgrelid AS relation
    FROM pg_trigger WHERE NOT tgisinternal AND tgparentid = 0 AND tgenabled <> 'D'
    UNION ALL
    SELECT refobjid, pg_describe_object(classid, objid, objsubid), NULL FROM pg_depend
    WHERE refclassid = 'pg_proc'::regclass AND classid IN
      ('pg_policy'::regclass, 'pg_constraint'::regclass, 'pg_attrdef'::regclass)
  ) AS attached
  JOIN pg_proc ON pg_proc.oid = function JOIN pg_language ON pg_language.oid = prolang
  WHERE lanname NOT IN ('internal', 'c') AND pronamespace <> 'pg_catalog'::regnamespace
    AND function IS DISTINCT FROM to_regproc('fill_missing')
    AND function IS DISTINCT FROM to_regproc('sync_retyped')
) AS functions"""

MENTIONS_COLUMN = """\
SELECT mention FROM ({bodies}) AS functions
WHERE body ~* {column} AND (body ~* {table_name} OR relation = {oid}
  OR relation IN (SELECT inhrelid FROM pg_inherits WHERE inhparent = {oid}))
ORDER BY 1 LIMIT 1"""

MENTIONS_TABLE = """\
SELECT mention FROM ({bodies}) AS functions
WHERE body ~* {table_name} AND relation IS DISTINCT FROM {oid}
ORDER BY 1 LIMIT 1"""

# what newer builds can't obey: they don't write the column, and rows get its default or NULL
POLICIES = """\
SELECT format('policy %I', polname) FROM pg_policy
JOIN pg_depend ON classid = 'pg_policy'::regclass AND objid = pg_policy.oid
JOIN pg_attribute ON attrelid = refobjid AND attnum = refobjsubid
WHERE refclassid = 'pg_class'::regclass AND refobjid = {oid} AND attname = {column}
ORDER BY 1 LIMIT 1"""

CHECKS = """\
SELECT conname, format(
  'SELECT (%s) IS FALSE FROM (SELECT CAST(%s AS %s) AS %I) AS %I',
  pg_get_expr(conbin, conrelid), coalesce(pg_get_expr(adbin, adrelid), 'NULL'),
  format_type(atttypid, atttypmod), attname, {table})
FROM pg_constraint JOIN pg_attribute ON attrelid = conrelid AND conkey = ARRAY[attnum]
LEFT JOIN pg_attrdef ON adrelid = attrelid AND adnum = attnum
WHERE conrelid = {oid} AND contype = 'c' AND attname = {column} AND attgenerated = ''
ORDER BY 1"""

REFUSE = """\
DO $mentioned$
DECLARE
  mention text := ({query});
BEGIN
  IF mention IS NOT NULL THEN
    RAISE EXCEPTION '%', {before} || mention || {after};
  END IF;
END $mentioned$"""


def refuse_mentioned_column(table_name: str, column_name: str, *, what: str) -> None:
    """Raise Refused where the body of a function names a column that is to be `what`."""
    query = MENTIONS_COLUMN.format(
        bodies=BODIES,
        oid=regclass(table_name),
        table_name=literal(word(table_name)),
        column=literal(word(column_name)),
    )
    refuse_found(
        query,
        f"{table_name}.{column_name} can't be {what}: ",
        " names it in its body, and would fail for every client. Replace the function in this "
        "revision first, with op.execute('CREATE OR REPLACE FUNCTION …'), and let the downgrade "
        "put it back",
    )


def refuse_mentioned_table(table_name: str, *, what: str) -> None:
    """Raise Refused where the body of another table's function names a table."""
    query = MENTIONS_TABLE.format(
        # a script that is sent again finds the table set aside
        bodies=BODIES,
        oid=f"to_regclass({literal(quoted(table_name))})",
        table_name=literal(word(table_name)),
    )
    refuse_found(
        query,
        f"{table_name} can't be {what}: ",
        " names it in its body, and would fail for every client. Replace the function in this "
        "revision first, with op.execute('CREATE OR REPLACE FUNCTION …'), and let the downgrade "
        "put it back",
    )


def refuse_rules(table_name: str, column_name: str) -> None:
    """Raise Refused for policies and CHECKs that rows of newer builds could not obey."""
    before = f"{table_name}.{column_name} can't be set aside: "
    after = (
        " would still hold for builds that don't know the column. Drop it first, and let the "
        "downgrade create it again"
    )
    names = {"oid": regclass(table_name), "column": literal(column_name)}
    refuse_found(POLICIES.format(**names), before, after)
    if offline():
        return
    for name, is_broken in rows(CHECKS.format(**names, table=literal(table_name))):
        if rows(is_broken)[0][0]:
            raise Refused(f"{before}{name}{after}")


def refuse_found(query: str, before: str, after: str) -> None:
    """Raise Refused where the query returns a name; print a statement that does, under `--sql`."""
    if not postgresql():
        return
    if offline():
        run(REFUSE.format(query=query, before=literal(before), after=literal(after)))
    elif names := rows(query):
        raise Refused(f"{before}{names[0][0]}{after}")


def word(name: str) -> str:
    """Return a pattern for a name that is no part of a longer one."""
    return rf"(?<![\w$]){re.escape(name)}(?![\w$])"
