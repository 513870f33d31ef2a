"""PostgreSQL and SQLite refuse the same revisions."""

from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine

import safely
from safely.database import engine_for
from tests.databases import Databases
from tests.revising import revising

Revision = Callable[[], object]

TABLES = (
    "CREATE TABLE parents (id INTEGER PRIMARY KEY, code VARCHAR(9), UNIQUE (code))",
    "CREATE TABLE children (id INTEGER PRIMARY KEY, parent INTEGER, name VARCHAR(9), age INTEGER, "
    "born DATE, required INTEGER NOT NULL DEFAULT 1)",
    "INSERT INTO parents VALUES (1, 'x'), (36, 'y')",
    "INSERT INTO children (id, parent, name, age, born) VALUES (1, 1, 'Ada', 36, '2026-11-26')",
    "INSERT INTO children (id, parent, name) VALUES (2, 7, 'Ada'), (1000, 1, 'Bob')",
)


def drop_parents() -> None:
    safely.create_foreign_key("f", "children", "parents", ["age"], ["id"])
    safely.drop_table("parents")


def drop_in_unique_expression() -> None:
    safely.create_index("i", "children", [sa.text("(required + id)")], unique=True)
    safely.drop_column("children", "required")


def key() -> sa.Column[Any]:
    return sa.Column("id", sa.Integer(), primary_key=True)


CASES: dict[str, Revision] = {
    "NOT NULL over NULL": lambda: safely.require_column("children", "age"),
    "NOT NULL": lambda: safely.require_column("children", "name"),
    "UNIQUE over duplicates": lambda: safely.create_unique_constraint("u", "children", ["name"]),
    "UNIQUE": lambda: safely.create_unique_constraint("u", "children", ["age"]),
    "a unique index over duplicates": lambda: safely.create_index(
        "i", "children", ["name"], unique=True
    ),
    "a unique index over duplicates among some": lambda: safely.create_index(
        "i",
        "children",
        ["name"],
        unique=True,
        postgresql_where=sa.text("id > 0"),
        sqlite_where=sa.text("id > 0"),
    ),
    "a foreign key that dangles": lambda: safely.create_foreign_key(
        "f", "children", "parents", ["parent"], ["id"]
    ),
    "a foreign key": lambda: safely.create_foreign_key("f", "children", "parents", ["age"], ["id"]),
    "a foreign key to what isn't unique": lambda: safely.create_foreign_key(
        "f", "parents", "children", ["id"], ["parent"]
    ),
    "a table that refers to nothing": lambda: safely.create_table(
        "t", key(), sa.Column("x", sa.Integer(), sa.ForeignKey("missing.id"))
    ),
    "a CHECK that rows break": lambda: safely.create_check_constraint("c", "children", "age < 9"),
    "a CHECK": lambda: safely.create_check_constraint("c", "children", "age < 99"),
    "a column whose CHECK rows break": lambda: safely.add_column(
        "children",
        sa.Column("n", sa.Integer(), sa.CheckConstraint("n > 0", name="c"), server_default="-1"),
    ),
    "a column without a value": lambda: safely.add_column(
        "children", sa.Column("n", sa.Integer(), nullable=False)
    ),
    "a column with the time": lambda: safely.add_column(
        "children", sa.Column("n", sa.DateTime(), server_default=sa.func.now(), nullable=False)
    ),
    "a column that is random": lambda: safely.add_column(
        "children", sa.Column("n", sa.Float(), server_default=sa.text("(random())"))
    ),
    "a column that is missing": lambda: safely.drop_column("children", "missing"),
    "a column without a default": lambda: safely.drop_column("parents", "id"),
    "a column of the primary key": lambda: safely.drop_column("parents", "id", fill=0),
    "a column in a unique expression": drop_in_unique_expression,
    "a column with a default": lambda: safely.drop_column("children", "required"),
    "NULL in a primary key": lambda: safely.allow_null("children", "id"),
    "a number to a date": lambda: safely.change_type("children", "age", sa.Date()),
    "a date to a time in it": lambda: safely.change_type("children", "born", sa.DateTime()),
    "a text that is too long": lambda: safely.change_type("children", "name", sa.String(2)),
    "a text that is no number": lambda: safely.change_type("children", "name", sa.Integer()),
    "a shorter text": lambda: safely.change_type("children", "name", sa.String(3)),
    "a primary key": lambda: safely.change_type("children", "id", sa.BigInteger()),
    "a table that others refer to": drop_parents,
}
DONE = {
    "NOT NULL", "UNIQUE", "a foreign key", "a CHECK", "a column with the time",
    "a column with a default", "a date to a time in it", "a shorter text",
}  # fmt: skip


@pytest.fixture
async def engines(all_databases: dict[str, Databases]) -> AsyncIterator[dict[str, AsyncEngine]]:
    """Yield an engine on an empty database of each kind."""
    engines = {kind: engine_for(await make.empty()) for kind, make in all_databases.items()}
    yield engines
    for engine in engines.values():
        await engine.dispose()


async def test_both_databases_refuse_a_revision_or_both_run_it(
    engines: dict[str, AsyncEngine],
) -> None:
    unexpected = {}
    for name, revision in CASES.items():
        refusals = {kind: await outcome(engine, revision) for kind, engine in engines.items()}
        words = {str(message).partition(". ")[0] for message in refusals.values()}
        of_rows = all("See them with" in str(message) for message in refusals.values())
        if (of_rows and len(words) > 1) or any(
            (message is None) != (name in DONE) for message in refusals.values()
        ):
            unexpected[name] = refusals
    assert unexpected == {}


async def outcome(engine: AsyncEngine, revision: Revision) -> str | None:
    """Return why a revision is refused on a new schema; None where it is done."""
    async with engine.connect() as connection:
        for statement in await connection.run_sync(what_is_there):
            await connection.exec_driver_sql(statement)
        for statement in TABLES:
            await connection.exec_driver_sql(statement)
        await connection.commit()
    async with engine.connect() as connection:
        try:
            await connection.run_sync(revise, revision)
        except (safely.Refused, DBAPIError) as error:
            return str(error)
    return None


def what_is_there(connection: Connection) -> list[str]:
    """Return the statements that drop all of the schema."""
    if connection.dialect.name == "postgresql":
        return [
            "DROP SCHEMA IF EXISTS aside_0001 CASCADE",
            "DROP SCHEMA public CASCADE",
            "CREATE SCHEMA public",
        ]
    return [f"DROP TABLE {name}" for name in sa.inspect(connection).get_table_names()]


def revise(connection: Connection, revision: Revision) -> None:
    """Run the body of a revision."""
    with revising(connection):
        revision()
