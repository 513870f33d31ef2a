"""Columns: added, dropped and renamed. A drop sets aside, and adding again brings back."""

from collections.abc import Iterable
from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.schema import CreateColumn

from safely.operations.aside import (
    bring_column_back,
    hidden_name,
    how_to_purge,
    is_set_aside,
    refuse_references,
    set_column_aside,
)
from safely.operations.connection import (
    HAS_COLUMN,
    Refused,
    column_type,
    expression_sql,
    has_column,
    in_schema,
    literal,
    normalized_type,
    offline,
    postgresql,
    pragma_value,
    qualified,
    quoted,
    refuse_offline,
    regclass,
    required_name,
    rewrites,
    run,
    run_unless,
    scalar,
    type_sql,
    undoing,
)
from safely.operations.constraints import add_check, refuse_violations
from safely.operations.enums import create_missing_enums, hide_labels
from safely.operations.rebuild import rebuilt
from safely.operations.required import refuse_used_by_fill

# a column that the trigger of safely.require_column fills in needs no default
NEEDS_VALUE = """\
EXISTS (SELECT FROM pg_attribute
        WHERE attrelid = {oid} AND attname = {column}
          AND attnotnull AND NOT atthasdef AND attidentity = ''
          AND NOT EXISTS (SELECT FROM pg_trigger
                          WHERE tgrelid = {oid} AND tgattr[0] = attnum
                            AND tgfoid = to_regproc('fill_missing')))"""

UNIQUE_ON_SQLITE = """\
SELECT list.name FROM pragma_index_list(?) AS list, pragma_index_info(list.name) AS info
WHERE list."unique" AND info.name = ?"""

UNIQUE_WITH_DEFAULT = """\
SELECT indexrelid::regclass::text FROM pg_index JOIN pg_attribute ON attrelid = indrelid
WHERE indrelid = {oid} AND attname = {column} AND indisunique
  AND (atthasdef OR {filled} AND attnotnull) AND attidentity = '' AND attgenerated = ''
  AND (attnum = ANY (indkey::smallint[])
       OR EXISTS (SELECT FROM pg_depend
                  WHERE classid = 'pg_class'::regclass AND objid = indexrelid
                    AND refobjid = indrelid AND refobjsubid = attnum))
LIMIT 1"""


def add_column(
    table_name: str, column: sa.Column[Any], *, schema: str | None = None, **_: Any
) -> None:
    """Add a column, or bring back the one that this revision has set aside, with its values.

    Alembic's other keywords are accepted: `if_not_exists` is always on.

    PostgreSQL: ACCESS EXCLUSIVE for an instant, and no rewrite. A CHECK in the column's definition
    takes a second instant; the rows are checked for it in a later transaction, which blocks
    nobody. A column that a killed run has added is no error.
    Older builds neither see nor write it, so a new NOT NULL column needs a `server_default`.
    The opposite is `safely.drop_column`.
    Raise Refused for NOT NULL without a default; for a default that would rewrite the table; for a
    foreign key, UNIQUE or an index in the definition, which have operations of their own; where
    rows would break a CHECK; and where another column was set aside under the name.

    Example: `safely.add_column("customers", sa.Column("phone", sa.Text(), nullable=True))`
    """
    with in_schema(schema, table_name):
        name = column.name
        refuse_other_rules(table_name, column)
        is_new = offline() or not (is_set_aside(table_name, name) or has_column(table_name, name))
        if is_new and not undoing():
            refuse_without_value(table_name, column)
        if not postgresql():
            add_on_sqlite(table_name, column)
            return
        has_enum = create_missing_enums([column])
        checks = [c for c in column.constraints if isinstance(c, sa.CheckConstraint)]
        column.constraints.difference_update(checks)
        alter = f"ALTER TABLE {quoted(table_name)}"
        add = f"ADD COLUMN IF NOT EXISTS {column_definition(table_name, column)}"
        if not offline():
            if is_new:
                refuse_rewrite(table_name, name, add)
            elif is_set_aside(table_name, name):
                refuse_other_type(table_name, column)
            refuse_broken_checks(table_name, column, checks)
        computed = column.identity is not None or column.computed is not None
        set_default = f"{alter} ALTER COLUMN {quoted(name)} {default_clause(column)}"
        bring_column_back(table_name, name, afterwards="NULL" if computed else set_default)
        run(f"{alter} {add}")
        if has_enum:
            hide_labels(table_name)
        for check in checks:
            add_check(check_name(check, table_name), table_name, expression_sql(check.sqltext))


def check_name(check: sa.CheckConstraint, table_name: str) -> str:
    """Return the name of a CHECK in a column's definition; raise Refused without one."""
    return required_name(check.name if isinstance(check.name, str) else None, table_name)


