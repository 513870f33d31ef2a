"""SQLite only: changing a table by copying it, without losing anything.

SQLite can't change a column or a constraint in place. So a table of the changed definition takes
the rows of the old one, by the steps of https://sqlite.org/lang_altertable.html. The definition is
SQLite's own text with one place changed (`table_sql`), and not a reflection, which knows neither
collations nor generated columns nor constraints without a name.
"""

import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

from alembic import op
from sqlalchemy.exc import DBAPIError

from safely.errors import by_sqlite_code, causes
from safely.operations.connection import Refused, quoted, refuse_offline, rows, run, scalar
from safely.operations.table_sql import Definition, mentions

OLD = "_safely_old"  # what the table is called while its copy is filled; gone before the commit
ROW_NUMBERS = ("rowid", "_rowid_", "oid")
OUR_FAULT = {  # of a definition or of rows, and not of the disk or of another connection
    sqlite3.SQLITE_ERROR: "the definition is wrong",
    sqlite3.SQLITE_CONSTRAINT: "rows break a rule",
    sqlite3.SQLITE_MISMATCH: "a value has the wrong type",
}


class Attachment(NamedTuple):
    """An index or a trigger of a table, with the SQL that created it."""

    kind: str
    name: str
    sql: str

    @property
    def label(self) -> str:
        """The name that `portrait` gives to the object."""
        return f"{self.kind} {self.name}"


@contextmanager
def rebuilt(
    table_name: str, *, values: Mapping[str, str] | None = None, dropping: str | None = None
) -> Iterator[Definition]:
    """Copy the table into one with the changes that are made meanwhile, which takes its place.

    Yield the table's definition, which takes the changes.
    `values` has SQL, over the old table, for columns that don't keep their values.
    With the column `dropping` go the indexes, triggers and constraints that mention it.
    Foreign keys must not be enforced on the connection (safely's engine sees to that), or dropping
    the old table would delete the rows that refer to it.
    Raise Refused, and so undo everything, where SQLite refuses the definition or a row, and where
    anything else than the changes would differ afterwards.
    """
    refuse_offline(table_name)
    if scalar("PRAGMA foreign_keys"):
        raise Refused("foreign keys are enforced on this connection; a copy would cascade deletes")
    before = portrait(table_name)
    definition = definition_of_table(table_name)
    attached = attachments(table_name)
    dropped = [a for a in attached if dropping is not None and mentions(a.sql, dropping)]
    yield definition
    if dropping is not None:
        definition.drop_column(dropping)
    definition.changed |= {entry.label for entry in dropped}
    with refused_by_sqlite(table_name):
        copy(table_name, definition, values or {})
        for entry in attached:
            if entry not in dropped:
                run(entry.sql)
    refuse_differences(table_name, before, portrait(table_name), definition.changed)


@contextmanager
def refused_by_sqlite(table_name: str) -> Iterator[None]:
    """Raise Refused where SQLite refuses a definition or a row; let other errors pass."""
    try:
        yield
    except DBAPIError as error:
        for cause in causes(error):
            if problem := by_sqlite_code(cause, OUR_FAULT):
                raise Refused(
                    f"SQLite refuses to change {table_name}, since {problem}: {cause}. Correct "
                    "that, and run this again"
                ) from error
        raise


def definition_of_table(table_name: str) -> Definition:
    """Return the table's definition; raise Refused for a table that a module of SQLite keeps."""
    query = "SELECT sql FROM sqlite_master WHERE type = 'table' AND lower(name) = lower(?)"
    statement = scalar(query, table_name)
    if statement is None:
        raise Refused(f"there is no table {table_name}: correct its name")
    if mentions(str(statement).partition("(")[0], "VIRTUAL"):
        raise Refused(f"{table_name} is a virtual table, which can't be copied: change it by hand")
    return Definition(str(statement))


def attachments(table_name: str) -> list[Attachment]:
    """Return the table's indexes and triggers; an index of a constraint has no SQL of its own."""
    entries = rows(
        "SELECT type, name, sql FROM sqlite_master WHERE lower(tbl_name) = lower(?) "
        "AND type IN ('index', 'trigger') AND sql IS NOT NULL ORDER BY rowid",
        table_name,
    )
    return [Attachment(*entry) for entry in entries]


