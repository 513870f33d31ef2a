"""Columns: added, dropped and renamed. A drop sets aside, and adding again brings back."""

import re
from collections.abc import Iterable
from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import DOMAIN
from sqlalchemy.schema import CreateColumn, DefaultClause

from safely.operations.aside import (
    bring_column_back,
    hidden_name,
    how_to_purge,
    is_set_aside,
    refuse_references,
    set_column_aside,
)
from safely.operations.comments import set_comment
from safely.operations.connection import (
    HAS_COLUMN,
    Refused,
    column_type,
    expression_sql,
    has_column,
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
    rows,
    run,
    run_unless,
    scalar,
    type_sql,
    undoing,
)
from safely.operations.constraints import add_check, refuse_violations, set_comment_of
from safely.operations.drafts import refuse_other_column
from safely.operations.enums import create_missing_enums, hide_labels
from safely.operations.halves import is_column_left_out, is_left_out
from safely.operations.mentions import refuse_mentioned_column, refuse_rules
from safely.operations.options import (
    refuse_ignored_in_column,
    refuse_ignored_in_constraint,
    refuse_off,
    refuse_sequence,
    refuse_unknown,
)
from safely.operations.rebuild import (
    attachments,
    definition_of_table,
    rebuilt,
    refused_by_sqlite,
)
from safely.operations.required import refuse_used_by_fill
from safely.operations.retype_sqlite import NUMBERS, kind_of
from safely.operations.table_sql import Part, differences, mentions, rule_of, same

# for a script: whether ADD COLUMN would write every row, tried on an empty twin
REFUSE_REWRITE = """\
DO $rewrite$
DECLARE
  file oid;
BEGIN
  IF NOT ({has_column} OR {has_hidden}) THEN
    CREATE TEMPORARY TABLE safely_twin (LIKE {table} INCLUDING ALL);
    file := pg_relation_filenode('safely_twin'::regclass);
    ALTER TABLE safely_twin {add};
    IF file <> pg_relation_filenode('safely_twin'::regclass) THEN
      RAISE EXCEPTION '%', {message};
    END IF;
    DROP TABLE safely_twin;
  END IF;
END $rewrite$"""

# a column that the trigger of safely.require_column fills in needs no default
NEEDS_VALUE = """\
EXISTS (SELECT FROM pg_attribute
        WHERE attrelid = {oid} AND attname = {column}
          AND (attnotnull OR (SELECT typnotnull FROM pg_type WHERE pg_type.oid = atttypid))
          AND NOT atthasdef AND attidentity = ''
          AND NOT EXISTS (SELECT FROM pg_trigger
                          WHERE tgrelid = {oid} AND tgattr[0] = attnum
                            AND tgfoid = to_regproc('fill_missing')))"""

UNIQUE_ON_SQLITE = """\
SELECT list.name FROM pragma_index_list(?) AS list, pragma_index_info(list.name) AS info
WHERE list."unique" AND info.name = ?"""

UNIQUE_WITH_DEFAULT = """\
SELECT indexrelid::regclass::text FROM pg_index JOIN pg_attribute ON attrelid = indrelid
WHERE indrelid = {oid} AND attname = {column} AND (indisunique OR indisexclusion)
  AND (atthasdef OR {filled} AND attnotnull OR indnullsnotdistinct)
  AND attidentity = '' AND attgenerated = ''
  AND (attnum = ANY (indkey::smallint[])
       OR EXISTS (SELECT FROM pg_depend
                  WHERE classid = 'pg_class'::regclass AND objid = indexrelid
                    AND refobjid = indrelid AND refobjsubid = attnum))
LIMIT 1"""


