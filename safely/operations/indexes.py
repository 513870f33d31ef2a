"""Indexes, built and dropped while everybody goes on reading and writing."""

import logging
from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.exc import IntegrityError

from safely.operations import partitions
from safely.operations.connection import (
    Refused,
    analyze,
    empty_twin,
    expression_sql,
    in_schema,
    literal,
    offline,
    outside_transaction,
    postgresql,
    qualified,
    quoted,
    required_name,
    run,
    scalar,
)
from safely.operations.keys import key_columns
from safely.operations.sqlite_limits import refuse_lost_options

log = logging.getLogger("safely")

# an index's name is unique in its schema, which is that of its table
IS_VALID = """\
SELECT indisvalid FROM pg_index JOIN pg_class ON pg_class.oid = indexrelid
JOIN pg_namespace ON pg_namespace.oid = relnamespace
WHERE relname = {} AND nspname = current_schema"""

Column = str | sa.ColumnElement[Any] | sa.TextClause
Columns = Sequence[Column]


def create_index(
    index_name: str | None,
    table_name: str,
    columns: Columns,
    *,
    schema: str | None = None,
    unique: bool = False,
    **options: Any,
) -> None:
    """Build an index without blocking readers or writers.

    `options` are those of `op.create_index`, such as `postgresql_where`; `if_not_exists` and
    `postgresql_concurrently` are always on.

    PostgreSQL: SHARE UPDATE EXCLUSIVE while it is built (CONCURRENTLY), which blocks nobody; it
    waits for older transactions as long as they take. An INVALID index that a killed run left is
    dropped first, and the new one is verified. With an expression among the columns, ANALYZE
    follows, which blocks nobody. On a partitioned table one is built on each partition, and
    `--sql` is refused when it runs. SQLite: built in the revision's transaction,
    without `COLLATE "C"`, which is the order of SQLite anyway.
    Older builds don't notice, unless it is unique: that holds for them, too.
    The opposite is `safely.drop_index`.
    Raise Refused where a unique index meets duplicates, with a query that shows them, and where
    another index has the name.

    Example: `safely.create_index("ix_customers_email", "customers", [sa.text("lower(email)")])`
    """
    for always_on in ("if_not_exists", "postgresql_concurrently"):
        options.pop(always_on, None)
    with in_schema(schema, table_name):
        name = required_name(index_name, table_name)
        whole_table = not any(option.endswith("_where") for option in options)
        if unique and whole_table and not offline():
            refuse_duplicates(name, table_name, columns)
        if not postgresql():
            refuse_lost_options(name, options)
            expressions = [for_sqlite(column) for column in columns]
            try:
                op.create_index(name, table_name, expressions, unique=unique, **options)
            except IntegrityError as error:  # duplicates among the rows of sqlite_where
                raise duplicates(name, table_name, columns, "some") from error
            return
        if offline():
            partitions.print_refusal(table_name, f"creating {name}")
        else:
            refuse_other(name, table_name, columns, unique=unique, **options)
        if not offline() and partitions.is_partitioned(table_name):
            create_on_partitions(name, table_name, columns, unique=unique, **options)
            return
        with outside_transaction(patient=True):
            if not offline():
                make_room(name, table_name)
            try:
                op.create_index(
                    name,
                    table_name,
                    list(columns),
                    unique=unique,
                    postgresql_concurrently=True,
                    if_not_exists=True,
                    **options,
                )
            except IntegrityError as error:  # a duplicate was written while it was being built
                drop_concurrently(name, table_name)
                raise duplicates(name, table_name, columns, "some") from error
            verify(name)
            if not all(isinstance(column, str) for column in columns):
                analyze(table_name)  # an expression has statistics of its own, and yet none


def create_on_partitions(
    index_name: str, table_name: str, columns: Columns, *, unique: bool, **options: Any
) -> None:
    """Build an index of a partitioned table, and of each partition, without blocking anybody."""
    if unique:
        partitions.refuse_without_key(index_name, table_name, columns)
    definition = definition_on_twin(table_name, columns, unique=unique, **options)
    try:
        partitions.build_index(index_name, table_name, definition, unique=unique)
    except IntegrityError as error:  # a duplicate was written while it was being built
        partitions.drop_index(index_name)
        raise duplicates(index_name, table_name, columns, "some") from error


def build(index_name: str, table_name: str, definition: str, *, unique: bool) -> None:
    """Build an index from what its definition says after USING (PostgreSQL).

    Replace an INVALID one that a killed run left.
    """
    if not offline() and partitions.is_partitioned(table_name):
        partitions.build_index(index_name, table_name, definition, unique=unique)
        return
    with outside_transaction(patient=True):
        if scalar(IS_VALID.format(literal(index_name))) is False:
            drop_concurrently(index_name, table_name)
        run(
            f"CREATE {'UNIQUE ' if unique else ''}INDEX CONCURRENTLY IF NOT EXISTS "
            f"{quoted(index_name)} ON {quoted(table_name)} USING {definition}"
        )
        verify(index_name)


def make_room(index_name: str, table_name: str) -> None:
    """Drop an INVALID index of that name."""
    if scalar(IS_VALID.format(literal(index_name))) is False:
        log.info("%s was left INVALID by an earlier run: dropping it", index_name)
        drop_concurrently(index_name, table_name)


