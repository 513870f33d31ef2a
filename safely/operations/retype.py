"""Columns of another type, and with another default.

PostgreSQL: a type that holds the old values as they are is changed in place (widen.py). Any other
would rewrite the table while nobody can read it. So a second column of the new type is added beside
the old one, a trigger keeps the two in step whichever is written, and at the end they swap names:
older builds go on with the old one, which is set aside. The same revision undone finds both and
swaps them again.
"""

import re
from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.exc import DBAPIError, IntegrityError

from safely.operations.aside import hidden_name, hidden_prefix, refuse_references
from safely.operations.backfill import change_rows
from safely.operations.connection import (
    Refused,
    analyze,
    column_type,
    in_tablespace,
    literal,
    offline,
    outside_transaction,
    postgresql,
    quoted,
    refuse_hidden_rows,
    regclass,
    rows,
    run,
    scalar,
    type_sql,
    undoing,
)
from safely.operations.constraints import add_constraint
from safely.operations.halves import is_left_out
from safely.operations.indexes import (
    IS_VALID,
    build,
    definition_of,
    drop_concurrently,
    tablespace_of,
)
from safely.operations.rebuild import rebuilt
from safely.operations.retype_refusals import (
    Change,
    has_type,
    refuse_before,
    refuse_offline_script,
    refuse_problem,
    refuse_unspelled,
    refuse_values_written_since,
    refuse_whatever_rows,
    refusing_bad_values,
    wanted_shape,
)
from safely.operations.retype_sql import (
    COPY_RULES,
    INDEXED,
    LOOSEN,
    PREPARE,
    RECORDED,
    RETYPED,
    SHAPE,
    STORAGE,
    SWAP,
    SYNC_FUNCTION,
    VALIDATE_RULES,
    WANTED,
)
from safely.operations.retype_sqlite import (
    change_on_sqlite,
    default_rule,
    refuse_column,
    refuse_no_conversion,
)
from safely.operations.widen import COMPARE, DROP_NARROWER, can_widen, widened

Type = sa.types.TypeEngine[Any]

OWN_OPPOSITE = re.compile(
    r"""("?)\w+\1(?: at time zone '[^']+'|\s*::\s*text(?:\[\])?)""", re.IGNORECASE
)  # a conversion that is the opposite one as well


def change_type(  # noqa: PLR0913  # Alembic's, with what ALTER TABLE … USING needs
    table_name: str,
    column_name: str,
    type_: Type | type[Type],
    *,
    using: str | None = None,
    back: str | None = None,
    schema: str | None = None,
) -> None:
    """Change a column's type; the old column is set aside, and the two are kept in step.

    Alembic spells it `op.alter_column(…, type_=…, postgresql_using=…)`.

    `using` is SQL that makes the new value from the old one, over this column alone; without it,
    a cast does. `back` is SQL that makes the old value from a new one that a newer build has
    written, over the same name; without it, a cast does. Both are for builds that write while the
    two types are in use. A downgrade gives them the other way round; its `back`, if left out, is
    the `using` of the upgrade.

    PostgreSQL: a type that holds the old values as they are, such as a longer varchar, takes
    ACCESS EXCLUSIVE on the views of published versions and on the table for an instant, and older
    builds read what newer ones write. A statement that a client has prepared fails once after
    that (SQLSTATE 0A000), if it is in a transaction.
    Any other type: ACCESS EXCLUSIVE for instants (a new column, a trigger, the swap); the rows are
    converted in batches (`safely.backfill`); CHECKs and indexes are created for the new column,
    without blocking anybody, and ANALYZE follows. Comments, grants and settings of the column go
    with its name. One that a killed run has changed is no error.
    SQLite: the table is copied, and the old values are kept beside the new ones.
    Older builds go on reading and writing the old type. A value that a newer build writes, and
    that the old type can't hold, is NULL there.
    The opposite is `safely.change_type` to the old type in the same revision: it brings the old
    column back, with the old values as they were written.
    Raise Refused, before anything is changed: where a value can't be converted, or without `using`
    would change, with a query that shows such rows where there is one; for a column with foreign
    keys, in a primary key or an exclusion constraint, an identity or computed; where a rule, an
    index, the default or another object doesn't allow the type; for a cast that depends on the
    TimeZone of the client; and where a trigger of another revision writes the column.

    Example: `safely.change_type("customers", "age", sa.BigInteger())`
    """
    type_ = sa.types.to_instance(type_)
    if is_left_out(schema, table_name, column_name):
        return
    refuse_hidden_rows(table_name)
    refuse_references(table_name, column_name)
    if not postgresql():
        # types of one name, such as timestamps of either kind, are stored alike
        if using is None or offline() or is_stored_otherwise(table_name, column_name, type_):
            change_on_sqlite(table_name, column_name, type_, using)
        return
    change = change_of(table_name, column_name, type_, using, back)
    column = change.placeholders
    if not offline() and has_type(change):
        # a run that was killed has changed it, or one of the other direction had only begun
        clean_up(change)
        return
    by_cast = using is None and back is None
    if by_cast and widened(table_name, column):
        return
    if offline():
        refuse_offline_script(change)
    else:
        with refusing_bad_values(change):
            refuse_before(change)
    with outside_transaction():
        run(SYNC_FUNCTION)
        run(PREPARE.format(**column))
    convert(change)
    refuse_values_written_since(change)
    with outside_transaction():
        run(COPY_RULES.format(**column))
    validate_rules(change)
    copy_indexes(change)
    with outside_transaction(patient=True):
        analyze(table_name)
        if by_cast:
            run(COMPARE.format(**column))
    run(SWAP.format(**column))
    if undoing():
        run(LOOSEN.format(**column))
    if by_cast:
        run(DROP_NARROWER.format(**column))


