"""Indexes, built and dropped while everybody goes on reading and writing."""

import logging
import re
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
    in_tablespace,
    literal,
    offline,
    outside_transaction,
    postgresql,
    project_schema,
    qualified,
    quoted,
    refuse_other_schema,
    required_name,
    run,
    scalar,
)
from safely.operations.halves import is_left_out
from safely.operations.keys import key_columns
from safely.operations.options import refuse_off, refuse_unknown
from safely.operations.sqlite_limits import refuse_lost_options

log = logging.getLogger("safely")

# an index's name is unique in its schema, which is that of its table
IS_VALID = """\
SELECT indisvalid FROM pg_index JOIN pg_class ON pg_class.oid = indexrelid
JOIN pg_namespace ON pg_namespace.oid = relnamespace
WHERE relname = {} AND nspname = current_schema"""

ORDER = re.compile(r"(?:\s+(?:ASC|DESC))?(?:\s+NULLS\s+(?:FIRST|LAST))?\s*$", re.IGNORECASE)

Column = str | sa.ColumnElement[Any] | sa.TextClause
Columns = Sequence[Column]
Condition = str | sa.ColumnElement[bool] | sa.TextClause

DEFINITION = {  # options of an index that say nothing about dropping it
    "info",
    "postgresql_include",
    "postgresql_nulls_not_distinct",
    "postgresql_ops",
    "postgresql_tablespace",
    "postgresql_using",
    "postgresql_where",
    "postgresql_with",
    "sqlite_where",
    "unique",
}


def create_index(  # noqa: PLR0913  # Alembic's signature
    index_name: str | None,
    table_name: str,
    columns: Columns,
    *,
    schema: str | None = None,
    unique: bool = False,
    if_not_exists: bool | None = None,
    info: dict[Any, Any] | None = None,
    postgresql_concurrently: bool | None = None,
    postgresql_include: Sequence[str] | None = None,
    postgresql_nulls_not_distinct: bool | None = None,
    postgresql_ops: dict[str, str] | None = None,
    postgresql_tablespace: str | None = None,
    postgresql_using: str | None = None,
    postgresql_where: Condition | None = None,
    postgresql_with: dict[str, Any] | None = None,
    sqlite_where: Condition | None = None,
    **options: Any,
) -> None:
    """Build an index without blocking readers or writers.

    `if_not_exists` and `postgresql_concurrently` are always on. A partial index on both databases
    needs `sqlite_where` as well as `postgresql_where`.

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
    del info
    refuse_off(
        "create_index",
        if_not_exists=if_not_exists,
        postgresql_concurrently=postgresql_concurrently,
    )
    refuse_unknown("create_index", options)
    if is_left_out(schema, table_name, *(name for name in columns if isinstance(name, str))):
        return
    name = required_name(index_name, table_name)
    where = postgresql_where if postgresql() else sqlite_where
    if not postgresql():
        lost = {
            "postgresql_nulls_not_distinct": postgresql_nulls_not_distinct,
            "postgresql_where": postgresql_where,
            "sqlite_where": sqlite_where,
        }
        refuse_lost_options(f"{name} of {table_name}", lost)
    if unique and not offline():
        nulls_are_equal = postgresql() and bool(postgresql_nulls_not_distinct)
        refuse_duplicates(name, table_name, columns, where, nulls_are_equal=nulls_are_equal)
    if not postgresql():
        op.create_index(
            name,
            table_name,
            [for_sqlite(column) for column in columns],
            unique=unique,
            sqlite_where=as_expression(sqlite_where),
        )
        return
    obeyed: dict[str, Any] = {
        "postgresql_include": postgresql_include,
        "postgresql_nulls_not_distinct": postgresql_nulls_not_distinct,
        "postgresql_ops": postgresql_ops,
        "postgresql_tablespace": postgresql_tablespace,
        "postgresql_using": postgresql_using,
        "postgresql_where": as_expression(postgresql_where),
        "postgresql_with": postgresql_with,
    }
    set_options = {option: value for option, value in obeyed.items() if value is not None}
    if done_on_partitions(name, table_name, columns, unique=unique, **set_options):
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
                **set_options,
            )
        except IntegrityError as error:  # a duplicate was written while it was being built
            drop_concurrently(name, table_name)
            raise duplicates(name, table_name, columns, "some", where) from error
        verify(name)
        if not all(isinstance(column, str) for column in columns):
            analyze(table_name)  # an expression has statistics of its own, and yet none


def done_on_partitions(
    name: str, table_name: str, columns: Columns, *, unique: bool, **options: Any
) -> bool:
    """Build, or print, the index where the table is partitioned; return whether it is."""
    if offline():
        partitions.print_refusal(table_name, f"creating {name}")
        is_partitioned = partitions.is_made_by_script(table_name)
        if is_partitioned:
            op.create_index(
                name, table_name, list(columns), unique=unique, if_not_exists=True, **options
            )
        return is_partitioned
    refuse_other(name, table_name, columns, unique=unique, **options)
    is_partitioned = partitions.is_partitioned(table_name)
    if is_partitioned:
        create_on_partitions(name, table_name, columns, unique=unique, **options)
    return is_partitioned


def create_on_partitions(
    index_name: str, table_name: str, columns: Columns, *, unique: bool, **options: Any
) -> None:
    """Build an index of a partitioned table, and of each partition, without blocking anybody."""
    if unique:
        partitions.refuse_without_key(index_name, table_name, columns)
    definition = definition_on_twin(table_name, columns, unique=unique, **options)
    try:
        with in_tablespace(options.get("postgresql_tablespace")):
            partitions.build_index(index_name, table_name, definition, unique=unique)
    except IntegrityError as error:  # a duplicate was written while it was being built
        partitions.drop_index(index_name)
        where = options.get("postgresql_where")
        raise duplicates(index_name, table_name, columns, "some", where) from error


def as_expression(condition: Condition | None) -> sa.ColumnElement[bool] | sa.TextClause | None:
    """Return the condition of a partial index as SQLAlchemy's options take it."""
    return sa.text(condition) if isinstance(condition, str) else condition


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
    if_exists: bool | None = None,
    postgresql_concurrently: bool | None = None,
    **options: Any,
) -> None:
    """Drop an index without blocking readers or writers; a missing one is no error.

    `if_exists` and `postgresql_concurrently` are always on. Options of the index are accepted, as
    autogenerate writes them: its definition goes with it.

    PostgreSQL: SHARE UPDATE EXCLUSIVE (CONCURRENTLY), which blocks nobody; it waits for older
    transactions as long as they take. On a partitioned table: ACCESS EXCLUSIVE for an instant.
    SQLite: dropped in the revision's transaction.
    Older builds don't notice. The opposite is `safely.create_index`.

    Example: `safely.drop_index("ix_customers_email", "customers")`
    """
    refuse_off("drop_index", if_exists=if_exists, postgresql_concurrently=postgresql_concurrently)
    refuse_unknown("drop_index", {name: options[name] for name in options.keys() - DEFINITION})
    refuse_other_schema(schema)
    if not postgresql():
        op.drop_index(index_name, table_name, if_exists=True)
        return
    if offline():
        partitions.print_drop(index_name)
    elif partitions.is_partitioned_index(index_name):
        partitions.drop_index(index_name)
        return
    with outside_transaction(patient=True):
        drop_concurrently(index_name, table_name)


