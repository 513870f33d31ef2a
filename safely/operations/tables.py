"""Tables: created and dropped. A drop sets aside, and creating again brings back."""

from typing import Any

import sqlalchemy as sa
from alembic import op
from alembic.operations.ops import CreateTableOp

from safely.operations.aside import (
    PREFIX,
    hidden_name,
    hidden_prefix,
    hidden_schema,
    how_to_purge,
    refuse_references,
    rename_indexes,
)
from safely.operations.connection import (
    Refused,
    in_schema,
    literal,
    offline,
    postgresql,
    quoted,
    regclass,
    run,
    scalar,
)
from safely.operations.constraints import create_foreign_key, refuse_two_schemas
from safely.operations.enums import create_missing_enums, hide_labels

SET_TABLE_ASIDE = """\
DO $aside$
DECLARE
  item record;
BEGIN
  IF to_regclass(format('%I.%I', current_schema, {name})) IS NULL THEN
    RETURN;
  END IF;
  CREATE SCHEMA IF NOT EXISTS {schema};
  -- the tables that it refers to can then be set aside, too; create_table adds the keys again
  FOR item IN
    SELECT conname FROM pg_constraint
    WHERE conrelid = {oid} AND contype = 'f' AND confrelid <> conrelid
  LOOP
    EXECUTE format('ALTER TABLE %I DROP CONSTRAINT %I', {name}, item.conname);
  END LOOP;
  ALTER TABLE {table} SET SCHEMA {schema};
END $aside$"""

BRING_TABLE_BACK = """\
DO $back$
BEGIN
  IF to_regclass(format('%I.%I', {schema_name}, {name})) IS NULL
     OR to_regclass(format('%I.%I', current_schema, {name})) IS NOT NULL THEN
    RETURN;
  END IF;
  EXECUTE format('ALTER TABLE %I.%I SET SCHEMA %I', {schema_name}, {name}, current_schema);
  IF NOT EXISTS (SELECT FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace
                 WHERE nspname = {schema_name}) THEN
    DROP SCHEMA {schema};
  END IF;
END $back$"""


def create_table(
    table_name: str, *columns: sa.schema.SchemaItem, schema: str | None = None, **options: Any
) -> sa.Table:
    """Create a table, or bring back the one that this revision has set aside, with its rows.

    Columns, constraints and `options` are those of `op.create_table`; `if_not_exists` is always
    on: a table that a killed run has created is left as it is. Return it, for inserting rows.

    PostgreSQL: SHARE ROW EXCLUSIVE on the tables that its foreign keys refer to, for an instant.
    Older builds don't see it. The opposite is `safely.drop_table`.
    Raise Refused where a table with other columns was set aside under the name, and for a foreign
    key to another schema: versions of one schema are published.

    Example: `safely.create_table("pets", sa.Column("id", sa.BigInteger(), primary_key=True))`
    """
    options.pop("if_not_exists", None)
    with in_schema(schema):
        refuse_keys_to_other_schemas(columns, schema)
        has_enums = create_missing_enums(columns)
        is_new = offline() or not has_table(table_name)
        bring_table_back(table_name)
        exists = not offline() and has_table(table_name)
        was_aside = is_new and exists
        if exists:
            table = CreateTableOp(table_name, columns, **options).to_table(op.get_context())
        else:
            table = op.create_table(table_name, *columns, **options, if_not_exists=True)
        if was_aside:
            refuse_other_columns(table)
        if has_enums:
            hide_labels(table_name)
        if postgresql() and (was_aside or offline()):
            for key in table.foreign_key_constraints:
                add_dropped_key(table_name, key)
        return table


def refuse_keys_to_other_schemas(
    items: tuple[sa.schema.SchemaItem, ...], schema: str | None
) -> None:
    """Raise Refused for a foreign key to a table in another schema."""
    keys = [key for item in items if isinstance(item, sa.Column) for key in item.foreign_keys]
    for item in items:
        if isinstance(item, sa.ForeignKeyConstraint):
            keys += item.elements
    for key in keys:
        parts = key.target_fullname.split(".")  # [schema.]table.column
        refuse_two_schemas(schema, ".".join(parts[:-2]) or schema)


