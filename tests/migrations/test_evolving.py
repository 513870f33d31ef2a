"""Every row of the table in docs/evolving-the-schema.md holds on PostgreSQL."""

import json
import re
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import pytest

from safely.ledger import snapshot
from tests.chain import HEAD, NEXT
from tests.commands import run_alembic
from tests.documented_cases import ADA, CASES, Client, body_of, prepare, sees_ada
from tests.documented_changes import ROWS
from tests.revisions import Revision

LOCKS = (  # from weak to strong
    "none",
    "ACCESS SHARE",
    "ROW SHARE",
    "ROW EXCLUSIVE",
    "SHARE UPDATE EXCLUSIVE",
    "SHARE",
    "SHARE ROW EXCLUSIVE",
    "EXCLUSIVE",
    "ACCESS EXCLUSIVE",
)
HELD = "SELECT mode FROM pg_locks WHERE pid = pg_backend_pid() AND relation = $1"
# statements that are not allowed in a transaction
NO_TRANSACTION = r"CREATE (UNIQUE )?INDEX CONCURRENTLY|COMMIT;\s*END LOOP"


def test_every_row_of_the_table_is_tested() -> None:
    assert list(ROWS) == list(CASES)


@pytest.fixture
async def older(url: str) -> AsyncIterator[Client]:
    """Yield a connection of a build at the head."""
    client = await asyncpg.connect(url, server_settings={"application_name": f"users@{HEAD}"})
    yield client
    await client.close()


@pytest.mark.only("postgresql")
@pytest.mark.parametrize("change", ROWS)
async def test_a_change_up_and_down_with_an_older_build_at_work(
    url: str, clone: Path, revision: Revision, older: Client, change: str
) -> None:
    await prepare(older, url, change)
    await older.execute(ADA)
    if change == "refer to a table":
        # so that the reference finds a row
        await older.execute("UPDATE users SET id = 36, age = 36")
        await older.execute("UPDATE users SET id = 1, age = NULL")
        await older.execute("INSERT INTO users (id, full_name) VALUES (36, 'Root')")
        await older.execute("UPDATE users SET age = 36 WHERE id = 1")
    before = await schema_of(older)
    case = CASES[change]
    revision(body_of(change), case.down)
    run_alembic(url, "upgrade", "head", cwd=clone)
    await case.older(older)
    run_alembic(url, "downgrade", "-1", cwd=clone)
    await sees_ada(older)
    assert snapshot.differences(before, await schema_of(older)) == []
    run_alembic(url, "upgrade", "head", cwd=clone)
    await case.undone(older)


async def schema_of(client: Client) -> dict[str, str]:
    """Return the schema as the ledger records it, without the triggers that serve older builds."""
    schema: dict[str, str] = json.loads(await client.fetchval(snapshot.POSTGRESQL))
    return {
        name: definition
        for name, definition in schema.items()
        if not re.match("(trigger|function) (fill_missing|sync_retyped)", name)
    }


@pytest.mark.only("postgresql")
@pytest.mark.parametrize("change", ROWS)
async def test_a_change_takes_the_lock_that_the_table_says(
    url: str, clone: Path, revision: Revision, driver: Client, change: str
) -> None:
    """Execute its script; after each statement, look which locks on the table are held."""
    await prepare(driver, url, change)
    revision(body_of(change), CASES[change].down)
    script = run_alembic(url, "upgrade", f"{HEAD}:{NEXT}", "--sql", cwd=clone).stdout
    table = await driver.fetchval("SELECT 'users'::regclass::oid")
    locks = {"none", "ACCESS SHARE"}
    for statement in re.split(r";\n\n", script):
        if re.search(NO_TRANSACTION, statement):  # its locks are gone afterwards: see the manual
            locks.add("SHARE UPDATE EXCLUSIVE" if "INDEX" in statement else "ROW EXCLUSIVE")
            await driver.execute(statement)
            continue
        autocommit = not driver.is_in_transaction() and not statement.strip().startswith("BEGIN")
        await driver.execute(f"BEGIN; {statement}" if autocommit else statement)
        if driver.is_in_transaction():
            locks |= {with_spaces(mode) for (mode,) in await driver.fetch(HELD, table)}
        if autocommit:
            await driver.execute("COMMIT")
    strongest = max(locks, key=LOCKS.index)
    assert ROWS[change].lock == ("none" if strongest == "ACCESS SHARE" else strongest)


def with_spaces(mode: str) -> str:
    """Turn AccessExclusiveLock into ACCESS EXCLUSIVE."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", " ", mode.removesuffix("Lock")).upper()
