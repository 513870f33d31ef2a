"""The table of docs/evolving-the-schema.md, row by row, on PostgreSQL."""

import json
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any, NamedTuple

import asyncpg
import pytest

from migrations import snapshot
from tests.chain import HEAD, NEXT
from tests.commands import run_alembic
from tests.documented_changes import ROWS
from tests.revisions import Revision

Client = Any  # an asyncpg.Connection, which brings no types
Check = Callable[[Client], Awaitable[None]]

OLD, NEW = f"at_{HEAD}.users", f"at_{NEXT}.users"
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
ADA = "INSERT INTO users (full_name, email, age) VALUES ('Ada Lovelace', 'ada@example.org', 36)"
BOB = f"INSERT INTO {OLD} (full_name, email) VALUES ('Bob Older', 'bob@example.org')"
HELD = "SELECT mode FROM pg_locks WHERE pid = pg_backend_pid() AND relation = $1"
SAID = r"CREATE (UNIQUE )?INDEX CONCURRENTLY|COMMIT;\s*END LOOP"  # can't be in a transaction


class Case(NamedTuple):
    """What a row promises, and how it is undone."""

    down: str
    older: Check  # what a build at the head sees and may do meanwhile
    undone: Check  # what is there after the way down and the way up again


async def one(client: Client, query: str, *values: Any) -> Any:
    return await client.fetchval(query, *values)


async def sees_ada(client: Client) -> None:
    assert await client.fetch(f"SELECT full_name, email, age FROM {OLD} WHERE id = 1") == [
        ("Ada Lovelace", "ada@example.org", 36)
    ]


def older_may(*statements: str, reads: dict[str, Any] | None = None) -> Check:
    """An older build still sees Ada, runs these, and then reads what the queries give."""

    async def check(client: Client) -> None:
        await sees_ada(client)
        for statement in statements:
            await client.execute(statement)
        for query, value in (reads or {}).items():
            assert await one(client, query) == value, query

    return check


def older_is_refused(statement: str, error: type[Exception]) -> Check:
    """An older build still sees Ada, and gets a clean error for what the new rule forbids."""

    async def check(client: Client) -> None:
        await sees_ada(client)
        with pytest.raises(error):
            await client.execute(statement)

    return check


def then(reads: dict[str, Any]) -> Check:
    async def check(client: Client) -> None:
        for query, value in reads.items():
            assert await one(client, query) == value, query

    return check


NOTHING = then({})
LATER = f"SELECT {{}} FROM {NEW} WHERE email = '{{}}@example.org'"
BOBS_AGE = "SELECT age FROM users WHERE email = 'bob@example.org'"

CASES = {
    "add a column": Case(
        'safely.drop_column("users", "phone")',
        older_may(BOB, f"UPDATE {NEW} SET phone = '123' WHERE id = 1"),
        then({LATER.format("phone", "ada"): "123", LATER.format("phone", "bob"): None}),
    ),
    "add a required column": Case(
        'safely.drop_column("users", "status")',
        older_may(BOB, f"UPDATE {NEW} SET status = 'old' WHERE id = 1"),
        then({LATER.format("status", "ada"): "old", LATER.format("status", "bob"): "new"}),
    ),
    "drop a column": Case(
        'safely.add_column("users", sa.Column("age", sa.Integer(), '
        'sa.CheckConstraint("age BETWEEN 0 AND 150", name=safely.f("ck_users_age"))))',
        older_may(BOB, f"UPDATE {OLD} SET age = 41 WHERE email = 'bob@example.org'"),
        then({f"SELECT age FROM {OLD} WHERE email = 'bob@example.org'": 41}),
    ),
    "drop a required column": Case(
        'safely.add_column("users", sa.Column("full_name", sa.Text(), nullable=False))',
        older_may(
            BOB,
            f"INSERT INTO {NEW} (email) VALUES ('new@example.org')",
            reads={f"SELECT full_name FROM {OLD} WHERE email = 'new@example.org'": "Unknown"},
        ),
        then({f"SELECT full_name FROM {OLD} WHERE email = 'bob@example.org'": "Bob Older"}),
    ),
    "rename a column": Case(
        'safely.rename_column("users", "display_name", "full_name")',
        older_may(BOB),
        then({LATER.format("display_name", "bob"): "Bob Older"}),
    ),
    "retype a column": Case(
        'safely.change_type("users", "age", sa.Integer())',
        older_may(
            BOB,
            f"UPDATE {OLD} SET age = 41 WHERE email = 'bob@example.org'",
            f"INSERT INTO {NEW} (full_name, email, age) VALUES ('New', 'new@example.org', 7)",
            reads={
                f"SELECT age FROM {NEW} WHERE email = 'bob@example.org'": 41,
                f"SELECT age FROM {OLD} WHERE email = 'new@example.org'": 7,
            },
        ),
        then({LATER.format("age", "bob"): 41, LATER.format("age", "new"): 7}),
    ),
    "tighten a column": Case(
        'safely.allow_null("users", "age")',
        older_may(BOB, reads={BOBS_AGE: 18}),
        then({BOBS_AGE: 18}),
    ),
    "loosen a column": Case(
        'safely.require_column("users", "full_name", fill="Unknown")',
        older_may(
            f"INSERT INTO {NEW} (full_name, email) VALUES (NULL, 'new@example.org')",
            reads={f"SELECT full_name FROM {OLD} WHERE email = 'new@example.org'": None},
        ),
        then({LATER.format("full_name", "new"): "Unknown"}),
    ),
    "change a default": Case(
        'safely.change_default("users", "age", None)',
        older_may(BOB, reads={BOBS_AGE: 18}),
        then({BOBS_AGE: 18}),
    ),
    "add a rule": Case(
        'safely.drop_constraint("ck_users_adult", "users", "check")',
        older_is_refused(
            f"INSERT INTO {OLD} (full_name, age) VALUES ('Kid', 5)", asyncpg.CheckViolationError
        ),
        NOTHING,
    ),
    "add an index": Case('safely.drop_index("idx_users_age", "users")', older_may(BOB), NOTHING),
    "add a unique index": Case(
        'safely.drop_index("idx_users_name_age", "users")',
        older_is_refused(
            f"INSERT INTO {OLD} (full_name, age) VALUES ('Ada Lovelace', 36)",
            asyncpg.UniqueViolationError,
        ),
        NOTHING,
    ),
    "add a table": Case(
        'safely.drop_table("teams")',
        older_may(BOB, f"INSERT INTO at_{NEXT}.teams DEFAULT VALUES"),
        then({f"SELECT count(*) FROM at_{NEXT}.teams": 1}),
    ),
    "drop a table": Case(
        'safely.create_table("users", '
        'sa.Column("id", sa.BigInteger(), sa.Identity(), primary_key=True), '
        'sa.Column("full_name", sa.Text(), nullable=False), sa.Column("email", sa.Text()), '
        'sa.Column("age", sa.Integer()))',
        older_may(BOB),
        then({f"SELECT full_name FROM {OLD} WHERE email = 'bob@example.org'": "Bob Older"}),
    ),
    "refer to a table": Case(
        'safely.drop_constraint("fk_users_age_users", "users", "foreignkey")',
        older_is_refused(
            f"INSERT INTO {OLD} (full_name, age) VALUES ('Eve', 99)",
            asyncpg.ForeignKeyViolationError,
        ),
        NOTHING,
    ),
    "backfill": Case(
        'safely.nothing_to_undo("ages that were filled in stay")',
        older_may(BOB, reads={BOBS_AGE: None}),
        then({BOBS_AGE: 18}),
    ),
    "split a column": Case(
        'safely.allow_null("users", "first_name")\nsafely.drop_column("users", "first_name")',
        older_may(
            BOB, reads={f"SELECT first_name FROM {NEW} WHERE email = 'bob@example.org'": "Bob"}
        ),
        then({LATER.format("first_name", "ada"): "Ada", LATER.format("first_name", "bob"): "Bob"}),
    ),
}


