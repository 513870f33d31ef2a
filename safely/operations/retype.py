"""Columns of another type, and with another default.

PostgreSQL: changing a type in place rewrites the table while nobody can read it, and is refused
under a published view. So a second column of the new type stands beside the old one, a trigger
keeps the two in step whoever writes which, and at the end they swap names: older builds go on
with the old one, which is set aside. The same revision undone finds both and swaps them again.
"""

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.exc import ProgrammingError

from safely.operations.aside import aside, how_to_purge, refuse_references
from safely.operations.backfill import backfill
from safely.operations.connection import (
    Refused,
    ask,
    blind,
    canonical,
    column_there,
    empty_twin,
    literal,
    offline,
    outside_transaction,
    postgresql,
    quoted,
    regclass,
    rows,
    run,
    type_name,
    type_of,
)
from safely.operations.constraints import attach
from safely.operations.indexes import build, definition_of
from safely.operations.rebuild import rebuilt
from safely.operations.required import refuse_helped
from safely.operations.retype_sql import (
    COPY_RULES,
    INDEXED,
    PREPARE,
    REFUSE_INDEXES,
    SWAP,
    SYNC_FUNCTION,
    VALIDATE_RULES,
    WANTED,
)


def change_type(table_name: str, column_name: str, type_: sa.types.TypeEngine[Any]) -> None:
    """Change a column's type; the old column is set aside, and both are kept in step.

    PostgreSQL: instants' locks; the rows are converted by a cast, in batches, while everybody
    works, and CHECKs and indexes are made again beside the old ones. Raises Refused where a
    value can't be converted, with a query that shows them.
    SQLite: the table is copied, and the old values stay aside.
    """
    refuse_references(table_name, column_name)
    if not postgresql():
        change_on_sqlite(table_name, column_name, type_)
        return
    if not offline() and type_of(table_name, column_name) == canonical(type_):
        return  # a run that was killed did it
    refuse_helped(table_name, column_name)
    words = wording(table_name, column_name, type_)
    if not offline():
        refuse_other_hidden(table_name, column_name, type_)
        refuse_impossible(table_name, column_name, words["type"])
    with outside_transaction():
        run(SYNC_FUNCTION)
        run(PREPARE.format(**words))
    shown, hidden = quoted(column_name), quoted(aside(column_name))
    # the trigger does it; who writes in the meantime sets it off too
    unfilled = f"{hidden} IS NULL AND {shown} IS NOT NULL"
    backfill(table_name, f"{shown} = {shown}", where=unfilled)
    refuse_unconverted(table_name, column_name, words["type"], unfilled)
    with outside_transaction():
        run(COPY_RULES.format(**words))
    with outside_transaction(patient=True):
        run(VALIDATE_RULES.format(**words))
    copy_indexes(table_name, column_name, words)
    run(SWAP.format(**words))


def wording(table_name: str, column_name: str, type_: sa.types.TypeEngine[Any]) -> dict[str, str]:
    """The two columns, for the statements above."""
    hidden, prefix = aside(column_name), aside("")
    words = {
        "oid": regclass(table_name),
        "table": quoted(table_name),
        "shown": quoted(column_name),
        "shown_text": literal(column_name),
        "hidden": quoted(hidden),
        "hidden_text": literal(hidden),
        "type": type_name(type_),
        "prefix": literal(prefix),
        "length": str(len(prefix) + 1),  # where the name begins, counted from 1
        "required": quoted(f"{column_name}_required"),
        "hidden_required": quoted(aside(f"{column_name}_required")),
    }
    return words | {"wanted": WANTED.format(**words), "indexed": INDEXED.format(**words)}


def refuse_other_hidden(table_name: str, column_name: str, type_: sa.types.TypeEngine[Any]) -> None:
    """Raise Refused if this revision has begun with another type, or names are too long for it."""
    hidden = aside(column_name)
    if column_there(table_name, hidden) and type_of(table_name, hidden) != canonical(type_):
        raise Refused(
            f"{table_name}.{column_name} was to be {type_of(table_name, hidden)} when this "
            f"revision was begun, and is now to be {canonical(type_)}: {how_to_purge()}"
        )
    checks = rows(
        "SELECT conname FROM pg_constraint JOIN pg_attribute "
        "ON attrelid = conrelid AND attnum = ANY (conkey) WHERE contype = 'c' "
        f"AND conrelid = {regclass(table_name)} AND attname = {literal(column_name)}"
    )
    for (name,) in checks:
        aside(name)  # which refuses a name that is too long


def refuse_impossible(table_name: str, column_name: str, type_: str) -> None:
    """Raise Refused where a rule, an index or the type itself forbids it, whatever the rows."""
    column = quoted(column_name)
    try:
        with empty_twin(table_name) as twin:
            run(f"ALTER TABLE {twin} ALTER COLUMN {column} DROP DEFAULT")
            run(f"ALTER TABLE {twin} ALTER COLUMN {column} TYPE {type_} USING {column}::{type_}")
    except ProgrammingError as error:
        raise Refused(
            f"{table_name}.{column_name} can't become {type_}: {last_cause(error)}. Drop what "
            "stands in the way first, or move over to a new column in steps"
        ) from error


