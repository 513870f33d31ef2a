"""One direction of a revision, upgrade or downgrade: its source code beside its SQL."""

from collections.abc import Iterator
from typing import NamedTuple

import sqlalchemy as sa

from safely.lint import plain_sql, spelling
from safely.lint.findings import Finding, Lines
from safely.lint.rendering import Statement
from safely.lint.source import Call, Source, with_values
from safely.lint.sql_text import unqualified
from safely.lint.statements import MODES, Change, changes

ROWS = {"delete": "rows of {}", "truncate": "the rows of {}", "update": "values of {}"}
OF_TYPES = ("add label", "rename label", "drop type")
SEPARATE_STEPS = ("foreign key", "unique")  # safely.add_column refuses to add these on the way

BLOCKS_ALL = ("create table", "lock")  # the change blocks all tables that it locks


class Direction(NamedTuple):
    """The upgrade or the downgrade of a revision."""

    source: Source
    revision: str
    statements: list[Statement]
    new_tables: set[str]
    """The tables that the upgrade creates."""
    up: bool
    metadata: sa.MetaData
    """The tables of the models."""
    numbered: bool
    """Whether the project numbers its revisions."""

    def location(self, statement: Statement) -> tuple[Call | None, Lines]:
        """Return the call that emitted a statement, with its values, and its lines."""
        if statement.line is None:
            return None, self.source.first_line(up=self.up)
        call = self.source.call_at(statement.line)
        if call is None:
            return None, (statement.line, statement.line)
        return with_values(call, statement.values, self.source), call.lines

    def variants(self, call: Call) -> Iterator[tuple[Call, str]]:
        """Yield a call for each statement that it emitted, with its values, and the lock of that.

        Yield the call alone if it emitted none.
        """
        first, last = call.lines
        lines = range(first, last + 1)
        emitted = [statement for statement in self.statements if statement.line in lines]
        for statement in emitted:
            for change in changes(statement.text):
                yield with_values(call, statement.values, self.source), self.lock_of(change)
        if not emitted:
            yield call, ""

    def finding(self, rule: str, statement: Statement, change: Change, **names: str) -> Finding:
        """Return a finding about a change, with the code to write instead."""
        call, lines = self.location(statement)
        parts = {
            part: sql if part == "columns" else unqualified(sql)
            for part, sql in change.parts.items()
        }
        both = " and ".join(dict.fromkeys((change.table, parts.get("referent", change.table))))
        placeholders = {**parts, "both": both, "what": description(change), **names}
        finding = Finding.of(rule, lines, self.safe_code(call, change), **placeholders)
        return finding._replace(locks=self.locks(change), up=self.up)

    def locks(self, change: Change) -> tuple[tuple[str, str], ...]:
        """Return the locks of a change; of an index, on the table that has it in the models."""
        index = unqualified(change.parts.get("name", ""))
        owners = [
            table.name
            for table in self.metadata.tables.values()
            if any(index == other.name for other in table.indexes)
        ]
        return tuple(
            (table or next(iter(owners), ""), mode) for table, mode in change.locks.items()
        )

    def with_locks(self, findings: list[Finding]) -> list[Finding]:
        """Return the findings, each with the strongest lock of its lines on each table."""
        locks_by_lines: dict[Lines, list[tuple[str, str]]] = {}
        for statement in self.statements:
            _, lines = self.location(statement)
            for change in changes(statement.text):
                locks_by_lines.setdefault(lines, []).extend(self.locks(change))
        return [
            finding._replace(locks=strongest([*finding.locks, *locks_by_lines[lines]]))
            if (lines := (finding.line, finding.last)) in locks_by_lines
            else finding
            for finding in findings
        ]

    def safe_code(self, call: Call | None, change: Change) -> str | None:
        """Return the code to write instead of a change; None if `safely` has nothing better."""
        of_sql = plain_sql.of_change(change)
        if call is not None and call.name == "add_column" and change.kind in SEPARATE_STEPS:
            return f"{spelling.add_plain_column(self.source, call) or '…'}\n{of_sql}"
        return (call and spelling.of_call(self.source, call, self.metadata)) or of_sql

    def raw_op_names(self, statement: Statement, change: Change) -> dict[str, str]:
        """Return the names for the rule raw-op, about the call that emitted a statement."""
        call, _ = self.location(statement)
        if call is not None and spelling.of_call(self.source, call, self.metadata) is None:
            call = None  # a call that runs plain SQL
        code = "this SQL" if call is None else f"op.{call.name}"
        return {"code": code, "lock": self.lock_of(change)}

    def lock_of(self, change: Change) -> str:
        """Return in a sentence which lock a change takes, and who waits for it."""
        if change.kind in OF_TYPES:
            return (
                "Builds of other revisions go on using the type, and can't read a label they lack."
            )
        if change.table in self.new_tables:
            return "Nobody waits: the table is new."
        table = change.table or "the table of the index"
        if "concurrently" in change.parts:
            return f"The statement takes {change.mode} on {table}: reads and writes go on."
        return (
            f"The statement takes {change.mode} on {table} for an instant." if change.mode else ""
        )

    def in_use(self, table: str) -> bool:
        """Return whether clients may use a table; in an upgrade, they don't use a new one."""
        return not (self.up and table in self.new_tables)

    def blocked(self, statement: Statement) -> Iterator[tuple[str, Change]]:
        """Yield each table in use whose writes a statement blocks.

        Of the two tables of a foreign key, only the one that gets the constraint; those to which a
        new table refers.
        """
        for change in changes(statement.text):
            call, _ = self.location(statement)
            if change.kind == "unseen" and statement.from_safely and call is not None:
                alters = "ALTER TABLE" in statement.text
                tables = [self.source.table(call) or ""] if alters else []
            else:
                tables = change.tables if change.kind in BLOCKS_ALL else [change.table]
                tables = tables if change.blocks else []
            for table in tables:
                if table and table not in self.new_tables:
                    yield table, change


def strongest(locks: list[tuple[str, str]]) -> tuple[tuple[str, str], ...]:
    """Return the strongest lock on each table."""
    by_table = dict(sorted(locks, key=lambda lock: MODES.index(lock[1])))
    return tuple((table, by_table[table]) for table in dict.fromkeys(table for table, _ in locks))


def description(change: Change) -> str:
    """Return what a change is about: `table.column`, rows of a table, or the table."""
    if "column" in change.parts:
        return f"{change.table}.{unqualified(change.parts['column'])}"
    return ROWS.get(change.kind, "{}").format(change.table)
