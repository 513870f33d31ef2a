"""The snapshot of a schema, one JSON object, differs after an edit by hand and only then."""

import json
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from safely.ledger.snapshot import POSTGRESQL, SQLITE, differences
from tests.databases import Databases, engine_for, name_of, query, write
from tests.hand_edits import (
    PETS,
    SQLITE_EDITS,
    TRIGGER,
    TWELVE_EDITS,
    execute_script,
    on_postgresql,
)

Restored = Callable[..., Awaitable[AsyncEngine]]


OTHER_EDITS = {
    "a constraint not valid": (
        "ALTER TABLE pets ADD CONSTRAINT young CHECK (age < 30) NOT VALID",
        'constraint young on pets: was added ("CHECK ((age < 30)) NOT VALID")',
    ),
    "an index invalid": (
        "UPDATE pg_index SET indisvalid = false "
        "WHERE indexrelid = 'public.idx_user_email'::regclass",
        'index idx_user_email: was "CREATE UNIQUE INDEX idx_user_email ON public.users USING '
        'btree (lower(email))", is now "CREATE UNIQUE INDEX idx_user_email ON public.users USING '
        'btree (lower(email)) INVALID"',
    ),
    "a trigger disabled": (
        "ALTER TABLE pets DISABLE TRIGGER greet",
        'trigger greet on pets: was "CREATE TRIGGER greet BEFORE INSERT ON public.pets FOR EACH '
        'ROW WHEN ((new.age < 2)) EXECUTE FUNCTION public.greet()", is now "CREATE TRIGGER greet '
        "BEFORE INSERT ON public.pets FOR EACH ROW WHEN ((new.age < 2)) EXECUTE FUNCTION "
        'public.greet() DISABLED"',
    ),
    "a grant revoked": (
        "REVOKE INSERT ON at_0042.users FROM pg_monitor",
        'grant on at_0042.users to pg_monitor: was "INSERT, SELECT", is now "SELECT"',
    ),
    "a grant on a column": (
        "REVOKE GRANT OPTION FOR SELECT (name) ON pets FROM pg_monitor",
        'grant on pets.name to pg_monitor: was "SELECT WITH GRANT OPTION", is now "SELECT"',
    ),
    "a grant on a schema": (
        "GRANT CREATE ON SCHEMA at_0042 TO pg_monitor",
        'grant on schema at_0042 to pg_monitor: was "USAGE", is now "CREATE, USAGE"',
    ),
    "a grant on a sequence": (
        "GRANT USAGE ON SEQUENCE pets_id_seq TO pg_monitor",
        'grant on pets_id_seq to pg_monitor: was added ("USAGE")',
    ),
    "a grant on a type revoked from everybody": (
        "REVOKE USAGE ON TYPE mood FROM PUBLIC",
        'grant on type mood to PUBLIC: was added ("no USAGE")',
    ),
    "a grant on a function given to everybody": (
        "GRANT EXECUTE ON FUNCTION greet() TO PUBLIC",
        'grant on function greet() to PUBLIC: is gone (was "no EXECUTE")',
    ),
    "a default grant": (
        "ALTER DEFAULT PRIVILEGES IN SCHEMA at_0042 GRANT SELECT ON TABLES TO pg_monitor",
        'default grant on tables in schema at_0042 by postgres to pg_monitor: was added ("SELECT")',
    ),
    "a default grant everywhere": (
        "ALTER DEFAULT PRIVILEGES REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC",
        'default grant on functions by postgres to PUBLIC: was added ("no EXECUTE")',
    ),
    "row security": (
        "ALTER TABLE users ENABLE ROW LEVEL SECURITY",
        'table users: was "table", is now "table ROW SECURITY"',
    ),
    "a policy": (
        "ALTER POLICY grown ON pets TO PUBLIC USING (age > 2)",
        'policy grown on pets: was "FOR SELECT TO pg_monitor USING ((age > 1))", '
        'is now "FOR SELECT TO PUBLIC USING ((age > 2))"',
    ),
    "a rule dropped": (
        "DROP RULE calm ON pets",
        'rule calm on pets: is gone (was "CREATE RULE calm AS ON UPDATE TO public.pets '
        'WHERE (new.age > 99) DO INSTEAD NOTHING;")',
    ),
    "a table unlogged": (
        "ALTER TABLE pets SET UNLOGGED",
        'table pets: was "table WITH (autovacuum_enabled=false)", '
        'is now "unlogged table WITH (autovacuum_enabled=false)"',
    ),
    "a storage parameter of the long values": (
        "ALTER TABLE users SET (toast.autovacuum_enabled = false)",
        'table users: was "table", is now "table TOAST WITH (autovacuum_enabled=false)"',
    ),
    "a replica identity": (
        "ALTER TABLE users REPLICA IDENTITY FULL",
        'table users: was "table", is now "table REPLICA IDENTITY FULL"',
    ),
    "how a column is stored": (
        "ALTER TABLE users ALTER COLUMN email SET STORAGE EXTERNAL",
        'column users.email: was "text", is now "text STORAGE EXTERNAL"',
    ),
    "how a column is compressed": (
        "ALTER TABLE users ALTER COLUMN email SET COMPRESSION pglz",
        'column users.email: was "text", is now "text COMPRESSION pglz"',
    ),
    "how a column is measured": (
        "ALTER TABLE users ALTER COLUMN email SET STATISTICS 7",
        'column users.email: was "text", is now "text STATISTICS 7"',
    ),
    "how many values a column is said to have": (
        "ALTER TABLE users ALTER COLUMN email SET (n_distinct = 5)",
        'column users.email: was "text", is now "text WITH (n_distinct=5)"',
    ),
    "a default of a view": (
        "ALTER VIEW at_0042.users ALTER COLUMN full_name SET DEFAULT 'Ace'",
        """column at_0042.users.full_name: was added ("text DEFAULT 'Ace'::text")""",
    ),
    "an option of a view": (
        "ALTER VIEW at_0042.users SET (security_invoker = true)",
        'view at_0042.users: was "SELECT id, full_name FROM public.users;", '
        'is now "WITH (security_invoker=true) SELECT id, full_name FROM public.users;"',
    ),
    "a default in one partition": (
        "ALTER TABLE visits_2020 ALTER at SET DEFAULT '2020-02-02'",
        'column visits_2020.at: was "date NOT NULL", '
        """is now "date NOT NULL DEFAULT '2020-02-02'::date\"""",
    ),
    "a word added to an enumeration": (
        "ALTER TYPE mood ADD VALUE 'so-so' BEFORE 'sad'",
        """type mood: was "ENUM ('happy', 'sad')", is now "ENUM ('happy', 'so-so', 'sad')\"""",
    ),
    "a domain's rule dropped": (
        "ALTER DOMAIN weight DROP CONSTRAINT positive",
        'type weight: was "DOMAIN integer NOT NULL positive CHECK ((VALUE > 0))", '
        'is now "DOMAIN integer NOT NULL"',
    ),
    "a composite type changed": (
        "ALTER TYPE place DROP ATTRIBUTE floor",
        'type place: was "(room text, floor integer)", is now "(room text)"',
    ),
    "a column dropped": (
        "ALTER TABLE pets DROP COLUMN owner",
        'column pets.owner: is gone (was "bigint", with constraint pets_owner_fkey on pets, '
        "statistics name_and_owner on pets)",
    ),
    "a serial column added": (
        "ALTER TABLE users ADD COLUMN number serial",
        'column users.number: was added ("integer NOT NULL DEFAULT '
        "nextval('public.users_number_seq'::regclass)\", with sequence users_number_seq)",
    ),
    "a table added": (
        "CREATE TABLE teams (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, name text UNIQUE)",
        "table teams: was added (2 columns, 2 constraints, 2 indexes, 1 sequence)",
    ),
    "a unique constraint added": (
        "ALTER TABLE pets ADD CONSTRAINT uq_pets_owner UNIQUE (owner)",
        'constraint uq_pets_owner on pets: was added ("UNIQUE (owner)", with index uq_pets_owner)',
    ),
    "a published version withdrawn": (
        "DROP SCHEMA at_0042 CASCADE",
        "schema at_0042: is gone (2 grants, 2 views)",
    ),
    "a table moved into a published version": (
        "CREATE TABLE at_0042.notes (note text)",
        "table at_0042.notes: was added (1 column)",
    ),
}
# set aside, Alembic's and the ledger's, of an extension, or temporary
NOT_SEEN = """
CREATE TABLE IF NOT EXISTS migration_log (id serial PRIMARY KEY);
ALTER TABLE migration_log ADD COLUMN more serial CONSTRAINT more CHECK (more > 0);
CREATE INDEX idx_more ON migration_log (more);
CREATE TRIGGER more BEFORE INSERT ON migration_log EXECUTE FUNCTION greet();
GRANT SELECT ON migration_log, alembic_version TO pg_monitor;
ALTER TABLE alembic_version SET (fillfactor = 70);
ALTER TABLE users ADD COLUMN _aside_0009_score serial;
GRANT SELECT (_aside_0009_score) ON users TO pg_monitor;
GRANT SELECT (age) ON users TO postgres;
ALTER TABLE users ADD CONSTRAINT _aside_0009_ck CHECK (age < 99), ADD CONSTRAINT _aside_0009_uq
UNIQUE (age);
CREATE INDEX _aside_0009_idx ON users (age);
CREATE TRIGGER _aside_0009_greet BEFORE INSERT ON users EXECUTE FUNCTION greet();
CREATE TABLE _aside_0009_teams (id serial PRIMARY KEY);
CREATE SCHEMA aside_0009;
CREATE TABLE aside_0009.teams (id serial PRIMARY KEY);
CREATE SCHEMA attic;
CREATE TABLE attic.teams (id serial PRIMARY KEY);
CREATE TABLE at_0042._aside_0009_teams (id serial PRIMARY KEY);
CREATE EXTENSION citext;
CREATE EXTENSION lo;
CREATE EXTENSION pg_stat_statements;
CREATE TEMPORARY TABLE teams (id serial PRIMARY KEY);
SELECT nextval('users_id_seq'), nextval('users_id_seq');
"""

