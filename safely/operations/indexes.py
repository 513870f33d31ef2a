"""Indexes, built and dropped while everybody goes on writing."""

import logging
from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.exc import IntegrityError

from safely.operations.connection import (
    Refused,
    ask,
    empty_twin,
    literal,
    offline,
    outside_transaction,
    postgresql,
    quoted,
    run,
)

log = logging.getLogger("safely")

# an index name is unique in its schema, and the revisions' tables are in the current one
IS_VALID = (
    "SELECT indisvalid FROM pg_index WHERE indexrelid = "
    "(SELECT oid FROM pg_class WHERE relname = {} AND relnamespace = current_schema::regnamespace)"
)

Columns = Sequence[str | sa.ColumnElement[Any] | sa.TextClause]


def create_index(
    index_name: str, table_name: str, columns: Columns, *, unique: bool = False, **options: Any
) -> None:
    """Build an index without blocking readers or writers; takes what `op.create_index` takes.

    PostgreSQL: CONCURRENTLY, waiting as long as it must; an INVALID index that a killed run left
    is dropped first, and the new one is verified. SQLite: inside the revision's transaction,
    without `COLLATE "C"`, which is how SQLite orders anyhow.
    Raises Refused where a unique index meets duplicates, with a query that shows them.
    """
    whole_table = not any(option.endswith("_where") for option in options)
    if unique and whole_table and not offline():
        refuse_duplicates(index_name, table_name, columns)
    if not postgresql():
        op.create_index(
            index_name, table_name, [for_sqlite(c) for c in columns], unique=unique, **options
        )
        return
    with outside_transaction(patient=True):
        if not offline():
            make_room(index_name, table_name, columns, unique=unique, **options)
        try:
            op.create_index(
                index_name,
                table_name,
                list(columns),
                unique=unique,
                postgresql_concurrently=True,
                if_not_exists=True,
                **options,
            )
        except IntegrityError as error:  # a duplicate came in while it was being built
            drop_concurrently(index_name, table_name)
            raise duplicates(index_name, table_name, columns, "some") from error
        verify(index_name)


def build(index_name: str, table_name: str, definition: str, *, unique: bool) -> None:
    """Build an index from what stands behind USING; an INVALID one is replaced (PostgreSQL)."""
    with outside_transaction(patient=True):
        if ask(IS_VALID.format(literal(index_name))) is False:
            drop_concurrently(index_name, table_name)
        run(
            f"CREATE {'UNIQUE ' if unique else ''}INDEX CONCURRENTLY IF NOT EXISTS "
            f"{quoted(index_name)} ON {quoted(table_name)} USING {definition}"
        )
        verify(index_name)


def make_room(
    index_name: str, table_name: str, columns: Columns, *, unique: bool, **options: Any
) -> None:
    """Drop an INVALID index of that name; refuse one that is another than the one wanted."""
    valid = ask(IS_VALID.format(literal(index_name)))
    if valid is False:
        log.info("%s was left INVALID by an earlier run: dropping it", index_name)
        drop_concurrently(index_name, table_name)
    if not valid:
        return
    # PostgreSQL words definitions its own way, so it is asked to word ours
    with empty_twin(table_name) as twin:
        op.create_index("safely_wanted", twin, list(columns), unique=unique, **options)
        wanted, there = (
            ("unique " if worded(name).startswith("CREATE UNIQUE ") else "") + definition_of(name)
            for name in ("safely_wanted", quoted(index_name))
        )
    if there != wanted:
        raise Refused(
            f"there is another {index_name} already: it is {there}, and not {wanted}; "
            "rename or drop it, and run this revision again"
        )


def definition_of(index_name: str) -> str:
    """What an index is made of, as PostgreSQL words it: all that stands behind USING."""
    return worded(index_name).partition(" USING ")[2]


def worded(index_name: str) -> str:
    """The whole CREATE INDEX."""
    return str(ask(f"SELECT pg_get_indexdef({literal(index_name)}::regclass)"))


def drop_index(index_name: str, table_name: str, **options: Any) -> None:
    """Drop an index without blocking readers or writers; one that is gone already is fine."""
    if not postgresql():
        op.drop_index(index_name, table_name, if_exists=True)
        return
    options.pop("if_exists", None)
    with outside_transaction(patient=True):
        drop_concurrently(index_name, table_name, **options)


def drop_concurrently(index_name: str, table_name: str, **options: Any) -> None:
    """DROP INDEX CONCURRENTLY, outside a transaction."""
    op.drop_index(index_name, table_name, postgresql_concurrently=True, if_exists=True, **options)


def verify(index_name: str) -> None:
    """Raise unless the index stands and is valid; offline, print a statement that does."""
    is_valid = IS_VALID.format(literal(index_name))
    sentence = (
        f"{index_name} is missing or INVALID; "
        f"run DROP INDEX CONCURRENTLY IF EXISTS {quoted(index_name)}, and this revision again"
    )
    if offline():
        run(
            "DO $verify$ BEGIN\n"
            f"  IF ({is_valid}) IS NOT TRUE THEN RAISE EXCEPTION {literal(sentence)}; END IF;\n"
            "END $verify$"
        )
    elif not ask(is_valid):
        raise Refused(sentence)


def for_sqlite(column: str | sa.ColumnElement[Any] | sa.TextClause) -> Any:
    """The same column or expression without the collation's name."""
    return column if isinstance(column, str) else sa.text(expression(column))


def expression(column: str | sa.ColumnElement[Any] | sa.TextClause) -> str:
    """A column or an expression as SQL."""
    if isinstance(column, str):
        return quoted(column)
    return str(column) if postgresql() else str(column).replace(' COLLATE "C"', "")


def refuse_duplicates(index_name: str, table_name: str, columns: Columns) -> None:
    """Raise Refused where rows already share what is to be unique."""
    values = [expression(column) for column in columns]
    known = " AND ".join(f"{value} IS NOT NULL" for value in values)
    count = ask(
        "SELECT count(*) FROM (SELECT 1 AS shared "
        f"FROM {quoted(table_name)} WHERE {known} "
        f"GROUP BY {', '.join(values)} HAVING count(*) > 1) AS found"
    )
    if count:
        raise duplicates(index_name, table_name, columns, str(count))


def duplicates(index_name: str, table_name: str, columns: Columns, count: str) -> Refused:
    """The refusal, with a query to paste."""
    values = ", ".join(expression(column) for column in columns)
    rows = "array_agg(id)" if postgresql() else "group_concat(id)"
    return Refused(
        f"{index_name} can't be unique: {count} value(s) of {values} stand in more than one row "
        f"of {table_name}. Mend them, and run this revision again. See them with: "
        f"SELECT {values}, count(*), {rows} FROM {quoted(table_name)} "
        f"GROUP BY {values} HAVING count(*) > 1"
    )
