"""What every safe spelling asks of the connection that a revision runs on."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import sqlalchemy as sa
from alembic import op
from alembic.util import CommandError

UNLESS = """\
DO $unless$ BEGIN
  IF NOT ({condition}) THEN
    {statement};
  END IF;
END $unless$"""

HAS_COLUMN = """\
EXISTS (SELECT FROM pg_attribute WHERE attrelid = {} AND attname = {} AND NOT attisdropped)"""


class Refused(CommandError):  # noqa: N818  # a refusal is not a fault
    """The data or the schema forbids this step; the message says what to do about it.

    Alembic prints it as one line and exits with a code other than 0.
    """


def postgresql() -> bool:
    """Whether the revision runs on PostgreSQL; otherwise it is SQLite."""
    return op.get_context().dialect.name == "postgresql"


def offline() -> bool:
    """Whether SQL is printed (`--sql`) and there is nobody to ask."""
    return op.get_context().as_sql


def revision() -> str:
    """The revision that is being applied or undone."""
    return str(op.get_context().opts["revision"])


def undoing() -> bool:
    """Whether it is being undone."""
    return not op.get_context().opts["is_upgrade"]


def blind(table_name: str) -> str:
    """The sentence for what can't be printed (SQLite)."""
    return (
        f"SQLite must look at {table_name} to change it, and `--sql` can't: "
        "run `alembic upgrade` on the file itself"
    )


def run(statement: str) -> None:
    """Execute SQL exactly as written: no colon in it is taken for a parameter."""
    op.execute(sa.text(statement.replace(":", r"\:")))


def ask(statement: str, *values: object) -> Any:
    """The first column of the first row, or None; parameters as the driver spells them."""
    return op.get_bind().exec_driver_sql(statement, values).scalar()


def rows(statement: str, *values: object) -> list[Any]:
    """All the rows; parameters as the driver spells them."""
    return list(op.get_bind().exec_driver_sql(statement, values).all())


def unless(condition: str, statement: str) -> None:
    """Execute a statement unless an earlier run that was killed did it already (PostgreSQL).

    The database decides, so that a script can be sent again too.
    """
    run(UNLESS.format(condition=condition, statement=statement))


def column_there(table_name: str, column_name: str) -> bool:
    """Whether the table has the column."""
    if postgresql():
        there = HAS_COLUMN.format(regclass(table_name), literal(column_name))
        return bool(ask(f"SELECT {there}"))
    return bool(ask("SELECT 1 FROM pragma_table_info(?) WHERE name = ?", table_name, column_name))


def type_of(table_name: str, column_name: str) -> str:
    """A column's type as the database words it."""
    if not postgresql():
        declared = "SELECT type FROM pragma_table_info(?) WHERE name = ?"
        return str(ask(declared, table_name, column_name))
    return str(
        ask(
            "SELECT format_type(atttypid, atttypmod) FROM pg_attribute "
            f"WHERE attrelid = {regclass(table_name)} AND attname = {literal(column_name)}"
        )
    )


def type_name(type_: sa.types.TypeEngine[Any]) -> str:
    """A type as SQL."""
    return type_.compile(dialect=op.get_context().dialect)


def canonical(type_: sa.types.TypeEngine[Any]) -> str:
    """A type as the database words it."""
    if not postgresql():
        return type_name(type_)
    run(f"CREATE TEMPORARY TABLE safely_wanted (shown {type_name(type_)})")
    words = type_of("safely_wanted", "shown")
    run("DROP TABLE safely_wanted")
    return words


@contextmanager
def empty_twin(table_name: str) -> Iterator[str]:
    """The name of an empty table like this one, to try something on (PostgreSQL)."""
    name = "safely_twin"
    run(f"CREATE TEMPORARY TABLE {name} (LIKE {quoted(table_name)} INCLUDING ALL)")
    yield name
    run(f"DROP TABLE {name}")


def rewrites(table_name: str, change: str) -> bool:
    """Whether ALTER TABLE with this change writes every row anew, to a new file (PostgreSQL)."""
    with empty_twin(table_name) as twin:
        file = f"SELECT pg_relation_filenode('{twin}'::regclass)"
        before = ask(file)
        run(f"ALTER TABLE {twin} {change}")
        return bool(before != ask(file))


def quoted(name: str) -> str:
    """An identifier, quoted where the database needs it."""
    return op.get_context().dialect.identifier_preparer.quote(name)


def literal(value: str | int) -> str:
    """A value as SQL text, for statements that take no parameters."""
    plain = str(value) if isinstance(value, str) else value  # a quoted name is a str of its own
    compiled = sa.literal(plain).compile(
        dialect=op.get_context().dialect, compile_kwargs={"literal_binds": True}
    )
    return str(compiled)


def regclass(table_name: str) -> str:
    """A table for the catalogue's questions (PostgreSQL)."""
    return f"{literal(quoted(table_name))}::regclass"


@contextmanager
def outside_transaction(*, patient: bool = False) -> Iterator[None]:
    """Each statement within is a transaction of its own, on PostgreSQL.

    What the revision did before is committed, so whatever stands here must bear being run again
    after a kill. `patient` lifts `lock_timeout`, for a statement whose lock blocks nobody but
    which must outwait old transactions: cut short, CONCURRENTLY leaves an INVALID index.
    """
    if not postgresql():
        yield
        return
    with op.get_context().autocommit_block():
        if patient:
            run("SET lock_timeout = 0")
        yield
        if patient:
            run(f"SET lock_timeout = {literal(op.get_context().opts['lock_timeout'])}")
