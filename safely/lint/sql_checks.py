"""Checks of a revision's SQL that squawk lacks, or makes less exactly."""

import re
from collections.abc import Iterator

from safely.lint import plain_sql, spelling, subjects
from safely.lint.directions import Direction, description
from safely.lint.findings import Finding
from safely.lint.rendering import Statement
from safely.lint.statements import Change, changes, mask, split_before, unqualified

# functions with the same value for each row of a statement, which a test asks PostgreSQL about;
# any other function may have another value for each row
STABLE_FUNCTIONS = {
    "abs", "btrim", "concat", "current_setting", "date_trunc", "format", "json_build_array",
    "json_build_object", "jsonb_build_array", "jsonb_build_object", "left", "length", "lower",
    "make_date", "make_interval", "md5", "now", "repeat", "replace", "right", "round",
    "split_part", "statement_timestamp", "timezone", "to_char", "to_json", "to_jsonb",
    "to_timestamp", "transaction_timestamp", "upper",
}  # fmt: skip
NOT_FUNCTIONS = {  # keywords and types that may stand before a parenthesis
    "array", "cast", "char", "coalesce", "decimal", "extract", "greatest", "in", "least", "nullif",
    "numeric", "row", "substring", "time", "timestamp", "trim", "varchar",
}  # fmt: skip
FUNCTION_CALL = re.compile(r"(?<!::)\b([a-z_]\w*) ?\(", re.IGNORECASE)
VALUE = r"(?:\d+|'x*')"
ONE_ROW = re.compile(
    rf'(?:(?P<owner>[\w."]+)\.)?"?id"? ?(?:= ?{VALUE}|IN \({VALUE}(?:, ?{VALUE})*\))(?: AND .*)?$',
    re.IGNORECASE,
)
NOT_NULL = re.compile(r'CHECK ?\(+"?(\w+)"? IS NOT NULL\)+', re.IGNORECASE)
DROPS = ("drop column", "drop table", "truncate")
CONSTRAINTS = ("check", "foreign key")  # those that can be added NOT VALID


def check(direction: Direction) -> Iterator[Finding]:
    """Yield the findings in the SQL of one direction."""
    not_null: set[str] = set()  # columns whose NOT NULL a validated CHECK proves, or whole tables
    for statement in direction.statements:
        for change in changes(statement.text):
            if change.kind == "add column" and direction.in_use(change.table):
                yield from volatile_default(direction, statement, change)
            if change.kind == "validate":
                not_null |= proved_not_null(direction, change)
            if not statement.from_safely:
                yield from table_lock(direction, statement, change)
                yield from unsafe_change(direction, statement, change, not_null)
    yield from two_tables(direction)


def unsafe_change(
    direction: Direction, statement: Statement, change: Change, not_null: set[str]
) -> Iterator[Finding]:
    """Yield the findings about a change that no operation of `safely` emitted."""
    kind = change.kind
    if kind in ("unseen", "lock timeout", "column grant"):
        yield direction.finding(kind.replace(" ", "-"), statement, change, stopped="")
    elif direction.in_use(change.table):
        if kind in DROPS:
            rule = "plain-drop" if direction.up else "lossy-downgrade"
            yield direction.finding(rule, statement, change)
        elif kind == "rewrite":
            yield direction.finding("rewrite", statement, change)
        elif kind == "not null" and not {description(change), change.table} & not_null:
            yield direction.finding("not-null-at-once", statement, change)
        elif kind == "validate":
            yield from check_and_validate(direction, statement, change)
        elif kind in ("update", "delete"):
            yield from changed_rows(direction, statement, change)
        elif kind == "add column" and split_before(change.parts["definition"], r"CHECK\b")[1]:
            yield checked_column(direction, statement, change)
    if kind not in ("update", "truncate") and plain_sql.of_change(change):
        names = direction.raw_op_names(statement, change.table)
        yield direction.finding("raw-op", statement, change, **names)


def changed_rows(direction: Direction, statement: Statement, change: Change) -> Iterator[Finding]:
    """Yield the findings about UPDATE and DELETE: the values they lose, the rows they lock."""
    if not direction.up and plain_sql.overwrites(change):
        finding = direction.finding("lossy-downgrade", statement, change)
        yield finding._replace(safe=plain_sql.NOTHING_TO_UNDO)
    if change.kind == "delete":  # also of one row, since no downgrade brings it back
        if direction.up:
            yield direction.finding("delete-at-once", statement, change)
    elif not has_few_rows(change):
        yield direction.finding("backfill-at-once", statement, change)


