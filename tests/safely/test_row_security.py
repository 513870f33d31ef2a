"""Policies of a table hold for the application's role, through every published version."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import NamedTuple

import asyncpg
import pytest

from safely.ledger.ledger import SNAPSHOT
from tests.chain import HEAD, NEXT, NUMBERS
from tests.commands import run_alembic
from tests.databases import Databases, execute, name_of
from tests.paths import ROOT
from tests.revisions import Revision

OWNER, APP = "secured_owner", "secured_app"  # neither sees more than the policies let it see
VERSIONS = [*NUMBERS, NEXT]
DENIED = asyncpg.InsufficientPrivilegeError
SECURE = """\
# lint: row-security: the policies below show each row to those who may read it
op.execute("ALTER TABLE users ENABLE ROW LEVEL SECURITY")
op.execute("CREATE POLICY chosen ON users USING (id = current_setting('app.id', true)::bigint)")
op.execute("CREATE POLICY listed ON users FOR SELECT USING "
           "(id IN (SELECT status FROM idempotency_key) AND current_user = 'secured_app')")"""
UNSECURE = """\
op.execute("DROP POLICY chosen ON users")
op.execute("DROP POLICY listed ON users")
# lint: row-security: before the revision all rows were shown
op.execute("ALTER TABLE users DISABLE ROW LEVEL SECURITY")"""


class Deployment(NamedTuple):
    """A database of an owner that is no superuser, and the addresses of three roles."""

    superuser: str
    owner: str
    app: str


@pytest.fixture(params=["postgresql"])
async def databases(
    request: pytest.FixtureRequest, all_databases: dict[str, Databases]
) -> Databases:
    return all_databases[request.param]


@pytest.fixture
async def deployment(databases: Databases) -> AsyncIterator[Deployment]:
    """Yield a database at the head with three users, whose tables APP can't name."""
    url = await databases.empty()
    database = name_of(url)
    for statement in (
        f"CREATE ROLE {OWNER} LOGIN",
        f"CREATE ROLE {APP} LOGIN",
        f'ALTER DATABASE "{database}" OWNER TO {OWNER}',
    ):
        await databases.execute(statement)
    deployment = Deployment(
        url, url.replace("postgres@", f"{OWNER}@"), url.replace("postgres@", f"{APP}@")
    )
    await execute(url, "REVOKE ALL ON SCHEMA public FROM PUBLIC")
    migrate(deployment, "upgrade", HEAD)
    await execute(deployment.owner, "INSERT INTO users (full_name) VALUES ('A'), ('B'), ('C')")
    yield deployment
    await databases.drop(url)
    await databases.execute(f"DROP ROLE {OWNER}")
    await databases.execute(f"DROP ROLE {APP}")


def migrate(deployment: Deployment, *arguments: str, cwd: Path = ROOT) -> str:
    """Run alembic as the owner; return its output."""
    reason = ("-x", "unsafe=policies are what is tested")
    return run_alembic(deployment.owner, *reason, *arguments, cwd=cwd, APP_ROLE=APP).stdout


def refused(deployment: Deployment, *arguments: str, cwd: Path) -> str:
    """Run alembic, which must fail in one line; return that line."""
    process = run_alembic(deployment.owner, *arguments, cwd=cwd, check=False, APP_ROLE=APP)
    assert process.returncode != 0
    assert "Traceback" not in process.stderr
    return process.stdout.splitlines()[-1]


async def ids(deployment: Deployment, statement: str) -> list[int]:
    """Return the ids that a statement of the application returns, which has chosen user 1."""
    rows = await execute(deployment.app, "SET app.id = 1", "BEGIN", statement)
    return sorted(row["id"] for row in rows)


@pytest.fixture
def secured(clone: Path, revision: Revision) -> Path:
    """Return a clone whose next revision switches row security on."""
    revision(f"from alembic import op\n{SECURE}", f"from alembic import op\n{UNSECURE}")
    return clone


async def catalogue(deployment: Deployment) -> dict[str, str]:
    """Return the schema as the ledger's snapshot has it."""
    ((snapshot,),) = await execute(deployment.owner, SNAPSHOT["postgresql"])
    objects: dict[str, str] = json.loads(snapshot)
    return objects


