"""Published versions (PostgreSQL): a schema `at_<revision>` with a view per table.

Each build of the application reads and writes through the version it was made for. A view follows
renames by itself, so what is published is never replaced, only added and withdrawn.

A view of a table with row security obeys its policies: see row_security.py.

Order matters. Clients lock a view and then its table. A transaction that has locked the table and
then wants a live view deadlocks with them; so a step publishes new views after its body, and what
it undid is withdrawn later, in a transaction of its own.
"""

from alembic.util import CommandError
from sqlalchemy import Connection, text

from safely.alembic_internals import MigrationContext, version_table
from safely.database import APPLICATION_NAME
from safely.ledger.ledger import undone_revisions
from safely.operations.aside import PREFIX
from safely.operations.connection import literal, quoted, run
from safely.postgresql.server import builds_query
from safely.run import row_security
from safely.run.dependents import VERSION, VERSION_VIEWS, Seed, dependents
from safely.run.table_locks import bookkeeping_tables

LEDGER = "migration_log"
STATE = "schema_state"  # one row: the revision that the database is at
SEEN_BY_OWNER = "seen_by_owner"  # what the application may know of, and its role can't see

# bytes per row of columns that are set aside, by their statistics; by pid, since when a migrator
# is connected
SEEN = f"""\
SELECT jsonb_build_object(
  'widths', (SELECT jsonb_object_agg(
               format('%s.%s.%s', schemaname, tablename, attname), avg_width * (1 - null_frac))
             FROM pg_stats WHERE starts_with(attname, '_aside_')),
  'migrating', (SELECT jsonb_object_agg(pid, backend_start) FROM pg_stat_activity
                WHERE datname = current_database() AND application_name = '{APPLICATION_NAME}'))"""

# relkind r and p: tables, and those divided into partitions; the partitions themselves are not
# published. Views keep their owner's rights: the application's role needs none on the tables.
# A version that is there is left as it is; only what earlier releases lacked is added to it.
PUBLISH = """\
DO $publish$
DECLARE
  role text := {role};
  is_stranger boolean := CASE WHEN role <> '' THEN NOT coalesce(
    has_schema_privilege(role, to_regnamespace({name})::oid, 'USAGE'), false) END;
  item record;
BEGIN
  IF to_regnamespace({name}) IS NULL THEN
    CREATE SCHEMA {version};
    FOR item IN
      SELECT relname, string_agg(quote_ident(attname), ', ' ORDER BY attnum) AS columns,
        CASE WHEN relrowsecurity THEN 'WITH (security_invoker = true)' END AS options
      FROM pg_class JOIN pg_attribute ON attrelid = pg_class.oid
      WHERE relnamespace = to_regnamespace(quote_ident(current_schema))
        AND relkind IN ('r', 'p') AND NOT relispartition AND relname NOT IN ({own})
        AND attnum > 0 AND NOT attisdropped AND NOT starts_with(attname, {prefix})
      GROUP BY relname, relrowsecurity
    LOOP
      EXECUTE format('CREATE VIEW {version}.%I %s AS SELECT %s FROM %I',
                     item.relname, item.options, item.columns, item.relname);
    END LOOP;
    -- max() makes it a view that can't be written through
    CREATE VIEW {version}.{state} AS SELECT max(version_num) AS revision FROM {version_table};
  END IF;
  IF to_regclass({ledger_view}) IS NULL THEN
    -- and so does OFFSET; tableoid tells which schema it is that is migrated
    CREATE VIEW {version}.{ledger} AS SELECT tableoid, * FROM {ledger} OFFSET 0;
    -- a role without USAGE on the schema can't call it either
    CREATE FUNCTION {version}.{seen_by_owner}() RETURNS jsonb LANGUAGE sql STABLE SECURITY DEFINER
      SET search_path = pg_catalog, pg_temp AS $seen$ {seen} $seen$;
  END IF;
  IF is_stranger THEN
    EXECUTE format('GRANT USAGE ON SCHEMA {version} TO %I', role);
    EXECUTE format('GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA {version} TO %I',
                   role);
    -- an identity needs no right of its own, a default that asks a sequence does
    FOR item IN
      SELECT DISTINCT refobjid::regclass AS sequence
      FROM pg_depend JOIN pg_attrdef ON classid = 'pg_attrdef'::regclass AND objid = pg_attrdef.oid
      JOIN pg_class AS asked ON asked.oid = refobjid AND asked.relkind = 'S'
      JOIN pg_class AS asking ON asking.oid = adrelid
      WHERE asking.relnamespace = to_regnamespace(quote_ident(current_schema))
    LOOP
      EXECUTE format('GRANT USAGE ON SEQUENCE %s TO %I', item.sequence, role);
    END LOOP;
    EXECUTE format('REVOKE INSERT, UPDATE, DELETE ON {version}.{state}, {version}.{ledger} FROM %I',
                   role);
  ELSIF role <> '' AND NOT has_table_privilege(role, {ledger_view}, 'SELECT') THEN
    EXECUTE format('GRANT SELECT ON {version}.{ledger} TO %I', role);
  END IF;
END $publish$"""