def refuse_broken_checks(
    table_name: str, column: sa.Column[Any], checks: Iterable[sa.CheckConstraint]
) -> None:
    """Raise Refused where rows would break the CHECKs of a column that is about to be added.

    Call it before the column is added: its lock must not be kept while all rows are read.
    """
    name = column.name
    if has_column(table_name, name) or column.identity is not None or column.computed is not None:
        return
    if is_set_aside(table_name, name):
        value = quoted(hidden_name(name))
    else:
        value = f"CAST({default_sql(column) or 'NULL'} AS {type_sql(column.type)})"
    source = (
        f"(SELECT *, {value} AS {quoted(name)} FROM {qualified(table_name)}) "
        f"AS {quoted(table_name)}"
    )
    for check in checks:
        rule = expression_sql(check.sqltext)
        refuse_violations(check_name(check, table_name), table_name, rule, source)


def add_on_sqlite(table_name: str, column: sa.Column[Any]) -> None:
    """Add a column or bring it back; SQLite can change its default only by copying the table."""
    if offline() or not is_set_aside(table_name, column.name):
        run(f"ALTER TABLE {quoted(table_name)} ADD COLUMN {column_definition(table_name, column)}")
        return
    refuse_other_type(table_name, column)
    bring_column_back(table_name, column.name)
    if column.server_default is None and default_on_sqlite(table_name, column.name):
        with rebuilt(table_name) as table:
            table.alter_column(column.name, server_default=None)


def default_clause(column: sa.Column[Any]) -> str:
    """Return the clause of ALTER COLUMN that gives a column the default of its definition."""
    default = default_sql(column)
    return "DROP DEFAULT" if default is None else f"SET DEFAULT {default}"


def default_sql(column: sa.Column[Any]) -> str | None:
    """Return the default of a column's definition as SQL; None without one."""
    dialect = op.get_context().dialect
    return dialect.ddl_compiler(dialect, None).get_column_default_string(column)  # type: ignore[arg-type]  # it compiles no statement


def default_on_sqlite(table_name: str, column_name: str) -> str | None:
    """Return the default that a column has in the database, as SQL; None without one."""
    default = pragma_value("dflt_value", table_name, column_name)
    return None if default is None else str(default)


def refuse_other_rules(table_name: str, column: sa.Column[Any]) -> None:
    """Raise Refused for rules in the definition that ADD COLUMN would leave out."""
    if column.foreign_keys:
        operation = "safely.create_foreign_key"
    elif column.unique or column.index:
        operation = "safely.create_index"
    else:
        return
    raise Refused(
        f"{table_name}.{column.name} would be added without a rule of its definition: take the "
        f"rule out of sa.Column, and create it with {operation}, after safely.add_column"
    )


def refuse_rewrite(table_name: str, column_name: str, add: str) -> None:
    """Raise Refused for a column whose value would be computed for every row."""
    if rewrites(table_name, add):
        raise Refused(
            f"{table_name}.{column_name} would be computed for every row while nobody can read "
            f"{table_name}: add it nullable and without a default, fill it in with "
            "safely.backfill, then give it its default with safely.change_default"
        )


def refuse_other_type(table_name: str, column: sa.Column[Any]) -> None:
    """Raise Refused if the column that is set aside under the name has another type."""
    existing = column_type(table_name, hidden_name(column.name))
    wanted = normalized_type(column.type)
    if existing != wanted:
        raise Refused(
            f"{table_name}.{column.name} was set aside by this revision as {existing}, and is now "
            f"to be {wanted}: {how_to_purge()}"
        )


def refuse_without_value(table_name: str, column: sa.Column[Any]) -> None:
    """Raise Refused for a NOT NULL column that old rows and older builds have no value for."""
    if not column.nullable and column.server_default is None and column.computed is None:
        raise Refused(
            f"{table_name}.{column.name} is NOT NULL without a server_default: the rows that are "
            "there have no value for it, and older builds write none. Give it a server_default, "
            "or add it nullable and tighten it in the next revision with safely.require_column"
        )


def column_definition(table_name: str, column: sa.Column[Any]) -> str:
    """Return a column's definition as SQL, as in CREATE TABLE."""
    in_table = sa.Table(table_name, sa.MetaData(), column).c[column.name]
    return str(CreateColumn(in_table).compile(dialect=op.get_context().dialect))


