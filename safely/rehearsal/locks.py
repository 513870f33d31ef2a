"""What was said, which locks that took, and who is to blame for a wait."""

import re
from collections.abc import Iterable, Sequence
from typing import Any

from safely.rehearsal.report import Statement, short
from safely.rehearsal.witness import Held, Wait

MODES = (  # from weak to strong
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
OURS = re.compile(r"DO \$publish\$|migration_log|alembic_version")  # what belongs to every step
TEMPORARY = re.compile(r"\s*(CREATE TEMPORARY|(ALTER|DROP) TABLE safely_)")  # nobody else's
QUICK = 0.1  # seconds

Line = dict[str, Any]  # what safely.run.trace writes


def statements(said: list[Line], lines: list[Line], held: set[Held]) -> list[Statement]:
    """What was said of the application's tables, the same words together."""
    found: dict[str, Statement] = {}
    for line in said:
        locks = dict(strongest(tuple(lock) for lock in line.get("locks", ())))
        ended = line["began"] + line["seconds"]
        # what is a transaction of its own holds nothing afterwards: it was seen from beside
        seen = [one for one in held if line["began"] - 0.001 <= one.began <= ended]
        locks = dict(strongest([*locks.items(), *((one.table, mode(one)) for one in seen)]))
        if OURS.search(line["sql"]) or TEMPORARY.match(line["sql"]):
            continue
        if not (locks or line.get("alone") or "error" in line):
            continue
        statement = found.setdefault(line["sql"], Statement(line["sql"]))
        statement.times += 1
        statement.seconds += line["seconds"]
        statement.longest = max(statement.longest, line["seconds"])
        statement.locks = dict(strongest([*statement.locks.items(), *locks.items()]))
        until = ended if line.get("alone") else over(line, lines)
        if locks:
            statement.held = max(statement.held, until - line["began"])
    return [one for one in found.values() if matters(one)]


def matters(statement: Statement) -> bool:
    """Whether somebody wants to see it: not what only reads the catalogue, or sets something."""
    reads = all(found == "AccessShare" for found in statement.locks.values())
    return not reads or statement.longest > QUICK or bool(CHANGES.match(statement.sql))


def mode(held: Held) -> str:
    """As the trace has it."""
    return held.mode.removesuffix("Lock")


def strongest(locks: Iterable[Sequence[str]]) -> Iterable[tuple[str, str]]:
    """Of each table the strongest."""
    best: dict[str, str] = {}
    for table, found in locks:
        if table not in best or MODES.index(found) > MODES.index(best[table]):
            best[table] = found
    return best.items()


def over(line: Line, lines: list[Line]) -> float:
    """When the transaction of a statement was over."""
    ended: float = line["began"] + line["seconds"]
    return min((o["at"] for o in lines if o["what"] == "over" and o["at"] >= ended), default=ended)


def blame(wait: Wait, said: list[Line], lines: list[Line]) -> str:
    """The statement that a client waited for: the one that took most of that time.

    Where an earlier one of its transaction had taken the lock, that is named as well.
    """

    def shared(line: Line) -> float:
        ended = min(line["began"] + line["seconds"], wait.began + wait.seconds)
        return float(ended - max(line["began"], wait.began))

    longest = max(said, key=shared, default=None)
    if longest is None or shared(longest) <= 0:
        return short(wait.query)
    words = short(longest["sql"])
    for line in said:
        takes = {table for table, found in line.get("locks", ()) if strong(found)}
        table = wait.table and wait.table.rpartition(".")[2]
        if table in takes and line["began"] < longest["began"] < over(line, lines):
            return f"{words}, under the lock that {short(line['sql'])} took"
    return words


def strong(found: str) -> bool:
    """Whether readers or writers wait for it."""
    return MODES.index(found) >= MODES.index("Share")
