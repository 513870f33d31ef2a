"""One direction of a revision, up or down: its file and its SQL, held side by side."""

from collections.abc import Iterator
from typing import NamedTuple

import sqlalchemy as sa

from safely.lint import plain_sql, spelling
from safely.lint.findings import Finding, Lines, found
from safely.lint.rendering import Statement
from safely.lint.source import Call, Source
from safely.lint.statements import Change, bare, changes, words

INSTANT = "It holds ACCESS EXCLUSIVE on {} for an instant."
WHOLE = {"delete": "rows of {}", "truncate": "the rows of {}", "update": "values of {}"}
SEPARATELY = ("foreign key", "unique")  # what safely.add_column leaves to others


class Way(NamedTuple):
    """One direction of a revision."""

    source: Source
    revision: str
    statements: list[Statement]
    made: set[str]  # the tables that the revision makes
    up: bool
    metadata: sa.MetaData  # of the models
    numbered: bool  # whether the project's revisions are

    def place(self, statement: Statement) -> tuple[Call | None, Lines]:
        """The call that said it, and its lines; or where the function begins."""
        if statement.line is None:
            return None, self.source.head(up=self.up)
        call = self.source.call_at(statement.line)
        if call is not None and call.name == "batch_alter_table":
            call = self.within_batch(statement) or call
        return call, call.lines if call else (statement.line, statement.line)

    def within_batch(self, statement: Statement) -> Call | None:
        """The operation of a batch that said it: the first whose verb and names it says."""
        said = words(statement.text)
        for call in self.source.calls:
            if call.by == "batch" and call.up == self.up:
                firsts = (next(self.source.strings(node), "") for node in call.node.args)
                names = {word for first in firsts for word in words(first)}
                if names | {call.name.partition("_")[0]} <= said:
                    return call
        return None

    def finding(self, rule: str, statement: Statement, change: Change, **more: str) -> Finding:
        """A finding about a change, with what to write instead of its call, or of its SQL."""
        call, lines = self.place(statement)
        safe = self.instead(call, change)
        parts = {name: bare(value) for name, value in change.parts.items() if name != "columns"}
        columns = {"columns": change.parts["columns"]} if "columns" in change.parts else {}
        both = " and ".join(dict.fromkeys((change.table, parts.get("referent", change.table))))
        fields = {**parts, **columns, "both": both, "what": what(change), **more}
        return found(rule, lines, safe, **fields)

    def instead(self, call: Call | None, change: Change) -> str | None:
        """What to write in its place; None where `safely` knows nothing better."""
        plain = plain_sql.of_change(change)
        if call is not None and call.name == "add_column" and change.kind in SEPARATELY:
            return f"{spelling.column_only(self.source, call) or '…'}\n{plain}"
        return (call and spelling.of_call(self.source, call, self.metadata)) or plain

    def operation(self, statement: Statement, table: str) -> dict[str, str]:
        """What stands there, and what it locks, for `raw-op`."""
        call, _ = self.place(statement)
        is_call = call is not None and spelling.of_call(self.source, call, self.metadata)
        return raw(call if is_call else None, table, new=table in self.made)

    def in_use(self, table: str) -> bool:
        """Whether anybody can have to wait for it: on the way up, nobody knows a new one."""
        return not (self.up and table in self.made)

    def locked(self, statement: Statement) -> Iterator[tuple[str, Change]]:
        """The tables in use that it locks against writers; of a foreign key, the one it is on."""
        for change in changes(statement.text):
            call, _ = self.place(statement)
            if change.kind == "unseen" and statement.trusted and call is not None:
                altered = "ALTER TABLE" in statement.text
                tables = [self.source.table(call) or ""] if altered else []
            else:
                tables = change.tables if change.locks else []
            for table in tables:
                if table and table not in self.made:
                    yield table, change


def what(change: Change) -> str:
    """What a change is about, in words."""
    if "column" in change.parts:
        return f"{change.table}.{bare(change.parts['column'])}"
    return WHOLE.get(change.kind, "{}").format(change.table)


def raw(call: Call | None, table: str, *, new: bool) -> dict[str, str]:
    """What `raw-op` says of a call; None is plain SQL."""
    says = "says in plain SQL what has" if call is None else f"calls op.{call.name}, which has"
    lock = "Nobody waits: the table is new." if new else INSTANT.format(table)
    return {"says": says, "lock": lock}
