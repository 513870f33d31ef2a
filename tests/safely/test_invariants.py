"""A step that breaks a build, or touches what the engine owns, is rolled back and says why."""

import asyncio
import re
import sqlite3
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from tests.chain import HEAD, NEXT, NUMBERS, later
from tests.commands import run_alembic, run_migrations
from tests.databases import Databases, engine_for, execute, name_of, path_of, run_script
from tests.migrated import leftovers, state_of
from tests.revisions import copy_repository, write_revision

LAST = later(2)  # the revision that sets aside
OWNER, APP = "invariants_owner", "invariants_app"

CREATE_OLD = (
    'safely.create_table("old", sa.Column("id", sa.Integer(), primary_key=True), '
    'sa.Column("text", sa.Text()))'
)
CREATE = f"""\
{CREATE_OLD}
safely.add_column("users", sa.Column("amount", sa.Integer()))
safely.add_column("users", sa.Column("extra", sa.Text()))"""
SET_ASIDE = """\
safely.change_type("users", "amount", sa.Text())
safely.drop_column("users", "extra")
safely.drop_table("old")"""
DOWN = 'safely.nothing_to_undo("a test")'

# each statement, and what its refusal says; the first ones also break something all at once
BREAKING = (
    ("DROP TABLE idempotency_key CASCADE", 'Write safely.drop_table("idempotency_key")'),
    ("ALTER TABLE users DROP COLUMN email CASCADE", 'Write safely.drop_column("users", "email")'),
    ("ALTER TABLE users DISABLE TRIGGER ALL", f"builds before 0005 and {LAST} would fail"),
    (
        "CREATE OR REPLACE VIEW at_0001.users AS SELECT id, lower(full_name) AS name FROM users",
        "replaces users in the published version 0001",
    ),
    ("DELETE FROM migration_log", "writes to migration_log"),
    (f"UPDATE alembic_version SET version_num = '{HEAD}'", "writes to alembic_version"),
    (f"DELETE FROM aside_{LAST}.old", f"writes to aside_{LAST}.old (set aside)"),
    (f"ALTER TABLE users RENAME COLUMN _aside_{LAST}_extra TO extra", "(set aside)"),
    ("ALTER FUNCTION sync_retyped() SECURITY INVOKER", "changes sync_retyped"),
    (f"CREATE SCHEMA at_{later(3)}", f"creates the schema of the published version {later(3)}"),
    # those that would not be seen beside the ones above
    ("ALTER TABLE users DISABLE TRIGGER USER", "disables or changes fill_missing_2 on users"),
    ("ALTER TABLE users ENABLE REPLICA TRIGGER fill_missing_2", "disables or changes"),
    ("DROP SCHEMA at_0003 CASCADE", "withdraws the published version 0003"),
    ("ALTER SCHEMA at_0003 RENAME TO at_gone", "withdraws the published version 0003"),
    ("DROP VIEW at_0003.users", "takes users from the published version 0003"),
    ("DROP VIEW at_0003.schema_state", "withdraws the published version 0003"),
    ("ALTER VIEW at_0003.users RENAME TO people", "takes users from the published version 0003"),
    ("ALTER VIEW at_0003.users RENAME COLUMN age TO years", "takes or renames columns of users"),
    ("ALTER VIEW at_0003.users SET (security_invoker)", "changes owner or options of users"),
    ("ALTER VIEW at_0003.users ALTER COLUMN age SET DEFAULT 1", "changes how it is written"),
    ("CREATE RULE no AS ON INSERT TO at_0003.users DO INSTEAD NOTHING", "changes how it is writ"),
    ("CREATE TABLE at_0003.more (id int)", "adds an object to the published version 0003"),
    ("CREATE FUNCTION at_0003.f() RETURNS int LANGUAGE sql AS 'SELECT 1'", "adds an object to"),
    (f"REVOKE SELECT ON at_0003.users FROM {APP}", "takes rights on users"),
    (f"REVOKE USAGE ON SCHEMA at_0003 FROM {APP}", "takes rights on the schema"),
    (f"DROP OWNED BY {APP}", "takes rights on the schema"),
    (f"REVOKE INSERT ON users FROM {OWNER}", "the right to read or write what it shows"),
    ("TRUNCATE migration_log", "changes or empties migration_log"),
    ("ALTER TABLE migration_log RENAME COLUMN state TO status", "changes or empties migration_log"),
    ("DROP TABLE migration_log CASCADE", "drops migration_log and takes migration_log from"),
    ("DROP TABLE alembic_version CASCADE", "drops alembic_version"),
    ("DROP TRIGGER fill_missing_2 ON users", "drops fill_missing_2 on users"),
    ("ALTER TRIGGER fill_missing_2 ON users RENAME TO mine", "drops fill_missing_2 on users"),
    (
        "CREATE OR REPLACE FUNCTION fill_missing() RETURNS trigger LANGUAGE plpgsql AS "
        "'BEGIN RETURN new; END'",
        "changes fill_missing",
    ),
    ("DROP FUNCTION sync_retyped() CASCADE", "on users and drops sync_retyped"),
    (f"ALTER TABLE users DROP COLUMN _aside_{LAST}_extra CASCADE", "from the published version"),
    (f"DROP SCHEMA aside_{LAST} CASCADE", f"drops aside_{LAST} (set aside)"),
    (f"ALTER TABLE aside_{LAST}.old SET SCHEMA public", f"drops aside_{LAST}.old (set aside)"),
    (f"TRUNCATE aside_{LAST}.old", f"changes or empties aside_{LAST}.old (set aside)"),
)
AT_ONCE = BREAKING[:10]
HARMLESS = (
    "CREATE INDEX ON users (age)",
    "ALTER TABLE users ADD COLUMN phone text",
    "INSERT INTO users (full_name) VALUES ('Ada')",
    "UPDATE at_0003.users SET age = 4",
    f"GRANT SELECT ON at_0003.users TO {APP}",
    "CREATE VIEW report AS SELECT * FROM at_0003.users",
    "COMMENT ON VIEW at_0003.users IS 'of old'",
    "ALTER TABLE users RENAME COLUMN age TO years",
    "ALTER TABLE users RENAME TO people",
    "ALTER TABLE people ENABLE ROW LEVEL SECURITY",
    "REVOKE ALL ON people FROM PUBLIC",
)
UNDONE = """\
nested = op.get_bind().begin_nested()
op.execute("DROP TABLE idempotency_key CASCADE")
nested.rollback()
op.execute("ALTER TABLE users DISABLE TRIGGER USER")
op.execute("ALTER TABLE users ENABLE TRIGGER USER")
with op.get_context().autocommit_block():
    op.execute("CREATE INDEX CONCURRENTLY idx_age ON users (age)")
    op.execute("VACUUM users")
    op.execute("ALTER TABLE users ADD COLUMN shoe_size int")
"""

