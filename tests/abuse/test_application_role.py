"""The application's role can do nothing but what is published for it, and harm itself.

SECURITY.md names what PostgreSQL lets every role do, and what that means here.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import NamedTuple
from urllib.parse import urlsplit

import asyncpg
import pytest

from safely.project import lock_key
from service.models import SCHEMA_REVISION
from tests.chain import NUMBERS
from tests.commands import run_alembic
from tests.databases import Databases

OWNER, APP = "abuse_owner", "abuse_app"
DENIED = "42501"  # insufficient_privilege
VIEW_IS_FIXED = "55000"  # a view that nobody can write through
PUBLISHED = f"at_{SCHEMA_REVISION}"


class Deployment(NamedTuple):
    """A database with the two roles of compose.yaml, migrated by the one for the other."""

    superuser: str
    owner: str
    app: str


@pytest.fixture(scope="module")
def deployment(all_databases: dict[str, Databases]) -> Iterator[Deployment]:
    databases = all_databases["postgresql"]
    url = asyncio.run(databases.empty())
    name = urlsplit(url).path.lstrip("/")

    async def execute(database_url: str, *statements: str) -> None:
        connection = await asyncpg.connect(database_url)
        for statement in statements:
            await connection.execute(statement)
        await connection.close()

    asyncio.run(
        execute(
            url,
            f"CREATE ROLE {OWNER} LOGIN",
            f"CREATE ROLE {APP} LOGIN",
            f"ALTER DATABASE {name} OWNER TO {OWNER}",
            f"REVOKE ALL ON DATABASE {name} FROM PUBLIC",
            "REVOKE ALL ON SCHEMA public FROM PUBLIC",
            f"GRANT CONNECT, TEMPORARY ON DATABASE {name} TO {APP}",
        )
    )
    deployment = Deployment(
        url, url.replace("postgres@", f"{OWNER}@"), url.replace("postgres@", f"{APP}@")
    )
    run_alembic(deployment.owner, "upgrade", "head", APP_ROLE=APP)
    yield deployment
    asyncio.run(databases.drop(url))
    postgres = databases.server.url("postgres")
    asyncio.run(execute(postgres, f"DROP ROLE {OWNER}", f"DROP ROLE {APP}"))


@asynccontextmanager
async def connected(url: str) -> AsyncIterator[asyncpg.Connection]:
    """Yield a connection in a transaction that is rolled back."""
    connection = await asyncpg.connect(url)
    transaction = connection.transaction()
    await transaction.start()
    try:
        yield connection
    finally:
        await transaction.rollback()
        await connection.close()


async def sqlstate(url: str, statement: str) -> str | None:
    """Return the error of a statement; None where it succeeds."""
    async with connected(url) as connection:
        try:
            await connection.execute(statement)
        except asyncpg.PostgresError as error:
            return str(error.sqlstate)
    return None


BASE_TABLES = ["users", "idempotency_keys", "alembic_version", "migration_log"]
ON_TABLES = [
    "SELECT FROM {}", "INSERT INTO {} DEFAULT VALUES", "DELETE FROM {}", "TRUNCATE {}",
    "DROP TABLE {}", "ALTER TABLE {} ADD COLUMN mine int", "LOCK TABLE {} IN ACCESS SHARE MODE",
    "CREATE TRIGGER mine AFTER INSERT ON {} EXECUTE FUNCTION suppress_redundant_updates_trigger()",
    "CREATE INDEX ON {} ((1))", "GRANT SELECT ON {} TO PUBLIC", "COMMENT ON TABLE {} IS 'mine'",
    "ANALYZE {}", "COPY {} TO STDOUT", "ALTER TABLE {} OWNER TO CURRENT_USER",
    "CREATE TEMPORARY TABLE mine (LIKE {})", "CREATE RULE mine AS ON INSERT TO {} DO NOTHING",
]  # fmt: skip
ON_VIEWS = [
    "DROP VIEW {}", "ALTER VIEW {} RENAME TO mine", "ALTER VIEW {} OWNER TO CURRENT_USER",
    "CREATE OR REPLACE VIEW {} AS SELECT 1", "COMMENT ON VIEW {} IS 'mine'",
    "CREATE RULE mine AS ON INSERT TO {} DO NOTHING",
    "CREATE TRIGGER mine INSTEAD OF INSERT ON {} FOR EACH ROW"
    " EXECUTE FUNCTION suppress_redundant_updates_trigger()",
]  # fmt: skip
OTHERS = [
    "CREATE SCHEMA mine", "CREATE TABLE public.mine (id int)", f"CREATE TABLE {PUBLISHED}.mine ()",
    f"CREATE VIEW {PUBLISHED}.mine AS SELECT 1", f"DROP SCHEMA {PUBLISHED} CASCADE",
    f"CREATE FUNCTION {PUBLISHED}.mine() RETURNS int LANGUAGE sql AS 'SELECT 1'",
    f"DROP FUNCTION {PUBLISHED}.seen_by_owner()",
    f"ALTER FUNCTION {PUBLISHED}.seen_by_owner() SECURITY INVOKER",
    f"ALTER SCHEMA {PUBLISHED} RENAME TO mine", f"ALTER SCHEMA {PUBLISHED} OWNER TO {APP}",
    f"UPDATE {PUBLISHED}.schema_state SET revision = '9999'",
    f"DELETE FROM {PUBLISHED}.migration_log",
    f"SET ROLE {OWNER}", f"SET SESSION AUTHORIZATION {OWNER}", "SET ROLE pg_read_all_data",
    f"ALTER ROLE {APP} SUPERUSER", f"ALTER ROLE {APP} CREATEROLE", f"ALTER ROLE {APP} BYPASSRLS",
    f"ALTER ROLE {OWNER} PASSWORD 'mine'", f"ALTER ROLE {OWNER} SET search_path = mine",
    f"GRANT {OWNER} TO {APP}", f"GRANT pg_execute_server_program TO {APP}", "CREATE ROLE mine",
    f"REASSIGN OWNED BY {OWNER} TO {APP}", f"DROP OWNED BY {OWNER}", f"DROP ROLE {OWNER}",
    "SET session_replication_role = replica", "CHECKPOINT",
    "SELECT pg_reload_conf()", "SELECT pg_switch_wal()",
    "TABLE pg_authid", "TABLE pg_shadow", "TABLE pg_statistic", "TABLE pg_hba_file_rules",
    "TABLE pg_user_mapping", "TABLE pg_largeobject", "SELECT pg_read_file('PG_VERSION')",
    "SELECT pg_ls_dir('.')", "SELECT lo_import('/etc/passwd')", "SELECT pg_stat_file('base')",
    "COPY (SELECT 1) TO PROGRAM 'true'", "COPY (SELECT 1) TO '/tmp/mine'",
    "CREATE TEMPORARY TABLE mine (line text); COPY mine FROM PROGRAM 'id'",
    "CREATE TEMPORARY TABLE mine (line text); COPY mine FROM '/etc/passwd'",
    f"CREATE EXTENSION dblink SCHEMA {PUBLISHED}",
    f"CREATE EXTENSION citext SCHEMA {PUBLISHED}",
    "CREATE FUNCTION pg_temp.mine() RETURNS int LANGUAGE c AS 'libc', 'getpid'",
    "CREATE FUNCTION pg_temp.mine() RETURNS int LANGUAGE internal AS 'int4pl'",
    "CREATE FOREIGN DATA WRAPPER mine", "CREATE PUBLICATION mine", "CREATE EVENT TRIGGER mine ON"
    " sql_drop EXECUTE FUNCTION suppress_redundant_updates_trigger()",
    "SELECT pg_create_physical_replication_slot('mine')", "SELECT pg_promote()",
    "LOAD 'auto_explain'", "CREATE CAST (int AS point) WITH INOUT",
]  # fmt: skip
ATTEMPTS = [
    *(attempt.format(f"public.{table}") for table in BASE_TABLES for attempt in ON_TABLES),
    *(attempt.format(f"{PUBLISHED}.users") for attempt in ON_VIEWS),
    *(attempt.format(f"{PUBLISHED}.migration_log") for attempt in ON_VIEWS),
    *OTHERS,
]


@pytest.mark.parametrize("statement", ATTEMPTS)
async def test_it_may_not(deployment: Deployment, statement: str) -> None:
    assert await sqlstate(deployment.app, statement) in {DENIED, VIEW_IS_FIXED}


ALLOWED = [
    *(f"SELECT FROM at_{number}.users" for number in NUMBERS),  # older builds have the same role
    f"INSERT INTO {PUBLISHED}.users (full_name) VALUES ('Ada')",
    f"UPDATE {PUBLISHED}.users SET age = 1", f"DELETE FROM {PUBLISHED}.users",
    f"TABLE {PUBLISHED}.schema_state", f"TABLE {PUBLISHED}.migration_log",
    f"SELECT {PUBLISHED}.seen_by_owner()", "CREATE TEMPORARY TABLE mine (id int)",
]  # fmt: skip


@pytest.mark.parametrize("statement", ALLOWED)
async def test_it_may(deployment: Deployment, statement: str) -> None:
    assert await sqlstate(deployment.app, statement) is None


# what every role may do in PostgreSQL, and nobody can take away; SECURITY.md says what it means
CANNOT_BE_FORBIDDEN = [
    f"ALTER ROLE {APP} PASSWORD 'mine'",
    f"ALTER ROLE {APP} SET default_transaction_read_only = on",
    f"DROP OWNED BY {APP}",  # takes its own rights; the next `alembic upgrade head` gives them back
    f"LOCK TABLE {PUBLISHED}.users",
    f"SELECT pg_advisory_xact_lock({lock_key('users')})",  # migrations wait, and name its session
    "SELECT lo_create(0)",
    "LISTEN anything",
    "SET statement_timeout = 0",
    "DO 'BEGIN NULL; END'",
]


@pytest.mark.parametrize("statement", CANNOT_BE_FORBIDDEN)
async def test_it_may_harm_itself_and_availability(deployment: Deployment, statement: str) -> None:
    assert await sqlstate(deployment.app, statement) is None


async def test_it_sees_no_statement_of_the_owner(deployment: Deployment) -> None:
    owner = await asyncpg.connect(deployment.owner)
    await owner.execute("SELECT 'a secret of the owner'")
    async with connected(deployment.app) as app:
        statements = await app.fetch("SELECT query FROM pg_stat_activity WHERE usename = $1", OWNER)
        assert {row["query"] for row in statements} == {"<insufficient privilege>"}
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await app.execute(f"SELECT pg_terminate_backend({owner.get_server_pid()})")
    await owner.close()


# a right on anything that initdb did not make, of the role itself or of everybody
RIGHTS = """
SELECT format('%s on %s', right_.privilege_type, object.name)
FROM (
  SELECT oid::regclass::text AS name, relnamespace AS schema, relacl AS acl FROM pg_class
  UNION ALL SELECT oid::regprocedure::text, pronamespace, proacl FROM pg_proc
  UNION ALL SELECT 'schema ' || nspname, oid, nspacl FROM pg_namespace
  UNION ALL SELECT 'database ' || datname, NULL, datacl FROM pg_database
    WHERE datname = current_database()
  UNION ALL SELECT 'parameter ' || parname, NULL, paracl FROM pg_parameter_acl
  UNION ALL SELECT 'default', NULL, defaclacl FROM pg_default_acl
) AS object (name, schema, acl), aclexplode(object.acl) AS right_
WHERE right_.grantee IN (0, (SELECT oid FROM pg_roles WHERE rolname = $1))
  AND coalesce(object.schema::regnamespace::text, '') NOT IN ('pg_catalog', 'information_schema')