def drop_column(
    table_name: str,
    column_name: str,
    *,
    fill: str | int | None = None,
    schema: str | None = None,
    **_: Any,
) -> None:
    """Set a column aside, with its values, its indexes and its constraints.

    Alembic's other keywords are accepted and change nothing.

    PostgreSQL: ACCESS EXCLUSIVE for an instant; the column is renamed. SQLite: it is renamed too,
    and the table is copied if the column needs a default. One that a killed run has set aside is
    no error.
    Older builds go on reading and writing it. Newer builds don't know it: where it is NOT NULL,
    the rows that they write get its default, or `fill`, which becomes its default.
    The opposite is `safely.add_column` in the same revision, which brings it back.
    `python -m safely purge` drops it for good.
    Raise Refused for NOT NULL without a default or `fill`; for a column with foreign keys; for a
    unique column with a default, which newer rows would repeat; and where the revision has set one
    of that name aside already.

    Example: `safely.drop_column("customers", "nickname")`
    """
    with in_schema(schema, table_name):
        if not offline() and not has_column(table_name, column_name):
            return  # a run that was killed has set it aside
        hidden_name(column_name)  # refuses a long name before anything is changed
        refuse_references(table_name, column_name)
        refuse_used_by_fill(table_name, column_name)
        if not postgresql():
            drop_on_sqlite(table_name, column_name, fill)
            return
        if not offline():
            refuse_shared_default(table_name, column_name, fill)
        needs_value = NEEDS_VALUE.format(oid=regclass(table_name), column=literal(column_name))
        message = no_value(table_name, column_name)
        if fill is None:
            if not offline() and scalar(f"SELECT {needs_value}"):
                raise Refused(message)
            give_value = f"RAISE EXCEPTION '%', {literal(message)}"
        else:
            alter = f"ALTER TABLE {quoted(table_name)} ALTER COLUMN {quoted(column_name)}"
            give_value = f"{alter} SET DEFAULT {literal(fill)}"
        run_unless(f"NOT {needs_value}", give_value)
        set_column_aside(table_name, column_name)


def drop_on_sqlite(table_name: str, column_name: str, fill: str | int | None) -> None:
    """Set a column aside; SQLite can give it a default only by copying the table."""
    refuse_offline(table_name)
    required = pragma_value('"notnull"', table_name, column_name)
    if required and default_on_sqlite(table_name, column_name) is None:
        if fill is None:
            raise Refused(no_value(table_name, column_name))
        with rebuilt(table_name) as table:
            table.alter_column(column_name, server_default=sa.text(literal(fill)))
    if default_on_sqlite(table_name, column_name) and (
        index := scalar(UNIQUE_ON_SQLITE, table_name, column_name)
    ):
        raise Refused(shared_default(table_name, column_name, index))
    set_column_aside(table_name, column_name)


def no_value(table_name: str, column_name: str) -> str:
    """Return the message for a column that newer builds would have no value for."""
    return (
        f"{table_name}.{column_name} is NOT NULL and has no default: builds that don't know it "
        "any more could not insert. Write safely.drop_column(…, fill=…) with the value that "
        "older builds shall find in such rows"
    )


def refuse_shared_default(table_name: str, column_name: str, fill: str | int | None) -> None:
    """Raise Refused where newer rows would all get the same value in a unique column."""
    unique = UNIQUE_WITH_DEFAULT.format(
        oid=regclass(table_name), column=literal(column_name), filled=fill is not None
    )
    if index := scalar(unique):
        raise Refused(shared_default(table_name, column_name, index))


def shared_default(table_name: str, column_name: str, index: str) -> str:
    """Return the message for a unique column in which newer rows would have the same value."""
    return (
        f"{table_name}.{column_name} can't be set aside with {index}: newer rows would all have "
        f"the same default in a unique column. Drop {index} first"
    )


def rename_column(
    table_name: str, column_name: str, new_name: str, *, schema: str | None = None
) -> None:
    """Rename a column; one that a killed run has renamed is no error.

    Alembic spells it `op.alter_column(…, new_column_name=…)`.

    PostgreSQL: ACCESS EXCLUSIVE for an instant; only the catalogue changes. SQLite: the same.
    Older builds go on using the old name (PostgreSQL).
    The opposite is `safely.rename_column` with the names exchanged.
    Raise Refused where the fill-in expression of another column uses the name.

    Example: `safely.rename_column("customers", "name", "full_name")`
    """
    with in_schema(schema, table_name):
        rename = (
            f"ALTER TABLE {quoted(table_name)} "
            f"RENAME COLUMN {quoted(column_name)} TO {quoted(new_name)}"
        )
        refuse_used_by_fill(table_name, column_name)
        if not postgresql():
            run(rename)
            return
        old, new = (
            HAS_COLUMN.format(regclass(table_name), literal(name))
            for name in (column_name, new_name)
        )
        run_unless(f"{new} AND NOT {old}", rename)
