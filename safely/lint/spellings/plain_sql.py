"""The safe spelling of plain SQL, which is also what Alembic prints for its own operations.

`…` stands for what the SQL doesn't tell. A spelling carries every clause of the SQL: where `safely`
has no argument for a clause, there is no spelling, or a comment that says what becomes of it.
"""

from collections.abc import Callable
from typing import Any

from postgast import nodes, pg_query_pb2
from postgast.nodes import AstNode

from safely.lint.parsing import (
    as_node,
    deparsed,
    expression,
    message,
    parsed,
    quoted,
    statements,
    strings,
)
from safely.lint.spellings.columns import Steps, add_column, change_type, not_null, of_column
from safely.lint.spellings.constraints import add_constraint
from safely.lint.spellings.indexes import create_index
from safely.lint.spellings.literals import (
    safely_call,
    string_literal,
    text_literal,
    without_parameters,
)
from safely.lint.spellings.names import Unspelled, altered, qualified_name, table_and_schema
from safely.lint.spellings.rows import backfill, overwrites
from safely.lint.spellings.tables import create_table
from safely.lint.statements import Change, changes_of

NOTHING_TO_UNDO = 'safely.nothing_to_undo("why the rows stay as they are")'
LABELS = "  # all labels, in their order; existing and columns for --sql and SQLite"
CASCADE = "  # CASCADE: drop what depends on it first, each in its own call"
PASSES = {  # ALTER TABLE executes some of its actions before others
    "drop column": 0,
    "drop constraint": 0,
    "null": 0,
    "no default": 0,
    "type": 1,
    "add column": 2,
}
LATER = 3
NAMING_ANOTHER = (nodes.ExplainStmt, nodes.PrepareStmt)  # statements in which another stands


def of_change(change: Change) -> str | None:
    """Return the code to write instead of a change; None if `safely` has nothing better."""
    steps = steps_of(change)
    return None if steps is None else "\n".join([*steps.first, *steps.then])


def steps_of(change: Change) -> Steps | None:
    """Return the code to write instead of a change, in steps; None without a spelling."""
    speller = SPELLERS.get(change.kind)
    if speller is None or change.node is None:
        return None
    try:
        lines = speller(change)
    except Unspelled:
        return None
    return lines if isinstance(lines, Steps) else Steps([], lines)


def of_text(text: str, *, up: bool) -> str | None:
    """Return the code to write instead of all statements of a text; None with nothing better.

    What has no spelling stays plain SQL, so that nothing of the text is lost. In a downgrade
    (`up` is False), values that were written since the upgrade stay.
    """
    if parsed(text).node is None:  # where one statement can't be read, others may be left out
        return None
    lines: list[str] = []
    is_better = False
    for statement in statements(text):
        changes: list[Change] = []
        if statement.node is not None and not isinstance(statement.node, NAMING_ANOTHER):
            changes = list(changes_of(statement.node))
        if isinstance(statement.node, nodes.AlterTableStmt):
            changes.sort(key=lambda change: PASSES.get(change.kind, LATER))
        spellings = [
            NOTHING_TO_UNDO if not up and loses_values(change) else of_change(change)
            for change in changes
        ]
        if not any(spellings):
            lines.append(execute(statement.text))
            continue
        is_better = True
        for change, spelling in zip(changes, spellings, strict=True):
            if spelling is not None:
                lines.append(spelling)
            elif isinstance(statement.node, nodes.AlterTableStmt):
                lines.append(execute(with_action(statement.node, change.node)))
            else:
                return None  # the parts of another statement can't be taken apart
    return "\n".join(dict.fromkeys(lines)) if is_better else None


def loses_values(change: Change) -> bool:
    """Return whether a change in a downgrade loses values that were written since the upgrade."""
    return change.kind in ("delete", "truncate", "update") and overwrites(change)


def with_action(statement: nodes.AlterTableStmt, action: AstNode) -> str:
    """Return ALTER TABLE with one of its actions alone."""
    alone = pg_query_pb2.AlterTableStmt()
    alone.CopyFrom(message(statement))
    del alone.cmds[:]
    alone.cmds.append(as_node(action))
    return deparsed(pg_query_pb2.Node(alter_table_stmt=alone))