def add_column(  # noqa: PLR0913  # Alembic's signature
    table_name: str,
    column: sa.Column[Any],
    *,
    schema: str | None = None,
    if_not_exists: bool | None = None,
    inline_references: bool | None = None,
    inline_primary_key: bool | None = None,
) -> None:
    """Add a column, or bring back the one that this revision has set aside, with its values.

    `if_not_exists` is always on. `inline_references` and `inline_primary_key` are refused, as are
    the foreign key and the primary key that they are about.

    PostgreSQL: ACCESS EXCLUSIVE for an instant, and no rewrite. A CHECK in the column's definition
    takes a second instant; the rows are checked for it in a later transaction, which blocks
    nobody. A column that a killed run has added is no error.
    Older builds neither see nor write it, so a new NOT NULL column needs a `server_default`.
    The opposite is `safely.drop_column`.
    SQLite: a comment is left out, since it has none.
    Raise Refused for NOT NULL without a default; for a default that would rewrite the table; for a
    foreign key, UNIQUE or an index in the definition, which have operations of their own; for an
    option that can't be obeyed; where rows would break a CHECK; and where another column was set
    aside under the name.

    Example: `safely.add_column("customers", sa.Column("phone", sa.Text(), nullable=True))`
    """
    refuse_off("add_column", if_not_exists=if_not_exists)
    if is_left_out(schema, table_name):
        return
    name = column.name
    refuse_sequence(table_name, column)
    refuse_other_rules(table_name, column)
    if inline_references or inline_primary_key:
        option = "inline_references" if inline_references else "inline_primary_key"
        refuse_unknown("add_column", {option: True})
    is_new = offline() or not (is_set_aside(table_name, name) or has_column(table_name, name))
    if is_new and not undoing():
        refuse_without_value(table_name, column)
        refuse_stored(table_name, column)
    if not postgresql():
        add_on_sqlite(table_name, column)
        return
    add_on_postgresql(table_name, column, is_new=is_new)


def add_on_postgresql(table_name: str, column: sa.Column[Any], *, is_new: bool) -> None:
    """Add a column or bring it back; `is_new` tells that neither it nor a hidden one is there."""
    name = column.name
    has_enum = create_missing_enums([column])
    checks = [c for c in column.constraints if isinstance(c, sa.CheckConstraint)]
    column.constraints.difference_update(checks)
    alter = f"ALTER TABLE {quoted(table_name)}"
    definition = column_definition(table_name, column)
    add = f"ADD COLUMN IF NOT EXISTS {definition}"
    if is_new and (may_rewrite(column) or not offline()):
        refuse_rewrite(table_name, column, add)
    if not offline():
        if is_set_aside(table_name, name):
            refuse_other_type(table_name, column)
            refuse_other_column(table_name, column, definition)
        refuse_broken_checks(table_name, column, checks)
    computed = column.identity is not None or column.computed is not None
    set_default = f"{alter} ALTER COLUMN {quoted(name)} {default_clause(column)}"
    if column.server_default is None:  # a serial has one that its definition doesn't tell
        sequence = f"pg_get_serial_sequence({literal(quoted(table_name))}, {literal(name)})"
        set_default = f"IF {sequence} IS NULL THEN {set_default}; END IF"
    bring_column_back(table_name, name, afterwards="NULL" if computed else set_default)
    run(f"{alter} {add}")
    if column.comment is not None:
        target = f"COLUMN {quoted(table_name)}.{quoted(name)}"
        set_comment(target, f"{table_name}.{name}", column.comment)
    if has_enum:
        hide_labels(table_name)
    for check in checks:
        check_ = check_name(check, table_name)
        is_validated = not check.dialect_options["postgresql"]["not_valid"]
        rule = expression_sql(check.sqltext)
        add_check(check_, table_name, rule, is_validated=is_validated)
        set_comment_of(check_, table_name, check.comment)


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
        value = default_sql(column) or "NULL"
        if postgresql() or kind_of(column.type) in NUMBERS:
            value = (
                f"CAST({value} AS {type_sql(column.type)})"  # a default may be a number in quotes
            )
    source = (
        f"(SELECT *, {value} AS {quoted(name)} FROM {qualified(table_name)}) "
        f"AS {quoted(table_name)}"
    )
    for check in checks:
        if check.dialect_options["postgresql"]["not_valid"]:
            continue
        rule = expression_sql(check.sqltext)
        refuse_violations(check_name(check, table_name), table_name, rule, source)


