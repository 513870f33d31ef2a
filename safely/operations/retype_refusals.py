"""Refusals of another type of a column, before anything is changed (PostgreSQL)."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from alembic import op
from sqlalchemy.exc import DBAPIError

from safely.operations.aside import hidden_name, how_to_purge
from safely.operations.connection import (
    Refused,
    catalogue_value,
    column_type,
    empty_twin,
    has_column,
    literal,
    offline,
    qualified,
    quoted,
    refuse_rows,
    rewrites,
    rows,
    run,
    scalar,
    undoing,
)
from safely.operations.keys import refuse_without_key
from safely.operations.required import refuse_other_trigger
from safely.operations.retype_sql import CHECK_VALUES, INDEXED, PROBLEM, RECORDED, REFUSE, SHAPE

STEPS = "Add a column of the new type, and move over to it in steps"
WRITE_USING = "Write using=…, SQL over this column alone that converts it"
WRITE_BACK, FOR_BUILDS = "Write back=…, SQL that makes ", " of it for older builds"
IN_QUOTES = re.compile(r'"[^"]*"')
BAD_VALUES = (
    "22",
    "23",
)  # classes of SQLSTATE: a value that a type can't hold, or that a rule forbids
CHECKS = """\
SELECT conname, pg_get_expr(conbin, conrelid) FROM pg_constraint
JOIN pg_attribute ON attrelid = conrelid AND attnum = ANY (conkey)
WHERE contype = 'c' AND conrelid = {}::regclass AND attname = {}"""


class Change(NamedTuple):
    """A change of a column's type."""

    table_name: str
    column_name: str
    type: str
    """The new type, as SQL."""
    using: str | None
    back: str | None
    placeholders: dict[str, str]
    """The values for the placeholders in retype_sql.py."""

    @property
    def problem(self) -> str:
        """The beginning of a refusal."""
        return f"{self.table_name}.{self.column_name} can't become {self.type}"

    @property
    def forward(self) -> str:
        """The new value as SQL, over the columns of the table as they are called now."""
        return f"({self.placeholders['forward']})::{self.type}"

    @property
    def unfilled(self) -> str:
        """The condition for rows whose hidden column lacks its value."""
        hidden, forward = self.placeholders["hidden"], self.placeholders["forward"]
        return f"{hidden} IS NULL AND ({forward}) IS NOT NULL"


def refuse_offline_script(change: Change) -> None:
    """Print the statement that refuses what a script can find out before it changes anything."""
    column = change.placeholders
    alone = f"(SELECT {column['shown']} FROM {column['table']} LIMIT 0) AS alone"
    run(
        REFUSE.format(
            **column,
            problem=PROBLEM.format(**column),
            cannot=literal(change.problem),
            remedy=literal(STEPS),
            has_indexes=literal(
                f"{change.table_name}.{change.column_name} has indexes, and a script was printed "
                "without knowing them: run `alembic upgrade`"
            ),
            is_cast=sql_bool(change.using is None),
            depends_on_zone=literal(depends_on_zone(change, "the new type", "using")),
            names_collation=sql_bool("COLLATE" in change.type),
            loses_collation=literal(loses_collation(change, "…")),
            forward_query=literal(f"SELECT {change.forward} FROM {alone}"),
            converted=literal(f"(SELECT NULL::{change.type} AS {column['shown']}) AS converted"),
            write_using=literal(WRITE_USING),
            write_back=literal(WRITE_BACK),
            for_builds=literal(FOR_BUILDS),
        )
    )


def sql_bool(value: bool) -> str:  # noqa: FBT001  # it has no other argument
    """Return a truth value as SQL."""
    return "true" if value else "false"


def has_type(change: Change) -> bool:
    """Return whether the column has the new type; raise Refused for a type that is missing."""
    return bool(
        catalogue_value(SHAPE, change.table_name, change.column_name) == wanted_shape(change)
    )


def refuse_before(change: Change) -> None:
    """Raise Refused for all that can be foreseen.

    Nothing is changed yet, or what an earlier run has begun is there.
    """
    checks = refuse_whatever_rows(change)
    refuse_values(change)
    refuse_broken_rules(change, checks)


