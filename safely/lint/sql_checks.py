"""What a revision's SQL does that squawk doesn't tell, or not exactly."""

import re
from collections.abc import Iterator

from safely.lint import plain_sql, spelling, subjects
from safely.lint.findings import Finding
from safely.lint.rendering import Statement
from safely.lint.statements import Change, bare, changes, parted, split
from safely.lint.ways import Way, what

# Any other function may give another value for each row. PostgreSQL is asked in a test whether
# these don't.
STEADY = {
    "abs", "btrim", "concat", "current_setting", "date_trunc", "format", "json_build_array",
    "json_build_object", "jsonb_build_array", "jsonb_build_object", "left", "length", "lower",
    "make_date", "make_interval", "md5", "now", "repeat", "replace", "right", "round",
    "split_part", "statement_timestamp", "timezone", "to_char", "to_json", "to_jsonb",
    "to_timestamp", "transaction_timestamp", "upper",
}  # fmt: skip
NO_FUNCTIONS = {  # words that may stand before a parenthesis
    "array", "cast", "char", "coalesce", "decimal", "extract", "greatest", "in", "least", "nullif",
    "numeric", "row", "substring", "time", "timestamp", "trim", "varchar",
}  # fmt: skip
CALLED = re.compile(r"(?<!::)\b([a-z_]\w*) ?\(", re.IGNORECASE)
VALUE = r"(?:\d+|'x*')"
ONE_ROW = re.compile(
    rf'(?:(?P<owner>[\w."]+)\.)?"?id"? ?(?:= ?{VALUE}|IN \({VALUE}(?:, ?{VALUE})*\))(?: AND .*)?$',
    re.IGNORECASE,
)
NOT_NULL = re.compile(r'CHECK ?\(+"?(\w+)"? IS NOT NULL\)+', re.IGNORECASE)
DROPS = ("drop column", "drop table", "truncate")
RULES = ("check", "foreign key")  # that can be added NOT VALID


def check(way: Way) -> Iterator[Finding]:
    """Everything that is checked here."""
    validated: set[str] = set()  # columns that a CHECK says to have values, or their tables
    for statement in way.statements:
        for change in changes(statement.text):
            if change.kind == "add column" and way.in_use(change.table):
                yield from volatile_default(way, statement, change)
            if change.kind == "validate":
                validated |= required_by(way, change)
            if not statement.trusted:
                yield from table_lock(way, statement, change)
                yield from unsafe(way, statement, change, validated)
    yield from two_tables(way)


def unsafe(
    way: Way, statement: Statement, change: Change, validated: set[str]
) -> Iterator[Finding]:
    """What plain SQL does that `safely` wouldn't."""
    kind = change.kind
    if kind in ("unseen", "lock timeout"):
        yield way.finding(kind.replace(" ", "-"), statement, change, stopped="")
    elif way.in_use(change.table):
        if kind in DROPS:
            yield way.finding("plain-drop" if way.up else "lossy-downgrade", statement, change)
        elif kind == "rewrite":
            yield way.finding("rewrite", statement, change)
        elif kind == "not null" and not {what(change), change.table} & validated:
            yield way.finding("not-null-at-once", statement, change)
        elif kind == "validate":
            yield from check_and_validate(way, statement, change)
        elif kind in ("update", "delete"):
            yield from rows_changed(way, statement, change)
        elif kind == "add column" and parted(change.parts["definition"], r"CHECK\b")[1]:
            yield inline_check(way, statement, change)
    if kind not in ("update", "truncate") and plain_sql.of_change(change):
        yield way.finding("raw-op", statement, change, **way.operation(statement, change.table))


def rows_changed(way: Way, statement: Statement, change: Change) -> Iterator[Finding]:
    """UPDATE and DELETE: what they lose, and how many rows they lock."""
    if not way.up and plain_sql.overwrites(change):
        yield way.finding("lossy-downgrade", statement, change)._replace(safe=plain_sql.LEFT_ALONE)
    if change.kind == "delete":  # of one row as well: no downgrade brings it back
        if way.up:
            yield way.finding("delete-at-once", statement, change)
    elif not is_one_row(change):
        yield way.finding("backfill-at-once", statement, change)