async def test_every_version_obeys_the_policies_until_they_are_undone(
    deployment: Deployment, secured: Path
) -> None:
    everybody = [await ids(deployment, f"SELECT id FROM at_{number}.users") for number in NUMBERS]
    assert everybody == [[1, 2, 3]] * len(NUMBERS)
    before = await catalogue(deployment)

    migrate(deployment, "upgrade", "head", cwd=secured)
    for version in VERSIONS:
        users = f"at_{version}.users"
        assert await ids(deployment, f"SELECT id FROM {users}") == [1]
        assert await ids(deployment, f"UPDATE {users} SET id = id RETURNING id") == [1]
        assert await ids(deployment, f"DELETE FROM {users} RETURNING id") == [1]
        with pytest.raises(DENIED, match="row-level security"):
            await ids(deployment, f"UPDATE {users} SET id = 9 RETURNING id")
        with pytest.raises(DENIED, match="row-level security"):
            await ids(deployment, f"INSERT INTO {users} (id) OVERRIDING SYSTEM VALUE VALUES (9)")
    await execute(deployment.owner, "INSERT INTO idempotency_key VALUES ('', '', 2, '', '', 0)")
    assert await ids(deployment, f"SELECT id FROM at_{HEAD}.users") == [1, 2]
    with pytest.raises(DENIED, match="schema public"):
        await ids(deployment, "SELECT id FROM public.users")

    migrate(deployment, "downgrade", HEAD, cwd=secured)
    after = await catalogue(deployment)
    # the policy has gone with its need of that table, and nothing tells who granted the right
    right = f"grant on idempotency_key to {APP}"
    assert after.pop(right) == "SELECT"
    assert after == before
    assert await ids(deployment, "SELECT id FROM at_0001.users") == [1, 2, 3]


async def test_a_script_makes_the_same_catalogue(deployment: Deployment, secured: Path) -> None:
    script = migrate(deployment, "upgrade", f"{HEAD}:{NEXT}", "--sql", cwd=secured)
    connection = await asyncpg.connect(deployment.owner)
    await connection.execute(script)
    await connection.close()
    scripted = await catalogue(deployment)
    migrate(deployment, "downgrade", HEAD, cwd=secured)
    migrate(deployment, "upgrade", "head", cwd=secured)
    assert await catalogue(deployment) == scripted


async def test_policies_that_were_switched_on_by_hand_hold_after_the_next_run(
    deployment: Deployment,
) -> None:
    await execute(
        deployment.owner,
        "CREATE POLICY first ON users USING (id = 1)",
        "ALTER TABLE users ENABLE ROW LEVEL SECURITY",
    )
    migrate(deployment, "-x", "drift=accept", "upgrade", "head")
    assert await ids(deployment, "SELECT id FROM at_0001.users") == [1]
    assert "nothing to do" in run_alembic(deployment.owner, "upgrade", "head", APP_ROLE=APP).stderr


async def test_what_would_show_more_or_miss_rows_is_refused(
    deployment: Deployment, clone: Path, revision: Revision
) -> None:
    grant = f"GRANT SELECT (id) ON users TO {APP}"
    revision(f'from alembic import op\nop.execute("{grant}")')
    before = await catalogue(deployment)
    assert f"SELECT (id) on users to {APP}" in refused(deployment, "upgrade", "head", cwd=clone)
    assert await catalogue(deployment) == before

    await execute(deployment.owner, grant)
    line = refused(deployment, "-x", "drift=accept", "upgrade", "head", cwd=clone)
    assert f"SELECT (id) on users to {APP}" in line
    await execute(
        deployment.owner,
        f"REVOKE SELECT (id) ON users FROM {APP}",
        "ALTER TABLE users ENABLE ROW LEVEL SECURITY",
        "ALTER TABLE users FORCE ROW LEVEL SECURITY",
    )
    for body in (
        'safely.backfill("users", "age = 1", where="age IS NULL")',
        'safely.require_column("users", "age", fill=1)',
        'safely.change_type("users", "age", sa.BigInteger())',
        'safely.create_check_constraint("ck_users_old", "users", "age > 1")',
    ):
        revision(body)
        line = refused(deployment, "-x", "drift=accept", "upgrade", "head", cwd=clone)
        assert "BYPASSRLS" in line
