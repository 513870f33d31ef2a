"""Setting aside: what a "drop" does, so that nothing is lost and older builds go on.

A column is renamed to `_aside_<revision>_<name>`, and so are its indexes and constraints; a table
moves to the schema `aside_<revision>` (SQLite: it is renamed). The same revision, run the other
way, finds them there and brings them back with what they hold. `python -m migrations purge`
drops them for good.
"""

import re
from collections.abc import Callable

from safely.operations.connection import (
    Refused,
    column_there,
    literal,
    offline,
    postgresql,
    quoted,
    regclass,
    revision,
    rows,
    run,
    undoing,
)

LONGEST_NAME = 63  # bytes, on PostgreSQL; more are cut off
PREFIX = "_aside_"  # hidden from autogenerate and from published versions

# names longer than 63 bytes would be cut, so an index or constraint may keep a long one
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
    SELECT change, name, {new_name} AS new_name
    FROM (
      SELECT 'ALTER TABLE {table} RENAME CONSTRAINT %I TO %I' AS change, conname::text AS name
      FROM pg_constraint
      WHERE conrelid = {oid} AND number = ANY (conkey) AND contype <> 'n'
      UNION ALL
      SELECT 'ALTER INDEX %I RENAME TO %I', relname::text
      FROM pg_index JOIN pg_class ON pg_class.oid = indexrelid
      WHERE indrelid = {oid}
        AND NOT EXISTS (SELECT FROM pg_constraint WHERE conindid = indexrelid AND conrelid = {oid})
        AND EXISTS (SELECT FROM pg_depend
                    WHERE classid = 'pg_class'::regclass AND objid = indexrelid
                      AND refobjid = {oid} AND refobjsubid = number)
    ) AS attached
    WHERE {condition}
  LOOP
    EXECUTE format(item.change, item.name, item.new_name);
  END LOOP;
  {finally_};
END $rename$"""


def aside(name: str) -> str:
    """What a column is called while this revision has set it aside."""
    hidden = f"{PREFIX}{revision()}_{name}"
    if len(hidden.encode()) > LONGEST_NAME:
        raise Refused(
            f"{name} is too long to be set aside as {hidden}: the database keeps "
            f"{LONGEST_NAME} bytes of a name"
        )
    return hidden


def how_to_purge() -> str:
    """How to be rid of what this revision set aside when it was run the other way."""
    which = f"--before {revision()}" if undoing() else "--undone"
    return f"`python -m migrations purge {which}` drops what was set aside"


def is_aside(table_name: str, column_name: str) -> bool:
    """Whether this revision has set the column aside, so that it can be brought back."""
    return column_there(table_name, aside(column_name)) and not column_there(
        table_name, column_name
    )


def set_column_aside(table_name: str, column_name: str) -> None:
    """Rename a column, its indexes and its constraints."""
    name = aside(column_name)
    if not offline() and column_there(table_name, name):
        raise Refused(
            f"{table_name}.{column_name} was set aside by this revision once before, and is "
            f"there again: {how_to_purge()}"
        )
    if not postgresql():
        rename_on_sqlite(table_name, column_name, name)
        rename_indexes(table_name, aside, mentioning=name)
        return
    prefix = literal(aside(""))
    names = {
        "new_name": f"{prefix} || name",
        "condition": f"octet_length({prefix} || name) <= 63",
    }
    run(RENAME.format(**columns(table_name, column_name, name), **names, finally_="NULL"))


def bring_column_back(table_name: str, column_name: str, *, finally_: str = "NULL") -> None:
    """Undo `set_column_aside`, and then run `finally_`; where nothing is aside, do nothing."""
    name, prefix = aside(column_name), aside("")
    if not postgresql():
        if is_aside(table_name, column_name):
            rename_on_sqlite(table_name, name, column_name)
            rename_indexes(
                table_name, lambda index: index.removeprefix(prefix), mentioning=column_name
            )
        return
    names = {
        "new_name": f"substr(name, {len(prefix) + 1})",
        "condition": f"starts_with(name, {literal(prefix)})",
    }
    run(RENAME.format(**columns(table_name, name, column_name), **names, finally_=finally_))


def columns(table_name: str, old: str, new: str) -> dict[str, str]:
    """A column and its new name, for RENAME."""
    return {
        "oid": regclass(table_name),
        "table": quoted(table_name),
        "old": quoted(old),
        "old_text": literal(old),
        "new": quoted(new),
    }


def rename_on_sqlite(table_name: str, old: str, new: str) -> None:
    """Rename a column; SQLite takes along what mentions it."""
    run(f"ALTER TABLE {quoted(table_name)} RENAME COLUMN {quoted(old)} TO {quoted(new)}")


def rename_indexes(table_name: str, renamed: Callable[[str], str], *, mentioning: str = "") -> None:
    """Make a table's indexes anew under other names, which SQLite can't change."""
    made = rows(
        "SELECT name, sql FROM sqlite_master "
        "WHERE type = 'index' AND tbl_name = ? AND instr(sql, ?) > 0",
        table_name,
        mentioning,
    )
    for name, sql in made:
        run(f"DROP INDEX {quoted(name)}")
        run(re.sub(r'INDEX\s+("[^"]+"|\S+)', f"INDEX {quoted(renamed(name))}", sql, count=1))


def refuse_references(table_name: str, column_name: str | None = None) -> None:
    """Raise Refused while foreign keys tie the column, or others to the table.

    They would go on being enforced, and newer builds can't heed what they don't see.
    """
    if offline():
        return
    if tied := references(table_name, column_name):
        raise Refused(
            f"{table_name}{'.' + column_name if column_name else ''} can't be set aside: "
            f"{', '.join(tied)} would still be enforced. Drop it first, with "
            "safely.drop_constraint, and let the downgrade make it again"
        )


def references(table_name: str, column_name: str | None) -> list[str]:
    """The foreign keys to the table, or from and to the column."""
    if postgresql():
        tied = f"confrelid = {regclass(table_name)} AND conrelid <> confrelid"
        if column_name is not None:
            number = (
                f"(SELECT attnum FROM pg_attribute WHERE attrelid = {regclass(table_name)} "
                f"AND attname = {literal(column_name)})"
            )
            tied = (
                f"confrelid = {regclass(table_name)} AND {number} = ANY (confkey) "
                f"OR conrelid = {regclass(table_name)} AND {number} = ANY (conkey)"
            )
        found = rows(
            "SELECT format('%s of %s', conname, conrelid::regclass) FROM pg_constraint "
            f"WHERE contype = 'f' AND ({tied}) ORDER BY 1"
        )
        return [name for (name,) in found]
    tied, values = 'refers."table" = ? AND tables.name <> ?', [table_name, table_name]
    if column_name is not None:
        tied = 'refers."table" = ? AND refers."to" = ? OR tables.name = ? AND refers."from" = ?'
        values = [table_name, column_name] * 2
    found = rows(
        "SELECT DISTINCT tables.name FROM sqlite_master AS tables, "
        "pragma_foreign_key_list(tables.name) AS refers "
        f"WHERE tables.type = 'table' AND ({tied})",
        *values,
    )
    return [f"a foreign key of {name}" for (name,) in found]