def test_every_row_of_the_table_is_tested() -> None:
    assert list(ROWS) == list(CASES)


def spelled(change: str) -> str:
    """The body of the revision, as the table says it."""
    return "\n".join(re.findall(r"`(safely\.[^`]*)`", ROWS[change].spelling))


@pytest.fixture
async def older(url: str) -> AsyncIterator[Client]:
    """A build at the head, connected all the time."""
    client = await asyncpg.connect(url, server_settings={"application_name": f"users@{HEAD}"})
    yield client
    await client.close()


@pytest.mark.only("postgresql")
@pytest.mark.parametrize("change", ROWS)
async def test_a_change_up_and_down_with_an_older_build_at_work(
    url: str, clone: Path, revision: Revision, older: Client, change: str
) -> None:
    await older.execute(ADA)
    if change == "refer to a table":
        await older.execute("UPDATE users SET id = 36, age = 36")  # so that it refers to itself
        await older.execute("UPDATE users SET id = 1, age = NULL")
        await older.execute("INSERT INTO users (id, full_name) VALUES (36, 'Root')")
        await older.execute("UPDATE users SET age = 36 WHERE id = 1")
    before = await looks(older)
    case = CASES[change]
    revision(spelled(change), case.down)
    run_alembic(url, "upgrade", "head", cwd=clone)
    await case.older(older)
    run_alembic(url, "downgrade", "-1", cwd=clone)
    await sees_ada(older)
    assert snapshot.differences(before, await looks(older)) == []
    run_alembic(url, "upgrade", "head", cwd=clone)
    await case.undone(older)


async def looks(client: Client) -> dict[str, str]:
    """The schema as the ledger would record it, but for what helps older builds."""
    found: dict[str, str] = json.loads(await client.fetchval(snapshot.POSTGRESQL))
    return {
        name: definition
        for name, definition in found.items()
        if not re.match("(trigger|function) (fill_missing|sync_retyped)", name)
    }


@pytest.mark.only("postgresql")
@pytest.mark.parametrize("change", ROWS)
async def test_a_change_takes_the_lock_that_the_table_says(
    url: str, clone: Path, revision: Revision, driver: Client, change: str
) -> None:
    """By its script: after each statement, what the transaction holds on the table."""
    revision(spelled(change), CASES[change].down)
    script = run_alembic(url, "upgrade", f"{HEAD}:{NEXT}", "--sql", cwd=clone).stdout
    table = await one(driver, "SELECT 'users'::regclass::oid")
    taken = {"none", "ACCESS SHARE"}
    for statement in re.split(r";\n\n", script):
        if re.search(SAID, statement):  # these tell only by the manual what they lock
            taken.add("SHARE UPDATE EXCLUSIVE" if "INDEX" in statement else "ROW EXCLUSIVE")
            await driver.execute(statement)
            continue
        alone = not driver.is_in_transaction() and not statement.strip().startswith("BEGIN")
        await driver.execute(f"BEGIN; {statement}" if alone else statement)
        if driver.is_in_transaction():
            taken |= {spaced(mode) for (mode,) in await driver.fetch(HELD, table)}
        if alone:
            await driver.execute("COMMIT")
    strongest = max(taken, key=LOCKS.index)
    assert ROWS[change].lock == ("none" if strongest == "ACCESS SHARE" else strongest)


def spaced(mode: str) -> str:
    """AccessExclusiveLock as LOCK TABLE says it."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", " ", mode.removesuffix("Lock")).upper()
