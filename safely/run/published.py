"""Published versions (PostgreSQL): a schema `at_<revision>` with a view per table.

Each build of the service reads and writes through the version it was made for. A view follows
renames by itself, so what is published is never replaced, only added and withdrawn.

Order matters. Clients lock a view and then its table. A transaction that has locked the table and
then wants a live view meets them head on; so a step publishes new views after its body, and what
it undid is withdrawn later, in a transaction of its own.
"""

from alembic.util import CommandError
from sqlalchemy import Connection, text

from safely.operations.aside import PREFIX
from safely.operations.connection import literal, run

LEDGER = "migration_log"
OURS = ("alembic_version", LEDGER)  # tables that tell of migrations, not of the application
STATE = "schema_state"  # one row: the revision that the database is at
SEEN_BY_OWNER = "seen_by_owner"  # what the service may know of, and its role can't see

# of columns that are set aside, the bytes a row that their statistics tell; since when somebody
# who migrates is connected, by pid
SEEN = """\
SELECT jsonb_build_object(
  'widths', (SELECT jsonb_object_agg(
               format('%s.%s.%s', schemaname, tablename, attname), avg_width * (1 - null_frac))
             FROM pg_stats WHERE starts_with(attname, '_aside_')),
  'migrating', (SELECT jsonb_object_agg(pid, backend_start) FROM pg_stat_activity
                WHERE datname = current_database() AND application_name = 'migrations'))"""

# relkind r and p: tables, and those divided into partitions; the partitions themselves are not
# published. Views keep their owner's rights: the service's role needs none on the tables.
# What is there is left as it is; only what earlier releases did not publish yet is added to it.
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
      SELECT relname, string_agg(quote_ident(attname), ', ' ORDER BY attnum) AS columns
      FROM pg_class JOIN pg_attribute ON attrelid = pg_class.oid
      WHERE relnamespace = current_schema::regnamespace
        AND relkind IN ('r', 'p') AND NOT relispartition AND relname NOT IN {ours}
        AND attnum > 0 AND NOT attisdropped AND NOT starts_with(attname, {prefix})
      GROUP BY relname
    LOOP
      EXECUTE format('CREATE VIEW {version}.%I AS SELECT %s FROM %I',
                     item.relname, item.columns, item.relname);
    END LOOP;
    -- max() makes it a view that can't be written through
    CREATE VIEW {version}.{state} AS SELECT max(version_num) AS revision FROM alembic_version;
  END IF;
  IF to_regclass('{version}.{ledger}') IS NULL THEN
    -- and so does OFFSET; tableoid tells which schema it is that is migrated
    CREATE VIEW {version}.{ledger} AS SELECT tableoid, * FROM {ledger} OFFSET 0;
    -- who may not use the schema can't call it either
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
      WHERE asking.relnamespace = current_schema::regnamespace
    LOOP
      EXECUTE format('GRANT USAGE ON SEQUENCE %s TO %I', item.sequence, role);
    END LOOP;
    EXECUTE format('REVOKE INSERT, UPDATE, DELETE ON {version}.{state}, {version}.{ledger} FROM %I',
                   role);
  ELSIF role <> '' AND NOT has_table_privilege(role, '{version}.{ledger}', 'SELECT') THEN
    EXECUTE format('GRANT SELECT ON {version}.{ledger} TO %I', role);
  END IF;
END $publish$"""

# whether PUBLISH would add anything to a version that is there
LACKING = """\
SELECT to_regnamespace(:version) IS NOT NULL AND (
  to_regclass(:version || '.{ledger}') IS NULL
  OR CASE WHEN :role <> '' THEN NOT (
       has_schema_privilege(:role, to_regnamespace(:version)::oid, 'USAGE')
       AND has_table_privilege(:role, to_regclass(:version || '.{ledger}'), 'SELECT')) END)"""

# only this is ours to drop: what somebody else put there makes this fail, and stays
WITHDRAW = """\
DO $withdraw$
DECLARE
  views text := (
    SELECT string_agg(format('{version}.%I', viewname), ', ')
    FROM pg_views WHERE schemaname = {name}
  );
BEGIN
  IF views IS NOT NULL THEN
    EXECUTE 'DROP VIEW ' || views;
  END IF;
  DROP FUNCTION IF EXISTS {version}.{seen_by_owner}();
  DROP SCHEMA IF EXISTS {version};
END $withdraw$"""

PUBLISHED = """\
SELECT substr(nspname, 4) FROM pg_namespace WHERE nspname ~ '^at_[0-9]+$' ORDER BY 1"""

# who is connected to this database, by the name that a build gives its connections
BUILDS = """\
SELECT application_name, count(*) AS connections FROM pg_stat_activity
WHERE datname = current_database() AND application_name ~ '^users@[0-9]+$'
GROUP BY 1 ORDER BY 1"""
BUILD = "users@"


def schema_of(revision: str) -> str:
    """The schema in which a revision is published."""
    return f"at_{revision}"


def publish(revision: str, app_role: str) -> None:
    """Publish the tables as they stand, unless this revision is published already.

    `app_role` may read and write them, and read the ledger; empty: nobody but the owner.
    """
    version = schema_of(revision)
    run(
        PUBLISH.format(
            version=version,
            name=literal(version),
            role=literal(app_role),
            ours=OURS,
            prefix=literal(PREFIX),
            state=STATE,
            ledger=LEDGER,
            seen_by_owner=SEEN_BY_OWNER,
            seen=SEEN,
        )
    )


def lacks_something(connection: Connection, revision: str, app_role: str) -> bool:
    """Whether `publish` would add to what is published of a revision.

    An earlier release published less, or APP_ROLE is set since.
    """
    if connection.dialect.name != "postgresql":
        return False
    asked = {"version": schema_of(revision), "role": app_role}
    return bool(connection.scalar(text(LACKING.format(ledger=LEDGER)), asked))


def withdraw(revision: str) -> None:
    """Take a published version back; who uses it gets 42P01 from now on."""
    version = schema_of(revision)
    run(WITHDRAW.format(version=version, name=literal(version), seen_by_owner=SEEN_BY_OWNER))


def refuse_unknown_role(connection: Connection, app_role: str) -> None:
    """Raise CommandError if APP_ROLE names nobody."""
    if not app_role or connection.dialect.name != "postgresql":
        return
    known = text("SELECT count(*) FROM pg_roles WHERE rolname = :role")
    if not connection.scalar(known, {"role": app_role}):
        raise CommandError(f"APP_ROLE names no role of this server: {app_role}")


def revisions(connection: Connection) -> list[str]:
    """The revisions that are published, in order."""
    if connection.dialect.name != "postgresql":
        return []
    return list(connection.scalars(text(PUBLISHED)))