"""


async def test_the_catalogues_have_no_right_but_those(deployment: Deployment) -> None:
    async with connected(deployment.superuser) as superuser:
        rights = {row[0] for row in await superuser.fetch(RIGHTS, APP)}
        role = await superuser.fetchrow("SELECT * FROM pg_roles WHERE rolname = $1", APP)
        memberships = await superuser.fetch(
            "SELECT FROM pg_auth_members WHERE member = $1::regrole", APP
        )
        owned = await superuser.fetch(
            "SELECT FROM pg_shdepend WHERE refobjid = $1::regrole AND deptype = 'o'", APP
        )
    database = urlsplit(deployment.superuser).path.lstrip("/")
    outside = {
        right for right in rights if " on at_" not in right and " on schema at_" not in right
    }
    assert outside == {f"CONNECT on database {database}", f"TEMPORARY on database {database}"}
    kinds = {right.partition(" ")[0] for right in rights - outside}
    assert kinds == {"SELECT", "INSERT", "UPDATE", "DELETE", "USAGE"}
    assert {right for right in rights if "schema_state" in right or "migration_log" in right} == {
        f"SELECT on at_{number}.{view}"
        for number in NUMBERS
        for view in ("schema_state", "migration_log")
    }
    assert {name for name, value in role.items() if value is True} == {"rolinherit", "rolcanlogin"}
    assert not memberships
    assert not owned