def has_few_rows(change: Change) -> bool:
    """Return whether the WHERE lists ids of the table itself."""
    where = mask(change.parts.get("where", ""))
    ids = ONE_ROW.match(where)
    if ids is None or split_before(where, r"\bOR\b")[1]:
        return False
    table = unqualified(change.parts.get("alias", change.table))
    return unqualified(ids["owner"] or table).lower() == table.lower()


def table_lock(direction: Direction, statement: Statement, change: Change) -> Iterator[Finding]:
    """Yield a finding about LOCK TABLE if it blocks clients."""
    tables = [table for table in change.tables if direction.in_use(table)]
    if change.kind == "lock" and tables and change.blocks:
        exclusive = change.mode == "ACCESS EXCLUSIVE"
        names = {
            "tables": " and ".join(tables),
            "mode": change.mode,
            "blocked": "reads and writes wait" if exclusive else "writes wait, and reads go on",
        }
        yield direction.finding("table-lock", statement, change, **names)


def volatile_default(
    direction: Direction, statement: Statement, change: Change
) -> Iterator[Finding]:
    """Yield a finding about a new column if its default differs from row to row."""
    definition = change.parts["definition"]
    default = mask(plain_sql.default_of(definition))
    functions = {name.lower() for name in FUNCTION_CALL.findall(default)}
    is_serial = re.match(r"(?:small|big)?serial\b", definition, re.IGNORECASE)
    is_generated = split_before(definition, r"GENERATED\b")[1]
    if is_serial or is_generated or functions - STABLE_FUNCTIONS - NOT_FUNCTIONS:
        call, _ = direction.location(statement)
        add_column = call and spelling.add_plain_column(direction.source, call)
        safe = plain_sql.add_volatile_column(
            change, add_column or plain_sql.add_plain_column(change)
        )
        yield direction.finding("volatile-default", statement, change)._replace(safe=safe)


def checked_column(direction: Direction, statement: Statement, change: Change) -> Finding:
    """Return a finding about ADD COLUMN … CHECK, which checks every row."""
    name = f"a CHECK on {change.parts['column']}"
    finding = direction.finding("check-at-once", statement, change, name=name)
    return finding._replace(safe=plain_sql.add_checked_column(change))


def adding(direction: Direction, validate: Change) -> tuple[Statement, Change] | None:
    """Return the statement that adds the constraint to validate; None if another revision does."""
    for statement in direction.statements:
        for change in changes(statement.text):
            is_same = change.parts.get("name") == validate.parts["name"]
            if change.kind in CONSTRAINTS and is_same:
                return statement, change
    return None


def check_and_validate(
    direction: Direction, statement: Statement, change: Change
) -> Iterator[Finding]:
    """Yield a finding about VALIDATE in the transaction that adds the constraint."""
    added = adding(direction, change)
    if added and added[0].transaction == statement.transaction:
        safe = f"{direction.finding('raw-op', *added).safe}  # in the place of both"
        yield direction.finding("check-and-validate", statement, change)._replace(safe=safe)


def proved_not_null(direction: Direction, change: Change) -> set[str]:
    """Return the columns that a validated constraint proves to have no NULL.

    If another revision or `safely` has added the constraint, return the whole table: the condition
    is unknown.
    """
    added = adding(direction, change)
    if added is None:
        return {change.table}
    condition = "CHECK " + added[1].parts.get("rest", "")
    return {f"{change.table}.{name}" for name in NOT_NULL.findall(condition)}


def two_tables(direction: Direction) -> Iterator[Finding]:
    """Yield a finding for each lock that a transaction takes while it holds one elsewhere."""
    first_tables: dict[int, str] = {}
    for statement in direction.statements:
        for table, change in direction.blocked(statement):
            first = first_tables.setdefault(statement.transaction, table)
            if first != table:
                names = {"first": first, "table": table}
                finding = direction.finding("two-tables", statement, change, **names)
                revisions = subjects.revisions_to_write(direction)
                yield finding._replace(safe=revisions or "one revision for each table")