def refuse_unsuitable_column(table_name: str, column_name: str, type_: Type) -> None:
    """Raise Refused for a column that `change_type` would refuse with whatever arguments.

    Autogenerate calls it. On PostgreSQL it needs a transaction that is rolled back afterwards.
    """
    refuse_references(table_name, column_name)
    if postgresql():
        refuse_problem(change_of(table_name, column_name, type_, None, None))
    else:
        refuse_column(table_name, column_name, type_)


def refuse_as_it_stands(
    table_name: str, column_name: str, type_: Type, using: str | None, *, is_alone: bool
) -> None:
    """Raise Refused where `change_type` would refuse these arguments whatever rows there are.

    `is_alone` tells that the revision drops no rule and no index before, which could forbid it.
    Autogenerate calls it. On PostgreSQL it needs a transaction that is rolled back afterwards.
    """
    if not postgresql():
        if using is None and is_stored_otherwise(table_name, column_name, type_):
            refuse_no_conversion(table_name, column_name, type_)
        return
    change = change_of(table_name, column_name, type_, using, None)
    if has_type(change) or (using is None and can_widen(change.placeholders)):
        return
    if is_alone:
        refuse_whatever_rows(change)
    else:
        refuse_unspelled(change, wanted_shape(change))


def change_of(
    table_name: str, column_name: str, type_: Type, using: str | None, back: str | None
) -> Change:
    """Return the change with what the statements of retype_sql.py need to know of it."""
    hidden, prefix = hidden_name(column_name), hidden_prefix()
    type_text = type_sql(type_)
    column = {
        "oid": regclass(table_name),
        "table": quoted(table_name),
        "table_text": literal(table_name),
        "shown": quoted(column_name),
        "shown_text": literal(column_name),
        "hidden": quoted(hidden),
        "hidden_text": literal(hidden),
        "type": type_text,
        "type_text": literal(type_text),
        "shape": SHAPE,
        "prefix": literal(prefix),
        "length": str(len(prefix) + 1),  # where the name begins, counted from 1
        "required": quoted(f"{column_name}_nn"),
        "hidden_required": quoted(hidden_name(f"{column_name}_nn")),
        "forward": using or quoted(column_name),
        "forward_text": literal(using or quoted(column_name)),
        "expression": literal(quoted(column_name)),
    }
    if using is not None and back is None and OWN_OPPOSITE.fullmatch(using.strip()):
        back = using
    # undone, the trigger has the expression of the upgrade; the other way round, a second upgrade
    # would differ from the first
    recorded = RECORDED.format(oid=column["oid"], source=column["hidden_text"])
    column |= {
        "back_text": "NULL" if back is None else literal(back),
        "recorded": recorded if undoing() else "NULL",
        "wanted": WANTED.format(**column),
        "indexed": INDEXED.format(**column),
        "indexed_hidden": INDEXED.format(oid=column["oid"], shown_text=column["hidden_text"]),
        "storage": STORAGE.format(**column),
    }
    return Change(table_name, column_name, type_text, using, back, column)


def convert(change: Change) -> None:
    """Fill in the hidden column: the trigger does that for a row whose shown column is written."""
    shown = quoted(change.column_name)
    with refusing_bad_values(change):
        change_rows(change.table_name, f"{shown} = {shown}", change.unfilled, is_done=RETYPED)