def is_one_row(change: Change) -> bool:
    """Whether the WHERE names the ids of the table itself, which are then few."""
    where = " ".join(statement.blotted for statement in split(change.parts.get("where", "")))
    named = ONE_ROW.match(where)
    if named is None or parted(where, r"\bOR\b")[1]:
        return False
    target = bare(change.parts.get("alias", change.table))
    return bare(named["owner"] or target).lower() == target.lower()


def table_lock(way: Way, statement: Statement, change: Change) -> Iterator[Finding]:
    """LOCK TABLE, where somebody has to wait for it."""
    used = [table for table in change.tables if way.in_use(table)]
    if change.kind == "lock" and used and change.locks:
        whole = change.mode == "ACCESS EXCLUSIVE"
        who = "readers and writers wait" if whole else "writers wait, and readers go on"
        tables = " and ".join(used)
        yield way.finding("table-lock", statement, change, tables=tables, mode=change.mode, who=who)


def volatile_default(way: Way, statement: Statement, change: Change) -> Iterator[Finding]:
    """A value that PostgreSQL computes for each row, while nobody can read the table."""
    definition = change.parts["definition"]
    default = plain_sql.default_of(definition)
    blotted = " ".join(statement.blotted for statement in split(default))
    called = {name.lower() for name in CALLED.findall(blotted)}
    serial = re.match(r"(?:small|big)?serial\b", definition, re.IGNORECASE)
    if serial or parted(definition, r"GENERATED\b")[1] or called - STEADY - NO_FUNCTIONS:
        call, _ = way.place(statement)
        add = call and spelling.column_only(way.source, call)
        safe = plain_sql.fill_in(change, add or plain_sql.add_column_only(change))
        yield way.finding("volatile-default", statement, change)._replace(safe=safe)


def inline_check(way: Way, statement: Statement, change: Change) -> Finding:
    """ADD COLUMN … CHECK, for which every row is looked at."""
    rule = f"a CHECK on {change.parts['column']}"
    finding = way.finding("check-at-once", statement, change, name=rule)
    return finding._replace(safe=plain_sql.add_checked(change))


def added(way: Way, change: Change) -> tuple[Statement, Change] | None:
    """Where the constraint is added that this one validates; None if not in this revision."""
    for statement in way.statements:
        for other in changes(statement.text):
            if other.kind in RULES and other.parts.get("name") == change.parts["name"]:
                return statement, other
    return None


def check_and_validate(way: Way, statement: Statement, change: Change) -> Iterator[Finding]:
    """A rule that is checked under the lock with which it was added."""
    found = added(way, change)
    if found and found[0].transaction == statement.transaction:
        safe = way.finding("raw-op", *found).safe
        both = f"{safe}  # in the place of both"
        yield way.finding("check-and-validate", statement, change)._replace(safe=both)


def required_by(way: Way, change: Change) -> set[str]:
    """The columns that a rule which was just validated says to have values.

    One that another revision or `safely` has added can't be read here: the whole table, then.
    """
    found = added(way, change)
    if found is None:
        return {change.table}
    rule = "CHECK " + found[1].parts.get("rest", "")
    return {f"{change.table}.{name}" for name in NOT_NULL.findall(rule)}


def two_tables(way: Way) -> Iterator[Finding]:
    """A transaction that holds a lock on one table in use while it waits for another."""
    first: dict[int, str] = {}
    for statement in way.statements:
        for table, change in way.locked(statement):
            if first.setdefault(statement.transaction, table) != table:
                others = {"first": first[statement.transaction], "table": table}
                finding = way.finding("two-tables", statement, change, **others)
                safe = subjects.revisions_to_write(way) or "one revision for each table"
                yield finding._replace(safe=safe)