def drop_concurrently(index_name: str, table_name: str | None) -> None:
    """DROP INDEX CONCURRENTLY, which PostgreSQL allows only outside a transaction.

    With the schema: the search_path would lead to an index of the same name elsewhere.
    """
    op.drop_index(
        index_name,
        table_name,
        schema=project_schema(),
        postgresql_concurrently=True,
        if_exists=True,
    )


def tablespace_of(index_name: str) -> str | None:
    """Return the tablespace of an index; None for that of the database."""
    return scalar(  # type: ignore[no-any-return]  # a name
        "SELECT spcname::text FROM pg_class JOIN pg_tablespace ON pg_tablespace.oid = "
        f"reltablespace WHERE pg_class.oid = {literal(index_name)}::regclass"
    )


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


def value_sql(column: Column) -> str:
    """Return a column or an expression of an index as SQL, without its order in the index."""
    return ORDER.sub("", column_sql(column))


def refuse_duplicates(
    index_name: str,
    table_name: str,
    columns: Columns,
    where: Condition | None,
    *,
    nulls_are_equal: bool,
) -> None:
    """Raise Refused where rows have the same values in columns that are to be unique."""
    values = [value_sql(column) for column in columns]
    indexed = ["true"] if nulls_are_equal else [f"{value} IS NOT NULL" for value in values]
    if where is not None:
        indexed.append(f"({expression_sql(where)})")
    count = scalar(
        "SELECT count(*) FROM (SELECT 1 AS shared "
        f"FROM {quoted(table_name)} WHERE {' AND '.join(indexed)} "
        f"GROUP BY {', '.join(values)} HAVING count(*) > 1) AS duplicates"
    )
    if count:
        raise duplicates(index_name, table_name, columns, str(count), where)


def duplicates(
    index_name: str, table_name: str, columns: Columns, count: str, where: Condition | None
) -> Refused:
    """Return the error for duplicates, with a query that shows them."""
    values = ", ".join(value_sql(column) for column in columns)
    keys = ", ".join(map(quoted, key_columns(table_name)))
    if postgresql():
        keys = f"array_agg(({keys or 'ctid'})::text)"
    else:
        keys = f"group_concat({keys.replace(', ', ' || ' + repr(', ') + ' || ') or 'rowid'})"
    indexed = "" if where is None else f"WHERE {expression_sql(where)} "
    return Refused(
        f"{index_name} can't be unique: {count} value(s) of {values} stand in more than one row "
        f"of {table_name}. Correct them, and run this again",
        query=f"SELECT {values}, count(*), {keys} FROM {qualified(table_name)} {indexed}"
        f"GROUP BY {values} HAVING count(*) > 1",
    )
