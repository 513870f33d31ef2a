"""One direction of a revision, upgrade or downgrade: its source code beside its SQL."""

import ast
from collections.abc import Iterator
from typing import NamedTuple

import sqlalchemy as sa

from safely.lint.findings import LOOP, Finding, Lines
from safely.lint.rendering import Statement
from safely.lint.source import Call, Source, with_values
from safely.lint.spellings import calls, opposites, plain_sql
from safely.lint.spellings.columns import conversion
from safely.lint.spellings.literals import string_literal
from safely.lint.sql_text import unqualified
from safely.lint.statement_kinds import CONCURRENT, MODES
from safely.lint.statements import Change, changes

ROWS = {"delete": "rows of {}", "truncate": "the rows of {}", "update": "values of {}"}
OF_TYPES = ("add label", "rename label", "drop type")
NOT_VALID = ", postgresql_not_valid=True"

BLOCKS_ALL = ("add column", "create table", "lock")  # the change blocks all tables that it locks


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
    opposite: list[Statement] = []  # noqa: RUF012  # nobody changes it
    """The statements of the other direction."""
    spellings: dict[tuple[int, int], str | None] = {}  # noqa: RUF012  # each one is given its own
    """The code to write instead of the call at a line and column, where that is known."""

    def location(self, statement: Statement) -> tuple[Call | None, Lines]:
        """Return the call that emitted a statement, with its values, and its lines."""
        if statement.line is None:
            return None, self.source.first_line(up=self.up)
        call = self.source.call_at(statement.line)
        if call is None:
            return None, (statement.line, statement.line)
        return with_values(call, statement.values, self.source), call.lines

    def variants(self, call: Call) -> list[tuple[Call, list[str]]]:
        """Return a call once for each set of values with which it emitted SQL, and that SQL."""
        first, last = call.lines
        found: dict[str, tuple[Call, list[str]]] = {}
        for statement in self.statements:
            if statement.line is not None and first <= statement.line <= last:
                variant = with_values(call, statement.values, self.source)
                _, texts = found.setdefault(ast.unparse(variant.node), (variant, []))
                texts.append(statement.text)
        return list(found.values()) or [(call, [])]

    def finding(self, rule: str, statement: Statement, change: Change, **names: str) -> Finding:
        """Return a finding about a change, with the code to write instead."""
        call, lines = self.location(statement)
        parts = {
            part: sql if part == "columns" else unqualified(sql)
            for part, sql in change.parts.items()
        }
        both = " and ".join(dict.fromkeys((change.table, parts.get("referent", change.table))))
        placeholders = {**parts, "both": both, "what": description(change), **names}
        finding = Finding.of(rule, lines, self.safe_code(call, statement), **placeholders)
        return finding._replace(locks=self.locks(change), up=self.up)

    def locks(self, change: Change) -> tuple[tuple[str, str], ...]:
        """Return the locks of a change; of an index, on the table that has it in the models."""
        return tuple((table or self.owner(change), mode) for table, mode in change.locks.items())

    def owner(self, change: Change) -> str:
        """Return the table that has the index of a change in the models; empty without one."""
        index = unqualified(change.parts.get("name", ""))
        return next(
            (
                table.name
                for table in self.metadata.tables.values()
                if any(index == other.name for other in table.indexes)
            ),
            "",
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

    def safe_code(self, call: Call | None, statement: Statement) -> str | None:
        """Return the code to write instead of the call that emitted a statement.

        One text for all findings about the call, with all its changes. None with nothing better.
        """
        if call is None:
            return plain_sql.of_text(statement.text, up=self.up)
        return self.spelled(self.source.call_at(call.lines[0]) or call)

    def spelled(self, call: Call) -> str | None:
        """Return the code to write instead of a call, once for each set of values in a loop."""
        place = (call.node.lineno, call.node.col_offset)
        if place not in self.spellings:  # each finding about a call asks for it
            self.spellings[place] = self.newly_spelled(call)
        return self.spellings[place]

    def newly_spelled(self, call: Call) -> str | None:
        """Return what `spelled` does, for a call of which it was not asked before."""
        variants = self.variants(call)
        pieces = [self.of_variant(variant, texts) for variant, texts in variants]
        if None in pieces:
            return None
        lines = [self.without_not_valid(str(piece)) for piece in dict.fromkeys(pieces)]
        is_repeated = not calls.is_known(call) and any(len(texts) > 1 for _, texts in variants)
        return "\n".join([LOOP, *lines] if len(lines) > 1 or is_repeated else lines)

    def without_not_valid(self, spelling: str) -> str:
        """Return a spelling without NOT VALID, where the revision validates the constraint.

        `safely` does both, one after the other.
        """
        if NOT_VALID not in spelling:
            return spelling
        validated = {
            unqualified(change.parts["name"])
            for statement in self.statements
            for change in changes(statement.text)
            if change.kind == "validate"
        }
        is_validated = any(string_literal(name) in spelling for name in validated)
        return spelling.replace(NOT_VALID, "") if is_validated else spelling

    def of_variant(self, call: Call, texts: list[str]) -> str | None:
        """Return the code to write instead of a call with certain values, which emitted this."""
        emitted = [change for text in texts for change in changes(text)]
        if calls.is_known(call):
            safe = calls.of_call(self.source, call, self.metadata, emitted)
        elif call.owner == "safely":
            safe = None
        else:
            text = ";\n".join(text.rstrip("; \n") for text in texts)
            safe = plain_sql.of_text(text, up=self.up)
        if safe is None or any(map(self.is_made_plainly, emitted)):
            return None
        return "\n".join([*self.constraints_to_drop(emitted), self.with_back(safe, emitted)])

    def is_made_plainly(self, change: Change) -> bool:
        """Return whether a table that is dropped is made by SQL without a spelling.

        The table that `safely.drop_table` sets aside would be in the way of the next one.
        """
        return change.kind == "drop table" and any(
            other.kind in ("create table", "create table as")
            and other.table == change.table
            and plain_sql.of_change(other) is None
            for statement in self.opposite
            if not (statement.from_safely or self.is_known(statement))
            for other in changes(statement.text)
        )

    def is_known(self, statement: Statement) -> bool:
        """Return whether an operation of Alembic emitted a statement, that `safely` has too."""
        call, _ = self.location(statement)
        return call is not None and calls.is_known(call)

    def with_back(self, safe: str, emitted: list[Change]) -> str:
        """Return the spelling of a new type with the conversion back, which the downgrade tells."""
        types = [change for change in emitted if is_conversion(change)]
        if not self.up or len(types) != 1:
            return safe
        (wanted,) = types
        backs = [
            string_literal(conversion(change))
            for statement in self.opposite
            for change in changes(statement.text)
            if is_conversion(change) and description(change) == description(wanted)
        ]
        lines = [
            f"{line[:-1]}, back={backs[0]})"
            if backs and line.startswith("safely.change_type(") and line.endswith(")")
            else line
            for line in safe.splitlines()
        ]
        return "\n".join(lines)

    def constraints_to_drop(self, emitted: list[Change]) -> Iterator[str]:
        """Yield the calls that drop what forbids to set columns aside, or to bring them back.

        In a downgrade, all constraints that the upgrade adds to them: another upgrade adds them
        again. In an upgrade, the foreign keys that the downgrade adds to them.
        """
        dropped = {
            (change.table, unqualified(change.parts["column"]))
            for change in emitted
            if change.kind == "drop column"
        }
        if not dropped:
            return
        own = {
            change.parts["name"]
            for statement in self.statements
            for change in changes(statement.text)
            if change.kind == "drop constraint"
        }
        for statement in self.opposite:
            for change in changes(statement.text):
                is_new = change.kind == "add column"
                if is_new and (change.table, unqualified(change.parts["column"])) in dropped:
                    yield from () if self.up else opposites.allowed_nulls(change)
                for rule in opposites.rules_of(change):
                    is_dropped = any((change.table, column) in dropped for column in rule.columns)
                    is_left = unqualified(rule.name) not in map(unqualified, own)
                    if is_dropped and is_left and (rule.is_key or not self.up):
                        yield rule.drop

    def way_down(self) -> list[str]:
        """Return the body of a downgrade that undoes this upgrade; empty where it can't be told."""
        steps: list[list[str] | None] = []
        for call in self.source.calls:
            if not call.up:
                continue
            if call.owner == "safely":
                steps.append(opposites.of_own_call(self.source, call))
            else:
                emitted = [
                    change
                    for _, texts in self.variants(call)
                    for text in texts
                    for change in changes(text)
                ]
                steps += map(opposites.of_change, emitted)
        if any(step is None for step in steps):
            return []
        lines = [line for step in steps[::-1] for line in step or ()]
        return list(dict.fromkeys(lines))

    def raw_op_names(self, statement: Statement, change: Change) -> dict[str, str]:
        """Return the names for the rule raw-op, about the call that emitted a statement."""
        call, _ = self.location(statement)
        if call is not None and not calls.is_known(call):
            call = None  # a call that runs plain SQL
        code = "this SQL" if call is None else f"op.{call.name}"
        return {"code": code, "lock": self.lock_of(change)}

    def lock_of_call(self, call: Call) -> str:
        """Return in sentences which locks the statements of a call take, and who waits for them."""
        emitted = [text for _, texts in self.variants(call) for text in texts]
        locks = (self.lock_of(change) for text in emitted for change in changes(text))
        return " ".join(dict.fromkeys(filter(None, locks)))

    def lock_of(self, change: Change) -> str:
        """Return in a sentence which lock a change takes, and who waits for it."""
        if change.kind in OF_TYPES:
            return (
                "Builds of other revisions go on using the type, and can't read a label they lack."
            )
        if change.table in self.new_tables:
            return "Nobody waits: the table is new."
        table = change.table or "the table of the index"
        if change.has(*CONCURRENT):
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


def is_conversion(change: Change) -> bool:
    """Return whether a change gives a column another type, with USING."""
    return change.kind == "type" and bool(conversion(change))


def description(change: Change) -> str:
    """Return what a change is about: `table.column`, rows of a table, or the table."""
    if "column" in change.parts:
        return f"{change.table}.{unqualified(change.parts['column'])}"
    return ROWS.get(change.kind, "{}").format(change.table)