def refuse_whatever_rows(change: Change) -> list[tuple[str, str]]:
    """Raise Refused for all that can be foreseen without reading the rows.

    Return the CHECKs of the column as PostgreSQL spells them for the new type.
    """
    table_name, column_name = change.table_name, change.column_name
    wanted = wanted_shape(change)
    refuse_other_trigger(table_name, column_name)
    refuse_without_key(table_name)
    refuse_problem(change)
    refuse_long_names(change)
    refuse_other_draft(change, wanted)
    refuse_unspelled(change, wanted)
    checks = refuse_impossible(change)
    refuse_default(change)
    if not has_column(table_name, hidden_name(column_name)):
        add = f"ADD COLUMN {change.placeholders['hidden']} {change.type}"
        if rewrites(table_name, add):
            raise Refused(
                f"{change.problem}: a column of that domain would be computed for every row "
                f"while nobody can read {table_name}. Use the type under the domain, and add its "
                "rule with safely.create_check_constraint"
            )
    return checks


def refuse_problem(change: Change) -> None:
    """Raise Refused for a column that can't get another type, whatever type and whatever rows."""
    if problem := scalar(PROBLEM.format(**change.placeholders)):
        raise Refused(f"{change.problem}: {problem}. {STEPS}")


def refuse_unspelled(change: Change, wanted: str) -> None:
    """Raise Refused where the call lacks what only its author knows, such as `using`."""
    old = str(catalogue_value(SHAPE, change.table_name, change.column_name))
    refuse_collation(change, old)
    refuse_zone(change, old, wanted)
    refuse_no_cast(change)


def wanted_shape(change: Change) -> str:
    """Return the new type as PostgreSQL spells it; raise Refused for one that is missing."""
    try:
        run(f"CREATE TEMPORARY TABLE safely_wanted (shown {change.type})")
    except DBAPIError as error:
        raise Refused(f"{change.problem}: {message_of(error)}. Create the type first") from error
    shape = catalogue_value(SHAPE, "safely_wanted", "shown")
    run("DROP TABLE safely_wanted")
    return str(shape)


def refuse_long_names(change: Change) -> None:
    """Raise Refused for rules and indexes whose hidden name is too long, or is taken.

    It is taken where another column of the rule was retyped by this revision.
    """
    table = literal(quoted(change.table_name))
    checks = rows(CHECKS.format(table, literal(change.column_name)))
    names = [name for name, _ in checks]
    names += [name for _, name, *_ in rows(change.placeholders["indexed"])]
    hidden = hidden_name(change.column_name)
    ours = {name for name, _ in rows(CHECKS.format(table, literal(hidden)))}
    on_hidden = INDEXED.format(oid=change.placeholders["oid"], shown_text=literal(hidden))
    ours |= {name for _, name, *_ in rows(on_hidden)}
    for name in names:
        taken = literal(hidden_name(name))
        query = (
            f"SELECT EXISTS (SELECT FROM pg_constraint WHERE conname = {taken} "
            f"AND conrelid = {change.placeholders['oid']}) "
            f"OR to_regclass(quote_ident({taken})) IS NOT NULL"
        )
        if hidden_name(name) not in ours and scalar(query):
            raise Refused(
                f"{change.problem}: this revision has retyped another column of {name}. Give "
                "this one a revision of its own"
            )


def refuse_other_draft(change: Change, wanted: str) -> None:
    """Raise Refused where this revision has begun, or was undone, with another type or `using`."""
    table_name, column_name = change.table_name, change.column_name
    hidden = hidden_name(column_name)
    if not has_column(table_name, hidden):
        return
    begun = catalogue_value(SHAPE, table_name, hidden)
    if begun != wanted:
        raise Refused(
            f"{table_name}.{column_name} was to become {begun} when this revision began, and is "
            f"now to become {wanted}: {how_to_purge()}"
        )
    source = change.placeholders["shown_text"]
    recorded = scalar(RECORDED.format(oid=change.placeholders["oid"], source=source))
    if not undoing() and recorded not in (None, change.placeholders["forward"]):
        raise Refused(
            f"{table_name}.{column_name} was to become {begun} by {recorded} when this revision "
            f"began, and is now to become it by {change.placeholders['forward']}: {how_to_purge()}"
        )


