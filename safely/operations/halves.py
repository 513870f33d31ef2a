"""Operations in a step that an earlier run has begun and not finished: the step's half.

It is finished by the same direction, or undone by the other one. Either meets tables and columns
that are missing by right: a later operation of the half has renamed them or set them aside, or the
half never came to the operation that makes them. Then nothing is left to do.
"""

import logging
import re
from pathlib import Path
from typing import Literal

from alembic import op

from safely.operations.aside import hidden_name, is_table_aside
from safely.operations.connection import (
    Refused,
    has_column,
    has_table,
    offline,
    postgresql,
    refuse_other_schema,
    revision,
    scalar,
)

log = logging.getLogger("safely")

Half = Literal["finished", "undone"]


def is_left_out(schema: str | None, table_name: str, *column_names: str) -> bool:
    """Return whether an operation on a table, or on columns of it, has nothing to do in a half.

    Raise Refused where one of them is missing otherwise: an unqualified name would lead to a table
    of the same name elsewhere in the search_path. And for another schema than the project's, the
    only one that is published.
    """
    refuse_other_schema(schema)
    if offline():
        return False
    if not has_table(table_name):
        return is_table_left_out(table_name)
    return any(
        is_column_left_out(table_name, name)
        for name in column_names
        if not has_column(table_name, name)
    )


def is_table_left_out(table_name: str) -> bool:
    """Return whether a table is missing by right; raise Refused where it is not."""
    if not (
        is_named_by_both(table_name)
        or is_renamed("table", table_name)
        or (half() == "finished" and is_table_aside(table_name))
    ):
        place = f" in the schema {scalar('SELECT current_schema')}" if postgresql() else ""
        raise Refused(f"there is no table {table_name}{place}: correct the name")
    log.info("there is no table %s: the half of this revision has left it out", table_name)
    return True


def is_column_left_out(table_name: str, column_name: str) -> bool:
    """Return whether a column is missing by right; raise Refused where it is not."""
    if not (
        is_named_by_both(column_name)
        or is_renamed("column", column_name, table_name)
        or (half() == "finished" and has_column(table_name, hidden_name(column_name)))
    ):
        raise Refused(f"there is no column {column_name} in {table_name}: correct the name")
    log.info(
        "there is no column %s in %s: the half of this revision has left it out",
        column_name,
        table_name,
    )
    return True


def half() -> Half | None:
    """Return what is done with the half of a step; None where the step begins."""
    return op.get_context().opts.get("half")


def is_named_by_both(name: str) -> bool:
    """Return whether a half is undone, and the revision has the name more than once.

    `downgrade` has it then, and `upgrade` as well, which did not come to it: it is no slip.
    """
    return half() == "undone" and len(re.findall(rf"""["']{re.escape(name)}["']""", source())) > 1


def is_renamed(kind: Literal["table", "column"], name: str, table_name: str = "") -> bool:
    """Return whether a half is finished that has renamed a table, or a column of one."""
    if half() != "finished":
        return False
    literals = [rf"""["']{re.escape(one)}["'],\s*""" for one in (table_name, name) if one]
    for new_name in re.findall(
        rf"""rename_{kind}\(\s*{"".join(literals)}["'](.+?)["']""", source()
    ):
        if has_column(table_name, new_name) if table_name else has_table(new_name):
            return True
    return False


def source() -> str:
    """Return the file of the revision."""
    script = op.get_context().opts["script"].get_revision(revision())
    return Path(script.path).read_text(encoding="utf-8")