def last_cause(error: BaseException) -> str:
    """What the server itself said."""
    return last_cause(error.__cause__) if error.__cause__ else str(error)


def refuse_unconverted(table_name: str, column_name: str, type_: str, unfilled: str) -> None:
    """Raise Refused where rows hold what the new type can't."""
    if offline():
        return
    table = quoted(table_name)
    count = ask(f"SELECT count(*) FROM {table} WHERE {unfilled}")
    if count:
        raise Refused(
            f"{table_name}.{column_name} can't become {type_}: {count} row(s) hold something "
            "else. Mend them, and run this again. See them with: "
            f"SELECT * FROM {table} WHERE {unfilled}"
        )
    if is_text(table_name, column_name) and not is_text(table_name, aside(column_name)):
        return  # 007 and 7 are the same number; what stood there stays aside
    shown, hidden = quoted(column_name), quoted(aside(column_name))
    before = type_of(table_name, column_name)
    changed = f"{hidden}::{before} IS DISTINCT FROM {shown}"
    count = ask(f"SELECT count(*) FROM {table} WHERE {changed}")
    if count:
        raise Refused(
            f"{table_name}.{column_name} can't become {type_}: {count} row(s) would hold another "
            "value. Mend them, and run this again. See them with: "
            f"SELECT * FROM {table} WHERE {changed}"
        )


def is_text(table_name: str, column_name: str) -> bool:
    """Whether the column's type is one of texts (PostgreSQL)."""
    return bool(
        ask(
            "SELECT typcategory = 'S' FROM pg_type JOIN pg_attribute ON atttypid = pg_type.oid "
            f"WHERE attrelid = {regclass(table_name)} AND attname = {literal(column_name)}"
        )
    )


def copy_indexes(table_name: str, column_name: str, words: dict[str, str]) -> None:
    """Build the column's indexes again, on the hidden one (PostgreSQL)."""
    if offline():
        sentence = (
            f"{table_name}.{column_name} has indexes, which a script can't build again without "
            "having seen them: run `alembic upgrade`"
        )
        run(REFUSE_INDEXES.format(**words, sentence=literal(sentence)))
        return
    for index, name, unique, constraint in rows(words["indexed"]):
        if constraint in ("p", "x"):
            raise Refused(
                f"{table_name}.{column_name} is part of {name}, which can't be made a second "
                "time: add a column of the new type, and move over to it in steps"
            )
        build(aside(name), table_name, on_hidden(index, words), unique=unique)
        if constraint == "u":
            attach(aside(name), table_name)


def on_hidden(index: str, words: dict[str, str]) -> str:
    """An index's definition as it reads for the hidden column, behind USING."""
    definition = definition_of(index)
    run("CREATE TEMPORARY TABLE safely_twin (LIKE {table})".format(**words))
    run("ALTER TABLE safely_twin DROP COLUMN {hidden}".format(**words))
    run(f"CREATE INDEX safely_wanted ON safely_twin USING {definition}")
    run(
        "ALTER TABLE safely_twin ALTER COLUMN {shown} TYPE {type} USING {shown}::{type}".format(
            **words
        )
    )
    run("ALTER TABLE safely_twin RENAME COLUMN {shown} TO {hidden}".format(**words))
    found = definition_of("safely_wanted")
    run("DROP TABLE safely_twin")
    return found


def change_on_sqlite(table_name: str, column_name: str, type_: sa.types.TypeEngine[Any]) -> None:
    """Copy the table; what the values were before stays aside, in a BLOB, which converts none."""
    if offline():
        raise Refused(blind(table_name))
    table, column, hidden = quoted(table_name), quoted(column_name), quoted(aside(column_name))
    before = type_of(table_name, column_name)
    if not column_there(table_name, aside(column_name)):
        run(f"ALTER TABLE {table} ADD COLUMN {hidden} BLOB")
        run(f"UPDATE {table} SET {hidden} = {column}")
        values = f"CAST({column} AS {type_name(type_)})"
    else:
        # what nobody has changed since gets its old value back, to the letter
        values = (
            f"CASE WHEN CAST({hidden} AS {before}) IS {column} THEN {hidden} "
            f"ELSE CAST({column} AS {type_name(type_)}) END"
        )
    run(f"ALTER TABLE {table} ADD COLUMN _swap BLOB")
    run(f"UPDATE {table} SET _swap = {values}, {hidden} = {column}")
    with rebuilt(table_name) as batch:
        batch.alter_column(column_name, type_=type_)
    run(f"UPDATE {table} SET {column} = _swap")
    run(f"ALTER TABLE {table} DROP COLUMN _swap")


def change_default(table_name: str, column_name: str, server_default: Any) -> None:
    """Set a column's default for rows to come, or drop it with None (an instant's lock)."""
    if postgresql():
        op.alter_column(table_name, column_name, server_default=server_default)
        return
    with rebuilt(table_name) as table:
        table.alter_column(column_name, server_default=server_default)
