"""SQLite refuses in words the options that it lacks, and drafts that were edited."""

import io
from collections.abc import Callable
from typing import Any

import pytest
import sqlalchemy as sa
from alembic.migration import MigrationContext
from alembic.operations import Operations
from sqlalchemy.dialects.postgresql import ARRAY, INET, INT4RANGE, ExcludeConstraint

import safely
from safely.operations.connection import Refused
from tests.revising import Database

TABLE = "CREATE TABLE t (id INTEGER NOT NULL, n TEXT, m TEXT, PRIMARY KEY (id), UNIQUE (n, m))"
RANGE = INT4RANGE().with_variant(sa.Text(), "sqlite")


def create(*items: Any) -> Callable[[], object]:
    return lambda: safely.create_table("u", sa.Column("id", sa.Integer(), primary_key=True), *items)


IMPOSSIBLE: dict[str, tuple[Callable[[], object], str]] = {
    "an array": (create(sa.Column("x", ARRAY(sa.Text()))), "which SQLite lacks"),
    "an address": (
        lambda: safely.add_column("t", sa.Column("x", INET())),
        "which SQLite lacks",
    ),
    "a retype to an array": (
        lambda: safely.change_type("t", "n", ARRAY(sa.Text())),
        "which SQLite lacks",
    ),
    "an exclusion": (
        create(sa.Column("x", RANGE), ExcludeConstraint(("x", "&&"), name="ex")),
        "no exclusion constraints, such as ex of u",
    ),
    "a deferrable UNIQUE of a table": (
        create(sa.UniqueConstraint("id", name="uq", deferrable=True)),
        "uq of u can't be deferrable",
    ),
    "a deferrable UNIQUE": (
        lambda: safely.create_unique_constraint("uq", "t", ["n"], initially="DEFERRED"),
        "uq of t can't be deferrable",
    ),
    "MATCH FULL": (
        lambda: safely.create_foreign_key("f", "t", "t", ["n", "m"], ["n", "m"], match="FULL"),
        "would ignore match='FULL' of f of t",
    ),
    "a sequence": (
        create(sa.Column("x", sa.Integer(), sa.Sequence("s"))),
        "u.x: Sequence('s') can't be obeyed",
    ),
    "numbers from 100 on": (
        lambda: safely.create_table(
            "u", sa.Column("id", sa.Integer(), sa.Identity(start=100), primary_key=True)
        ),
        "would number u.id from 1 in steps of 1",
    ),
    "numbers of another column": (
        create(sa.Column("x", sa.Integer(), sa.Identity())),
        "u.x can't be numbered by SQLite",
    ),
    "a partial index": (
        lambda: safely.create_index("i", "t", ["n"], postgresql_where=sa.text("n > ''")),
        "ignore postgresql_where of i of t: give sqlite_where",
    ),
    "NULLs that are the same": (
        lambda: safely.create_unique_constraint(
            "uq", "t", ["n"], postgresql_nulls_not_distinct=True
        ),
        "ignore postgresql_nulls_not_distinct of uq of t",
    ),
    "a schema": (lambda: safely.drop_column("t", "n", schema="s"), "SQLite has no schemas"),
    "a missing constraint": (
        lambda: safely.drop_constraint("missing", "t", "check"),
        "t has no constraint missing",
    ),
    "a definition that it can't read": (
        lambda: safely.add_column("t", sa.Column("x", sa.Text(), server_default=sa.text("a ||"))),
        "SQLite refuses to change t, since the definition is wrong",
    ),
}


@pytest.mark.parametrize("name", IMPOSSIBLE)
def test_what_sqlite_cannot_do_is_refused_and_nothing_is_touched(name: str) -> None:
    database = Database()
    database.execute(TABLE, "INSERT INTO t VALUES (1, 'a', 'b')")
    operation, words = IMPOSSIBLE[name]
    with pytest.raises(Refused) as refused:
        database.revise(operation)
    assert words in str(refused.value)
    assert "\n" not in str(refused.value)
    assert database.schema() == {"t": TABLE}


def test_what_only_makes_postgresql_faster_is_accepted() -> None:
    database = Database()
    database.execute(TABLE)
    database.revise(
        lambda: safely.create_index(
            "i", "t", ["n"], postgresql_include=["m"], postgresql_using="hash"
        )
    )
    assert database.schema()["i"] == "CREATE INDEX i ON t (n)"


def draft(*items: Any, kind: sa.types.TypeEngine[Any] | None = None, **options: Any) -> Any:
    """Return an operation that creates the table of a draft."""
    return lambda: safely.create_table(
        "u",
        sa.Column("id", sa.Integer(), primary_key=True),
        sa.Column("x", kind or sa.Integer(), **options),
        *items,
    )


DRAFTS = {
    "another type": draft(kind=sa.Text()),
    "NOT NULL": draft(nullable=False),
    "UNIQUE": draft(sa.UniqueConstraint("x", name="uq")),
    "a CHECK": draft(sa.CheckConstraint("x > 0", name="ck")),
    "a default": draft(server_default="1"),
    "a column more": draft(sa.Column("y", sa.Integer())),
    "a collation": draft(kind=sa.Text(collation="NOCASE")),
}