def execute(sql: str) -> str:
    """Return the call that executes SQL as it is."""
    return f"op.execute({string_literal(without_parameters(sql))})"


def drop(function: str) -> Callable[[Change], list[str]]:
    """Return a speller of DROP COLUMN or DROP CONSTRAINT."""

    def speller(change: Change) -> list[str]:
        table, schema = altered(change)
        name = string_literal(change.node.name)
        arguments = (table, name) if function == "drop_column" else (name, table)
        return [safely_call(function, *arguments, schema=schema) + cascade(change)]

    return speller


def cascade(change: Change) -> str:
    """Return a comment about CASCADE, which no operation of `safely` has; empty without it."""
    return CASCADE if change.node.behavior == pg_query_pb2.DROP_CASCADE else ""


def dropped(function: str) -> Callable[[Change], list[str]]:
    """Return a speller of DROP INDEX, DROP TABLE or DROP TYPE, for one of its objects."""

    def speller(change: Change) -> list[str]:
        names = [part.strip('"').replace('""', '"') for part in split_name(change)]
        name, schema = qualified_name(names)
        note = cascade(change)
        if function == "drop_enum" and not note:
            note = "  # for an enum"
        return [safely_call(function, name, schema=schema) + note]

    return speller


def split_name(change: Change) -> list[str]:
    """Return the parts of the name of an object that is dropped."""
    for item in change.node.objects:
        parts = strings(item.items if isinstance(item, nodes.List) else getattr(item, "names", []))
        if ".".join(map(quoted, parts)) in (change.parts.get("name"), change.parts.get("table")):
            return parts
    raise Unspelled


def renamed(function: str) -> Callable[[Change], list[str]]:
    """Return a speller of RENAME."""

    def speller(change: Change) -> list[str]:
        node: nodes.RenameStmt = change.node
        if function == "rename_column" and node.relation_type != pg_query_pb2.OBJECT_TABLE:
            raise Unspelled  # of a view
        relation, schema = table_and_schema(node.relation)
        name, new = string_literal(node.subname), string_literal(node.newname)
        arguments = {
            "rename_column": (relation, name, new),
            "rename_constraint": (name, relation, new),
            "rename_index": (relation, "…", new),
            "rename_table": (relation, new),
        }
        return [safely_call(function, *arguments[function], schema=schema)]

    return speller


def change_enum(change: Change) -> list[str]:
    """Return the spelling of ADD VALUE and RENAME VALUE."""
    node: nodes.AlterEnumStmt = change.node
    name, schema = qualified_name(strings(node.type_name))
    label = string_literal(node.new_val)
    mapping = f"{{{string_literal(node.old_val)}: {label}}}" if node.old_val else None
    labels, note = ["…", label], LABELS
    if node.new_val_neighbor or node.old_val:
        labels = ["…"]
        place = (
            "in the place of" if node.old_val else "after" if node.new_val_is_after else "before"
        )
        note += f"; {label} {place} {string_literal(node.old_val or node.new_val_neighbor)}"
    return [
        safely_call(
            "change_enum", name, *labels, renamed=mapping, existing="[…]", columns="[…]",
            schema=schema,
        )
        + note
    ]  # fmt: skip


SPELLERS: dict[str, Callable[[Change], Any]] = {
    "add column": add_column,
    "add label": change_enum,
    "check": add_constraint,
    "create index": create_index,
    "create table": create_table,
    "default": of_column(
        "change_default", lambda change: text_literal(expression(change.node.def_))
    ),
    "drop column": drop("drop_column"),
    "drop constraint": drop("drop_constraint"),
    "drop index": dropped("drop_index"),
    "drop table": dropped("drop_table"),
    "drop type": dropped("drop_enum"),
    "foreign key": add_constraint,
    "no default": of_column("change_default", lambda _: "None"),
    "not null": not_null,
    "null": of_column("allow_null"),
    "rename column": renamed("rename_column"),
    "rename constraint": renamed("rename_constraint"),
    "rename index": renamed("rename_index"),
    "rename label": change_enum,
    "rename table": renamed("rename_table"),
    "type": change_type,
    "unique": add_constraint,
    "update": backfill,
}