def refuse_collation(change: Change, old: str) -> None:
    """Raise Refused where the column would lose its collation unsaid."""
    _, _, collation = old.partition(" COLLATE ")
    if collation and "COLLATE" not in change.type and type_value(change, "typcollation <> 0"):
        raise Refused(loses_collation(change, collation))


def type_value(change: Change, expression: str) -> object:
    """Return an expression over the new type's row in pg_type."""
    name, _, _ = change.type.partition(" COLLATE ")
    return scalar(f"SELECT {expression} FROM pg_type WHERE oid = to_regtype({literal(name)})")


def loses_collation(change: Change, collation: str) -> str:
    """Return the message for a type that names no collation, in the place of one with another."""
    return (
        f"{change.problem}: it would lose its collation, {collation}. Name it in the type "
        "(collation=…), or give up the order with collation='default'"
    )


def refuse_zone(change: Change, old: str, wanted: str) -> None:
    """Raise Refused for a cast whose result depends on the TimeZone of the client that writes."""
    zoned = "with time zone"
    if re.sub(r"\(\d+\)", "", old) == re.sub(r"\(\d+\)", "", wanted):
        return
    if zoned in old or zoned in wanted:
        if change.using is None:
            raise Refused(depends_on_zone(change, wanted, "using"))
        known = scalar(
            RECORDED.format(
                oid=change.placeholders["oid"], source=change.placeholders["hidden_text"]
            )
        )
        if change.back is None and not (undoing() and known):
            raise Refused(depends_on_zone(change, old, "back"))


def depends_on_zone(change: Change, type_: str, parameter: str) -> str:
    """Return the message for a cast that depends on the TimeZone of the client."""
    return (
        f"{change.table_name}.{change.column_name} would become {type_} by the TimeZone of "
        f"whichever client writes a row. Name the zone, for a timestamp with "
        f"{parameter}=\"{change.placeholders['shown']} AT TIME ZONE 'UTC'\""
    )


def refuse_no_cast(change: Change) -> None:
    """Raise Refused where there is no way from the old type to the new one, or back."""
    column = change.placeholders
    shown, old = column["shown"], column_type(change.table_name, change.column_name)
    alter = f"ALTER COLUMN {shown} TYPE {change.type} USING {change.forward}"
    with refusing(change, WRITE_USING):
        # a table of this column alone: the trigger is not called for changes of another one
        run(f"CREATE TEMPORARY TABLE safely_alone AS SELECT {shown} FROM {column['table']} LIMIT 0")
        run(f"ALTER TABLE safely_alone {alter}")
    backward = change.back or recorded_back(change) or shown
    with refusing(change, f"{WRITE_BACK}{old}{FOR_BUILDS}"):
        run(f"SELECT ({backward})::{old} FROM safely_alone")
    run("DROP TABLE safely_alone")


def refuse_impossible(change: Change) -> list[tuple[str, str]]:
    """Raise Refused where a rule or an index forbids the type, whatever the rows.

    Return the CHECKs of the column as PostgreSQL spells them for the new type.
    """
    shown = change.placeholders["shown"]
    alter = f"ALTER COLUMN {shown} TYPE {change.type} USING {change.forward}"
    with (
        refusing(change, "Drop the rule or the index that forbids it first"),
        empty_twin(change.table_name) as twin,
    ):
        run(f"ALTER TABLE {twin} ALTER COLUMN {shown} DROP DEFAULT")
        run(f"ALTER TABLE {twin} {alter}")
        checks = rows(CHECKS.format(literal(twin), literal(change.column_name)))
    return [(str(name), str(condition)) for name, condition in checks]


def recorded_back(change: Change) -> str | None:
    """Return the expression that the trigger has for the opposite direction, in a downgrade."""
    if not undoing():
        return None
    column = change.placeholders
    return scalar(RECORDED.format(oid=column["oid"], source=column["hidden_text"]))  # type: ignore[no-any-return]  # text


