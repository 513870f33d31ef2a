"""A change of an SQLite table changes that one thing, wherever it is interrupted."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

import safely
from safely.operations.retype_sqlite import change_on_sqlite
from tests.revising import Database, Operation

SCHEMA = (
    "CREATE TABLE parents (id INTEGER PRIMARY KEY, code TEXT COLLATE NOCASE UNIQUE)",
    """\
CREATE TABLE children (
  id INTEGER PRIMARY KEY AUTOINCREMENT, -- never used twice, (
  parent INT REFERENCES parents(id) ON DELETE CASCADE DEFERRABLE INITIALLY DEFERRED,
  name TEXT COLLATE NOCASE DEFAULT 'a,)''b' CONSTRAINT named NOT NULL,
  [odd, name] NUMERIC(10, 2) DEFAULT NULL CHECK ("odd, name" > 0), /* , */
  age INT,
  twice INT GENERATED ALWAYS AS (age * 2) STORED,
  half INT AS (age / 2),
  CONSTRAINT uq_age UNIQUE (age) ON CONFLICT IGNORE CHECK (age < 200),
  FOREIGN KEY (name) REFERENCES parents(code) ON UPDATE SET NULL MATCH FULL
)""",
    "CREATE TABLE log (name TEXT PRIMARY KEY, at INT) WITHOUT ROWID, STRICT",
    "CREATE UNIQUE INDEX ix_name ON children (name)",
    "CREATE INDEX ix_partial ON children (age DESC, lower(name)) WHERE age > 1",
    "CREATE VIEW adults AS SELECT children.name, twice FROM children WHERE age >= 18",
    "CREATE TRIGGER t1 AFTER INSERT ON children BEGIN INSERT INTO log VALUES (new.name, 1); END",
    "CREATE TRIGGER t2 AFTER DELETE ON parents BEGIN DELETE FROM children WHERE age = 0; END",
    "CREATE TRIGGER t3 INSTEAD OF INSERT ON adults BEGIN INSERT INTO parents (id) VALUES (9); END",
)
ROWS = (
    "INSERT INTO parents VALUES (1, 'x'), (2, 'Y')",
    "INSERT INTO children (parent, name, age, [odd, name]) "
    "VALUES (1, 'x', 18, 1.5), (2, 'Y', 0, NULL), (2, 'z', 7, 2)",
    "DELETE FROM children WHERE name = 'z'",
)


def create_circle() -> None:
    """Create two tables that refer to each other, and to themselves."""
    safely.create_table("a", sa.Column("id", sa.Integer(), primary_key=True))
    safely.create_table(
        "b",
        sa.Column("id", sa.Integer(), primary_key=True),
        sa.Column("a", sa.Integer(), sa.ForeignKey("a.id", ondelete="CASCADE")),
        sa.Column("b", sa.Integer(), sa.ForeignKey("b.id")),
    )
    safely.create_foreign_key("fk_circle", "a", "b", ["id"], ["id"])


def drop_circle() -> None:
    """Undo that."""
    safely.drop_constraint("fk_circle", "a", "foreignkey")
    safely.drop_table("b")
    safely.drop_table("a")


PAIRS: dict[str, tuple[Operation, Operation]] = {  # an operation, and its opposite
    "CHECK": (
        lambda: safely.create_check_constraint("ck", "children", "age >= 0"),
        lambda: safely.drop_constraint("ck", "children", "check"),
    ),
    "UNIQUE": (
        lambda: safely.create_unique_constraint("uq", "children", ["parent", "name"]),
        lambda: safely.drop_constraint("uq", "children", "unique"),
    ),
    "FOREIGN KEY": (
        lambda: safely.create_foreign_key(
            "fk", "children", "parents", ["parent"], ["id"], ondelete="SET NULL"
        ),
        lambda: safely.drop_constraint("fk", "children", "foreignkey"),
    ),
    "a default": (
        lambda: safely.change_default("children", "age", "18"),
        lambda: safely.change_default("children", "age", None),
    ),
    "NOT NULL": (
        lambda: safely.require_column("children", "age"),
        lambda: safely.allow_null("children", "age"),
    ),
    "a table without row numbers": (
        lambda: safely.require_column("log", "at"),
        lambda: safely.allow_null("log", "at"),
    ),
    "the parent": (
        lambda: safely.create_check_constraint("ck", "parents", "id > 0"),
        lambda: safely.drop_constraint("ck", "parents", "check"),
    ),
}
BACK_AND_FORTH: dict[str, tuple[Operation, Operation]] = {  # what sets aside
    "a type": (
        lambda: safely.change_type("children", "odd, name", sa.Float()),
        lambda: safely.change_type("children", "odd, name", sa.Numeric(10, 2)),
    ),
    "a column": (
        lambda: safely.drop_column("children", "odd, name"),
        lambda: safely.add_column("children", sa.Column("odd, name", sa.Numeric(10, 2))),
    ),
    "a generated column": (
        lambda: safely.add_column(
            "children", sa.Column("more", sa.Integer(), sa.Computed("age + 1"))
        ),
        lambda: safely.drop_column("children", "more"),
    ),
    "a stored column": (
        lambda: safely.add_column(
            "children", sa.Column("more", sa.Integer(), sa.Computed("age + 1", persisted=True))
        ),
        lambda: safely.drop_column("children", "more"),
    ),
    "the time of adding": (
        lambda: safely.add_column(
            "children",
            sa.Column("at", sa.DateTime(), server_default=sa.func.now(), nullable=False),
        ),
        lambda: safely.drop_column("children", "at"),
    ),
    "tables": (create_circle, drop_circle),
}


@pytest.fixture
def database() -> Database:
    database = Database()
    database.execute(*SCHEMA, *ROWS)
    return database


@pytest.mark.parametrize("name", PAIRS)
def test_a_change_and_its_opposite_leave_every_letter_of_the_schema(
    database: Database, name: str
) -> None:
    there, back = PAIRS[name]
    before = state_of(database)
    database.revise(there)
    changed = database.schema()
    assert sum(changed[item] != sql for item, sql in before["schema"].items()) == 1
    assert_works(database)
    database.revise(back, up=False)
    assert state_of(database) == before


@pytest.mark.parametrize("name", BACK_AND_FORTH)
def test_what_is_set_aside_comes_back_and_the_rest_stays(database: Database, name: str) -> None:
    there, back = BACK_AND_FORTH[name]
    others = {item: sql for item, sql in database.schema().items() if item != "children"}
    rows = database.rows("SELECT id, parent, name, age FROM children")
    database.revise(there)
    first = state_of(database)
    database.revise(back, up=False)
    assert database.rows("SELECT id, parent, name, age FROM children") == rows
    assert others.items() <= database.schema().items()
    database.revise(there)
    assert state_of(database)["rows"] == first["rows"]
    assert_works(database)


def state_of(database: Database) -> dict[str, Any]:
    """Return the schema and all rows."""
    tables = database.rows(
        "SELECT name FROM sqlite_master WHERE type IN ('table', 'view') ORDER BY name"
    )
    rows = {name: database.rows(f'SELECT * FROM "{name}" ORDER BY 1') for (name,) in tables}
    return {"schema": database.schema(), "rows": rows}


def assert_works(database: Database) -> None:
    """Check that the rules hold that a copy by reflection loses; leave the rows as they are."""
    with database.engine.connect() as connection, connection.begin() as transaction:
        execute = connection.exec_driver_sql
        execute("PRAGMA defer_foreign_keys = 1")
        with pytest.raises(IntegrityError, match=r"UNIQUE constraint failed: .*name"):
            execute("INSERT INTO children (name, age) VALUES ('X', 1)")
        execute("INSERT INTO children (id, name, age) VALUES (NULL, 'new', 3)")
        [(number,)] = execute("SELECT id FROM children WHERE name = 'new'")
        assert number == 4  # 3 was used before
        assert execute("SELECT twice, half FROM children WHERE id = 4").all() == [(6, 1)]
        assert execute("SELECT count(*) FROM children WHERE name = 'NEW'").scalar() == 1
        transaction.rollback()


class Killed(Exception):  # noqa: N818  # it is no error of the code
    """The process ends here."""


EVERYTHING: list[Operation] = [
    *(operations[0] for name, operations in PAIRS.items() if name != "the parent"),
    *(
        operations[0]
        for name, operations in BACK_AND_FORTH.items()
        if name not in ("a column", "a stored column")
    ),
]


def test_a_revision_that_is_killed_after_any_statement_is_undone_and_can_be_run_again(
    tmp_path: Path, *, full: bool
) -> None:
    undisturbed = Database(f"sqlite:///{tmp_path}/undisturbed.sqlite")
    undisturbed.execute(*SCHEMA, *ROWS)
    before = state_of(undisturbed)
    with killed_after(undisturbed, None) as statements:
        undisturbed.revise(*EVERYTHING)
    after = without_time(state_of(undisturbed))
    assert len(statements) > 100

    database = Database(f"sqlite:///{tmp_path}/killed.sqlite")
    database.execute(*SCHEMA, *ROWS)
    for number in changing(statements)[:: 1 if full else 5]:
        with pytest.raises(Killed), killed_after(database, number):
            database.revise(*EVERYTHING)
        database.engine.dispose()  # a process has its connection to itself
        assert state_of(database) == before, statements[number]
    database.revise(*EVERYTHING)
    assert without_time(state_of(database)) == after


def changing(statements: list[str]) -> list[int]:
    """Return the numbers of the statements that change something."""
    return [
        n
        for n, sql in enumerate(statements)
        if not sql.lstrip().startswith(("SELECT", "PRAGMA table"))
    ]


@contextmanager
def killed_after(database: Database, number: int | None) -> Iterator[list[str]]:
    """Yield the statements of the database; the one with the number is its last."""
    statements: list[str] = []

    def count(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        statements.append(statement)
        if len(statements) - 1 == number:
            raise Killed

    sa.event.listen(database.engine, "after_cursor_execute", count)
    try:
        yield statements
    finally:
        sa.event.remove(database.engine, "after_cursor_execute", count)


def without_time(state: dict[str, Any]) -> dict[str, Any]:
    """Return a state without the column that has the time of its adding."""
    rows = state["rows"] | {"children": len(state["rows"]["children"])}
    return state | {"rows": rows}


def test_what_an_expression_has_converted_comes_back_as_it_was(database: Database) -> None:
    def there(revision: str) -> None:
        database.revise(
            lambda: change_on_sqlite("log", "name", sa.LargeBinary(), "CAST(upper(name) AS BLOB)"),
            revision=revision,
        )

    database.execute("DROP TABLE log", "CREATE TABLE log (id INTEGER PRIMARY KEY, name TEXT)")
    database.execute("INSERT INTO log (name) VALUES ('Ada'), ('Bob')")
    there("0001")
    assert database.rows("SELECT name FROM log") == [(b"ADA",), (b"BOB",)]
    database.execute("UPDATE log SET name = CAST('EVE' AS BLOB) WHERE id = 2")
    database.revise(lambda: change_on_sqlite("log", "name", sa.Text(), "lower(name)"), up=False)
    assert database.rows("SELECT name FROM log") == [("Ada",), ("eve",)]
    there("0001")
    assert database.rows("SELECT name FROM log") == [(b"ADA",), (b"EVE",)]