def validate_rules(change: Change) -> None:
    """Check the rows for the CHECKs of the hidden column, while everybody writes."""
    try:
        with outside_transaction(patient=True):
            run(VALIDATE_RULES.format(**change.placeholders))
    except IntegrityError as error:
        raise Refused(
            f"{change.problem}: a row that was written meanwhile breaks a CHECK of the column. "
            "Correct it, and run this again"
        ) from error


def copy_indexes(change: Change) -> None:
    """Build the column's indexes a second time, on the hidden column (PostgreSQL)."""
    if offline():
        return  # a script is refused for a column with indexes
    column, table_name = change.placeholders, change.table_name
    indexes = rows(column["indexed"])
    drop_stale_indexes(change, {hidden_name(name): index for index, name, *_ in indexes})
    for index, original, unique, constraint, deferral in indexes:
        name = hidden_name(original)
        try:
            with in_tablespace(tablespace_of(index)):
                build(name, table_name, on_hidden_column(index, column), unique=unique)
        except IntegrityError as error:
            with outside_transaction(patient=True):
                drop_concurrently(name, table_name)
            raise Refused(
                f"{change.problem}: a value that was written meanwhile would stand in two rows "
                f"of {original}. Correct it, and run this again"
            ) from error
        if constraint == "u":
            rule = f"UNIQUE USING INDEX {quoted(name)} {deferral}"
            add_constraint(name, table_name, rule.strip())


def clean_up(change: Change) -> None:
    """Drop what a killed run has left of the hidden column, and nobody needs (PostgreSQL)."""
    drop_invalid_indexes(change)
    if undoing():
        run(LOOSEN.format(**change.placeholders))


def drop_invalid_indexes(change: Change) -> None:
    """Drop the indexes of the hidden column that a run was killed in building (PostgreSQL)."""
    for _, name, *_ in rows(change.placeholders["indexed_hidden"]):
        if scalar(IS_VALID.format(literal(name))) is False:
            with outside_transaction(patient=True):
                drop_concurrently(name, change.table_name)


def drop_stale_indexes(change: Change, originals: dict[str, str]) -> None:
    """Drop indexes that the hidden column has kept from an earlier run, and that are others now.

    `originals` are the indexes of the shown column by the names that those of the hidden one have.
    """
    column = change.placeholders
    for index, name, _, constraint, _ in rows(column["indexed_hidden"]):
        if not scalar(IS_VALID.format(literal(name))):
            continue  # `build` replaces it
        if original := originals.get(name):
            # as PostgreSQL spells the one for the other column, in either direction
            there, back = on_hidden_column(original, column), on_shown_column(index, change)
            if there == definition_of(index) or back == definition_of(original):
                continue
        with outside_transaction(patient=True):
            if constraint is not None:
                table = quoted(change.table_name)
                run(f"ALTER TABLE {table} DROP CONSTRAINT IF EXISTS {quoted(name)}")
            drop_concurrently(name, change.table_name)


def on_hidden_column(index: str, column: dict[str, str]) -> str:
    """Return an index's definition for the hidden column, as it stands after USING."""
    return moved(index, column, ("shown", "hidden"), column["type"])


def on_shown_column(index: str, change: Change) -> str | None:
    """Return the definition of an index of the hidden column for the shown one; None for none."""
    old = column_type(change.table_name, change.column_name)
    try:
        with op.get_bind().begin_nested():
            return moved(index, change.placeholders, ("hidden", "shown"), old)
    except DBAPIError:
        return None


def moved(index: str, column: dict[str, str], names: tuple[str, str], type_: str) -> str:
    """Return an index's definition for the other column of the two, which has another type."""
    source, target = (column[name] for name in names)
    original = definition_of(index)
    run(f"CREATE TEMPORARY TABLE safely_twin (LIKE {column['table']})")
    run(f"ALTER TABLE safely_twin DROP COLUMN {target}")
    run(f"CREATE INDEX safely_wanted ON safely_twin USING {original}")
    run(f"ALTER TABLE safely_twin ALTER COLUMN {source} TYPE {type_} USING NULL")
    run(f"ALTER TABLE safely_twin RENAME COLUMN {source} TO {target}")
    definition = definition_of("safely_wanted")
    run("DROP TABLE safely_twin")
    return definition


def is_stored_otherwise(table_name: str, column_name: str, type_: Type) -> bool:
    """Return whether a type has another name in the database than the column's (SQLite)."""
    return column_type(table_name, column_name).upper() != type_sql(type_).upper()


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
    if is_left_out(schema, table_name, column_name):
        return
    if postgresql():
        op.alter_column(table_name, column_name, server_default=server_default)
        return
    default = default_rule(table_name, column_name, server_default)
    with rebuilt(table_name) as table:
        table.set_default(column_name, default)