@pytest.mark.parametrize("name", DRAFTS)
def test_a_draft_that_was_undone_and_edited_does_not_get_the_table_of_the_old_one(
    name: str,
) -> None:
    database = Database()
    database.revise(draft())
    database.revise(lambda: safely.drop_table("u"), up=False)
    aside = database.schema()
    with pytest.raises(Refused, match=r"set aside by this revision .* purge --undone"):
        database.revise(DRAFTS[name])
    assert database.schema() == aside
    database.revise(draft())
    assert list(database.schema()) == ["u"]


COLUMNS: dict[str, sa.Column[Any]] = {
    "another type": sa.Column("x", sa.Text()),
    "NOT NULL": sa.Column("x", sa.Integer(), nullable=False, server_default="1"),
    "a CHECK": sa.Column("x", sa.Integer(), sa.CheckConstraint("x > 0", name="ck")),
    "another expression": sa.Column("x", sa.Integer(), sa.Computed("id + 1")),
}


@pytest.mark.parametrize("name", COLUMNS)
def test_a_draft_that_was_undone_and_edited_does_not_get_the_column_of_the_old_one(
    name: str,
) -> None:
    database = Database()
    database.execute(TABLE)
    database.revise(lambda: safely.add_column("t", sa.Column("x", sa.Integer())))
    database.revise(lambda: safely.drop_column("t", "x"), up=False)
    aside = database.schema()
    with pytest.raises(Refused, match=r"t\.x was set aside by this revision .* purge --undone"):
        database.revise(lambda: safely.add_column("t", COLUMNS[name]))
    assert database.schema() == aside


def test_a_draft_that_was_undone_gets_its_new_default() -> None:
    database = Database()
    database.execute(TABLE)
    database.revise(lambda: safely.add_column("t", sa.Column("x", sa.Integer())))
    database.revise(lambda: safely.drop_column("t", "x"), up=False)
    new = sa.Column("x", sa.Integer(), server_default="7")
    database.revise(lambda: safely.add_column("t", new))
    database.execute("INSERT INTO t (id) VALUES (1)")
    assert database.rows("SELECT x FROM t") == [(7,)]


def test_a_default_is_converted_with_its_column() -> None:
    database = Database()
    database.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, day DATE DEFAULT '2026-11-26')")
    database.revise(lambda: safely.change_type("t", "day", sa.DateTime()))
    database.execute("INSERT INTO t (id) VALUES (1)")
    assert database.rows("SELECT day FROM t") == [("2026-11-26 00:00:00.000000",)]

    database.execute("CREATE TABLE u (id INTEGER PRIMARY KEY, name TEXT DEFAULT 'none')")
    with pytest.raises(Refused, match="its default is none"):
        database.revise(lambda: safely.change_type("u", "name", sa.Integer()))


def test_a_check_that_would_compare_otherwise_is_refused() -> None:
    database = Database()
    database.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, age INT CHECK (age < 200))")
    with pytest.raises(Refused, match=r"CHECK \(age < 200\) uses it"):
        database.revise(lambda: safely.change_type("t", "age", sa.Text()))
    database.revise(lambda: safely.change_type("t", "age", sa.BigInteger()))


WITHOUT_DATABASE: dict[str, Callable[[], object]] = {
    "create_table": create(),
    "drop_table": lambda: safely.drop_table("t"),
    "add_column": lambda: safely.add_column("t", sa.Column("x", sa.Integer())),
    "add_column with the time": lambda: safely.add_column(
        "t", sa.Column("x", sa.DateTime(), server_default=sa.func.now())
    ),
    "drop_column": lambda: safely.drop_column("t", "n"),
    "rename_column": lambda: safely.rename_column("t", "n", "x"),
    "change_type": lambda: safely.change_type("t", "n", sa.String(9)),
    "change_default": lambda: safely.change_default("t", "n", "x"),
    "require_column": lambda: safely.require_column("t", "n", fill="x"),
    "allow_null": lambda: safely.allow_null("t", "n"),
    "create_check_constraint": lambda: safely.create_check_constraint("c", "t", "n > ''"),
    "create_foreign_key": lambda: safely.create_foreign_key("c", "t", "t", ["n"], ["n"]),
    "create_unique_constraint": lambda: safely.create_unique_constraint("c", "t", ["n"]),
    "drop_constraint": lambda: safely.drop_constraint("c", "t", "check"),
    "create_index": lambda: safely.create_index("c", "t", ["n"], unique=True),
    "drop_index": lambda: safely.drop_index("c", "t"),
    "backfill": lambda: safely.backfill("t", "n = 'x'", where="n IS NULL"),
}
PRINTED = {"create_table", "add_column", "rename_column", "create_index", "drop_index", "backfill"}


@pytest.mark.parametrize("name", WITHOUT_DATABASE)
def test_without_a_database_an_operation_is_printed_or_refused_in_one_line(name: str) -> None:
    script = io.StringIO()
    options = {"as_sql": True, "output_buffer": script, "literal_binds": True}
    migration = MigrationContext.configure(dialect_name="sqlite", opts=options)
    migration.opts.update(revision="0001", is_upgrade=True)
    with Operations.context(migration):
        if name in PRINTED:
            WITHOUT_DATABASE[name]()
            assert script.getvalue()
        else:
            with pytest.raises(Refused, match=r"run `alembic upgrade` on the file itself$"):
                WITHOUT_DATABASE[name]()
