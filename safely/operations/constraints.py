"""Constraints, added so that nobody waits while the rows are checked."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.exc import IntegrityError

from safely.operations import partitions
from safely.operations.comments import set_comment
from safely.operations.connection import (
    Refused,
    empty_twin,
    expression_sql,
    literal,
    offline,
    outside_transaction,
    postgresql,
    qualified,
    quoted,
    refuse_offline,
    refuse_rows,
    regclass,
    required_name,
    run,
    run_unless,
    scalar,
)
from safely.operations.halves import is_left_out
from safely.operations.indexes import (
    create_index,
    drop_concurrently,
    duplicates,
    refuse_duplicates,
)
from safely.operations.options import (
    defer_as_postgresql,
    refuse_ignored_in_constraint,
    refuse_off,
    refuse_unknown,
)
from safely.operations.rebuild import rebuilt
from safely.operations.sqlite_limits import refuse_not_unique

HAS_CONSTRAINT = "EXISTS (SELECT FROM pg_constraint WHERE conname = {name} AND conrelid = {table})"

LEFT_INDEX = """\
EXISTS (SELECT FROM pg_index JOIN pg_class ON pg_class.oid = indexrelid
        WHERE indrelid = {table} AND relname = {name} AND indisunique AND relkind = 'i'
          AND NOT EXISTS (SELECT FROM pg_constraint WHERE conindid = indexrelid))"""

Condition = str | sa.ColumnElement[bool] | sa.TextClause


def create_check_constraint(  # noqa: PLR0913  # Alembic's signature
    constraint_name: str | None,
    table_name: str,
    condition: Condition,
    *,
    schema: str | None = None,
    comment: str | None = None,
    info: dict[Any, Any] | None = None,
    postgresql_not_valid: bool | None = None,
    sqlite_on_conflict: str | None = None,
    **options: Any,
) -> None:
    """Add a CHECK: it holds for new rows at once, and old rows are checked while everybody writes.

    `constraint_name` is the name in the database: no naming convention is applied to it.
    With `postgresql_not_valid`, old rows are not checked.

    PostgreSQL: ACCESS EXCLUSIVE for an instant (NOT VALID); the rows are checked in a later
    transaction (VALIDATE), which blocks neither readers nor writers. A constraint that a killed
    run has added is only validated. SQLite: the table is copied.
    The rule holds for older builds, too: they get an error for a row that breaks it.
    The opposite is `safely.drop_constraint`.
    Raise Refused where rows break the rule, with a query that shows them.

    Example: `safely.create_check_constraint("ck_orders_total", "orders", "total >= 0")`
    """
    del info
    refuse_unknown("create_check_constraint", options)
    if is_left_out(schema, table_name):
        return
    name, rule = required_name(constraint_name, table_name), expression_sql(condition)
    if not (postgresql() and postgresql_not_valid):
        refuse_violations(name, table_name, rule)
    if postgresql():
        add_check(name, table_name, rule, is_validated=not postgresql_not_valid)
        set_comment_of(name, table_name, comment)
        return
    with rebuilt(table_name) as table:
        conflict = on_conflict(sqlite_on_conflict)
        table.add_constraint(f"CONSTRAINT {quoted(name)} CHECK ({rule}){conflict}")


def add_check(
    constraint_name: str, table_name: str, condition: str, *, is_validated: bool = True
) -> None:
    """Add and validate a CHECK that no row was seen to break (PostgreSQL)."""
    if not offline():
        refuse_other_check(constraint_name, table_name, condition)
    refuse = partial(refuse_violations, constraint_name, table_name, condition)
    rule = f"CHECK ({condition})"
    add_validated(constraint_name, table_name, rule, refuse if is_validated else None)


def set_comment_of(constraint_name: str, table_name: str, comment: str | None) -> None:
    """Set the comment of a constraint that was added, if it has one (PostgreSQL)."""
    if comment is not None:
        target = f"CONSTRAINT {quoted(constraint_name)} ON {quoted(table_name)}"
        set_comment(target, constraint_name, comment)


def on_conflict(resolution: str | None) -> str:
    """Return what stands behind a constraint that is broken with this resolution (SQLite)."""
    return f" ON CONFLICT {resolution}" if resolution else ""


def refuse_other_check(constraint_name: str, table_name: str, condition: str) -> None:
    """Raise Refused where another constraint has the name (PostgreSQL)."""
    name, table = literal(constraint_name), regclass(table_name)
    definition = "SELECT pg_get_constraintdef(oid) FROM pg_constraint WHERE conname = {} AND {}"
    existing = scalar(definition.format(name, f"conrelid = {table}"))
    if existing is None:
        return
    with empty_twin(table_name) as twin:
        run(f"ALTER TABLE {twin} ADD CONSTRAINT safely_wanted CHECK ({condition})")
        of_twin = f"conrelid = {literal(twin)}::regclass"
        wanted = scalar(definition.format("'safely_wanted'", of_twin))
    if existing.removesuffix(" NOT VALID") != wanted:
        raise Refused(
            f"there is another {constraint_name} already: it is {existing}, and not {wanted}; "
            "rename or drop it, and run this again"
        )


def create_foreign_key(  # noqa: PLR0913  # Alembic's signature
    constraint_name: str | None,
    source_table: str,
    referent_table: str,
    local_cols: Sequence[str],
    remote_cols: Sequence[str],
    *,
    onupdate: str | None = None,
    ondelete: str | None = None,
    deferrable: bool | None = None,
    initially: str | None = None,
    match: str | None = None,
    source_schema: str | None = None,
    referent_schema: str | None = None,
    comment: str | None = None,
    info: dict[Any, Any] | None = None,
    link_to_name: bool = False,
    use_alter: bool = False,
    postgresql_not_valid: bool | None = None,
    **options: Any,
) -> None:
    """Add a foreign key: it holds for new rows at once, old rows are checked while all write.

    With `postgresql_not_valid`, old rows are not checked. `use_alter` is how it is added anyway.

    PostgreSQL: SHARE ROW EXCLUSIVE on both tables for an instant (NOT VALID); the rows are checked
    in a later transaction (VALIDATE), which blocks neither readers nor writers. A constraint that
    a killed run has added is only validated. SQLite: the table is copied.
    The rule holds for older builds, too.
    The opposite is `safely.drop_constraint`. While the foreign key is there, its columns and the
    table that it refers to can't be set aside.
    Raise Refused where rows refer to a missing row, with a query that shows them; for `match` and
    an `ondelete` that the database does not enforce; and for two tables in different schemas:
    versions of one schema are published.

    Example: `safely.create_foreign_key("fk_pets_owner", "pets", "customers", ["owner"], ["id"])`
    """
    del info, link_to_name, use_alter
    refuse_unknown("create_foreign_key", options)
    refuse_two_schemas(source_schema, referent_schema)
    schema = source_schema or referent_schema
    if is_left_out(schema, source_table, *local_cols) or is_left_out(
        schema, referent_table, *remote_cols
    ):
        return
    name = required_name(constraint_name, source_table)
    key = sa.ForeignKeyConstraint(
        local_cols,
        [f"{referent_table}.{column}" for column in remote_cols],
        ondelete=ondelete,
        match=match,
        deferrable=deferrable,
        initially=initially,
    )
    refuse_ignored_in_constraint(name, source_table, key)
    defer_as_postgresql(key)
    if not postgresql():
        refuse_offline(source_table)
        refuse_not_unique(name, referent_table, remote_cols)
    elif not offline():
        partitions.refuse_old_server(name, source_table)
    source, referent = qualified(source_table), qualified(referent_table)
    dangling = dangling_rows(source, referent, local_cols, remote_cols, match=match)
    if not (postgresql() and postgresql_not_valid):
        refuse_dangling(name, source_table, dangling)
    rule = key_rule(
        local_cols,
        referent_table,
        remote_cols,
        match=match,
        ondelete=ondelete,
        onupdate=onupdate,
        deferrable=key.deferrable,
        initially=key.initially,
    )
    if not postgresql():
        with rebuilt(source_table) as table:
            table.add_constraint(f"CONSTRAINT {quoted(name)} {rule}")
        return
    refuse = partial(refuse_dangling, name, source_table, dangling)
    add_validated(name, source_table, rule, None if postgresql_not_valid else refuse)
    set_comment_of(name, source_table, comment)


def key_rule(  # noqa: PLR0913  # the parts of a foreign key
    local_cols: Sequence[str],
    referent_table: str,
    remote_cols: Sequence[str],
    *,
    match: str | None,
    ondelete: str | None,
    onupdate: str | None,
    deferrable: bool | None,
    initially: str | None,
) -> str:
    """Return what stands after the name of a foreign key, as SQL."""
    local, remote = (", ".join(map(quoted, columns)) for columns in (local_cols, remote_cols))
    clauses = (
        f"FOREIGN KEY ({local}) REFERENCES {quoted(referent_table)} ({remote})",
        match and f"MATCH {match}",
        ondelete and f"ON DELETE {ondelete}",
        onupdate and f"ON UPDATE {onupdate}",
        deferral(deferrable=deferrable, initially=initially),
    )
    return " ".join(filter(None, clauses))


def deferral(*, deferrable: bool | None, initially: str | None) -> str:
    """Return when a constraint is checked, as SQL; empty for at once."""
    clauses = (
        "" if deferrable is None else "DEFERRABLE" if deferrable else "NOT DEFERRABLE",
        initially and f"INITIALLY {initially}",
    )
    return " ".join(filter(None, clauses))


def refuse_two_schemas(source_schema: str | None, referent_schema: str | None) -> None:
    """Raise Refused for a foreign key from one schema to another.

    A schema that is left out is the current one, which under `--sql` can't be asked for.
    """
    if source_schema == referent_schema or (offline() and None in (source_schema, referent_schema)):
        return
    current = scalar("SELECT current_schema") if postgresql() else None
    source, referent = source_schema or current, referent_schema or current
    if source != referent:
        raise Refused(
            f"a foreign key from the schema {source} to the schema {referent}: safely publishes "
            "the versions of one schema, so keep the tables of a project in one"
        )


def dangling_rows(
    source: str,
    referent: str,
    local_cols: Sequence[str],
    remote_cols: Sequence[str],
    *,
    match: str | None = None,
) -> str:
    """Return the query for rows that refer to a missing row; the tables are given as SQL.

    With MATCH FULL, a row refers to one unless all of its columns are NULL.
    """
    local = [f"source.{quoted(column)}" for column in local_cols]
    remote = [f"referent.{quoted(column)}" for column in remote_cols]
    conjunction = " OR " if (match or "").upper() == "FULL" else " AND "
    refers = conjunction.join(f"{column} IS NOT NULL" for column in local)
    pairs = zip(remote, local, strict=True)
    matches = " AND ".join(f"{remote_column} = {column}" for remote_column, column in pairs)
    return (
        f"SELECT * FROM {source} AS source WHERE ({refers}) "
        f"AND NOT EXISTS (SELECT 1 FROM {referent} AS referent WHERE {matches})"
    )


def refuse_dangling(constraint_name: str, source_table: str, dangling: str) -> None:
    """Raise Refused where rows refer to a missing row."""
    refuse_rows(
        dangling, f"{constraint_name} can't be added", f"of {source_table} refer to nothing"
    )


def create_unique_constraint(  # noqa: PLR0913  # Alembic's signature
    constraint_name: str | None,
    table_name: str,
    columns: Sequence[str],
    *,
    schema: str | None = None,
    deferrable: bool | None = None,
    initially: str | None = None,
    comment: str | None = None,
    info: dict[Any, Any] | None = None,
    postgresql_include: Sequence[str] | None = None,
    postgresql_nulls_not_distinct: bool | None = None,
    sqlite_on_conflict: str | None = None,
    **options: Any,
) -> None:
    """Add a UNIQUE constraint from an index that is built while everybody goes on working.

    PostgreSQL: the index as `safely.create_index` builds it; then ACCESS EXCLUSIVE for an instant.
    SQLite: the table is copied.
    The rule holds for older builds, too. The opposite is `safely.drop_constraint`.
    Raise Refused where rows have the same values, with a query that shows them; and on SQLite for
    `deferrable` and `initially`, which it has for foreign keys alone.

    Example: `safely.create_unique_constraint("uq_customers_email", "customers", ["email"])`
    """
    del info
    refuse_unknown("create_unique_constraint", options)
    if is_left_out(schema, table_name, *columns):
        return
    name = required_name(constraint_name, table_name)
    rule = sa.UniqueConstraint(
        *columns,
        deferrable=deferrable,
        initially=initially,
        postgresql_nulls_not_distinct=postgresql_nulls_not_distinct,
    )
    refuse_ignored_in_constraint(name, table_name, rule)
    if not postgresql():
        refuse_offline(table_name)
        refuse_duplicates(name, table_name, columns, None, nulls_are_equal=False)
        unique = ", ".join(map(quoted, columns))
        with rebuilt(table_name) as table:
            conflict = on_conflict(sqlite_on_conflict)
            table.add_constraint(f"CONSTRAINT {quoted(name)} UNIQUE ({unique}){conflict}")
        return
    deferred = deferral(deferrable=deferrable, initially=initially)
    if offline():
        partitions.print_refusal(table_name, f"creating {name}")
    elif partitions.is_partitioned(table_name):
        create_unique_on_partitions(
            name,
            table_name,
            columns,
            deferred,
            postgresql_include=postgresql_include,
            postgresql_nulls_not_distinct=postgresql_nulls_not_distinct,
        )
        set_comment_of(name, table_name, comment)
        return
    create_index(
        name,
        table_name,
        columns,
        unique=True,
        postgresql_include=postgresql_include,
        postgresql_nulls_not_distinct=postgresql_nulls_not_distinct,
    )
    attach(name, table_name, deferred)
    set_comment_of(name, table_name, comment)


def create_unique_on_partitions(  # noqa: PLR0913  # options of SQLAlchemy
    constraint_name: str,
    table_name: str,
    columns: Sequence[str],
    deferral: str,
    *,
    postgresql_include: Sequence[str] | None,
    postgresql_nulls_not_distinct: bool | None,
) -> None:
    """Add a UNIQUE constraint to a partitioned table, and to each partition.

    PostgreSQL doesn't make it from an index there.
    """
    partitions.refuse_without_key(constraint_name, table_name, columns)
    nulls_are_equal = bool(postgresql_nulls_not_distinct)
    refuse_duplicates(constraint_name, table_name, columns, None, nulls_are_equal=nulls_are_equal)
    listed, included = (
        ", ".join(map(quoted, names)) for names in (columns, postgresql_include or ())
    )
    rule = (
        f"UNIQUE {'NULLS NOT DISTINCT ' if postgresql_nulls_not_distinct else ''}({listed})"
        f"{f' INCLUDE ({included})' if included else ''}"
    )
    try:
        partitions.build_constraint(constraint_name, table_name, rule, deferral)
    except IntegrityError as error:  # a duplicate was written while it was being built
        partitions.drop_left_over(constraint_name)
        op.drop_constraint(op.f(constraint_name), table_name, if_exists=True)
        raise duplicates(constraint_name, table_name, columns, "some", None) from error


def attach(constraint_name: str, table_name: str, deferral: str = "") -> None:
    """Make the unique index of that name a constraint (PostgreSQL)."""
    rule = f"UNIQUE USING INDEX {quoted(constraint_name)} {deferral}"
    add_constraint(constraint_name, table_name, rule.strip())


def drop_constraint(
    constraint_name: str,
    table_name: str,
    type_: str | None = None,
    *,
    schema: str | None = None,
    if_exists: bool | None = None,
) -> None:
    """Drop a constraint; one that a killed run has dropped is no error.

    `constraint_name` is the name in the database: no naming convention is applied to it.
    `if_exists` is always on.

    PostgreSQL: ACCESS EXCLUSIVE for an instant (a foreign key: on both tables).
    SQLite: the table is copied; a constraint that it lacks, or has of another `type_` (check,
    foreignkey, unique or primary), is refused.
    Older builds don't notice. The opposite is the operation that creates the constraint.

    Example: `safely.drop_constraint("ck_customers_age", "customers", "check")`
    """
    refuse_off("drop_constraint", if_exists=if_exists)
    if is_left_out(schema, table_name):
        return
    if postgresql():
        if not offline() and partitions.is_partitioned_index(constraint_name):
            partitions.drop_left_over(constraint_name)
        op.drop_constraint(op.f(constraint_name), table_name, if_exists=True)
        if type_ in {None, "unique"} and not offline():
            drop_left_index(constraint_name, table_name)
        return
    with rebuilt(table_name) as table:
        if not table.drop_constraint(constraint_name, type_):
            raise Refused(no_constraint(constraint_name, table_name))


def drop_left_index(constraint_name: str, table_name: str) -> None:
    """Drop the unique index of a constraint that a killed run has yet to make of it (PostgreSQL).

    It would go on refusing duplicates.
    """
    left = LEFT_INDEX.format(name=literal(constraint_name), table=regclass(table_name))
    if scalar(f"SELECT {left}"):
        with outside_transaction(patient=True):
            drop_concurrently(constraint_name, table_name)


def no_constraint(constraint_name: str, table_name: str) -> str:
    """Return the message for a constraint that a table does not have (SQLite)."""
    return (
        f"{table_name} has no constraint {constraint_name}: correct the name. SQLite gives none to "
        "a constraint that was created without one: give the models' MetaData a naming_convention"
    )


def add_constraint(constraint_name: str, table_name: str, rule: str) -> None:
    """ALTER TABLE … ADD CONSTRAINT, unless the table has it (PostgreSQL)."""
    exists = HAS_CONSTRAINT.format(name=literal(constraint_name), table=regclass(table_name))
    add = f"ALTER TABLE {quoted(table_name)} ADD CONSTRAINT {quoted(constraint_name)} {rule}"
    run_unless(exists, add)


def add_validated(
    constraint_name: str, table_name: str, rule: str, refuse: Callable[[], None] | None
) -> None:
    """Add a constraint for new rows, and check the old ones in a transaction of its own.

    In one transaction, the lock of adding would be kept while all rows are read (PostgreSQL).
    `refuse` raises Refused for the rows that break the rule, and is called where there are any;
    None leaves the old rows unchecked.
    """
    add_constraint(constraint_name, table_name, f"{rule} NOT VALID")
    if refuse is None:
        return
    try:
        with outside_transaction(patient=True):
            run(f"ALTER TABLE {quoted(table_name)} VALIDATE CONSTRAINT {quoted(constraint_name)}")
    except IntegrityError:  # such a row was written between the first look and the adding
        refuse()
        raise


def refuse_violations(
    constraint_name: str, table_name: str, condition: str, source: str | None = None
) -> None:
    """Raise Refused where rows break the condition.

    `source` is read instead of the table: a subquery with columns that the table has yet to get.
    """
    refuse_rows(
        f"SELECT * FROM {source or qualified(table_name)} WHERE NOT ({condition})",
        f"{constraint_name} can't be added",
        f"of {table_name} break it",
    )
