"""A change whose run ends anywhere, and that is run again, ends as an undisturbed run does.

Every kind of change that docs/evolving-the-schema.md names, up and down; at every request that the
migration sends. Somebody writes between the two runs.
"""

import asyncio
import random
import secrets
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from tests.chain import HEAD, NEXT
from tests.commands import run_alembic
from tests.databases import Databases, name_of
from tests.documented_cases import ADA, CASES, body_of, prepare
from tests.documented_changes import ROWS
from tests.dying_databases import Fault, wire
from tests.migrated import leftovers, state_of
from tests.revisions import Revision

CHANGES_IN_SUITE = 4
SEVERAL = """\
INSERT INTO users (full_name, email, age)
SELECT 'User ' || n, 'user' || n || '@example.org', CASE WHEN n % 3 > 0 THEN 20 + n END
FROM generate_series(1, 40) AS n"""
# without the age: there is a change that lets it reference an id
WRITE = "INSERT INTO {}.users (full_name, email) VALUES ('Written between', 'between@example.org')"
LEDGER = """\
SELECT direction, revision, state, checksum FROM migration_log
WHERE state <> 'undone' ORDER BY id"""


@pytest.mark.only("postgresql")
@pytest.mark.parametrize("change", ROWS)
async def test_a_change_that_is_cut_off_anywhere_ends_as_an_undisturbed_one(  # noqa: PLR0913  # pytest's arguments
    databases: Databases, url: str, clone: Path, revision: Revision, change: str, *, full: bool
) -> None:
    chance = random.Random(seed := secrets.randbelow(10**6))  # noqa: S311  # not a secret
    if not full and change not in chosen():
        pytest.skip("another time, or with --full")
    await give_users(url, change)
    revision(body_of(change), CASES[change].down)
    for target in ("head", "-1"):
        reached, requests = await undisturbed(databases, url, clone, target)
        expected = await outcome(reached)
        await databases.drop(reached)
        numbers = range(1, requests + 1)
        for number in numbers if full else chance.sample(numbers, 1):
            fault = Fault(number, loss=chance.choice(["request", "answer", "backend"]))
            copy = await databases.make(name_of(url))
            async with wire(databases.server, name_of(copy), fault) as proxy:
                await asyncio.to_thread(
                    run_alembic, proxy.url, "upgrade" if target == "head" else "downgrade", target,
                    cwd=clone, check=False,
                )  # fmt: skip
            await write_between(copy)
            # -1 counts from where the database is
            again = ("upgrade", "head") if target == "head" else ("downgrade", HEAD)
            process = await asyncio.to_thread(run_alembic, copy, *again, cwd=clone, check=False)
            at = f"seed {seed}, {target}, {fault}: {proxy.failed_request}"
            assert process.returncode == 0, at + process.stdout + process.stderr
            assert await outcome(copy) == expected, at
            assert await leftovers("postgresql", copy) == [], at
            await databases.drop(copy)
        if target == "head":
            run_alembic(url, "upgrade", "head", cwd=clone)


def chosen() -> list[str]:
    """Return the changes of this run of the suite."""
    return secrets.SystemRandom().sample(list(ROWS), CHANGES_IN_SUITE)


async def give_users(url: str, change: str) -> None:
    """Write users, as the change needs them."""
    connection = await asyncpg.connect(url)
    await prepare(connection, url, change)
    await connection.execute(ADA)
    await connection.execute(SEVERAL)
    if change == "refer to a table":  # the ages are to be ids
        await connection.execute("UPDATE users SET age = NULL")
    if change == "add a rule":
        await connection.execute("UPDATE users SET age = 18 WHERE age < 18")
    await connection.close()


async def undisturbed(databases: Databases, url: str, clone: Path, target: str) -> tuple[str, int]:
    """Run the change on a copy of the database; return the copy, and how many requests it took."""
    copy = await databases.make(name_of(url))
    command = "upgrade" if target == "head" else "downgrade"
    async with wire(databases.server, name_of(copy), Fault(0)) as proxy:
        await asyncio.to_thread(run_alembic, proxy.url, command, target, cwd=clone)
    await write_between(copy)
    return copy, proxy.requests


async def write_between(url: str) -> None:
    """Write as a build does, through a version that is published."""
    connection = await asyncpg.connect(url)
    for version in (f"at_{HEAD}", f"at_{NEXT}"):
        if await connection.fetchval("SELECT to_regclass($1)", f"{version}.users"):
            columns = await connection.fetch(
                "SELECT attname FROM pg_attribute WHERE attrelid = $1::text::regclass",
                f"{version}.users",
            )
            if {"full_name", "email"} <= {name for (name,) in columns}:
                await connection.execute(WRITE.format(version))
                break
    await connection.close()


async def outcome(url: str) -> dict[str, Any]:
    """Return the revision, the schema and the ledger."""
    state = await state_of("postgresql", url)
    connection = await asyncpg.connect(url)
    ledger = [tuple(row) for row in await connection.fetch(LEDGER)]
    await connection.close()
    return {"revision": state["revision"], "schema": state["schema"], "ledger": ledger}
