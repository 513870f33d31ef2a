"""A change whose run ends anywhere, and that is run again, ends as an undisturbed run does.

Every kind of change that docs/evolving-the-schema.md names, up and down; cut off at each request
that commits something, at some of the others, and twice. Somebody writes between the runs.
"""

import asyncio
import random
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import asyncpg
import pytest

from tests.chain import HEAD, NEXT
from tests.commands import run_alembic
from tests.databases import Databases, name_of
from tests.documented_cases import ADA, CASES, body_of, prepare
from tests.documented_changes import ROWS
from tests.dying_databases import Fault, Loss, Wire, wire
from tests.migrated import leftovers, state_of
from tests.revisions import Revision

CHANGES_IN_SUITE = 4
OTHERS = 3  # cuts by another loss, and at requests that commit nothing
LOSSES: tuple[Loss, ...] = ("request", "answer", "backend")
SEVERAL = """\
INSERT INTO users (full_name, email, age)
SELECT 'User ' || n, 'user' || n || '@example.org', CASE WHEN n % 3 > 0 THEN 20 + n END
FROM generate_series(1, 40) AS n"""
# without the age: there is a change that lets it reference an id
WRITE = (
    "INSERT INTO {}.users (full_name, email) VALUES ('Written between', 'between{}@example.org')"
)
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
    for command in ("upgrade", "downgrade"):
        place = Place(databases, url, clone, command)
        expected, proxy = await undisturbed(place)
        every = list(cuts(proxy, chance))
        for faults in every if full else chance.sample(every, 1):
            at = f"seed {seed}, {command}, {faults}"
            assert await after(place, faults) == expected, at
        if command == "upgrade":
            run_alembic(url, "upgrade", "head", cwd=clone)


class Place(NamedTuple):
    """The place where a change is tried: copies of a database, a clone with the revision."""

    databases: Databases
    url: str
    clone: Path
    command: str

    async def run(self, url: str) -> None:
        """Run the command; it may fail."""
        # not -1, which counts from where the database is
        target = "head" if self.command == "upgrade" else HEAD
        await asyncio.to_thread(run_alembic, url, self.command, target, cwd=self.clone, check=False)


def cuts(proxy: Wire, chance: random.Random) -> Iterator[list[Fault]]:
    """Yield the faults of one run, or of two in turn, after those that the proxy has seen."""
    commits, others = len(proxy.commits), range(1, proxy.requests + 1)
    for number in range(1, commits + 1):
        # it is committed, and nobody knows
        first = Fault(number, loss="answer", counts_commits=True)
        yield [first]
        # the second run begins after that commit: it may end before its own
        second = chance.randint(1, commits)
        yield [first, Fault(second, loss=chance.choice(LOSSES), counts_commits=True)]
    for number in chance.sample(range(1, commits + 1), min(OTHERS, commits)):
        loss: Loss = chance.choice(["request", "backend"])
        yield [Fault(number, loss=loss, counts_commits=True)]
    for number in chance.sample(others, OTHERS):
        yield [Fault(number, loss=chance.choice(LOSSES))]


async def after(place: Place, faults: list[Fault]) -> dict[str, Any]:
    """Return the outcome of runs with these faults, and of one without; assert that it succeeds."""
    copy = await place.databases.make(name_of(place.url))
    for number, fault in enumerate(faults):
        async with wire(place.databases.server, name_of(copy), fault) as proxy:
            await place.run(proxy.url)
        await write_between(copy, number)
    target = "head" if place.command == "upgrade" else HEAD
    await asyncio.to_thread(run_alembic, copy, place.command, target, cwd=place.clone)
    reached = await outcome(copy)
    assert await leftovers("postgresql", copy) == [], faults
    await place.databases.drop(copy)
    return reached


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


async def undisturbed(place: Place) -> tuple[dict[str, Any], Wire]:
    """Return the outcome of an undisturbed run on a copy, and the proxy that saw its requests."""
    copy = await place.databases.make(name_of(place.url))
    async with wire(place.databases.server, name_of(copy), Fault(0)) as proxy:
        await place.run(proxy.url)
    await write_between(copy, 0)
    reached = await outcome(copy)
    await place.databases.drop(copy)
    return reached, proxy


async def write_between(url: str, number: int) -> None:
    """Write as a build does, through a version that is published."""
    connection = await asyncpg.connect(url)
    for version in (f"at_{HEAD}", f"at_{NEXT}"):
        if await connection.fetchval("SELECT to_regclass($1)", f"{version}.users"):
            columns = await connection.fetch(
                "SELECT attname FROM pg_attribute WHERE attrelid = $1::text::regclass",
                f"{version}.users",
            )
            if {"full_name", "email"} <= {name for (name,) in columns}:
                await connection.execute(WRITE.format(version, number))
                break
    await connection.close()


async def outcome(url: str) -> dict[str, Any]:
    """Return the revision, the schema and the ledger."""
    state = await state_of("postgresql", url)
    connection = await asyncpg.connect(url)
    ledger = [tuple(row) for row in await connection.fetch(LEDGER)]
    await connection.close()
    return {"revision": state["revision"], "schema": state["schema"], "ledger": ledger}
