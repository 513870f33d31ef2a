"""Columns of another type, and with another default.

PostgreSQL: changing a type in place rewrites the table while nobody can read it, and is refused
under a published view. So a second column of the new type is added beside the old one, a trigger
keeps the two in step whichever is written, and at the end they swap names: older builds go on
with the old one, which is set aside. The same revision undone finds both and swaps them again.
"""

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.exc import ProgrammingError

from safely.operations.aside import hidden_name, hidden_prefix, how_to_purge, refuse_references
from safely.operations.backfill import backfill
from safely.operations.connection import (
    Refused,
    catalogue_value,
    column_type,
    empty_twin,
    has_column,
    in_schema,
    literal,
    normalized_type,
    offline,
    outside_transaction,
    postgresql,
    qualified,
    quoted,
    refuse_offline,
    refuse_rows,
    regclass,
    rows,
    run,
    scalar,
    type_sql,
)
from safely.operations.constraints import attach
from safely.operations.indexes import build, definition_of
from safely.operations.rebuild import rebuilt
from safely.operations.required import refuse_other_trigger
from safely.operations.retype_sql import (
    COPY_RULES,
    DEFERRAL,
    INDEXED,
    PREPARE,
    REFUSE_INDEXES,
    SWAP,
    SYNC_FUNCTION,
    VALIDATE_RULES,
    WANTED,
)

Type = sa.types.TypeEngine[Any]


def change_type(
    table_name: str, column_name: str, type_: Type | type[Type], *, schema: str | None = None
) -> None:
    """Change a column's type; the old column is set aside, and the two are kept in step.

    Alembic spells it `op.alter_column(…, type_=…)`.

    PostgreSQL: ACCESS EXCLUSIVE for instants (a new column, a trigger, the swap); the rows are
    converted by a cast, in batches (`safely.backfill`); CHECKs and indexes are created for the new
    column, without blocking anybody. One that a killed run has changed is no error.
    SQLite: the table is copied, and the old values are kept beside the new ones.
    Older builds go on reading and writing the old type.
    The opposite is `safely.change_type` to the old type in the same revision: it brings the old
    column back, with the old values as they were written.
    Raise Refused where a value can't be converted or would change, with a query that shows such
    rows; for a column with foreign keys or in a primary key; where a rule or an index doesn't allow
    the type; and where a trigger of another revision writes the column.

    Example: `safely.change_type("customers", "age", sa.BigInteger())`
    """
    type_ = sa.types.to_instance(type_)
    with in_schema(schema, table_name):
        refuse_references(table_name, column_name)
        if not postgresql():
            change_on_sqlite(table_name, column_name, type_)
            return
        if not offline() and column_type(table_name, column_name) == normalized_type(type_):
            return  # a run that was killed has changed it
        refuse_other_trigger(table_name, column_name)
        column = placeholders(table_name, column_name, type_)
        if not offline():
            refuse_other_hidden(table_name, column_name, type_)
            refuse_impossible(table_name, column_name, column["type"])
        with outside_transaction():
            run(SYNC_FUNCTION)
            run(PREPARE.format(**column))
        shown, hidden = quoted(column_name), quoted(hidden_name(column_name))
        # writing the shown column makes the trigger fill the hidden one
        unfilled = f"{hidden} IS NULL AND {shown} IS NOT NULL"
        backfill(table_name, f"{shown} = {shown}", where=unfilled)
        refuse_unconverted(table_name, column_name, column["type"], unfilled)
        with outside_transaction():
            run(COPY_RULES.format(**column))
        with outside_transaction(patient=True):
            run(VALIDATE_RULES.format(**column))
        copy_indexes(table_name, column_name, column)
        run(SWAP.format(**column))


def placeholders(table_name: str, column_name: str, type_: Type) -> dict[str, str]:
    """Return what the statements of retype_sql.py need to know of the two columns."""
    hidden, prefix = hidden_name(column_name), hidden_prefix()
    column = {
        "oid": regclass(table_name),
        "table": quoted(table_name),
        "table_text": literal(table_name),
        "shown": quoted(column_name),
        "shown_text": literal(column_name),
        "hidden": quoted(hidden),
        "hidden_text": literal(hidden),
        "type": type_sql(type_),
        "type_text": literal(type_sql(type_)),
        "prefix": literal(prefix),
        "length": str(len(prefix) + 1),  # where the name begins, counted from 1
        "required": quoted(f"{column_name}_required"),
        "hidden_required": quoted(hidden_name(f"{column_name}_required")),
    }
    return column | {"wanted": WANTED.format(**column), "indexed": INDEXED.format(**column)}


def refuse_other_hidden(table_name: str, column_name: str, type_: Type) -> None:
    """Raise Refused if this revision has begun with another type, or a CHECK's name is too long."""
    hidden = hidden_name(column_name)
    if has_column(table_name, hidden) and (
        begun := column_type(table_name, hidden)
    ) != normalized_type(type_):
        raise Refused(
            f"{table_name}.{column_name} was to become {begun} when this revision began, and is "
            f"now to become {normalized_type(type_)}: {how_to_purge()}"
        )
    checks = rows(
        "SELECT conname FROM pg_constraint JOIN pg_attribute "
        "ON attrelid = conrelid AND attnum = ANY (conkey) WHERE contype = 'c' "
        f"AND conrelid = {regclass(table_name)} AND attname = {literal(column_name)}"
    )
    for (name,) in checks:
        hidden_name(name)  # refuses a name that is too long