def copy(table_name: str, definition: Definition, values: Mapping[str, str]) -> None:
    """Put a table of this definition in the place of the table, with its rows."""
    table, old_columns = quoted(table_name), columns_of(table_name)
    highest_id = sequence_of(table_name)
    for entry in attachments(table_name):
        run(f"DROP {entry.kind} {quoted(entry.name)}")
    # otherwise SQLite would lead foreign keys, triggers and views of others to the old table
    run("PRAGMA legacy_alter_table = ON")
    try:
        run(f"ALTER TABLE {table} RENAME TO {quoted(OLD)}")
    finally:
        run("PRAGMA legacy_alter_table = OFF")
    run(str(definition))
    columns = {
        quoted(name): values.get(name, quoted(name))
        for name, is_generated in columns_of(table_name).items()
        if not is_generated and (name in values or name in old_columns)
    }
    free = [name for name in ROW_NUMBERS if name not in {column.lower() for column in old_columns}]
    if free and not definition.is_without_rowid:
        columns = {free[0]: free[0], **columns}
    run(
        f"INSERT INTO {table} ({', '.join(columns)}) "
        f"SELECT {', '.join(columns.values())} FROM {quoted(OLD)}"
    )
    run(f"DROP TABLE {quoted(OLD)}")
    bind, of_table = op.get_bind(), "WHERE name = ? COLLATE NOCASE"
    if highest_id is not None:
        update = f"UPDATE sqlite_sequence SET seq = ? {of_table}"
        bind.exec_driver_sql(update, (highest_id, table_name))
    elif sequence_of(table_name) is not None:  # filling the copy has made it
        bind.exec_driver_sql(f"DELETE FROM sqlite_sequence {of_table}", (table_name,))


def columns_of(table_name: str) -> dict[str, bool]:
    """Return the table's columns, and whether they are generated."""
    return dict(rows("SELECT name, hidden IN (2, 3) FROM pragma_table_xinfo(?)", table_name))


def sequence_of(table_name: str) -> int | None:
    """Return the highest id that AUTOINCREMENT ever gave; None without one."""
    if not scalar("SELECT 1 FROM sqlite_master WHERE name = 'sqlite_sequence'"):
        return None
    number = scalar("SELECT seq FROM sqlite_sequence WHERE name = ? COLLATE NOCASE", table_name)
    return None if number is None else int(number)


def portrait(table_name: str) -> dict[str, Any]:
    """Return all that SQLite tells of a table, and of what else is in the schema, by its label."""
    facts: dict[str, Any] = {
        f"column {name}": rest
        for name, *rest in rows(
            'SELECT name, type, "notnull", dflt_value, pk, hidden FROM pragma_table_xinfo(?)',
            table_name,
        )
    }
    for kind, name, statement in rows(
        "SELECT type, name, sql FROM sqlite_master "
        "WHERE sql IS NOT NULL AND NOT (type = 'table' AND lower(name) = lower(?))",
        table_name,
    ):
        facts[f"{kind} {name}"] = statement
        if kind == "view":
            facts[f"view {name}, read"] = is_readable(name)
    facts["foreign keys"] = sorted(
        rows(
            'SELECT group_concat("from"), "table", group_concat("to"), on_update, on_delete, '
            '"match" FROM (SELECT * FROM pragma_foreign_key_list(?) ORDER BY id, seq) GROUP BY id',
            table_name,
        ),
        key=str,
    )
    facts["primary and unique keys"] = sorted(
        rows(
            "SELECT list.origin, group_concat(info.name || ' ' || info.coll || ' ' || info.desc) "
            "FROM pragma_index_list(?) AS list, pragma_index_xinfo(list.name) AS info "
            "WHERE list.origin <> 'c' AND info.key GROUP BY list.name",
            table_name,
        ),
        key=str,
    )
    facts["number of rows"] = scalar(f"SELECT count(*) FROM {quoted(table_name)}")
    facts["highest id ever used"] = sequence_of(table_name)
    facts["dangling references"] = dangling_references()
    return facts


def is_readable(view: str) -> bool:
    """Return whether a view can be read: not if it names what isn't there."""
    try:
        rows(f"SELECT * FROM {quoted(view)} LIMIT 0")
    except DBAPIError:
        return False
    return True


def dangling_references() -> list[tuple[Any, ...]]:
    """Return the tables of rows that refer to a missing row, with the table they refer to."""
    try:
        return sorted((row[0], row[2], row[1] or 0) for row in rows("PRAGMA foreign_key_check"))
    except DBAPIError as error:  # a foreign key that refers to columns that aren't unique
        return [(str(error.orig),)]


def refuse_differences(
    table_name: str, before: dict[str, Any], after: dict[str, Any], changed: set[str]
) -> None:
    """Raise Refused where anything differs that was not to be changed."""
    changed = {label.lower() for label in changed}
    if "foreign keys" in changed and len(after["dangling references"]) <= len(
        before["dangling references"]
    ):
        changed.add("dangling references")
    different = [
        label
        for label in sorted(before.keys() | after.keys())
        if before.get(label) != after.get(label) and label.lower() not in changed
    ]
    if different:
        raise Refused(
            f"copying {table_name}, which is how SQLite changes a table, would change more than "
            f"it should: {', '.join(different)}. Change {table_name} by hand, as "
            "https://sqlite.org/lang_altertable.html shows"
        )