def add_dropped_key(table_name: str, key: sa.ForeignKeyConstraint) -> None:
    """Add a foreign key that `set_table_aside` has dropped."""
    name = key.name if isinstance(key.name, str) else unnamed(table_name, key)
    create_foreign_key(
        name,
        table_name,
        key.referred_table.name,
        key.column_keys,
        [element.column.name for element in key.elements],
        ondelete=key.ondelete,
        onupdate=key.onupdate,
        deferrable=key.deferrable,
        initially=key.initially,
        match=key.match,
    )


def unnamed(table_name: str, key: sa.ForeignKeyConstraint) -> str:
    """Return the name that PostgreSQL gives to a foreign key without one."""
    return "_".join([table_name, *key.column_keys, "fkey"])


def refuse_other_columns(table: sa.Table) -> None:
    """Raise Refused if the table that came back under the name has other columns."""
    existing = {column["name"] for column in sa.inspect(op.get_bind()).get_columns(table.name)}
    existing = {name for name in existing if not name.startswith(PREFIX)}
    wanted = {column.name for column in table.columns}
    if existing != wanted:
        raise Refused(
            f"{table.name} was set aside by this revision with the columns "
            f"{', '.join(sorted(existing))}, and is now to have {', '.join(sorted(wanted))}: "
            f"{how_to_purge()}"
        )


def drop_table(table_name: str, *, schema: str | None = None, **_: Any) -> None:
    """Set a table aside, with its rows; one that a killed run has set aside is no error.

    Alembic's other keywords are accepted: `if_exists` is always on.

    PostgreSQL: ACCESS EXCLUSIVE on it and on the tables that its foreign keys refer to, for an
    instant; it moves to another schema. SQLite: it is renamed.
    Older builds go on reading and writing it (PostgreSQL).
    The opposite is `safely.create_table` in the same revision, which brings it back.
    `python -m safely purge` drops it for good.
    Raise Refused while foreign keys of other tables refer to it.

    Example: `safely.drop_table("pets")`
    """
    with in_schema(schema):
        if not offline() and not has_table(table_name):
            return  # a run that was killed has set it aside
        refuse_references(table_name)
        set_table_aside(table_name)


def set_table_aside(table_name: str) -> None:
    """Move a table, with its rows, to where no build sees it; do nothing where it is missing."""
    if postgresql():
        run(SET_TABLE_ASIDE.format(**placeholders(table_name), oid=regclass(table_name)))
    elif has_table(table_name):
        run(f"ALTER TABLE {quoted(table_name)} RENAME TO {quoted(hidden_name(table_name))}")
        rename_indexes(hidden_name(table_name), hidden_name)


def bring_table_back(table_name: str) -> None:
    """Undo `set_table_aside`; do nothing where the table is not set aside."""
    if postgresql():
        run(BRING_TABLE_BACK.format(**placeholders(table_name)))
    elif not offline() and has_table(hidden_name(table_name)) and not has_table(table_name):
        prefix = hidden_prefix()
        run(f"ALTER TABLE {quoted(hidden_name(table_name))} RENAME TO {quoted(table_name)}")
        rename_indexes(table_name, lambda index: index.removeprefix(prefix))


def placeholders(table_name: str) -> dict[str, str]:
    """Return what the statements above need to know of a table."""
    return {
        "table": quoted(table_name),
        "name": literal(table_name),
        "schema": quoted(hidden_schema()),
        "schema_name": literal(hidden_schema()),
    }


def has_table(table_name: str) -> bool:
    """Return whether the current schema has the table."""
    if postgresql():
        name = literal(table_name)
        return bool(scalar(f"SELECT to_regclass(format('%I.%I', current_schema, {name}))"))
    return bool(scalar("SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = ?", table_name))
