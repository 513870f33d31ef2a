"""SQLite only: changing a table by copying it, without losing what a copy loses.

SQLite can't change a column in place. Alembic's batch mode copies the table into a new one, but
silently drops indexes on expressions, triggers, and the highest id that was ever used.
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

from safely.operations.connection import Refused, quoted, refuse_offline, rows, run, scalar


class Attachment(NamedTuple):
    """An index or a trigger of a table, with the SQL that created it."""

    kind: str
    name: str
    sql: str


@contextmanager
def rebuilt(table_name: str, *, dropping: str | None = None) -> Iterator[BatchOperations]:
    """Copy the table with the changes that are made meanwhile; the copy takes its place.

    Yield Alembic's batch operations, which take the changes.
    Indexes of every kind, triggers, and AUTOINCREMENT with the highest id that was ever used are
    kept. With the column `dropping` go the indexes, triggers and CHECKs that mention it.
    Foreign keys must not be enforced on the connection (safely's engine sees to that), or dropping
    the old table would delete the rows that refer to it; they are checked at the end instead.
    Raise Refused, and so undo everything, where the copy would lose something.
    """
    refuse_offline(table_name)
    if scalar("PRAGMA foreign_keys"):
        raise Refused("foreign keys are enforced on this connection; a copy would cascade deletes")
    for entry in attachments(table_name):
        if mentions(entry.sql, dropping):  # the copy could not create such an index again
            run(f"DROP {entry.kind} {quoted(entry.name)}")
    attached = attachments(table_name)
    checks = checks_mentioning(table_name, dropping)
    autoincrement = "AUTOINCREMENT" in create_table_statement(table_name).upper()
    highest_id = (
        scalar("SELECT seq FROM sqlite_sequence WHERE name = ?", table_name)
        if autoincrement
        else None
    )
    number_of_rows = count_rows(table_name)

    with warnings.catch_warnings():
        # reflection skips indexes on expressions, with a warning; they are among `attached`
        warnings.filterwarnings("ignore", "Skipped unsupported reflection", SAWarning)
        with op.batch_alter_table(
            table_name,
            recreate="always",
            table_kwargs={"sqlite_autoincrement": autoincrement},
        ) as batch:
            for name in checks:
                batch.drop_constraint(op.f(name), "check")
            yield batch

    restore(table_name, attached, highest_id)
    verify(table_name, attached, number_of_rows)


def attachments(table_name: str) -> list[Attachment]:
    """Return the table's indexes and triggers; an index of a constraint has no SQL of its own."""
    entries = rows(
        "SELECT type, name, sql FROM sqlite_master "
        "WHERE tbl_name = ? AND type IN ('index', 'trigger') AND sql IS NOT NULL",
        table_name,
    )
    return [Attachment(*entry) for entry in entries]


def checks_mentioning(table_name: str, column_name: str | None) -> list[str]:
    """Return the names of the CHECK constraints that mention the column."""
    return [
        str(check["name"])
        for check in sa.inspect(op.get_bind()).get_check_constraints(table_name)
        if mentions(check["sqltext"], column_name)
    ]


def mentions(sql: str, column_name: str | None) -> bool:
    """Return whether the SQL has the column's name in it."""
    return column_name is not None and re.search(rf"\b{re.escape(column_name)}\b", sql) is not None


def create_table_statement(table_name: str) -> str:
    """Return the CREATE TABLE as SQLite keeps it."""
    query = "SELECT sql FROM sqlite_master WHERE type = 'table' AND name = ?"
    return str(scalar(query, table_name))


def count_rows(table_name: str) -> int:
    """Return the number of the table's rows."""
    return int(scalar(f"SELECT count(*) FROM {quoted(table_name)}"))


def restore(table_name: str, attached: list[Attachment], highest_id: int | None) -> None:
    """Create the indexes and triggers that the copy lacks, and set the highest id."""
    existing = {entry.name for entry in attachments(table_name)}
    for entry in attached:
        if entry.name not in existing:
            run(entry.sql)
    if highest_id:
        bind = op.get_bind()
        bind.exec_driver_sql("DELETE FROM sqlite_sequence WHERE name = ?", (table_name,))
        bind.exec_driver_sql("INSERT INTO sqlite_sequence VALUES (?, ?)", (table_name, highest_id))


def verify(table_name: str, attached: list[Attachment], number_of_rows: int) -> None:
    """Raise Refused unless the copy has all indexes, triggers, rows and references."""
    existing = {entry.name for entry in attachments(table_name)}
    if missing := {entry.name for entry in attached} - existing:
        raise Refused(f"copying {table_name} would lose {', '.join(sorted(missing))}")
    if count_rows(table_name) != number_of_rows:
        raise Refused(f"copying {table_name} would lose rows")
    if broken := rows("PRAGMA foreign_key_check"):
        raise Refused(f"copying {table_name} would leave {len(broken)} dangling references")
