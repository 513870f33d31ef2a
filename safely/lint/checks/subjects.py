"""The subjects of a revision: operations about one column or one new table have one subject."""

import itertools
import re
from collections.abc import Iterator
from typing import NamedTuple

from postgast import walk_typed
from postgast.nodes import AstNode

from safely.lint.directions import Direction
from safely.lint.findings import Finding
from safely.lint.parsing import strings
from safely.lint.source import NAME_FIRST, Call, Source
from safely.lint.spellings.calls import code
from safely.lint.sql_text import identifiers, unqualified
from safely.lint.statements import changes

# words in an expression that name no column; and `id`, which most tables have
NOT_COLUMNS = {
    "and", "between", "c", "case", "check", "coalesce", "collate", "current_date", "distinct",
    "else", "end", "false", "from", "id", "in", "interval", "is", "length", "like", "lower", "not",
    "now", "null", "or", "select", "then", "trim", "true", "upper", "when", "where",
}  # fmt: skip
CHANGING = re.compile(
    r"(?:add|allow|alter|change|create|drop|exec|rename|require)_|backfill|execute"
)
# attributes of the parser's nodes
NAMES = ("colname", "conname", "idxname", "name", "newname", "relname", "subname")
LISTS_OF_NAMES = ("fields", "fk_attrs", "keys")  # of a reference, a foreign key, another key
WITHOUT_COLUMNS = ("validate", "drop constraint", "drop index")  # their SQL names no columns


class Operation(NamedTuple):
    """A call that changes the database, and what it is about."""

    call: Call
    description: str
    table: str
    tables: set[str]
    """The table itself, and the new tables that the call mentions."""
    columns: set[str]
    """The columns that the call mentions; if empty, it may be about any column."""


def check(direction: Direction) -> Iterator[Finding]:
    """Yield a finding for a revision with several subjects, where the second begins."""
    several = subjects(direction.source)
    if len(several) > 1:
        yield Finding.of(
            "two-subjects",
            several[1][0].call.lines,
            revisions_to_write(direction),
            number=str(len(several)),
            subjects="; ".join(subject[0].description for subject in several),
        )


def revisions_to_write(direction: Direction) -> str | None:
    """Return a file name and a body for each subject; None if there is only one."""
    several = subjects(direction.source)
    if len(several) == 1:
        return None
    revision, lines = direction.revision, []
    for at, subject in enumerate(several):
        id_ = f"{int(revision) + at:0{len(revision)}}" if direction.numbered else "…"
        verb = subject[0].call.name.partition("_")[0]
        slug = re.sub(r"\W+", "_", f"{verb} {subject[0].description}")
        lines.append(f"{id_}_{slug}.py")
        for operation in subject:
            safe = direction.spelled(operation.call)
            plain = code(direction.source, operation.call.node)
            lines += [f"    {line}" for line in (safe or plain).splitlines()]
    return "\n".join(lines)


def subjects(source: Source) -> list[list[Operation]]:
    """Return the operations of the upgrade, those with one subject together."""
    calls = [call for call in source.calls if call.up and CHANGING.match(call.name)]
    new_tables = {str(source.table(call)) for call in calls if call.name == "create_table"}
    groups: list[list[Operation]] = []
    for call in calls:
        if operation := read(source, call, new_tables):
            same = [
                group
                for group in groups
                if any(have_one_subject(operation, other, new_tables) for other in group)
            ]
            groups = [group for group in groups if group not in same]
            groups.append([*(other for group in same for other in group), operation])
    return sorted(groups, key=lambda group: group[0].call.lines)


def have_one_subject(one: Operation, other: Operation, new_tables: set[str]) -> bool:
    """Return whether two operations are about the same new table or the same column."""
    if one.tables & other.tables & new_tables:
        return True
    if one.table != other.table:
        return False
    return not (one.columns and other.columns) or bool(one.columns & other.columns)


def read(source: Source, call: Call, new_tables: set[str]) -> Operation | None:
    """Return the operation of a call; None if the file doesn't tell its table."""
    if call.name in ("execute", "exec_driver_sql"):
        return read_sql(source, call, new_tables)
    table = source.table(call)
    if table is None:
        return None
    others = call.arguments()[2 if call.name in NAME_FIRST else 1 :]
    nodes = [*others, *call.options()]
    names = {name for node in nodes for text in source.strings(node) for name in identifiers(text)}
    return operation_of(call, describe(source, call, table), table, names, new_tables)


def read_sql(source: Source, call: Call, new_tables: set[str]) -> Operation | None:
    """Return the operation of a call that runs SQL; None if the SQL changes no table."""
    text = source.text(call.node.args[0]) if call.node.args else None
    for change in changes(text or ""):
        if change.table:
            column = unqualified(change.parts.get("column", ""))
            description = f"{change.table} {column}".strip()
            names = set() if change.kind in WITHOUT_COLUMNS else set(mentioned(change.node))
            return operation_of(call, description, change.table, names, new_tables)
    return None


def mentioned(node: AstNode) -> Iterator[str]:
    """Yield the names of tables, columns, indexes and constraints in SQL, in lower case."""
    for _, inner in walk_typed(node):
        lists = (getattr(inner, attribute, ()) for attribute in LISTS_OF_NAMES)
        names = (getattr(inner, attribute, "") for attribute in NAMES)
        for name in (*itertools.chain(*map(strings, lists)), *names):
            if isinstance(name, str) and name:
                yield name.lower()


def operation_of(
    call: Call, description: str, table: str, names: set[str], new_tables: set[str]
) -> Operation:
    """Return an operation that mentions these names: of new tables, and else of columns."""
    columns = names - NOT_COLUMNS - {table}
    return Operation(call, description, table, {table} | names & new_tables, columns)


def describe(source: Source, call: Call, table: str) -> str:
    """Return what an operation is about: `table.column`, its constraint or index, or its table."""
    arguments = call.arguments()
    if call.name in NAME_FIRST:
        name = next(source.strings(arguments[0]), None) if arguments else None
    elif len(arguments) > 1 and call.name != "create_table":
        name = next(source.strings(arguments[1]), None)
    else:
        name = None
    if name is None:
        return table
    if call.name == "backfill":
        name = name.partition("=")[0].strip()
    return name if call.name in NAME_FIRST else f"{table}.{name}"