# whether PUBLISH would add anything to a version that is there; :version is quoted
LACKING = """\
SELECT to_regnamespace(:version) IS NOT NULL AND (
  to_regclass(:version || '.{ledger}') IS NULL
  OR CASE WHEN :role <> '' THEN NOT (
       has_schema_privilege(:role, to_regnamespace(:version)::oid, 'USAGE')
       AND has_table_privilege(:role, to_regclass(:version || '.{ledger}'), 'SELECT')) END)"""

# No CASCADE: what somebody else put into the schema makes this fail, and stays.
WITHDRAW = """\
DO $withdraw$
DECLARE
  views text := (
    SELECT string_agg(format('%I.%I', {bare}, relname), ', ') FROM ({views}) AS made_with_it
  );
BEGIN
  IF views IS NOT NULL THEN
    EXECUTE 'DROP VIEW ' || views;
  END IF;
  DROP FUNCTION IF EXISTS {version}.{seen_by_owner}();
  DROP SCHEMA IF EXISTS {version};
END $withdraw$"""

PUBLISHED = """\
SELECT substr(nspname, 4) FROM pg_namespace JOIN pg_class ON relnamespace = pg_namespace.oid
WHERE starts_with(nspname, 'at_') AND relname = 'schema_state' AND relkind = 'v' ORDER BY 1"""


def schema_of(revision: str) -> str:
    """Return the schema in which a revision is published."""
    return f"at_{revision}"


def publish(migration: MigrationContext, revision: str) -> None:
    """Publish the tables as they stand, unless this revision is published already.

    The application's role may read and write them, and read the ledger.
    Raise CommandError where it has rights on single columns of a table.
    """
    role = migration.opts["project"].app_role
    if migration.as_sql:
        row_security.print_refusal(role)
    elif migration.connection is not None:
        row_security.refuse_column_grants(migration.connection, role)
    version = schema_of(revision)
    run(
        PUBLISH.format(
            version=quoted(version),
            name=literal(quoted(version)),
            role=literal(role),
            own=", ".join(map(literal, bookkeeping_tables(migration.version_table))),
            prefix=literal(PREFIX),
            state=STATE,
            ledger=LEDGER,
            ledger_view=literal(f"{quoted(version)}.{LEDGER}"),
            seen_by_owner=SEEN_BY_OWNER,
            seen=SEEN,
            version_table=version_table(migration),
        )
    )
    row_security.prepare_tables(migration)


def lacks_something(migration: MigrationContext, revision: str) -> bool:
    """Return whether `publish` would add to what is published of a revision.

    An earlier release published less, or the application has a role since.
    """
    connection = migration.connection
    if connection is None or connection.dialect.name != "postgresql":
        return False
    role = migration.opts["project"].app_role
    parameters = {"version": quoted(schema_of(revision)), "role": role}
    return bool(connection.scalar(text(LACKING.format(ledger=LEDGER)), parameters))


def withdraw(revision: str) -> None:
    """Drop a published version; its clients get 42P01 from now on."""
    version = schema_of(revision)
    run(
        WITHDRAW.format(
            version=quoted(version),
            bare=literal(version),
            views=VERSION_VIEWS.format(schema=literal(quoted(version))),
            seen_by_owner=SEEN_BY_OWNER,
        )
    )


def refuse_dependents(connection: Connection, revision: str) -> None:
    """Raise CommandError where something depends on the views of a revision that is to be undone.

    They could not be withdrawn, after everything else was undone.
    """
    if connection.dialect.name != "postgresql":
        return
    version = schema_of(revision)
    quote = connection.dialect.identifier_preparer.quote
    if not connection.dialect.has_schema(connection, version):
        return
    [names] = dependents(connection, [Seed(VERSION, schema=quote(version))])
    if names:
        raise CommandError(
            f"undoing {revision} withdraws its published version, and {', '.join(names)} "
            f"would stand in the way in {version}: drop or change that first, and run this again"
        )


def refuse_unknown_role(connection: Connection, app_role: str) -> None:
    """Raise CommandError if the application's role does not exist."""
    if not app_role or connection.dialect.name != "postgresql":
        return
    known = text("SELECT count(*) FROM pg_roles WHERE rolname = :role")
    if not connection.scalar(known, {"role": app_role}):
        raise CommandError(f"the application's role is no role of this server: {app_role}")


def revisions(connection: Connection) -> list[str]:
    """Return the revisions that are published."""
    if connection.dialect.name != "postgresql":
        return []
    return list(connection.scalars(text(PUBLISHED)))


def undone(connection: Connection) -> list[str]:
    """Return the published revisions that were undone, now or by a run that was killed then."""
    return sorted(set(revisions(connection)) & undone_revisions(connection))


def served(connection: Connection) -> list[str]:
    """Return the revisions that are published and not undone: builds of them can work."""
    return sorted(set(revisions(connection)) - undone_revisions(connection))


def connected_builds(connection: Connection, project: str) -> dict[str, int]:
    """Return the revisions of the project's builds that are connected, with their connections.

    SQLite does not tell: none.
    """
    if connection.dialect.name != "postgresql":
        return {}
    rows = connection.execute(text(builds_query(project)))
    return {name.removeprefix(f"{project}@"): number for name, number in rows}