OTHER_SETTINGS = {
    "search_path": "public, at_0042, pg_catalog",
    "TimeZone": "'Asia/Tokyo'",
    "DateStyle": "German, DMY",
    "IntervalStyle": "iso_8601",
    "extra_float_digits": "0",
    "bytea_output": "escape",
    "quote_all_identifiers": "on",
}
KINDS = {
    *("table", "column", "constraint", "index", "trigger", "function", "sequence", "view"),
    *("schema", "type", "policy", "rule", "statistics", "grant"),
}


async def snapshot_text(connection: AsyncConnection) -> str:
    result = await connection.exec_driver_sql(POSTGRESQL if on_postgresql(connection) else SQLITE)
    return str(result.scalar_one())


async def snapshot(engine: AsyncEngine) -> dict[str, str]:
    async with engine.connect() as connection:
        schema: dict[str, str] = json.loads(await snapshot_text(connection))
        return schema


async def reported(engine: AsyncEngine, edit: str) -> list[str]:
    """Edit the schema; return the differences that the snapshots before and after have."""
    before = await snapshot(engine)
    await execute_script(engine, edit)
    return differences(before, await snapshot(engine))


@pytest.fixture
async def pets(engine: AsyncEngine) -> AsyncEngine:
    """Return the engine of a database that has PETS beside the chain's tables."""
    await execute_script(engine, PETS)
    return engine


