"""Tables, created and dropped; a drop sets aside, and creating again brings back."""

from typing import Any

import sqlalchemy as sa
from alembic import op
from alembic.operations.ops import CreateTableOp

from migrations.safely.aside import (
    bring_table_back,
    how_to_purge,
    refuse_references,
    set_table_aside,
    table_there,
)
from migrations.safely.connection import Refused, offline, postgresql
from migrations.safely.constraints import create_foreign_key


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