@contextmanager
def refusing(change: Change, remedy: str) -> Iterator[None]:
    """Raise Refused for what the server refuses inside, in its words."""
    try:
        yield
    except DBAPIError as error:
        raise Refused(
            f"{change.problem}: {message_of(error)}. {remedy}. {STEPS} otherwise"
        ) from error


def message_of(error: BaseException) -> str:
    """Return the message of the server, from which the error was raised."""
    return message_of(error.__cause__) if error.__cause__ else str(error).partition("\n")[0]


def is_bad_value(error: DBAPIError) -> bool:
    """Return whether a statement has met a value that can't be converted."""
    return str(getattr(error.orig, "sqlstate", ""))[:2] in BAD_VALUES


def bad_value(query: str) -> DBAPIError | None:
    """Run a query; return the error of a value that can't be converted, or None."""
    try:
        with op.get_bind().begin_nested():
            rows(query)
    except DBAPIError as error:
        if is_bad_value(error):
            return error
        raise
    return None


@contextmanager
def refusing_bad_values(change: Change) -> Iterator[None]:
    """Raise Refused for a value that was written after a first look had found none."""
    try:
        yield
    except DBAPIError as error:
        if not is_bad_value(error):
            raise
        raise Refused(
            f"{change.problem}: a value that was written meanwhile can't be converted. Correct "
            "it, and run this again"
        ) from error


def refuse_default(change: Change) -> None:
    """Raise Refused where the default can't be one of the new type, or would be another value."""
    column = change.placeholders
    default = scalar(
        "SELECT pg_get_expr(adbin, adrelid) FROM pg_attrdef JOIN pg_attribute "
        "ON attrelid = adrelid AND attnum = adnum "
        f"WHERE adrelid = {column['oid']} AND attname = {column['shown_text']}"
    )
    if default is None:
        return
    converted = f"CAST({default} AS {change.type})"
    message = (
        f"{change.problem}: its default is {default}. Drop that before, with "
        "safely.change_default(…, None), and give it its new one after"
    )
    try:
        if bad_value(f"SELECT {converted}"):
            raise Refused(message)
        if change.using is None:
            return
        by_using = f"(SELECT {change.forward} FROM (SELECT {default} AS {column['shown']}) AS d)"
        if scalar(f"SELECT ({converted})::text IS DISTINCT FROM {by_using}::text"):
            raise Refused(message)
    except DBAPIError as error:
        raise Refused(message) from error


def refuse_values(change: Change) -> None:
    """Raise Refused where rows hold a value that the new type can't hold, or would change."""
    column, table = change.placeholders, qualified(change.table_name)
    needed = ""
    if has_column(change.table_name, hidden_name(change.column_name)):
        needed = f" AND {column['hidden']} IS NULL"
    # an aggregate of the text: count() alone would convert nothing
    if error := bad_value(
        f"SELECT max(length(({change.forward})::text)) FROM {table} WHERE true{needed}"
    ):
        if change.using is None and has_pg_input_is_valid():
            text = f"{column['shown']}::text, {literal(change.type)}"
            refuse_rows(
                f"SELECT * FROM {table} WHERE NOT pg_input_is_valid({text}){needed}",
                change.problem,
                "hold something else",
            )
        raise Refused(
            f"{change.problem}: {IN_QUOTES.sub('…', message_of(error))}. Correct such values, "
            "and run this again"
        ) from error
    if change.using is None and keeps_values(change):
        old = column_type(change.table_name, change.column_name)
        changed = f"({change.forward})::{old} IS DISTINCT FROM {column['shown']}{needed}"
        refuse_rows(
            f"SELECT * FROM {table} WHERE {changed}", change.problem, "would hold another value"
        )


def has_pg_input_is_valid() -> bool:
    """Return whether the server can tell which texts a type takes: since PostgreSQL 16."""
    return (op.get_context().dialect.server_version_info or ()) >= (16,)