@pytest.fixture
async def somebody(databases: Databases) -> AsyncIterator[str]:
    """Yield the name of a role without any rights."""
    await databases.execute("CREATE ROLE somebody LOGIN")
    yield "somebody"
    await databases.execute("DROP ROLE somebody")


@pytest.fixture
async def restored(databases: Databases, url: str) -> AsyncIterator[Restored]:
    """Return a function that restores a dump of the database into another, owned by a role."""
    server = databases.server
    dump = str(server.directory / f"{name_of(url)}.dump")
    copies = []

    async def restore(role: str, *options: str) -> AsyncEngine:
        server.call("pg_dump", *server.address(), "-Fc", "-f", dump, name_of(url))
        copies.append(await databases.empty())
        name = name_of(copies[-1])
        await databases.execute(f'ALTER DATABASE "{name}" OWNER TO {role}')
        server.call("pg_restore", *server.address(), "-U", role, "-e", "-d", name, *options, dump)
        return engine_for(copies[-1])

    yield restore
    for copy in copies:
        await databases.drop(copy)


@pytest.mark.only("postgresql")
@pytest.mark.parametrize("edit", TWELVE_EDITS | OTHER_EDITS)
async def test_an_edit_by_hand_is_reported_in_one_sentence(pets: AsyncEngine, edit: str) -> None:
    statement, sentence = (TWELVE_EDITS | OTHER_EDITS)[edit]
    assert await reported(pets, statement) == [sentence]


