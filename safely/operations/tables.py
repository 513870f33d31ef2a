"""Tables, created and dropped; a drop sets aside, and creating again brings back."""

from typing import Any

import sqlalchemy as sa
from alembic import op
from alembic.operations.ops import CreateTableOp

from safely.operations.aside import aside, how_to_purge, refuse_references, rename_indexes
from safely.operations.connection import (
    Refused,
    ask,
    literal,
    offline,
    postgresql,
    quoted,
    regclass,
    revision,
    run,
)
from safely.operations.constraints import create_foreign_key

SET_TABLE_ASIDE = """\
DO $aside$
DECLARE
  item record;
BEGIN
  IF to_regclass(format('%I.%I', current_schema, {name})) IS NULL THEN
    RETURN;
  END IF;
  CREATE SCHEMA IF NOT EXISTS {schema};
  -- what it refers to must be free to go; create_table makes the references again
  FOR item IN
    SELECT conname FROM pg_constraint
    WHERE conrelid = {oid} AND contype = 'f' AND confrelid <> conrelid
  LOOP
    EXECUTE format('ALTER TABLE {table} DROP CONSTRAINT %I', item.conname);
  END LOOP;
  ALTER TABLE {table} SET SCHEMA {schema};
END $aside$"""

BRING_TABLE_BACK = """\
DO $back$
BEGIN
  IF to_regclass(format('%I.%I', '{schema}', {name})) IS NULL
     OR to_regclass(format('%I.%I', current_schema, {name})) IS NOT NULL THEN
    RETURN;
  END IF;
  EXECUTE format('ALTER TABLE {schema}.{table} SET SCHEMA %I', current_schema);
  IF NOT EXISTS (SELECT FROM pg_class WHERE relnamespace = '{schema}'::regnamespace) THEN
    DROP SCHEMA {schema};
  END IF;
END $back$"""


def create_table(table_name: str, *columns: sa.schema.SchemaItem, **options: Any) -> sa.Table:
    """Create a table, or bring back the one that this revision has set aside, with its rows.

    Locks nothing but what its foreign keys refer to, for an instant. One that a killed run got
    to already is left as it is.
    """
    is_new = offline() or not table_there(table_name)
    bring_table_back(table_name)
    was_aside = is_new and not offline() and table_there(table_name)
    if not offline() and table_there(table_name):
        options.pop("if_not_exists", None)
        table = CreateTableOp(table_name, columns, **options).to_table(op.get_context())
    else:
        table = op.create_table(table_name, *columns, **{**options, "if_not_exists": True})
    if was_aside:
        refuse_other_columns(table)
    if postgresql() and (was_aside or offline()):
        for key in table.foreign_key_constraints:
            refer_again(table_name, key)
    return table


def refer_again(table_name: str, key: sa.ForeignKeyConstraint) -> None:
    """Make a foreign key that setting the table aside has dropped."""
    create_foreign_key(
        str(key.name),
        table_name,
        key.referred_table.name,
        key.column_keys,
        [element.column.name for element in key.elements],
        ondelete=key.ondelete,
        onupdate=key.onupdate,
    )


def refuse_other_columns(table: sa.Table) -> None:
    """Raise Refused if what was set aside under that name is something else."""
    there = {column["name"] for column in sa.inspect(op.get_bind()).get_columns(table.name)}
    there = {name for name in there if not name.startswith("_aside_")}
    wanted = {column.name for column in table.columns}
    if there != wanted:
        raise Refused(
            f"{table.name} was set aside by this revision with the columns "
            f"{', '.join(sorted(there))}, and is now to have {', '.join(sorted(wanted))}: "
            f"{how_to_purge()}"
        )


def drop_table(table_name: str, **_: Any) -> None:
    """Set a table aside, with its rows (an instant's lock, also on what it refers to)."""
    if not offline() and not table_there(table_name):
        return  # a run that was killed did it
    refuse_references(table_name)
    set_table_aside(table_name)


def set_table_aside(table_name: str) -> None:
    """Put a table where it is out of the way, with its rows; one that is gone is fine."""
    if postgresql():
        run(SET_TABLE_ASIDE.format(**place(table_name), oid=regclass(table_name)))
    elif table_there(table_name):
        run(f"ALTER TABLE {quoted(table_name)} RENAME TO {quoted(aside(table_name))}")
        rename_indexes(aside(table_name), aside)


def bring_table_back(table_name: str) -> None:
    """Undo `set_table_aside`; where nothing is aside, do nothing."""
    if postgresql():
        run(BRING_TABLE_BACK.format(**place(table_name)))
    elif not offline() and table_there(aside(table_name)) and not table_there(table_name):
        prefix = aside("")
        run(f"ALTER TABLE {quoted(aside(table_name))} RENAME TO {quoted(table_name)}")
        rename_indexes(table_name, lambda index: index.removeprefix(prefix))


def place(table_name: str) -> dict[str, str]:
    """A table and where it goes, for the statements above."""
    return {"table": quoted(table_name), "name": literal(table_name), "schema": aside_schema()}


def table_there(table_name: str) -> bool:
    """Whether there is such a table among those in use."""
    if postgresql():
        name = literal(table_name)
        return bool(ask(f"SELECT to_regclass(format('%I.%I', current_schema, {name}))"))
    return bool(ask("SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = ?", table_name))


def aside_schema() -> str:
    """Where the tables are that this revision has set aside (PostgreSQL)."""
    return f"aside_{revision()}"
