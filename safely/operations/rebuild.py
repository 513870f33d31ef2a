"""SQLite only: changing a table by copying it, without losing what a copy loses.

SQLite can't change a column in place. Alembic's batch mode copies the table into a new one, but
silently drops expression indexes, triggers and the memory of ids already given away.
"""

import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import sqlalchemy as sa
from alembic import op
from alembic.operations import BatchOperations
from sqlalchemy.exc import SAWarning

from safely.operations.connection import Refused, ask, blind, offline, quoted, run


class Attached(NamedTuple):
    """An index or a trigger, as it was written."""

    kind: str
    name: str
    sql: str


@contextmanager
def rebuilt(table_name: str, *, dropping: str | None = None) -> Iterator[BatchOperations]:
    """Alembic's batch operations on a copy of the table, which then takes its place.

    Carries over indexes of every kind, triggers, and AUTOINCREMENT with the highest id ever
    given; a column named in `dropping` takes along the indexes, triggers and CHECKs that
    mention it.
    Foreign keys must be off on the connection (env.py sees to it), or dropping the old table
    would delete the rows that refer to it; they are checked before the end instead.
    """
    if offline():
        raise Refused(blind(table_name))
    if ask("PRAGMA foreign_keys"):
        raise Refused("foreign keys are enforced on this connection; a copy would cascade deletes")
    for entry in attached_to(table_name):
        if mentions(entry.sql, dropping):  # the copy would want to make an index again
            run(f"DROP {entry.kind} {quoted(entry.name)}")
    attached = attached_to(table_name)
    doomed = checks_mentioning(table_name, dropping)
    autoincrement = "AUTOINCREMENT" in definition(table_name).upper()
    given = "SELECT seq FROM sqlite_sequence WHERE name = ?"
    last_id = ask(given, table_name) if autoincrement else None
    rows = count(table_name)

    with warnings.catch_warnings():
        # reflection skips expression indexes and says so; they are among `attached`
        warnings.filterwarnings("ignore", "Skipped unsupported reflection", SAWarning)
        with op.batch_alter_table(
            table_name,
            recreate="always",
            table_kwargs={"sqlite_autoincrement": autoincrement},
        ) as batch:
            for name in doomed:
                batch.drop_constraint(op.f(name), "check")
            yield batch

    restore(table_name, attached, last_id)
    verify(table_name, attached, rows)


def attached_to(table_name: str) -> list[Attached]:
    """The table's own indexes and triggers; those made by its constraints have no SQL."""
    found = op.get_bind().exec_driver_sql(
        "SELECT type, name, sql FROM sqlite_master "
        "WHERE tbl_name = ? AND type IN ('index', 'trigger') AND sql IS NOT NULL",
        (table_name,),
    )
    return [Attached(*row) for row in found]


def checks_mentioning(table_name: str, column: str | None) -> list[str]:
    """The names of the CHECK constraints that go with the column."""
    return [
        str(check["name"])
        for check in sa.inspect(op.get_bind()).get_check_constraints(table_name)
        if mentions(check["sqltext"], column)
    ]


def mentions(sql: str, column: str | None) -> bool:
    """Whether the SQL names the column."""
    return column is not None and re.search(rf"\b{re.escape(column)}\b", sql) is not None


def definition(table_name: str) -> str:
    """The CREATE TABLE as SQLite keeps it."""
    return str(ask("SELECT sql FROM sqlite_master WHERE type = 'table' AND name = ?", table_name))


def count(table_name: str) -> int:
    """How many rows there are."""
    return int(ask(f"SELECT count(*) FROM {quoted(table_name)}"))


def restore(table_name: str, attached: list[Attached], last_id: int | None) -> None:
    """Put back what the copy lacks."""
    there = {entry.name for entry in attached_to(table_name)}
    for entry in attached:
        if entry.name not in there:
            run(entry.sql)
    if last_id:
        bind = op.get_bind()
        bind.exec_driver_sql("DELETE FROM sqlite_sequence WHERE name = ?", (table_name,))
        bind.exec_driver_sql("INSERT INTO sqlite_sequence VALUES (?, ?)", (table_name, last_id))


def verify(table_name: str, attached: list[Attached], rows: int) -> None:
    """Raise, and so undo it all, unless everything is still there."""
    missing = {entry.name for entry in attached} - {e.name for e in attached_to(table_name)}
    if missing:
        raise Refused(f"copying {table_name} would lose {', '.join(sorted(missing))}")
    if count(table_name) != rows:
        raise Refused(f"copying {table_name} would lose rows")
    if broken := op.get_bind().exec_driver_sql("PRAGMA foreign_key_check").all():
        raise Refused(f"copying {table_name} would leave {len(broken)} dangling references")
