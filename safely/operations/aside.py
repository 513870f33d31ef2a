"""Setting aside: what a "drop" does, so that no value is lost and older builds go on.

A column is renamed to `_aside_<revision>_<name>`, and so are its indexes and constraints; a table
moves to the schema `aside_<revision>` (SQLite: it is renamed). The same revision, run in the other
direction, finds them there and brings them back with their values. `python -m safely purge`
drops them for good.
"""

import re
from collections.abc import Callable

from safely.operations.connection import (
    Refused,
    has_column,
    has_table,
    literal,
    offline,
    postgresql,
    quoted,
    regclass,
    revision,
    rows,
    run,
    scalar,
    undoing,
)

LONGEST_NAME = 63  # bytes, on PostgreSQL, which silently cuts off the rest
PREFIX = "_aside_"  # hidden from autogenerate and from published versions
INDEX_NAME = re.compile(r'INDEX\s+(?:"(?:[^"]|"")+"|\S+)')  # in SQLite's CREATE INDEX

# an index or a constraint keeps its name where the new one would be longer than 63 bytes: cut off,
# it could not be found again
RENAME = """\
DO $rename$
DECLARE
  number smallint := (SELECT attnum FROM pg_attribute
                      WHERE attrelid = {oid} AND attname = {old_text} AND NOT attisdropped);
  item record;
BEGIN
  IF number IS NULL THEN
    RETURN;
  END IF;
  ALTER TABLE {table} RENAME COLUMN {old} TO {new};
  FOR item IN
    SELECT is_constraint, name, {new_name} AS new_name
    FROM (
      SELECT true AS is_constraint, conname::text AS name
      FROM pg_constraint
      WHERE conrelid = {oid} AND number = ANY (conkey) AND contype <> 'n' AND conparentid = 0
      UNION ALL
      SELECT false, relname::text
      FROM pg_index JOIN pg_class ON pg_class.oid = indexrelid
      WHERE indrelid = {oid}
        AND NOT EXISTS (SELECT FROM pg_constraint WHERE conindid = indexrelid AND conrelid = {oid})
        AND EXISTS (SELECT FROM pg_depend
                    WHERE classid = 'pg_class'::regclass AND objid = indexrelid
                      AND refobjid = {oid} AND refobjsubid = number)
    ) AS attached
    WHERE {condition}
  LOOP
    IF item.is_constraint THEN
      EXECUTE format('ALTER TABLE %I RENAME CONSTRAINT %I TO %I',
                     {table_text}, item.name, item.new_name);
    ELSE
      EXECUTE format('ALTER INDEX %I RENAME TO %I', item.name, item.new_name);
    END IF;
  END LOOP;
  {afterwards};
END $rename$"""


def hidden_name(name: str) -> str:
    """Return the name that a column has while this revision has set it aside.

    Raise Refused for one that the database would cut off.
    """
    return refuse_long(f"{hidden_prefix()}{name}", name)


def hidden_prefix() -> str:
    """Return what the name of everything that this revision has set aside begins with."""
    return f"{PREFIX}{revision()}_"


def hidden_schema() -> str:
    """Return the schema of the tables that this revision has set aside (PostgreSQL).

    Raise Refused for a name that the database would cut off.
    """
    return refuse_long(f"aside_{revision()}", "a table")


def refuse_long(hidden: str, name: str) -> str:
    """Return the name under which something is set aside; raise Refused if it is too long."""
    if len(hidden.encode()) > LONGEST_NAME:
        raise Refused(
            f"{name} can't be set aside as {hidden}, which is too long: the database keeps "
            f"{LONGEST_NAME} bytes of a name. Shorten the name, or the id of revision {revision()}"
        )
    return hidden


def how_to_purge() -> str:
    """Return the command that drops what this revision set aside when it ran the other way."""
    which = f"--before {revision()}" if undoing() else "--undone"
    return f"`python -m safely purge {which}` drops what was set aside"


def is_set_aside(table_name: str, column_name: str) -> bool:
    """Return whether this revision has set the column aside, and can bring it back."""
    return has_column(table_name, hidden_name(column_name)) and not has_column(
        table_name, column_name
    )


def is_table_aside(table_name: str) -> bool:
    """Return whether this revision has set the table aside."""
    if not postgresql():
        return has_table(hidden_name(table_name))
    place = f"format('%I.%I', {literal(hidden_schema())}, {literal(table_name)})"
    return bool(scalar(f"SELECT to_regclass({place}) IS NOT NULL"))


