"""The one safe spelling of each operation that can hurt a table in use.

Each takes what Alembic's own operation of that name takes, works on PostgreSQL and on SQLite,
can be run again after it was killed halfway, and under `--sql` prints what it would do.
Autogenerate writes these names.
"""

import logging

from alembic import op
from alembic.op import create_table_comment, drop_table_comment, f

from safely.operations.backfill import backfill
from safely.operations.columns import add_column, drop_column, rename_column
from safely.operations.connection import Refused
from safely.operations.constraints import (
    create_check_constraint,
    create_foreign_key,
    create_unique_constraint,
    drop_constraint,
)
from safely.operations.indexes import create_index, drop_index
from safely.operations.required import allow_null, require_column
from safely.operations.retype import change_default, change_type
from safely.operations.tables import create_table, drop_table

__all__ = [
    "Refused",
    "add_column",
    "allow_null",
    "backfill",
    "change_default",
    "change_type",
    "create_check_constraint",
    "create_foreign_key",
    "create_index",
    "create_table",
    "create_table_comment",
    "create_unique_constraint",
    "drop_column",
    "drop_constraint",
    "drop_index",
    "drop_table",
    "drop_table_comment",
    "f",
    "nothing_to_undo",
    "rename_column",
    "require_column",
]


def nothing_to_undo(why: str) -> None:
    """Say why a downgrade leaves things as they are."""
    context = op.get_context()
    if context.as_sql:
        context.impl.static_output(f"-- nothing to undo: {why}")
    else:
        logging.getLogger("safely").info("nothing to undo: %s", why)
