"""For each kind of change that is documented: how it is undone, and what builds see of it."""

import re
from collections.abc import Awaitable, Callable
from decimal import Decimal
from typing import Any, NamedTuple

import asyncpg
import pytest

from tests.chain import HEAD, NEXT
from tests.commands import run_alembic
from tests.documented_changes import ROWS

Client = Any  # an asyncpg.Connection; asyncpg has no types
Check = Callable[[Client], Awaitable[None]]

OLD, NEW = f"at_{HEAD}.users", f"at_{NEXT}.users"
ADA = "INSERT INTO users (full_name, email, age) VALUES ('Ada Lovelace', 'ada@example.org', 36)"
BOB = f"INSERT INTO {OLD} (full_name, email) VALUES ('Bob Older', 'bob@example.org')"


class Case(NamedTuple):
    """How a row's change is undone, and what it promises."""

    down: str
    older: Check  # what a build at the head reads and may write while it is applied
    undone: Check  # the values after a downgrade and another upgrade


async def fetch_value(client: Client, query: str, *values: Any) -> Any:
    return await client.fetchval(query, *values)


async def sees_ada(client: Client) -> None:
    assert await client.fetch(f"SELECT full_name, email, age FROM {OLD} WHERE id = 1") == [
        ("Ada Lovelace", "ada@example.org", 36)
    ]


def older_may(*statements: str, reads: dict[str, Any] | None = None) -> Check:
    """Check that an older build reads Ada, may run the statements, and reads these values."""

    async def check(client: Client) -> None:
        await sees_ada(client)
        for statement in statements:
            await client.execute(statement)
        for query, value in (reads or {}).items():
            assert await fetch_value(client, query) == value, query

    return check


def older_is_refused(statement: str, error: type[Exception]) -> Check:
    """Check that an older build reads Ada, and that the new rule refuses its statement."""

    async def check(client: Client) -> None:
        await sees_ada(client)
        with pytest.raises(error):
            await client.execute(statement)

    return check


def later_reads(reads: dict[str, Any]) -> Check:
    async def check(client: Client) -> None:
        for query, value in reads.items():
            assert await fetch_value(client, query) == value, query

    return check


NOTHING = later_reads({})
LATER = f"SELECT {{}} FROM {NEW} WHERE email = '{{}}@example.org'"
COMMENT_ON_AGE = (
    "SELECT col_description(attrelid, attnum) FROM pg_attribute "
    "WHERE attrelid = 'users'::regclass AND attname = 'age'"
)
BOBS_AGE = "SELECT age FROM users WHERE email = 'bob@example.org'"