# where a statement stands in a body: directly, or hidden
FORMS = {
    "directly": "op.execute({statement!r})",
    "in a DO block": "op.execute('DO $do$ BEGIN ' + {statement!r} + '; END $do$')",
    "in a function": (
        "op.execute('CREATE OR REPLACE FUNCTION pg_temp.hidden() RETURNS void LANGUAGE plpgsql "
        "AS $do$ BEGIN ' + {statement!r} + '; END $do$'); op.execute('SELECT pg_temp.hidden()')"
    ),
    "in a session": (
        "session = sa.orm.Session(op.get_bind()); session.execute(sa.text({statement!r})); "
        "session.commit()"
    ),
    "in an autocommit block": (
        "with op.get_context().autocommit_block(): op.execute({statement!r})"
    ),
}
HIDDEN = [form for form in FORMS if form != "in an autocommit block"]
IMPORTS = ("import sqlalchemy.orm", "from alembic import op")
FIRST = 11  # the line after them in the file of a revision
ON_SQLITE = (
    (f'DELETE FROM "_aside_{LAST}_old"', f"writes to _aside_{LAST}_old (set aside)"),
    (f'ALTER TABLE users DROP COLUMN "_aside_{LAST}_extra"', f"drops _aside_{LAST}_extra"),
    ("UPDATE alembic_version SET version_num = '0003'", "writes to alembic_version"),
    ("UPDATE migration_log SET state = 'done'", "writes to migration_log"),
    ("ALTER TABLE migration_log RENAME COLUMN host TO machine", "changes or empties migration_log"),
)