def keeps_values(change: Change) -> bool:
    """Return whether values must stay the same: not from text to something that reads the same.

    007 and 7 are the same number; the text is kept in the column that is set aside. Nor is the
    same value asked of a type that has no equality, such as json.
    """
    category = "(SELECT typcategory::text FROM pg_type WHERE pg_type.oid = atttypid)"
    old = catalogue_value(category, change.table_name, change.column_name)
    if old == "S" and type_value(change, "typcategory::text") != "S":
        return False
    try:
        with op.get_bind().begin_nested():
            column = change.placeholders
            rows(f"SELECT DISTINCT {column['shown']} FROM {column['table']} LIMIT 0")
    except DBAPIError:
        return False
    return True


def refuse_broken_rules(change: Change, checks: list[tuple[str, str]]) -> None:
    """Raise Refused where the converted values would break a CHECK or a unique index."""
    column = change.placeholders
    uniques = rows(
        "SELECT name, (SELECT string_agg(quote_ident(attname), ', ' ORDER BY place) "
        "FROM unnest(indkey::smallint[]) WITH ORDINALITY AS part (number, place) "
        "JOIN pg_attribute ON attrelid = indrelid AND attnum = number WHERE place <= indnkeyatts) "
        f"FROM ({column['indexed']}) AS indexed JOIN pg_index ON indexrelid = index::regclass "
        "WHERE is_unique AND indexprs IS NULL AND indpred IS NULL"
    )
    if not checks and not uniques:
        return
    others = rows(
        f"SELECT quote_ident(attname) FROM pg_attribute WHERE attrelid = {column['oid']} "
        f"AND attnum > 0 AND NOT attisdropped AND attname <> {column['shown_text']} ORDER BY attnum"
    )
    value = change.forward
    if has_column(change.table_name, hidden_name(change.column_name)):
        value = f"CASE WHEN {column['hidden']} IS NULL THEN {value} ELSE {column['hidden']} END"
    columns = ", ".join([name for (name,) in others] + [f"{value} AS {column['shown']}"])
    source = f"(SELECT {columns} FROM {qualified(change.table_name)}) AS {column['table']}"
    for name, condition in checks:
        refuse_rows(
            f"SELECT * FROM {source} WHERE NOT ({condition})", change.problem, f"would break {name}"
        )
    for name, keys in uniques:
        not_null = " AND ".join(f"{key} IS NOT NULL" for key in keys.split(", "))
        query = (
            f"SELECT {keys}, count(*) FROM {source} WHERE {not_null} "
            f"GROUP BY {keys} HAVING count(*) > 1"
        )
        refuse_rows(query, change.problem, f"would repeat a value of {name}")


def refuse_values_written_since(change: Change) -> None:
    """Raise Refused for rows with such a value that were written after the first look."""
    with refusing_bad_values(change):
        refuse_unfaithful_values(change)


def refuse_unfaithful_values(change: Change) -> None:
    """Raise Refused for rows whose hidden column lacks its value, or holds another one."""
    column, table = change.placeholders, qualified(change.table_name)
    if offline():
        table, shown, hidden = (
            sql.replace("%", "%%") for sql in (table, column["shown"], column["hidden"])
        )
        changed = f"SELECT count(*) FROM {table} WHERE {hidden}::%s IS DISTINCT FROM {shown}"
        unfilled = f"SELECT count(*) FROM {qualified(change.table_name)} WHERE {change.unfilled}"
        run(
            CHECK_VALUES.format(
                **column,
                cannot=literal(change.problem),
                is_cast=sql_bool(change.using is None),
                count_unfilled=literal(unfilled),
                count_changed=literal(changed),
            )
        )
        return
    refuse_rows(
        f"SELECT * FROM {table} WHERE {change.unfilled}", change.problem, "hold something else"
    )
    if change.using is None and keeps_values(change):
        old = column_type(change.table_name, change.column_name)
        changed = f"{column['hidden']}::{old} IS DISTINCT FROM {column['shown']}"
        refuse_rows(
            f"SELECT * FROM {table} WHERE {changed}", change.problem, "would hold another value"
        )