CASES = {
    "add a column": Case(
        'safely.drop_column("users", "phone")',
        older_may(BOB, f"UPDATE {NEW} SET phone = '123' WHERE id = 1"),
        later_reads({LATER.format("phone", "ada"): "123", LATER.format("phone", "bob"): None}),
    ),
    "add a required column": Case(
        'safely.drop_column("users", "status")',
        older_may(BOB, f"UPDATE {NEW} SET status = 'old' WHERE id = 1"),
        later_reads({LATER.format("status", "ada"): "old", LATER.format("status", "bob"): "new"}),
    ),
    "drop a column": Case(
        'safely.add_column("users", sa.Column("age", sa.Integer(), '
        'sa.CheckConstraint("age BETWEEN 0 AND 150", name=safely.f("ck_users_age"))))',
        older_may(BOB, f"UPDATE {OLD} SET age = 41 WHERE email = 'bob@example.org'"),
        later_reads({f"SELECT age FROM {OLD} WHERE email = 'bob@example.org'": 41}),
    ),
    "drop a required column": Case(
        'safely.add_column("users", sa.Column("full_name", sa.Text(), nullable=False))',
        older_may(
            BOB,
            f"INSERT INTO {NEW} (email) VALUES ('new@example.org')",
            reads={f"SELECT full_name FROM {OLD} WHERE email = 'new@example.org'": "Unknown"},
        ),
        later_reads({f"SELECT full_name FROM {OLD} WHERE email = 'bob@example.org'": "Bob Older"}),
    ),
    "rename a column": Case(
        'safely.rename_column("users", "display_name", "full_name")',
        older_may(BOB),
        later_reads({LATER.format("display_name", "bob"): "Bob Older"}),
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
        later_reads({LATER.format("age", "bob"): 41, LATER.format("age", "new"): 7}),
    ),
    "convert a column": Case(
        'safely.change_type("users", "age", sa.Integer(), using="round(age * 10)")',
        older_may(
            BOB,
            f"UPDATE {OLD} SET age = 41 WHERE email = 'bob@example.org'",
            f"INSERT INTO {NEW} (full_name, email, age) VALUES ('New', 'new@example.org', 0.7)",
            reads={
                f"SELECT age FROM {NEW} WHERE email = 'bob@example.org'": Decimal("4.1"),
                f"SELECT age FROM {OLD} WHERE email = 'new@example.org'": 7,
            },
        ),
        later_reads(
            {LATER.format("age", "bob"): Decimal("4.1"), LATER.format("age", "new"): Decimal("0.7")}
        ),
    ),
    "add an enum": Case(
        'safely.drop_column("users", "role")\nsafely.drop_enum("role")',
        older_may(BOB, f"UPDATE {NEW} SET role = 'writer' WHERE id = 1"),
        later_reads({LATER.format("role", "ada"): "writer", LATER.format("role", "bob"): None}),
    ),
    "add a label": Case(
        'safely.change_enum("role", "reader", "writer")',
        older_may(
            BOB,
            f"UPDATE {NEW} SET role = 'admin' WHERE id = 1",
            reads={
                f"SELECT role FROM {OLD} WHERE id = 1": None,
                f"SELECT role FROM {OLD} WHERE role = 'reader'::role": "reader",
            },
        ),
        later_reads({LATER.format("role", "ada"): "admin", LATER.format("role", "bob"): "reader"}),
    ),
    "rename a label": Case(
        'safely.change_enum("role", "reader", "writer", renamed={"editor": "writer"})',
        older_may(
            BOB,
            f"UPDATE {OLD} SET role = 'writer' WHERE email = 'bob@example.org'",
            f"UPDATE {NEW} SET role = 'editor' WHERE id = 1",
            reads={
                f"SELECT role FROM {OLD} WHERE id = 1": "writer",
                f"SELECT role FROM {NEW} WHERE email = 'bob@example.org'": "editor",
            },
        ),
        later_reads({LATER.format("role", "ada"): "editor", LATER.format("role", "bob"): "editor"}),
    ),
    "remove a label": Case(
        'safely.change_enum("role", "reader", "writer")',
        older_may(
            BOB,
            f"UPDATE {OLD} SET role = 'writer' WHERE email = 'bob@example.org'",
            reads={
                f"SELECT role FROM {OLD} WHERE email = 'bob@example.org'": "writer",
                f"SELECT role FROM {NEW} WHERE email = 'bob@example.org'": "reader",
            },
        ),
        later_reads({LATER.format("role", "bob"): "reader"}),
    ),
    "tighten a column": Case(
        'safely.allow_null("users", "age")',
        older_may(BOB, reads={BOBS_AGE: 18}),
        later_reads({BOBS_AGE: 18}),
    ),
    "loosen a column": Case(
        'safely.require_column("users", "full_name", fill="Unknown")',
        older_may(
            f"INSERT INTO {NEW} (full_name, email) VALUES (NULL, 'new@example.org')",
            reads={f"SELECT full_name FROM {OLD} WHERE email = 'new@example.org'": None},
        ),
        later_reads({LATER.format("full_name", "new"): "Unknown"}),
    ),
    "change a default": Case(
        'safely.change_default("users", "age", None)',
        older_may(BOB, reads={BOBS_AGE: 18}),
        later_reads({BOBS_AGE: 18}),
    ),
    "change a comment": Case(
        'safely.change_comment("users", "age", None)',
        older_may(BOB, reads={COMMENT_ON_AGE: "in years"}),
        NOTHING,
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
        later_reads({f"SELECT count(*) FROM at_{NEXT}.teams": 1}),
    ),
    "drop a table": Case(
        'safely.create_table("users", '
        'sa.Column("id", sa.BigInteger(), sa.Identity(), primary_key=True), '
        'sa.Column("full_name", sa.Text(), nullable=False), sa.Column("email", sa.Text()), '
        'sa.Column("age", sa.Integer()))',
        older_may(BOB),
        later_reads({f"SELECT full_name FROM {OLD} WHERE email = 'bob@example.org'": "Bob Older"}),
    ),
    "rename a table": Case(
        'safely.rename_table("people", "users")',
        older_may(BOB, f"INSERT INTO at_{NEXT}.people (full_name) VALUES ('New')"),
        later_reads({f"SELECT count(*) FROM at_{NEXT}.people": 3}),
    ),
    "rename a rule": Case(
        'safely.rename_constraint("ck_users_age_range", "users", "ck_users_age")',
        older_is_refused(f"UPDATE {OLD} SET age = -1", asyncpg.CheckViolationError),
        NOTHING,
    ),
    "rename an index": Case(
        'safely.rename_index("idx_users_email", "users", "idx_user_email")',
        older_is_refused(
            f"INSERT INTO {OLD} (full_name, email) VALUES ('Eve', 'ADA@example.org')",
            asyncpg.UniqueViolationError,
        ),
        NOTHING,
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
        later_reads({BOBS_AGE: 18}),
    ),
    "split a column": Case(
        'safely.allow_null("users", "first_name")\nsafely.drop_column("users", "first_name")',
        older_may(
            BOB, reads={f"SELECT first_name FROM {NEW} WHERE email = 'bob@example.org'": "Bob"}
        ),
        later_reads(
            {LATER.format("first_name", "ada"): "Ada", LATER.format("first_name", "bob"): "Bob"}
        ),
    ),
}


# the column that the changes of labels are about, as the revisions before would have made it
WITH_ROLE = (
    "CREATE TYPE role AS ENUM ('reader', 'writer')",
    "ALTER TABLE users ADD role role DEFAULT 'reader'",
    f"CREATE OR REPLACE VIEW {OLD} AS SELECT id, full_name, email, age, role FROM users",
)
PREPARED = dict.fromkeys(("add a label", "rename a label", "remove a label"), WITH_ROLE)


async def prepare(client: Client, url: str, change: str) -> None:
    """Make what a change is about, and record it."""
    for statement in PREPARED.get(change, ()):
        await client.execute(statement)
    if change in PREPARED:
        run_alembic(url, "-x", "drift=accept", "upgrade", HEAD)


def body_of(change: str) -> str:
    """Return the body of the revision, as the table spells it."""
    return "\n".join(re.findall(r"`(safely\.[^`]*)`", ROWS[change].spelling))
