"""Columns, added, dropped and renamed; a drop sets aside, and adding again brings back."""

from collections.abc import Iterable
from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.schema import CreateColumn

from safely.operations.aside import (
    aside,
    bring_column_back,
    how_to_purge,
    is_aside,
    refuse_references,
    set_column_aside,
)
from safely.operations.connection import (
    HAS_COLUMN,
    Refused,
    ask,
    blind,
    canonical,
    column_there,
    literal,
    offline,
    postgresql,
    quoted,
    regclass,
    rewrites,
    run,
    type_name,
    type_of,
    undoing,
    unless,
)
from safely.operations.constraints import add_check, refuse_violations
from safely.operations.rebuild import rebuilt
from safely.operations.required import refuse_used

# a column that safely.require_column fills in needs no default
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


def add_column(table_name: str, column: sa.Column[Any]) -> None:
    """Add a column, or bring back the one that this revision has set aside, with its values.

    An instant's lock, no rewrite; CHECK constraints in steps of their own. A column that a
    killed run already added is left as it is.
    A new NOT NULL column needs a `server_default`, or older builds could not insert any more.
    """
    name = column.name
    refuse_other_rules(table_name, column)
    is_new = offline() or not (is_aside(table_name, name) or column_there(table_name, name))
    if is_new and not undoing():
        refuse_without_value(table_name, column)
    if not postgresql():
        add_on_sqlite(table_name, column)
        return
    checks = [c for c in column.constraints if isinstance(c, sa.CheckConstraint)]
    column.constraints.difference_update(checks)
    alter = f"ALTER TABLE {quoted(table_name)}"
    what = f"ADD COLUMN IF NOT EXISTS {definition(table_name, column)}"
    if not offline():
        if is_new:
            refuse_rewrite(table_name, name, what)
        elif is_aside(table_name, name):
            refuse_other_type(table_name, column)
        refuse_broken_checks(table_name, column, checks)
    given = f"{alter} ALTER COLUMN {quoted(name)} {default(column)}"
    computed = column.identity is not None or column.computed is not None
    bring_column_back(table_name, name, finally_="NULL" if computed else given)
    run(f"{alter} {what}")
    for check in checks:
        add_check(str(check.name), table_name, str(check.sqltext))


def refuse_broken_checks(
    table_name: str, column: sa.Column[Any], checks: Iterable[sa.CheckConstraint]
) -> None:
    """Raise Refused where the column, once it is there, would break its own rules.

    To be asked before it is: reading all rows must not keep its lock.
    """
    name = column.name
    if column_there(table_name, name) or column.identity is not None or column.computed is not None:
        return
    if is_aside(table_name, name):
        value = quoted(aside(name))
    else:
        value = f"CAST({default_text(column) or 'NULL'} AS {type_name(column.type)})"
    table = quoted(table_name)
    rows = f"(SELECT *, {value} AS {quoted(name)} FROM {table}) AS {table}"
    for check in checks:
        refuse_violations(str(check.name), table_name, str(check.sqltext), rows)


def add_on_sqlite(table_name: str, column: sa.Column[Any]) -> None:
    """Add a column or bring it back; there a default can only be changed by copying the table."""
    if offline() or not is_aside(table_name, column.name):
        run(f"ALTER TABLE {quoted(table_name)} ADD COLUMN {definition(table_name, column)}")
        return
    refuse_other_type(table_name, column)
    bring_column_back(table_name, column.name)
    if column.server_default is None and default_on_sqlite(table_name, column.name):
        with rebuilt(table_name) as table:
            table.alter_column(column.name, server_default=None)


def default(column: sa.Column[Any]) -> str:
    """What ALTER COLUMN says so that the column's default is the one of its definition."""
    text = default_text(column)
    return "DROP DEFAULT" if text is None else f"SET DEFAULT {text}"


def default_text(column: sa.Column[Any]) -> str | None:
    """The column's default as SQL; None where it has none."""
    dialect = op.get_context().dialect
    return dialect.ddl_compiler(dialect, None).get_column_default_string(column)  # type: ignore[arg-type]  # it compiles no statement


def default_on_sqlite(table_name: str, column_name: str) -> str | None:
    """The column's default as it stands in the database."""
    found = ask(
        "SELECT dflt_value FROM pragma_table_info(?) WHERE name = ?", table_name, column_name
    )
    return None if found is None else str(found)


def refuse_other_rules(table_name: str, column: sa.Column[Any]) -> None:
    """Raise Refused for rules that ADD COLUMN would leave out, and that take steps of their own."""
    if column.foreign_keys:
        spelling = "safely.create_foreign_key"
    elif column.unique or column.index:
        spelling = "safely.create_index"
    else:
        return
    raise Refused(
        f"{table_name}.{column.name} is added without what its definition says beside its type: "
        f"say that with {spelling}, after safely.add_column"
    )


def refuse_rewrite(table_name: str, column_name: str, what: str) -> None:
    """Raise Refused for a column whose value would be computed for every row there is."""
    if rewrites(table_name, what):
        raise Refused(
            f"{table_name}.{column_name} would be computed for every row while nobody can read "
            f"{table_name}: add it nullable and without a default, fill it in with "
            "safely.backfill, then give it its default with safely.change_default"
        )


