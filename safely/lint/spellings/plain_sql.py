"""The safe spelling of plain SQL, which is also what Alembic prints for its own operations.

`…` stands for what the SQL doesn't tell. A spelling carries every clause of the SQL: where `safely`
has no argument for a clause, there is no spelling, or a comment that says what becomes of it.
"""

from collections.abc import Callable

from postgast import nodes, pg_query_pb2

from safely.lint.parsing import (
    as_node,
    deparsed,
    expression,
    parsed,
    statements,
    strings,
    with_one,
)
from safely.lint.spellings.columns import FILL, Steps, add_column, change_type
from safely.lint.spellings.constraints import add_constraint
from safely.lint.spellings.indexes import create_index
from safely.lint.spellings.literals import (
    string_literal,
    text_literal,
    without_parameters,
)
from safely.lint.spellings.names import Unspelled, altered, qualified_name, table_and_schema
from safely.lint.spellings.rows import backfill, overwrites
from safely.lint.spellings.tables import create_table
from safely.lint.sql_text import unqualified
from safely.lint.statements import Change, changes_of, path_of

NOTHING_TO_UNDO = 'safely.nothing_to_undo("why the rows stay as they are")'
LABELS = "  # all labels, in their order; existing and columns for --sql and SQLite"
RENAMED = ", renamed={{{name}: {new}}}"
REST = ", existing=[…], columns=[…]{schema})"  # of change_enum
CASCADE = "  # CASCADE: drop what depends on it first, each in its own call"
FIRST = ("drop column", "drop constraint", "null", "no default")
PASSES = {**dict.fromkeys(FIRST, 0), "type": 1, "add column": 2}  # of ALTER TABLE, in this order
LATER = 3
REQUIRED = "require_column({table}, {name}, fill=…{schema})" + FILL
Speller = str | Callable[[Change], Steps | list[str]]
NAMING_ANOTHER = (nodes.ExplainStmt, nodes.PrepareStmt)  # statements in which another stands


def of_change(change: Change) -> str | None:
    """Return the code to write instead of a change; None if `safely` has nothing better."""
    steps = steps_of(change)
    return None if steps is None else "\n".join([*steps.first, *steps.then])


def steps_of(change: Change) -> Steps | None:
    """Return the code to write instead of a change, in steps; None without a spelling."""
    return spelled(SPELLERS, change)


def spelled(spellers: dict[str, Speller], change: Change) -> Steps | None:
    """Return the calls that a table has for the kind of a change; None without."""
    speller = spellers.get(change.kind)
    if speller is None or change.node is None:
        return None
    try:
        lines = [call_of(speller, change)] if isinstance(speller, str) else speller(change)
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
                alone = with_one(statement.node, "cmds", change.node)
                lines.append(execute(deparsed(as_node(alone))))
            else:
                return None  # the parts of another statement can't be taken apart
    return "\n".join(dict.fromkeys(lines)) if is_better else None


def loses_values(change: Change) -> bool:
    """Return whether a change in a downgrade loses values that were written since the upgrade."""
    return change.kind in ("delete", "truncate", "update") and overwrites(change)


def execute(sql: str) -> str:
    """Return the call that executes SQL as it is."""
    return f"op.execute({string_literal(without_parameters(sql))})"


def call_of(template: str, change: Change) -> str:
    """Return a call of `safely`: a template with the names in a change as Python strings."""
    node = change.node
    name = getattr(node, "subname", "")
    if isinstance(node, nodes.AlterTableCmd):
        (table, schema), name = altered(change), node.name
    elif isinstance(node, nodes.AlterEnumStmt):
        (table, schema), name = qualified_name(strings(node.type_name)), node.old_val
    elif isinstance(node, nodes.DropStmt):
        table, schema = qualified_name(path_of(node.objects[0]))
    else:
        table, schema = table_and_schema(node.relation)
    is_of_view = change.kind == "rename column" and node.relation_type != pg_query_pb2.OBJECT_TABLE
    if is_of_view or ("{name}" in template and not name):  # NOT NULL as a constraint has none
        raise Unspelled
    if template.startswith("drop_") and change.has("DROP_CASCADE"):
        template = template.partition("  #")[0] + CASCADE
    return "safely." + template.format(
        table=table,
        schema=f", schema={schema}" if schema else "",
        name=string_literal(name),
        column=string_literal(unqualified(change.parts.get("column", ""))),
        new=string_literal(getattr(node, "newname", "") or getattr(node, "new_val", "")),
        default=text_literal(expression(node.def_)) if change.kind == "default" else "",
    )


def change_enum(change: Change) -> list[str]:
    """Return the spelling of ADD VALUE and RENAME VALUE."""
    node: nodes.AlterEnumStmt = change.node
    note, labels = LABELS, "change_enum({table}, …"
    if neighbor := node.old_val or node.new_val_neighbor:
        where = (
            "in the place of" if node.old_val else "after" if node.new_val_is_after else "before"
        )
        note += f"; {string_literal(node.new_val)} {where} {string_literal(neighbor)}"
    else:
        labels += ", {new}"
    return [call_of(labels + (RENAMED if node.old_val else "") + REST, change) + note]


# by the kind of a change: a function, or a call with the names in the change
SPELLERS: dict[str, Speller] = {
    "add column": add_column,
    "add label": change_enum,
    "check": add_constraint,
    "create index": create_index,
    "create table": create_table,
    "default": "change_default({table}, {name}, {default}{schema})",
    "drop column": "drop_column({table}, {name}{schema})",
    "drop constraint": "drop_constraint({name}, {table}{schema})",
    "drop index": "drop_index({table}{schema})",
    "drop table": "drop_table({table}{schema})",
    "drop type": "drop_enum({table}{schema})  # for an enum",
    "foreign key": add_constraint,
    "no default": "change_default({table}, {name}, None{schema})",
    "not null": REQUIRED,
    "null": "allow_null({table}, {name}{schema})",
    "rename column": "rename_column({table}, {name}, {new}{schema})",
    "rename constraint": "rename_constraint({name}, {table}, {new}{schema})",
    "rename index": "rename_index({table}, …, {new}{schema})",
    "rename label": change_enum,
    "rename table": "rename_table({table}, {new}{schema})",
    "type": change_type,
    "unique": add_constraint,
    "update": backfill,
}
