"""Row security of published versions (PostgreSQL): a view obeys the policies of its table.

A view reads its table with the rights of its owner, who sees every row. Where the table has row
security, the view is made `security_invoker`: then the policies hold for the role that asks, which
needs rights on the table itself, but none on its schema.

What can't be obeyed is refused: rights of the application's role on single columns, which a view
would exceed.
"""

from alembic.util import CommandError
from sqlalchemy import Connection

from safely.alembic_internals import MigrationContext
from safely.database import as_literal
from safely.operations.connection import literal, run

# The statements by which published versions obey the policies of the tables that they show, in
# order. Each is complete by itself, since a run may be killed after any of them.
# `is_live`: it locks a view that clients may be using.
# A role that can't name the tables, for want of USAGE, has its rights on them from here only. A
# view of which it has no rights on the table was made so by hand, and stays.
STATEMENTS = """\
WITH shown AS (
  SELECT format('%I.%I', version.nspname, view.relname) AS view, base.oid, base.relrowsecurity,
    format('%I.%I', home.nspname, base.relname) AS name, {role} AS role,
    coalesce((SELECT bool_or(option_value::boolean) FROM pg_options_to_table(view.reloptions)
              WHERE option_name = 'security_invoker'), false) AS is_invoker,
    CASE WHEN {role} <> '' THEN has_schema_privilege({role}, home.oid, 'USAGE') END AS may_name
  FROM pg_namespace AS version JOIN pg_class AS view ON view.relnamespace = version.oid
  JOIN pg_rewrite ON ev_class = view.oid
  JOIN pg_depend ON classid = 'pg_rewrite'::regclass AND objid = pg_rewrite.oid
    AND refclassid = 'pg_class'::regclass AND deptype = 'n'
  JOIN pg_class AS base ON base.oid = refobjid AND base.relkind IN ('r', 'p')
  JOIN pg_namespace AS home ON home.oid = base.relnamespace
  WHERE starts_with(version.nspname, 'at_') AND view.relkind = 'v'
    AND view.relname NOT IN ('schema_state', 'migration_log')
    AND EXISTS (SELECT FROM pg_class WHERE relnamespace = version.oid AND relname = 'schema_state')
  GROUP BY version.oid, view.oid, base.oid, home.oid
), needed AS (
  SELECT DISTINCT oid, name, role, privilege
  FROM shown, unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE']) AS privilege
  WHERE relrowsecurity
  UNION  -- a policy is evaluated with the rights of the role that asks
  SELECT read.oid, format('%I.%I', nspname, read.relname), role, 'SELECT'
  FROM shown JOIN pg_policy ON polrelid = shown.oid
  JOIN pg_depend ON classid = 'pg_policy'::regclass AND objid = pg_policy.oid
    AND refclassid = 'pg_class'::regclass AND refobjid <> polrelid
  JOIN pg_class AS read ON read.oid = refobjid AND read.relkind IN ('r', 'p', 'v', 'm', 'f')
  JOIN pg_namespace ON pg_namespace.oid = read.relnamespace
  WHERE shown.relrowsecurity AND pg_has_role(read.relowner, 'USAGE')  -- of others they may grant
)
SELECT 1 AS place, false AS is_live, format(
  'GRANT %s ON %s TO %I', string_agg(privilege, ', ' ORDER BY privilege), name, role) AS statement
FROM needed WHERE role <> '' AND NOT has_table_privilege(role, oid, privilege) GROUP BY name, role
UNION ALL
SELECT 2, true, format('ALTER VIEW %s SET (security_invoker = true)', view)
FROM shown WHERE relrowsecurity AND NOT is_invoker
UNION ALL
SELECT 3, true, concat('DO $reset$ BEGIN ',
  string_agg(format('ALTER VIEW %s RESET (security_invoker); ', view), '' ORDER BY view),
  CASE WHEN NOT may_name AND oid NOT IN (SELECT oid FROM needed) THEN
    format('REVOKE SELECT, INSERT, UPDATE, DELETE ON %s FROM %I; ', name, role) END,
  'END $reset$')
FROM shown WHERE is_invoker AND NOT relrowsecurity AND CASE WHEN role = '' THEN true
  ELSE (SELECT bool_and(has_table_privilege(role, oid, privilege))
        FROM unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE']) AS privilege) END
GROUP BY oid, name, role, may_name
ORDER BY 1, 3"""

EXECUTE = """\
DO $protect$
DECLARE
  item record;
BEGIN
  FOR item IN {statements} LOOP
    {execute};
  END LOOP;
END $protect$"""

# rights on single columns of published tables which the application's role has, itself, by a role
# that it is a member of, or as everybody
COLUMN_GRANTS = """\
SELECT format('%s (%I) on %I to %s', privilege_type, attname, relname,
              CASE grantee WHEN 0 THEN 'PUBLIC' ELSE grantee::regrole::text END) AS right_
FROM pg_class JOIN pg_attribute ON attrelid = pg_class.oid, aclexplode(attacl)
WHERE relnamespace = to_regnamespace(quote_ident(current_schema))
  AND relkind IN ('r', 'p') AND NOT relispartition AND NOT attisdropped
  AND privilege_type <> 'REFERENCES' AND {role} <> ''
  AND CASE grantee WHEN 0 THEN true ELSE pg_has_role({role}, grantee, 'USAGE') END
ORDER BY relname, attnum, 1 LIMIT 1"""

WHY_REFUSED = (
    "a published version shows its tables with the rights of their owner, and so would give the "
    "application's role all columns. Grant it the table, or none: REVOKE that right, and move what "
    "the role must not see to a table of its own"
)


def protection(connection: Connection, role: str) -> list[str]:
    """Return the statements by which the published versions obey the policies of their tables.

    Empty where they do already. A policy that was switched on by hand counts as well.
    """
    if connection.dialect.name != "postgresql":
        return []
    rows = connection.exec_driver_sql(STATEMENTS.format(role=as_literal(role)))
    return [row.statement for row in rows]


def prepare_tables(migration: MigrationContext) -> None:
    """Give the application's role the rights with which it asks tables with row security.

    Under `--sql` also print what `protection` returns. Otherwise that comes in transactions of its
    own: this one may have locked the table, and clients lock the view first.
    """
    role = migration.opts["project"].app_role
    execute = "EXECUTE item.statement"
    if not migration.as_sql:
        execute = f"IF NOT item.is_live THEN {execute}; END IF"
    statements = STATEMENTS.format(role=literal(role))
    run(EXECUTE.format(statements=statements, execute=execute))


def refuse_column_grants(connection: Connection, role: str) -> None:
    """Raise CommandError where the application's role has rights on single columns only."""
    if connection.dialect.name != "postgresql":
        return
    query = COLUMN_GRANTS.format(role=as_literal(role))
    if right := connection.exec_driver_sql(query).scalar():
        raise CommandError(refusal(right))


def print_refusal(role: str) -> None:
    """Print the statement that refuses rights on single columns in a script of `--sql`."""
    run(
        EXECUTE.format(
            statements=COLUMN_GRANTS.format(role=literal(role)),
            execute=f"RAISE EXCEPTION '%', item.right_ || {literal(refusal(''))}",
        )
    )


def refusal(right: str) -> str:
    """Return the message for a right on a column."""
    return f"{right}: {WHY_REFUSED}"