def refuse_other_type(table_name: str, column: sa.Column[Any]) -> None:
    """Raise Refused if what is set aside under that name is something else."""
    there, wanted = type_of(table_name, aside(column.name)), canonical(column.type)
    if there != wanted:
        raise Refused(
            f"{table_name}.{column.name} was set aside by this revision as {there}, and is now "
            f"to be {wanted}: {how_to_purge()}"
        )


def refuse_without_value(table_name: str, column: sa.Column[Any]) -> None:
    """Raise Refused for a NOT NULL column that no old row and no older build has a value for."""
    if not column.nullable and column.server_default is None and column.computed is None:
        raise Refused(
            f"{table_name}.{column.name} is NOT NULL without a server_default: the rows that are "
            "there have no value for it, and older builds write none. Give it a server_default, "
            "or add it nullable and tighten it in the next revision with safely.require_column"
        )


def definition(table_name: str, column: sa.Column[Any]) -> str:
    """The column as CREATE TABLE would have it."""
    on_a_table = sa.Table(table_name, sa.MetaData(), column).c[column.name]
    return str(CreateColumn(on_a_table).compile(dialect=op.get_context().dialect))


def drop_column(
    table_name: str, column_name: str, *, fill: str | int | None = None, **_: Any
) -> None:
    """Set a column aside, with its values, its indexes and its constraints (an instant's lock).

    Older builds go on using it. Newer ones don't know it: where it is NOT NULL, what they leave
    out comes from its default, or from `fill`, which becomes its default.
    """
    if not offline() and not column_there(table_name, column_name):
        return  # a run that was killed did it
    refuse_references(table_name, column_name)
    refuse_used(table_name, column_name)
    if not postgresql():
        drop_on_sqlite(table_name, column_name, fill)
        return
    if not offline():
        refuse_shared_default(table_name, column_name, fill)
    needs = NEEDS_VALUE.format(oid=regclass(table_name), column=literal(column_name))
    sentence = no_value(table_name, column_name)
    if fill is None:
        if not offline() and ask(f"SELECT {needs}"):
            raise Refused(sentence)
        give = f"RAISE EXCEPTION '%', {literal(sentence)}"
    else:
        column = f"ALTER TABLE {quoted(table_name)} ALTER COLUMN {quoted(column_name)}"
        give = f"{column} SET DEFAULT {literal(fill)}"
    unless(f"NOT {needs}", give)
    set_column_aside(table_name, column_name)


def drop_on_sqlite(table_name: str, column_name: str, fill: str | int | None) -> None:
    """Set a column aside; there a default can only be given by copying the table."""
    if offline():
        raise Refused(blind(table_name))
    required = ask(
        'SELECT "notnull" FROM pragma_table_info(?) WHERE name = ?', table_name, column_name
    )
    if required and default_on_sqlite(table_name, column_name) is None:
        if fill is None:
            raise Refused(no_value(table_name, column_name))
        with rebuilt(table_name) as table:
            table.alter_column(column_name, server_default=sa.text(literal(fill)))
    if default_on_sqlite(table_name, column_name) and (
        index := ask(UNIQUE_ON_SQLITE, table_name, column_name)
    ):
        raise Refused(shared_default(table_name, column_name, index))
    set_column_aside(table_name, column_name)


def no_value(table_name: str, column_name: str) -> str:
    """The sentence for a column that newer builds would have no value for."""
    return (
        f"{table_name}.{column_name} is NOT NULL and has no default: builds that don't know it "
        "any more could not insert. Say safely.drop_column(…, fill=…) with the value that older "
        "builds shall find there"
    )


def refuse_shared_default(table_name: str, column_name: str, fill: str | int | None) -> None:
    """Raise Refused where newer rows would all get the same value in a unique column."""
    shared = UNIQUE_WITH_DEFAULT.format(
        oid=regclass(table_name), column=literal(column_name), filled=fill is not None
    )
    if index := ask(shared):
        raise Refused(shared_default(table_name, column_name, index))


def shared_default(table_name: str, column_name: str, index: str) -> str:
    """The sentence for a unique column that newer rows would all have the same value in."""
    return (
        f"{table_name}.{column_name} can't be set aside with {index}: newer rows would all have "
        "the same default in a unique column. Drop that first"
    )


def rename_column(table_name: str, column_name: str, new_name: str) -> None:
    """Rename a column, in the catalogue only (an instant's lock); native on both databases.

    One that a killed run already renamed is left as it is.
    """
    rename = (
        f"ALTER TABLE {quoted(table_name)} "
        f"RENAME COLUMN {quoted(column_name)} TO {quoted(new_name)}"
    )
    refuse_used(table_name, column_name)
    if not postgresql():
        run(rename)
        return
    renamed = HAS_COLUMN.format(regclass(table_name), literal(new_name))
    there = HAS_COLUMN.format(regclass(table_name), literal(column_name))
    unless(f"{renamed} AND NOT {there}", rename)