@pytest.mark.only("postgresql")
async def test_without_an_edit_nothing_is_reported(pets: AsyncEngine) -> None:
    before = await snapshot(pets)
    assert {name.split()[0] for name in before} == KINDS
    assert await reported(pets, "ANALYZE; SELECT nextval('users_id_seq')") == []


@pytest.mark.only("postgresql")
async def test_objects_set_aside_and_tables_of_migrations_are_left_out(pets: AsyncEngine) -> None:
    assert await reported(pets, NOT_SEEN) == []


@pytest.mark.only("postgresql")
async def test_a_name_that_only_resembles_one_set_aside_is_reported(pets: AsyncEngine) -> None:
    added = await reported(pets, "ALTER TABLE users ADD COLUMN xaside_0009_age integer")
    assert added == ['column users.xaside_0009_age: was added ("integer")']


@pytest.mark.only("postgresql")
async def test_a_restored_database_has_the_same_schema(
    pets: AsyncEngine, restored: Restored
) -> None:
    """Column numbers may differ: those of dropped columns are not restored."""
    await execute_script(
        pets, "ALTER TABLE pets DROP COLUMN owner, ADD COLUMN friend bigint UNIQUE"
    )
    copy = await restored("postgres")
    number = (
        "SELECT attnum FROM pg_attribute WHERE attname = 'friend' AND attrelid = 'pets'::regclass"
    )
    assert await query(pets, number) == [(14,)]
    assert await query(copy, number) == [(13,)]
    assert await snapshot(copy) == await snapshot(pets)
    await copy.dispose()


@pytest.mark.only("postgresql")
async def test_a_database_restored_under_another_owner_has_the_same_schema(
    pets: AsyncEngine, somebody: str, restored: Restored
) -> None:
    copy = await restored(somebody, "--no-owner")
    owner = "SELECT tableowner FROM pg_tables WHERE tablename = 'pets'"
    assert await query(copy, owner) == [(somebody,)]
    assert await snapshot(copy) == await snapshot(pets)
    await copy.dispose()


@pytest.mark.only("postgresql")
@pytest.mark.parametrize("name", OTHER_SETTINGS)
async def test_the_sessions_settings_make_no_difference_and_stay(
    pets: AsyncEngine, name: str
) -> None:
    async with pets.connect() as connection:
        before = await snapshot_text(connection)
        await connection.exec_driver_sql(f"SET {name} = {OTHER_SETTINGS[name]}")
        show = text(f"SHOW {name}")
        other = await connection.scalar(show)
        assert await snapshot_text(connection) == before
        assert await connection.scalar(show) == other
        await connection.commit()
        assert await connection.scalar(show) == other


@pytest.mark.only("postgresql")
async def test_the_query_can_stand_in_a_statement_of_a_script(pets: AsyncEngine) -> None:
    expected = await snapshot(pets)
    await execute_script(
        pets,
        "CREATE FUNCTION pg_temp.look() RETURNS text LANGUAGE sql "
        f"AS $look${POSTGRESQL}$look$;"
        f"CREATE TABLE _aside_0009_kept (schema text); INSERT INTO _aside_0009_kept VALUES "
        f"(({POSTGRESQL})), (pg_temp.look())",
    )
    rows = await query(pets, "SELECT schema FROM _aside_0009_kept")
    assert [json.loads(schema) for (schema,) in rows] == [expected, expected]