def refuse_other(
    index_name: str, table_name: str, columns: Columns, *, unique: bool, **options: Any
) -> None:
    """Raise Refused where another index has the name, but for an INVALID one, which is replaced.

    That of a partitioned table is INVALID until each partition has one.
    """
    is_valid = scalar(IS_VALID.format(literal(index_name)))
    if not is_valid and not partitions.is_partitioned_index(index_name):
        return
    wanted = definition_on_twin(table_name, columns, unique=unique, **options)
    wanted = f"unique {wanted}" if unique else wanted
    existing = definition_of(quoted(index_name))
    if create_statement(quoted(index_name)).startswith("CREATE UNIQUE "):
        existing = f"unique {existing}"
    if existing != wanted:
        raise Refused(
            f"there is another {index_name} already: it is {existing}, and not {wanted}; "
            "rename or drop it, and run this again"
        )


def definition_on_twin(table_name: str, columns: Columns, *, unique: bool, **options: Any) -> str:
    """Return what the definition of an index would say after USING.

    PostgreSQL spells a definition in its own way, so it has to spell ours, too.
    """
    with empty_twin(table_name) as twin:
        op.create_index("safely_wanted", twin, list(columns), unique=unique, **options)
        return definition_of("safely_wanted")


def definition_of(index_name: str) -> str:
    """Return what an index's definition says after USING, as PostgreSQL spells it."""
    return create_statement(index_name).partition(" USING ")[2]


def create_statement(index_name: str) -> str:
    """Return the CREATE INDEX of an index, as PostgreSQL spells it."""
    return str(scalar(f"SELECT pg_get_indexdef({literal(index_name)}::regclass)"))


def drop_index(
    index_name: str,
    table_name: str | None = None,
    *,
    schema: str | None = None,
    **options: Any,
) -> None:
    """Drop an index without blocking readers or writers; a missing one is no error.

    `options` are those of `op.drop_index`; `if_exists` and `postgresql_concurrently` are always on.

    PostgreSQL: SHARE UPDATE EXCLUSIVE (CONCURRENTLY), which blocks nobody; it waits for older
    transactions as long as they take. On a partitioned table: ACCESS EXCLUSIVE for an instant.
    SQLite: dropped in the revision's transaction.
    Older builds don't notice. The opposite is `safely.create_index`.

    Example: `safely.drop_index("ix_customers_email", "customers")`
    """
    with in_schema(schema):
        if not postgresql():
            op.drop_index(index_name, table_name, if_exists=True)
            return
        for always_on in ("if_exists", "postgresql_concurrently"):
            options.pop(always_on, None)
        if not offline() and partitions.is_partitioned_index(index_name):
            partitions.drop_index(index_name)
            return
        with outside_transaction(patient=True):
            # with the schema: the search_path would lead to an index of the same name elsewhere
            drop_concurrently(index_name, table_name, schema=schema, **options)


def drop_concurrently(index_name: str, table_name: str | None, **options: Any) -> None:
    """DROP INDEX CONCURRENTLY, which PostgreSQL allows only outside a transaction."""
    op.drop_index(index_name, table_name, postgresql_concurrently=True, if_exists=True, **options)


def verify(index_name: str) -> None:
    """Raise Refused unless the index is there and valid; offline, print a statement that does."""
    is_valid = IS_VALID.format(literal(index_name))
    message = (
        f"{index_name} is missing or INVALID: run "
        f"DROP INDEX CONCURRENTLY IF EXISTS {quoted(index_name)}, and then this again"
    )
    if offline():
        run(
            "DO $verify$ BEGIN\n"
            f"  IF ({is_valid}) IS NOT TRUE THEN RAISE EXCEPTION '%', {literal(message)}; END IF;\n"
            "END $verify$"
        )
    elif not scalar(is_valid):
        raise Refused(message)


def for_sqlite(column: Column) -> Any:
    """Return a column or an expression without PostgreSQL's name of a collation."""
    return column if isinstance(column, str) else sa.text(column_sql(column))


def column_sql(column: Column) -> str:
    """Return a column or an expression of an index as SQL."""
    if isinstance(column, str):
        return quoted(column)
    sql = expression_sql(column)
    return sql if postgresql() else sql.replace(' COLLATE "C"', "")


def refuse_duplicates(index_name: str, table_name: str, columns: Columns) -> None:
    """Raise Refused where rows have the same values in columns that are to be unique."""
    values = [column_sql(column) for column in columns]
    not_null = " AND ".join(f"{value} IS NOT NULL" for value in values)
    count = scalar(
        "SELECT count(*) FROM (SELECT 1 AS shared "
        f"FROM {quoted(table_name)} WHERE {not_null} "
        f"GROUP BY {', '.join(values)} HAVING count(*) > 1) AS duplicates"
    )
    if count:
        raise duplicates(index_name, table_name, columns, str(count))


def duplicates(index_name: str, table_name: str, columns: Columns, count: str) -> Refused:
    """Return the error for duplicates, with a query that shows them."""
    values = ", ".join(column_sql(column) for column in columns)
    keys = ", ".join(map(quoted, key_columns(table_name)))
    if postgresql():
        keys = f"array_agg(({keys or 'ctid'})::text)"
    else:
        keys = f"group_concat({keys.replace(', ', ' || ' + repr(', ') + ' || ') or 'rowid'})"
    return Refused(
        f"{index_name} can't be unique: {count} value(s) of {values} stand in more than one row "
        f"of {table_name}. Correct them, and run this again. See them with: "
        f"SELECT {values}, count(*), {keys} FROM {qualified(table_name)} "
        f"GROUP BY {values} HAVING count(*) > 1"
    )
