"""How many things a revision does: operations that share a column or a new table are one."""

import re
from collections.abc import Iterator
from typing import NamedTuple

from safely.lint.findings import Finding, found
from safely.lint.source import NAME_FIRST, Call, Source
from safely.lint.spelling import code, of_call
from safely.lint.statements import bare, changes, items, words
from safely.lint.ways import Way

# in an expression they name no column; and every row has an id
NO_COLUMNS = {
    "and", "between", "c", "case", "check", "coalesce", "collate", "current_date", "distinct",
    "else", "end", "false", "from", "id", "in", "interval", "is", "length", "like", "lower", "not",
    "now", "null", "or", "select", "then", "trim", "true", "upper", "when", "where",
}  # fmt: skip
CHANGING = re.compile(
    r"(?:add|allow|alter|change|create|drop|exec|rename|require)_|backfill|execute"
)
NAMELESS = ("validate", "drop constraint", "drop index")  # SQL that doesn't say which columns


class Operation(NamedTuple):
    """A call, and what it is about."""

    call: Call
    about: str  # in words
    tables: set[str]  # its own, and new ones that it mentions
    table: str
    columns: set[str]  # empty: that can't be read, and it may be any


def check(way: Way) -> Iterator[Finding]:
    """Tell of a revision that does several things, at the line where the second begins."""
    several = subjects(way.source)
    if len(several) > 1:
        yield found(
            "two-subjects",
            several[1][0].call.lines,
            revisions_to_write(way),
            number=str(len(several)),
            subjects="; ".join(subject[0].about for subject in several),
        )


def revisions_to_write(way: Way) -> str | None:
    """Return a file name and a body for each subject; None if there is only one."""
    several = subjects(way.source)
    if len(several) == 1:
        return None
    lines = []
    for at, subject in enumerate(several):
        number = f"{int(way.revision) + at:0{len(way.revision)}}" if way.numbered else "…"
        verb = subject[0].call.name.partition("_")[0]
        name = re.sub(r"\W+", "_", f"{verb} {subject[0].about}")
        lines.append(f"{number}_{name}.py")
        for operation in subject:
            spelled = of_call(way.source, operation.call, way.metadata) or code(operation.call.node)
            lines += [f"    {line}" for line in spelled.splitlines()]
    return "\n".join(lines)


def subjects(source: Source) -> list[list[Operation]]:
    """The operations of the way up, those together that are about one thing."""
    calls = [call for call in source.calls if call.up and CHANGING.match(call.name)]
    made = {str(source.table(call)) for call in calls if call.name == "create_table"}
    found: list[list[Operation]] = []
    for operation in filter(None, (read(source, call, made) for call in calls)):
        same = [subject for subject in found if any(joined(operation, o, made) for o in subject)]
        found = [subject for subject in found if subject not in same]
        found.append([*(o for subject in same for o in subject), operation])
    return sorted(found, key=lambda subject: subject[0].call.lines)


def joined(one: Operation, other: Operation, made: set[str]) -> bool:
    """Whether two operations are about the same thing."""
    if one.tables & other.tables & made:
        return True
    if one.table != other.table:
        return False
    return not (one.columns and other.columns) or bool(one.columns & other.columns)


def read(source: Source, call: Call, made: set[str]) -> Operation | None:
    """What a call is about; None if that can't be read."""
    if call.name in ("execute", "exec_driver_sql"):
        return read_sql(source, call, made)
    table = source.table(call)
    if table is None:
        return None
    behind = call.arguments()[2 if call.name in NAME_FIRST else 1 :]
    given = [*behind, *call.node.keywords]
    said = {word for node in given for text in source.strings(node) for word in words(text)}
    return Operation(
        call, about(source, call, table), {table} | said & made, table, said - NO_COLUMNS - {table}
    )


def read_sql(source: Source, call: Call, made: set[str]) -> Operation | None:
    """What plain SQL is about."""
    text = source.text(call.node.args[0]) if call.node.args else None
    for change in changes(text or ""):
        if change.table:
            parts = [] if change.kind in NAMELESS else list(change.parts.values())
            said = words(" ".join(parts))
            return Operation(
                call,
                " ".join((change.table, bare(change.parts.get("column", "")))).strip(),
                {change.table} | said & made,
                change.table,
                said - NO_COLUMNS - {change.table},
            )
    return None


def about(source: Source, call: Call, table: str) -> str:
    """What an operation is about, in words: its column, or what it makes or drops."""
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
        name = items(name)[0].partition("=")[0].strip()
    return name if call.name in NAME_FIRST else f"{table}.{name}"