def set_column_aside(table_name: str, column_name: str) -> None:
    """Rename a column, its indexes and its constraints to their hidden names.

    Raise Refused where the revision has one of that name set aside already.
    """
    hidden, prefix = hidden_name(column_name), literal(hidden_prefix())
    if not offline() and has_column(table_name, hidden):
        raise Refused(
            f"{table_name}.{column_name} was set aside by this revision once before, and has "
            f"been created again: {how_to_purge()}"
        )
    if not postgresql():
        rename_on_sqlite(table_name, column_name, hidden)
        rename_indexes(table_name, hidden_name, mentioning=hidden)
        return
    run(
        RENAME.format(
            **renaming(table_name, column_name, hidden),
            new_name=f"{prefix} || name",
            condition=f"octet_length({prefix} || name) <= {LONGEST_NAME}",
            afterwards="NULL",
        )
    )


def bring_column_back(table_name: str, column_name: str, *, afterwards: str = "NULL") -> None:
    """Undo `set_column_aside`; do nothing where the column is not set aside.

    `afterwards` is a statement to execute in the same step, once the column is back (PostgreSQL).
    """
    hidden, prefix = hidden_name(column_name), hidden_prefix()
    if not postgresql():
        if is_set_aside(table_name, column_name):
            rename_on_sqlite(table_name, hidden, column_name)
            rename_indexes(
                table_name, lambda index: index.removeprefix(prefix), mentioning=column_name
            )
        return
    run(
        RENAME.format(
            **renaming(table_name, hidden, column_name),
            new_name=f"substr(name, {len(prefix) + 1})",
            condition=f"starts_with(name, {literal(prefix)})",
            afterwards=afterwards,
        )
    )


def renaming(table_name: str, old: str, new: str) -> dict[str, str]:
    """Return what RENAME needs to know of a column and its new name."""
    return {
        "oid": regclass(table_name),
        "table": quoted(table_name),
        "table_text": literal(table_name),
        "old": quoted(old),
        "old_text": literal(old),
        "new": quoted(new),
    }


def rename_on_sqlite(table_name: str, old: str, new: str) -> None:
    """Rename a column; SQLite renames it in indexes, triggers and CHECKs as well."""
    run(f"ALTER TABLE {quoted(table_name)} RENAME COLUMN {quoted(old)} TO {quoted(new)}")


def rename_indexes(
    table_name: str, renamed: Callable[[str], str], *, mentioning: str = "", only: str = ""
) -> None:
    """Rename a table's indexes, those whose SQL has `mentioning` in it, or `only` one.

    SQLite can't rename an index, so each is dropped and created again.
    """
    indexes = rows(
        "SELECT name, sql FROM sqlite_master "
        "WHERE type = 'index' AND tbl_name = ? AND instr(sql, ?) > 0",
        table_name,
        mentioning,
    )
    for name, sql in indexes:
        if only not in ("", name):
            continue
        run(f"DROP INDEX {quoted(name)}")
        new_name = quoted(renamed(name)).replace("\\", r"\\")  # in a pattern's replacement
        run(INDEX_NAME.sub(f"INDEX {new_name}", sql, count=1))


def refuse_references(table_name: str, column_name: str | None = None) -> None:
    """Raise Refused while foreign keys bind the column, or other tables' bind the table.

    They would still be enforced, and newer builds can't obey a rule about what they don't see.
    """
    if offline():
        return
    if keys := foreign_keys(table_name, column_name):
        raise Refused(
            f"{table_name}{'.' + column_name if column_name else ''} can't be set aside: "
            f"{', '.join(keys)} would still be enforced. Drop it first, with "
            "safely.drop_constraint, and let the downgrade create it again"
        )


def foreign_keys(table_name: str, column_name: str | None) -> list[str]:
    """Return the foreign keys to the table, or from and to the column, in words."""
    if postgresql():
        table = regclass(table_name)
        condition = f"confrelid = {table} AND conrelid <> confrelid"
        if column_name is not None:
            number = (
                f"(SELECT attnum FROM pg_attribute WHERE attrelid = {table} "
                f"AND attname = {literal(column_name)})"
            )
            condition = (
                f"confrelid = {table} AND {number} = ANY (confkey) "
                f"OR conrelid = {table} AND {number} = ANY (conkey)"
            )
        keys = rows(
            "SELECT format('%s of %s', conname, conrelid::regclass) FROM pg_constraint "
            f"WHERE contype = 'f' AND conparentid = 0 AND ({condition}) ORDER BY 1"
        )
        return [key for (key,) in keys]
    condition, parameters = 'refers."table" = ? AND tables.name <> ?', [table_name, table_name]
    if column_name is not None:
        condition = (
            'refers."table" = ? AND refers."to" = ? OR tables.name = ? AND refers."from" = ?'
        )
        parameters = [table_name, column_name] * 2
    tables = rows(
        "SELECT DISTINCT tables.name FROM sqlite_master AS tables, "
        "pragma_foreign_key_list(tables.name) AS refers "
        f"WHERE tables.type = 'table' AND ({condition})",
        *parameters,
    )
    # an earlier version of safely set tables aside with their foreign keys, which follow a rename
    return [f"a foreign key of {name}" for (name,) in tables if not name.startswith(PREFIX)]