def refuse_impossible(table_name: str, column_name: str, type_: str) -> None:
    """Raise Refused where a rule, an index or the type itself forbids it, whatever the rows."""
    column = quoted(column_name)
    try:
        with empty_twin(table_name) as twin:
            run(f"ALTER TABLE {twin} ALTER COLUMN {column} DROP DEFAULT")
            run(f"ALTER TABLE {twin} ALTER COLUMN {column} TYPE {type_} USING {column}::{type_}")
    except ProgrammingError as error:
        raise Refused(
            f"{table_name}.{column_name} can't become {type_}: {last_cause(error)}. Drop the rule "
            "or the index that forbids it first, or add a column of the new type and move over "
            "to it in steps"
        ) from error


def last_cause(error: BaseException) -> str:
    """Return the message of the server, from which the error was raised."""
    return last_cause(error.__cause__) if error.__cause__ else str(error)


def refuse_unconverted(table_name: str, column_name: str, type_: str, unfilled: str) -> None:
    """Raise Refused where rows hold a value that the new type can't hold, or would change."""
    if offline():
        return
    problem = f"{table_name}.{column_name} can't become {type_}"
    select = f"SELECT * FROM {qualified(table_name)} WHERE"
    refuse_rows(f"{select} {unfilled}", problem, "hold something else")
    if is_text(table_name, column_name) and not is_text(table_name, hidden_name(column_name)):
        return  # 007 and 7 are the same number; the text is kept in the column that is set aside
    shown, hidden = quoted(column_name), quoted(hidden_name(column_name))
    changed = f"{hidden}::{column_type(table_name, column_name)} IS DISTINCT FROM {shown}"
    refuse_rows(f"{select} {changed}", problem, "would hold another value")


def is_text(table_name: str, column_name: str) -> bool:
    """Return whether the column's type is one of texts (PostgreSQL)."""
    category = "(SELECT typcategory FROM pg_type WHERE pg_type.oid = atttypid)"
    return bool(catalogue_value(f"{category} = 'S'", table_name, column_name))


def copy_indexes(table_name: str, column_name: str, column: dict[str, str]) -> None:
    """Build the column's indexes a second time, on the hidden column (PostgreSQL)."""
    if offline():
        message = (
            f"{table_name}.{column_name} has indexes, and a script was printed without knowing "
            "them: run `alembic upgrade`"
        )
        run(REFUSE_INDEXES.format(**column, message=literal(message)))
        return
    for index, name, unique, constraint in rows(column["indexed"]):
        if constraint in ("p", "x"):
            raise Refused(
                f"{table_name}.{column_name} is part of {name}, which can't be created a second "
                "time: add a column of the new type, and move over to it in steps"
            )
        build(hidden_name(name), table_name, on_hidden_column(index, column), unique=unique)
        if constraint == "u":
            deferral = scalar(DEFERRAL.format(oid=column["oid"], name=literal(name)))
            attach(hidden_name(name), table_name, deferral)


def on_hidden_column(index: str, column: dict[str, str]) -> str:
    """Return an index's definition for the hidden column, as it stands after USING."""
    original = definition_of(index)
    for statement in (
        "CREATE TEMPORARY TABLE safely_twin (LIKE {table})",
        "ALTER TABLE safely_twin DROP COLUMN {hidden}",
        "CREATE INDEX safely_wanted ON safely_twin USING {original}",
        "ALTER TABLE safely_twin ALTER COLUMN {shown} TYPE {type} USING {shown}::{type}",
        "ALTER TABLE safely_twin RENAME COLUMN {shown} TO {hidden}",
    ):
        run(statement.format(**column, original=original))
    definition = definition_of("safely_wanted")
    run("DROP TABLE safely_twin")
    return definition


def change_on_sqlite(table_name: str, column_name: str, type_: Type) -> None:
    """Copy the table; the old values are kept in a hidden BLOB, which converts none."""
    refuse_offline(table_name)
    table, column = quoted(table_name), quoted(column_name)
    hidden = quoted(hidden_name(column_name))
    before = column_type(table_name, column_name)
    if not has_column(table_name, hidden_name(column_name)):
        run(f"ALTER TABLE {table} ADD COLUMN {hidden} BLOB")
        run(f"UPDATE {table} SET {hidden} = {column}")
        values = f"CAST({column} AS {type_sql(type_)})"
    else:
        # a value that nobody has changed since gets its old spelling back: '007' for 7
        values = (
            f"CASE WHEN CAST({hidden} AS {before}) IS {column} THEN {hidden} "
            f"ELSE CAST({column} AS {type_sql(type_)}) END"
        )
    run(f"ALTER TABLE {table} ADD COLUMN _swap BLOB")
    run(f"UPDATE {table} SET _swap = {values}, {hidden} = {column}")
    with rebuilt(table_name) as batch:
        batch.alter_column(column_name, type_=type_)
    run(f"UPDATE {table} SET {column} = _swap")
    run(f"ALTER TABLE {table} DROP COLUMN _swap")


def change_default(
    table_name: str, column_name: str, server_default: Any, *, schema: str | None = None
) -> None:
    """Set a column's default for rows to come, or drop it with None.

    Alembic spells it `op.alter_column(…, server_default=…)`.

    PostgreSQL: ACCESS EXCLUSIVE for an instant. SQLite: the table is copied.
    Rows that older builds insert without the column get the new default, too.
    The opposite is `safely.change_default` with the old one.

    Example: `safely.change_default("customers", "age", "18")`
    """
    with in_schema(schema, table_name):
        if postgresql():
            op.alter_column(table_name, column_name, server_default=server_default)
            return
        with rebuilt(table_name) as table:
            table.alter_column(column_name, server_default=server_default)
