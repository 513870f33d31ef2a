"""Comments on tables, columns and constraints; SQLite has none.

On SQLite an operation that only sets a comment changes nothing, and says so in the log: a project
on both databases can have comments in its models. Autogenerate finds no difference there.
"""

import logging

import sqlalchemy as sa
from alembic import op
from sqlalchemy.schema import SetColumnComment, SetConstraintComment, SetTableComment

from safely.operations.connection import literal, postgresql, quoted, run
from safely.operations.halves import is_left_out

log = logging.getLogger("safely")


def create_table_comment(
    table_name: str,
    comment: str | None,
    *,
    existing_comment: str | None = None,
    schema: str | None = None,
) -> None:
    """Set the comment of a table; None removes it.

    `existing_comment` is for the reader of the revision.

    PostgreSQL: SHARE UPDATE EXCLUSIVE for an instant, which blocks nobody.
    SQLite: nothing is changed, since it has no comments.
    Older builds don't notice. The opposite is `safely.drop_table_comment`, or this with the
    comment before.

    Example: `safely.create_table_comment("customers", "people who bought something")`
    """
    del existing_comment
    if is_left_out(schema, table_name):
        return
    set_comment(f"TABLE {quoted(table_name)}", table_name, comment)


def drop_table_comment(
    table_name: str, *, existing_comment: str | None = None, schema: str | None = None
) -> None:
    """Remove the comment of a table; see `safely.create_table_comment`, which is the opposite.

    Example: `safely.drop_table_comment("customers")`
    """
    create_table_comment(table_name, None, existing_comment=existing_comment, schema=schema)


def change_comment(
    table_name: str,
    column_name: str,
    comment: str | None,
    *,
    existing_comment: str | None = None,
    schema: str | None = None,
) -> None:
    """Set the comment of a column; None removes it.

    Alembic spells it `op.alter_column(…, comment=…)`. `existing_comment` is for the reader of the
    revision.

    PostgreSQL: SHARE UPDATE EXCLUSIVE for an instant, which blocks nobody.
    SQLite: nothing is changed, since it has no comments.
    Older builds don't notice. The opposite is this with the comment before.

    Example: `safely.change_comment("customers", "phone", "with the country's code")`
    """
    del existing_comment
    if is_left_out(schema, table_name, column_name):
        return
    column = f"{quoted(table_name)}.{quoted(column_name)}"
    set_comment(f"COLUMN {column}", f"{table_name}.{column_name}", comment)


def set_comment(target: str, name: str, comment: str | None) -> None:
    """Execute COMMENT ON (PostgreSQL)."""
    if not postgresql():
        log.info("SQLite has no comments: that of %s is left out", name)
        return
    run(f"COMMENT ON {target} IS {'NULL' if comment is None else literal(comment)}")


def set_comments_of(table: sa.Table) -> None:
    """Set the comments of a table, of its columns and of its constraints (PostgreSQL)."""
    if table.comment is not None:
        op.execute(SetTableComment(table))
    for column in table.columns:
        if column.comment is not None:
            op.execute(SetColumnComment(column))
    set_comments_of_constraints(table)


def set_comments_of_constraints(table: sa.Table) -> None:
    """Set the comments of a table's constraints, which CREATE TABLE leaves out (PostgreSQL)."""
    for constraint in table.constraints:
        if constraint.comment is not None:
            op.execute(SetConstraintComment(constraint))
