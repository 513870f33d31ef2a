"""The migrator's statements, the locks that each took, and the one to blame for a client's wait."""

import re
from collections.abc import Iterable, Sequence
from typing import Any

from safely.rehearsal.observer import HeldLock, Wait
from safely.rehearsal.report import Statement, in_one_line
from safely.run.table_locks import without_suffix

MODES = (  # from the weakest to the strongest
    "AccessShare",
    "RowShare",
    "RowExclusive",
    "ShareUpdateExclusive",
    "Share",
    "ShareRowExclusive",
    "Exclusive",
    "AccessExclusive",
)
CHANGES = re.compile(
    r"\s*(ALTER|CREATE|DROP|COMMENT|INSERT|UPDATE|DELETE|DO|WITH)\b", re.IGNORECASE
)
PUBLISHING = re.compile(r"DO \$publish\$")  # belongs to every step
TEMPORARY = re.compile(r"\s*(CREATE TEMPORARY|(ALTER|DROP) TABLE safely_)")  # no client sees it
QUICK = 0.1  # seconds
CLOCKS = 0.001  # seconds by which the trace's clock and the server's may differ

Line = dict[str, Any]
"""A line of the trace, which safely.run.trace writes."""


def statements(
    statement_lines: list[Line],
    lines: list[Line],
    held_locks: set[HeldLock],
    bookkeeping: Iterable[str],
) -> list[Statement]:
    """Return the statements on the application's tables, executions of the same text together.

    `statement_lines`: the lines of statements among all `lines`.
    """
    by_text: dict[str, Statement] = {}
    for line in statement_lines:
        ended = line["began"] + line["seconds"]
        # a statement that is a transaction of its own holds nothing afterwards, so the trace has
        # no locks of it: the observer saw them
        observed = [lock for lock in held_locks if line["began"] - CLOCKS <= lock.began <= ended]
        locks = strongest(
            [
                *((table, mode) for table, mode in line.get("locks", ())),
                *((lock.table, without_suffix(lock.mode)) for lock in observed),
            ]
        )
        if belongs_to_migrating(line["sql"], bookkeeping):
            continue
        if not (locks or line.get("alone") or "error" in line):
            continue
        statement = by_text.setdefault(line["sql"], Statement(line["sql"]))
        statement.times += 1
        statement.seconds += line["seconds"]
        statement.longest = max(statement.longest, line["seconds"])
        statement.locks = strongest([*statement.locks.items(), *locks.items()])
        released = ended if line.get("alone") else end_of_transaction(line, lines)
        if locks:
            statement.held = max(statement.held, released - line["began"])
    return [statement for statement in by_text.values() if is_of_interest(statement)]


def belongs_to_migrating(sql: str, bookkeeping: Iterable[str]) -> bool:
    """Return whether a statement is on none of the application's tables."""
    names = any(re.search(rf"\b{re.escape(name)}\b", sql) for name in bookkeeping)
    return names or bool(PUBLISHING.search(sql) or TEMPORARY.match(sql))


def is_of_interest(statement: Statement) -> bool:
    """Return whether a statement changes something, or took long."""
    only_reads = all(mode == "AccessShare" for mode in statement.locks.values())
    return not only_reads or statement.longest > QUICK or bool(CHANGES.match(statement.sql))


def strongest(locks: Iterable[Sequence[str]]) -> dict[str, str]:
    """Return the strongest mode of each table."""
    modes: dict[str, str] = {}
    for table, mode in locks:
        if table not in modes or MODES.index(mode) > MODES.index(modes[table]):
            modes[table] = mode
    return modes


def end_of_transaction(line: Line, lines: list[Line]) -> float:
    """Return when the transaction of a statement was over, in seconds since 1970."""
    ended: float = line["began"] + line["seconds"]
    ends = (other["at"] for other in lines if other["what"] == "over" and other["at"] >= ended)
    return min(ends, default=ended)


def statement_to_blame(wait: Wait, statement_lines: list[Line], lines: list[Line]) -> str:
    """Return, in one line, the statement that took most of the time of a client's wait.

    Where an earlier statement of its transaction had taken the lock, that one is named as well.
    """

    def overlap(line: Line) -> float:
        ended = min(line["began"] + line["seconds"], wait.began + wait.seconds)
        return float(ended - max(line["began"], wait.began))

    longest = max(statement_lines, key=overlap, default=None)
    if longest is None or overlap(longest) <= 0:
        return in_one_line(wait.query)
    words = in_one_line(longest["sql"])
    for line in statement_lines:
        tables = {table for table, mode in line.get("locks", ()) if blocks_clients(mode)}
        is_earlier = line["began"] < longest["began"] < end_of_transaction(line, lines)
        if wait.table in tables and is_earlier:
            return f"{words}, under the lock that {in_one_line(line['sql'])} took"
    return words


def blocks_clients(mode: str) -> bool:
    """Return whether readers or writers wait for a lock of this mode."""
    return MODES.index(mode) >= MODES.index("Share")