def add_on_sqlite(table_name: str, column: sa.Column[Any]) -> None:
    """Add a column or bring it back; SQLite can change its default only by copying the table."""
    if not offline():
        checks = [c for c in column.constraints if isinstance(c, sa.CheckConstraint)]
        refuse_broken_checks(table_name, column, checks)
    definition = definition_on_sqlite(table_name, column)
    if offline() or not is_set_aside(table_name, column.name):
        add_new_on_sqlite(table_name, column, definition)
        return
    refuse_other_definition(table_name, column.name, definition)
    bring_column_back(table_name, column.name)
    default = rule_of(Part(definition), "DEFAULT")
    if default != rule_of(definition_of_table(table_name).column(column.name), "DEFAULT"):
        with rebuilt(table_name) as table:
            table.set_default(column.name, default)


def add_new_on_sqlite(table_name: str, column: sa.Column[Any], definition: str) -> None:
    """Add a column; SQLite computes values of rows that are there only by copying the table."""
    part = Part(definition)
    default = (rule_of(part, "DEFAULT") or "")[len("DEFAULT ") :]
    if re.search(r"\brandom", default, re.IGNORECASE):
        raise Refused(computed_for_every_row(table_name, column))
    generated = rule_of(part, "GENERATED") or ""
    if (
        default.upper().startswith(("(", "CURRENT_"))
        or generated.upper().endswith("STORED")
        or (generated and rule_of(part, "NOT"))
    ):
        with rebuilt(table_name) as table:
            table.add_column(definition)
    else:
        with refused_by_sqlite(table_name):
            run(f"ALTER TABLE {quoted(table_name)} ADD COLUMN {definition}")


def definition_on_sqlite(table_name: str, column: sa.Column[Any]) -> str:
    """Return a column's definition as SQL, with the CHECK of a type's create_constraint."""
    definition = column_definition(table_name, column)
    dialect = op.get_context().dialect
    compiler = dialect.ddl_compiler(dialect, None)  # type: ignore[arg-type]  # it compiles no statement
    checks = [
        compiler.process(constraint)
        for constraint in column.table.constraints
        if isinstance(constraint, sa.CheckConstraint) and constraint not in column.constraints
    ]
    return " ".join([definition, *checks])


def refuse_other_definition(table_name: str, column_name: str, definition: str) -> None:
    """Raise Refused if the column that is set aside under the name was defined otherwise (SQLite).

    Its default is not compared: it gets the one of its definition.
    """
    hidden = hidden_name(column_name)
    parts = definition_of_table(table_name).parts
    aside = [part for part in parts if same(part.column, hidden)]
    # a copy by an earlier release has made the rules of a column those of the table
    aside += [part for part in parts if part.column is None and mentions(str(part), hidden)]
    existing = [
        fact.replace(hidden.lower(), column_name.lower())
        for part in aside
        for fact in part.facts(but="DEFAULT")
    ]
    wanted = list(Part(definition).facts(but="DEFAULT"))
    # the rules that it had before are right, also those that the downgrade leaves out
    if undoing():
        existing, wanted = existing[:1], wanted[:1]
    if differences(existing, wanted):
        raise Refused(
            f"{table_name}.{column_name} was set aside by this revision as {in_words(existing)}, "
            f"and is now to be {in_words(wanted)}: {how_to_purge()}"
        )


def in_words(facts: list[str]) -> str:
    """Return a column's type and rules without its name."""
    return ", ".join(fact.split(" ", 1)[-1] for fact in facts)


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