@pytest.mark.parametrize("statement", [POSTGRESQL, SQLITE], ids=["postgresql", "sqlite"])
def test_the_queries_take_no_parameters(statement: str) -> None:
    assert text(statement).compile().params == {}
    assert "%" not in statement
    assert ";" not in statement


NOT_SEEN_ON_SQLITE = """
CREATE TABLE IF NOT EXISTS migration_log (id INTEGER PRIMARY KEY, revision TEXT UNIQUE);
CREATE INDEX idx_log ON migration_log (id);
ALTER TABLE alembic_version ADD COLUMN more TEXT;
CREATE TABLE _aside_0009_teams (id INTEGER PRIMARY KEY, name TEXT UNIQUE);
CREATE INDEX idx_teams ON _aside_0009_teams (name);
CREATE INDEX _aside_0009_idx ON users (age);
CREATE TEMPORARY TABLE teams (id INTEGER PRIMARY KEY)
"""


@pytest.mark.only("sqlite")
@pytest.mark.parametrize("edit", SQLITE_EDITS)
async def test_an_edit_of_sqlite_is_reported_in_one_sentence(
    engine: AsyncEngine, edit: str
) -> None:
    await write(engine, TRIGGER)
    statements, sentence = SQLITE_EDITS[edit]
    assert await reported(engine, statements) == [sentence]


@pytest.mark.only("sqlite")
async def test_what_is_set_aside_on_sqlite_is_not_seen(engine: AsyncEngine) -> None:
    assert await reported(engine, NOT_SEEN_ON_SQLITE) == []


def test_of_a_long_definition_only_the_places_that_changed_are_reported() -> None:
    before = f"CREATE TABLE pets ({', '.join(f'c{number} INTEGER' for number in range(40))})"
    after = before.replace("c3 INTEGER", "c3 TEXT").replace("c30", "other")
    assert differences({"table pets": before}, {"table pets": after}) == [
        'table pets: was "… INTEGER, c2 INTEGER, c3 INTEGER, c4 INTEGER, c5 INTEGER, …", '
        'is now "… INTEGER, c2 INTEGER, c3 TEXT, c4 INTEGER, c5 INTEGER, …"; '
        'was "… c28 INTEGER, c29 INTEGER, c30 INTEGER, c31 INTEGER, c32 …", '
        'is now "… c28 INTEGER, c29 INTEGER, other INTEGER, c31 INTEGER, c32 …"'
    ]


def test_of_a_long_definition_that_came_only_the_beginning_is_reported() -> None:
    (sentence,) = differences({}, {"function f()": "CREATE FUNCTION f() " + "NULL; " * 100})
    assert sentence.startswith('function f(): was added ("CREATE FUNCTION f() NULL; NULL;')
    assert sentence.endswith(' …")')
    assert len(sentence) < 200


def test_white_space_alone_is_reported_as_such() -> None:
    before, after = {"function f()": "BEGIN  END"}, {"function f()": "BEGIN\nEND"}
    assert differences(before, after) == ["function f(): only its white space changed"]


def test_a_column_takes_along_only_what_speaks_of_it() -> None:
    before = {
        "column users.name": "text",
        "constraint ck_name on users": "CHECK ((length(name) > 0))",
        "constraint ck_full_name on users": "CHECK ((length(full_name) > 0))",
        "index idx": "CREATE INDEX idx ON public.users USING btree (lower(name))",
        "constraint ck_name on pets": "CHECK ((length(name) > 0))",
    }
    assert differences(before, {}) == [
        'column users.name: is gone (was "text", with constraint ck_name on users, index idx)',
        'constraint ck_full_name on users: is gone (was "CHECK ((length(full_name) > 0))")',
        'constraint ck_name on pets: is gone (was "CHECK ((length(name) > 0))")',
    ]


def test_a_rule_that_comes_with_a_column_is_reported_by_itself() -> None:
    after = {"column users.age": "integer", "constraint ck_age on users": "CHECK ((age > 0))"}
    assert differences({}, after) == [
        'column users.age: was added ("integer")',
        'constraint ck_age on users: was added ("CHECK ((age > 0))")',
    ]
