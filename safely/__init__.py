"""The operations that a revision calls in the place of Alembic's, safe on a database in use.

An operation has the name and the arguments of Alembic's own, where there is one. It works on
PostgreSQL and on SQLite, can be run again after it was killed halfway, and under `--sql` prints
what it would do. `alembic revision --autogenerate` writes them.

"An instant" of a lock is the time of a change in the catalogue, some milliseconds; the wait for
the lock, with clients in a queue behind it, is cut off by `lock_timeout`, and the step retried.
Builds of earlier revisions work through views of the columns as they were (PostgreSQL).
`schema=` can be left out: it is the schema of the project's tables, and another one is refused.
"""

import logging

from alembic import op
from alembic.op import f

from safely.operations.backfill import backfill
from safely.operations.columns import add_column, drop_column, rename_column
from safely.operations.comments import change_comment, create_table_comment, drop_table_comment
from safely.operations.connection import Refused
from safely.operations.constraints import (
    create_check_constraint,
    create_foreign_key,
    create_unique_constraint,
    drop_constraint,
)
from safely.operations.enums import create_enum, drop_enum
from safely.operations.indexes import create_index, drop_index
from safely.operations.relabel import change_enum
from safely.operations.renames import rename_constraint, rename_index, rename_table
from safely.operations.required import allow_null, require_column
from safely.operations.retype import change_default, change_type
from safely.operations.tables import create_table, drop_table

__all__ = [
    "Refused",
    "add_column",
    "allow_null",
    "backfill",
    "change_comment",
    "change_default",
    "change_enum",
    "change_type",
    "create_check_constraint",
    "create_enum",
    "create_foreign_key",
    "create_index",
    "create_table",
    "create_table_comment",
    "create_unique_constraint",
    "drop_column",
    "drop_constraint",
    "drop_enum",
    "drop_index",
    "drop_table",
    "drop_table_comment",
    "f",
    "nothing_to_undo",
    "rename_column",
    "rename_constraint",
    "rename_index",
    "rename_table",
    "require_column",
]


def nothing_to_undo(reason: str) -> None:
    """State in a downgrade why it changes nothing; the reason goes to the log, or the script.

    Locks nothing. Builds of every revision go on as they are.

    Example: `safely.nothing_to_undo("names that were filled in do no harm")`
    """
    context = op.get_context()
    if context.as_sql:
        context.impl.static_output(f"-- nothing to undo: {reason}")
    else:
        logging.getLogger("safely").info("nothing to undo: %s", reason)