def refuse_other_rules(table_name: str, column: sa.Column[Any], *, is_alone: bool = True) -> None:
    """Raise Refused for what the definition says, and ADD COLUMN would leave out.

    `is_alone`: no other operation of the revision creates its foreign keys and its indexes.
    """
    place = f"{table_name}.{column.name}"
    if column.system:
        raise Refused(f"{place} is a column of the system: every table has it, so leave this out")
    if column.primary_key:
        raise Refused(
            f"{place} would be added without being the primary key: add it as a plain column, and "
            "move over to it in steps"
        )
    if is_alone and (column.foreign_keys or column.unique or column.index):
        key = "safely.create_foreign_key" if column.foreign_keys else "safely.create_index"
        raise Refused(
            f"{place} would be added without a rule of its definition: take the rule out of "
            f"sa.Column, and create it with {key}, after safely.add_column"
        )
    refuse_ignored_in_column(table_name, column)
    for constraint in column.constraints:
        name = constraint.name if isinstance(constraint.name, str) else None
        refuse_ignored_in_constraint(name, table_name, constraint)


def may_rewrite(column: sa.Column[Any]) -> bool:
    """Return whether adding a column may write every row: most scripts need not try that."""
    default = column.server_default
    is_constant = default is None or (
        isinstance(default, DefaultClause) and isinstance(default.arg, str)
    )
    return not is_constant or isinstance(column.type, DOMAIN)


def refuse_rewrite(table_name: str, column: sa.Column[Any], add: str) -> None:
    """Raise Refused for a column whose value would be computed for every row (PostgreSQL).

    `add` is the clause of ALTER TABLE. A script finds out itself.
    """
    message = computed_for_every_row(table_name, column)
    if offline():
        oid = regclass(table_name)
        run(
            REFUSE_REWRITE.format(
                has_column=HAS_COLUMN.format(oid, literal(column.name)),
                has_hidden=HAS_COLUMN.format(oid, literal(hidden_name(column.name))),
                table=quoted(table_name),
                add=add,
                message=literal(message),
            )
        )
    elif rewrites(table_name, add):
        raise Refused(message)


def refuse_stored(table_name: str, column: sa.Column[Any]) -> None:
    """Raise Refused for a new generated column that is stored (PostgreSQL).

    On SQLite nobody can write meanwhile anyway.
    """
    if not postgresql() or column.computed is None:
        return
    # before version 18 PostgreSQL has no others
    has_others = getattr(op.get_context().dialect, "supports_virtual_generated_columns", True)
    if column.computed.persisted or not has_others:
        raise Refused(computed_for_every_row(table_name, column))


def computed_for_every_row(table_name: str, column: sa.Column[Any]) -> str:
    """Return the message for a column whose value would be computed for every row."""
    remedy = (
        "add it nullable and without a default, fill it in with safely.backfill, then give it its "
        "default with safely.change_default"
    )
    if column.computed is not None:
        remedy = (
            "write Computed(…, persisted=False), which computes it when it is read (PostgreSQL 18 "
            "or later); or add a plain column, fill it in with safely.backfill, and let a trigger "
            "or the application write it"
        )
    elif column.identity is not None:
        remedy = (
            "add it nullable and without Identity(), fill it in with safely.backfill, then give it "
            "a sequence of its own as its default, with safely.change_default"
        )
    return (
        f"{table_name}.{column.name} would be computed for every row while nobody can read "
        f"{table_name}: {remedy}"
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
    # FetchedValue only says that a trigger writes the column
    has_value = isinstance(column.server_default, DefaultClause) or column.identity is not None
    if not column.nullable and not has_value and column.computed is None:
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
    if_exists: bool | None = None,
    **options: Any,
) -> None:
    """Set a column aside, with its values, its indexes and its constraints.

    `if_exists` is always on.

    PostgreSQL: ACCESS EXCLUSIVE for an instant; the column is renamed. SQLite: it is renamed too,
    and the table is copied if the column needs a default. One that a killed run has set aside is
    no error.
    Older builds go on reading and writing it. Newer builds don't know it: where it is NOT NULL,
    the rows that they write get its default, or `fill`, which becomes its default.
    The opposite is `safely.add_column` in the same revision, which brings it back.
    `python -m safely purge` drops it for good.
    Raise Refused for NOT NULL without a default or `fill`; for a column with foreign keys; for a
    unique column with a default, which newer rows would repeat; for a policy or a CHECK that newer
    rows could not obey; where a trigger's function names the column; and where the revision has set
    one of that name aside already.

    Example: `safely.drop_column("customers", "nickname")`
    """
    refuse_off("drop_column", if_exists=if_exists)
    refuse_unknown("drop_column", options)
    if is_left_out(schema, table_name):
        return
    hidden = hidden_name(column_name)  # refuses a long name before anything is changed
    if not (offline() or has_column(table_name, column_name)) and (
        # a run that was killed has set it aside
        has_column(table_name, hidden) or is_column_left_out(table_name, column_name)
    ):
        return
    refuse_references(table_name, column_name)
    refuse_used_by_fill(table_name, column_name)
    if not postgresql():
        drop_on_sqlite(table_name, column_name, fill)
        return
    refuse_mentioned_column(table_name, column_name, what="set aside")
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
    refuse_rules(table_name, column_name)
    set_column_aside(table_name, column_name)