@pytest.fixture(scope="module")
def databases(all_databases: dict[str, Databases]) -> Databases:
    return all_databases["postgresql"]


@pytest.fixture(scope="module")
def template(databases: Databases, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Yield the name of a database with several versions, and a column and a table set aside."""
    directory = tmp_path_factory.mktemp("clone")
    copy_repository(directory)
    write_chain(directory)
    name = asyncio.run(make_template(databases, directory))
    yield name
    asyncio.run(drop_template(databases, name))


async def make_template(databases: Databases, clone: Path) -> str:
    for role in (OWNER, APP):
        await databases.execute(f"CREATE ROLE {role} LOGIN")
    await databases.execute(f"GRANT {APP} TO {OWNER}")  # for DROP OWNED BY
    url = await databases.empty()
    owners = url.replace("postgres@", f"{OWNER}@")
    await databases.execute(f'ALTER DATABASE "{name_of(url)}" OWNER TO {OWNER}')
    for target in (NEXT, "head"):
        code, output = migrate(owners, clone, target)
        assert code == 0, output
        if target == NEXT:
            await execute(owners, "INSERT INTO old VALUES (1, 'kept')")
            await execute(owners, "INSERT INTO users (full_name) VALUES ('A')")
    return name_of(url)


async def drop_template(databases: Databases, name: str) -> None:
    await databases.execute(f'DROP DATABASE "{name}"')
    for role in (OWNER, APP):
        await databases.execute(f"DROP ROLE {role}")


@pytest.fixture
async def owners(databases: Databases, template: str, clone: Path) -> AsyncIterator[str]:
    """Yield the address by which the owner of a copy of the template connects."""
    write_chain(clone)
    url = await databases.make(template)
    await databases.execute(f'ALTER DATABASE "{name_of(url)}" OWNER TO {OWNER}')
    yield url.replace("postgres@", f"{OWNER}@")
    await databases.drop(url)


def write_chain(clone: Path) -> None:
    """Write the revisions that make things, and set them aside."""
    write_revision(clone, 1, CREATE, DOWN)
    write_revision(clone, 2, SET_ASIDE, DOWN)


def migrate(url: str, clone: Path, target: str) -> tuple[int, str]:
    """Run `alembic upgrade`; return its exit code and its output."""
    arguments = ("-x", "unsafe=a test", "upgrade", target)
    process = run_alembic(url, *arguments, cwd=clone, check=False, APP_ROLE=APP)
    assert "Traceback" not in process.stderr
    return process.returncode, process.stdout


async def picture(url: str) -> Any:
    """Return the state of a database, with the ledger, once nothing of a run is left."""
    assert await leftovers("postgresql", url) == []
    ledger = "SELECT id, revision, direction, state FROM migration_log ORDER BY id"
    return await state_of("postgresql", url), await execute(url, ledger)


async def builds_work(url: str) -> None:
    """Read and write as the builds of all published versions do."""
    for number in NUMBERS:
        name = "full_name" if number >= "0006" else "name"
        app = url.replace(f"{OWNER}@", f"{APP}@")
        rows = await execute(
            app,
            f"SET search_path = at_{number}",
            "BEGIN",
            f"INSERT INTO users ({name}) VALUES ('Ada')",
            f"UPDATE users SET {name} = 'Grace' WHERE {name} = 'Ada'",
            f"SELECT {name} FROM users ORDER BY id",
        )
        assert [row[0] for row in rows] == ["A", "Grace"]


def body(form: str, statements: Iterable[tuple[str, str]]) -> str:
    """Return the body of a revision with a statement in each line, from line `FIRST` on."""
    lines = [FORMS[form].format(statement=statement) for statement, _ in statements]
    return "\n".join([*IMPORTS, *lines])


def refused(output: str, statements: Iterable[tuple[str, str]]) -> None:
    """Assert that each statement is refused with its line and its words."""
    told = dict(re.findall(r"_scratch\.py, line (\d+): (.*)", output))
    for line, (statement, words) in enumerate(statements, start=FIRST):
        assert words in told.pop(str(line), ""), f"{statement}:\n{output}"
    assert told == {}


async def test_what_breaks_a_build_is_rolled_back_and_named_by_its_line(
    owners: str, clone: Path, *, full: bool
) -> None:
    before = await picture(owners)
    groups = [AT_ONCE] if not full else [AT_ONCE, *((one,) for one in BREAKING)]
    for form in HIDDEN:
        for group in groups:
            write_revision(clone, 3, body(form, group), DOWN)
            code, output = migrate(owners, clone, "head")
            assert code != 0, group
            refused(output, group)
            assert await picture(owners) == before
    await builds_work(owners)
    current = run_alembic(owners, "current", cwd=clone).stdout
    assert current.split()[0] == LAST
    assert run_migrations(owners, "drift", cwd=clone).returncode == 0


async def test_what_breaks_nothing_passes(owners: str, clone: Path) -> None:
    lines = [FORMS["directly"].format(statement=statement) for statement in HARMLESS]
    write_revision(clone, 3, "\n".join([*IMPORTS, UNDONE, *lines]), DOWN)
    code, output = migrate(owners, clone, "head")
    assert code == 0, output


async def test_a_statement_without_a_transaction_gets_one_and_is_rolled_back(
    owners: str, clone: Path
) -> None:
    write_revision(clone, 3, body("in an autocommit block", BREAKING[:1]), DOWN)
    code, output = migrate(owners, clone, "head")
    assert code != 0
    assert f"line {FIRST}: `DROP TABLE idempotency_key CASCADE` takes" in output
    await execute(owners, f"SELECT * FROM at_{HEAD}.idempotency_key")
    await builds_work(owners)
    write_revision(clone, 3, "pass", DOWN)
    assert migrate(owners, clone, "head")[0] == 0


async def test_what_commits_by_itself_or_elsewhere_is_named_all_the_same(
    owners: str, clone: Path
) -> None:
    write_revision(
        clone,
        3,
        f"""\
{IMPORTS[1]}
op.execute("CREATE PROCEDURE drop_it() LANGUAGE plpgsql AS "
           "$$ BEGIN DROP TABLE idempotency_key CASCADE; COMMIT; END $$")
with op.get_context().autocommit_block():
    op.execute("CALL drop_it()")""",
        DOWN,
    )
    code, output = migrate(owners, clone, "head")
    assert code != 0
    assert "`CALL drop_it()` (committed: it can't run in a transaction) takes" in output


async def test_a_script_raises_where_it_breaks_a_published_version(
    owners: str, clone: Path
) -> None:
    write_revision(clone, 3, body("directly", BREAKING[1:2]), DOWN)
    script = run_alembic(owners, "upgrade", f"{LAST}:head", "--sql", cwd=clone, APP_ROLE=APP).stdout
    before = await picture(owners)
    engine = engine_for(owners)
    with pytest.raises(asyncpg.RaiseError, match=r"breaks published versions.*at_0002\.users"):
        await run_script(engine, script)
    await engine.dispose()
    assert await picture(owners) == before


def test_what_is_set_aside_and_recorded_is_kept_on_sqlite(
    all_databases: dict[str, Databases], clone: Path
) -> None:
    write_chain(clone)
    url = asyncio.run(all_databases["sqlite"].at_head())
    run_alembic(url, "upgrade", NEXT, cwd=clone)
    with closing(sqlite3.connect(path_of(url))) as connection, connection:
        connection.execute("INSERT INTO old VALUES (1, 'kept')")
    run_alembic(url, "upgrade", "head", cwd=clone)
    write_revision(clone, 3, body("directly", ON_SQLITE), DOWN)
    process = run_alembic(url, "-x", "unsafe=a test", "upgrade", "head", cwd=clone, check=False)
    refused(process.stdout, ON_SQLITE)
    assert run_alembic(url, "current", cwd=clone).stdout.split() == [LAST]
    with closing(sqlite3.connect(path_of(url))) as connection:
        [(rows,)] = connection.execute(f'SELECT count(*) FROM "_aside_{LAST}_old"')
    assert rows == 1
    harmless = (("UPDATE users SET age = 1", ""), (f'SELECT * FROM "_aside_{LAST}_old"', ""))
    write_revision(clone, 3, body("directly", harmless), DOWN)
    run_alembic(url, "upgrade", "head", cwd=clone)