def drop_on_sqlite(table_name: str, column_name: str, fill: str | int | None) -> None:
    """Set a column aside; SQLite can give it a default only by copying the table."""
    refuse_offline(table_name)
    is_key = pragma_value("pk", table_name, column_name)
    required = is_key or pragma_value('"notnull" AND NOT hidden', table_name, column_name)
    if required and default_on_sqlite(table_name, column_name) is None:
        if fill is None:
            raise Refused(no_value(table_name, column_name))
        if is_key:
            raise Refused(shared_default(table_name, column_name, "the primary key"))
        with rebuilt(table_name) as table:
            table.set_default(column_name, f"DEFAULT {literal(fill)}")
    if default_on_sqlite(table_name, column_name):
        indexes = [index for (index,) in rows(UNIQUE_ON_SQLITE, table_name, column_name)]
        indexes += [  # of expressions
            entry.name
            for entry in attachments(table_name)
            if entry.sql.startswith("CREATE UNIQUE") and mentions(entry.sql, column_name)
        ]
        if indexes:
            raise Refused(shared_default(table_name, column_name, indexes[0]))
    set_column_aside(table_name, column_name)


def refuse_no_value(table_name: str, column: sa.Column[Any], schema: str | None) -> None:
    """Raise Refused where newer builds would have no value for a column that autogenerate drops.

    The trigger of `safely.require_column` gives it one (PostgreSQL).
    """
    if column.nullable or column.server_default is not None or column.primary_key:
        return
    if postgresql():
        place = "current_schema" if schema is None else literal(schema)
        oid = f"to_regclass(format('%I.%I', {place}, {literal(table_name)}))"
        if not scalar(f"SELECT {NEEDS_VALUE.format(oid=oid, column=literal(column.name))}"):
            return
    raise Refused(no_value(table_name, column.name))


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
        f"the same value in a unique column. Drop {index} first"
    )


def rename_column(
    table_name: str, column_name: str, new_name: str, *, schema: str | None = None
) -> None:
    """Rename a column; one that a killed run has renamed is no error.

    Alembic spells it `op.alter_column(…, new_column_name=…)`.

    PostgreSQL: ACCESS EXCLUSIVE for an instant; only the catalogue changes. SQLite: the same.
    Older builds go on using the old name (PostgreSQL).
    The opposite is `safely.rename_column` with the names exchanged.
    Raise Refused where the fill-in expression of another column, or a trigger's function, uses the
    name.

    Example: `safely.rename_column("customers", "name", "full_name")`
    """
    if is_left_out(schema, table_name):
        return
    if not (offline() or has_column(table_name, column_name)) and (
        # a run that was killed has renamed it
        has_column(table_name, new_name) or is_column_left_out(table_name, column_name)
    ):
        return
    rename = (
        f"ALTER TABLE {quoted(table_name)} "
        f"RENAME COLUMN {quoted(column_name)} TO {quoted(new_name)}"
    )
    refuse_used_by_fill(table_name, column_name)
    if not postgresql():
        run(rename)
        return
    refuse_mentioned_column(table_name, column_name, what="renamed")
    old, new = (
        HAS_COLUMN.format(regclass(table_name), literal(name)) for name in (column_name, new_name)
    )
    run_unless(f"{new} AND NOT {old}", rename)
