"""Reads the ledger: the last rows, and the last row of each revision and direction."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy import Connection

from safely.ledger import ledger
from safely.ledger.ledger import LOG, Half
from safely.report.contents import LedgerRow, Revision
from safely.report.files import RevisionFile
from safely.report.position import Position

LAST_ROWS = 20
LONGEST_MESSAGE = 2000  # characters; that of accepted drift names each difference
APPLYING = ("upgrade", "stamp")

COLUMNS = (
    LOG.c.revision,
    LOG.c.direction,
    LOG.c.state,
    sa.func.substr(LOG.c.message, 1, LONGEST_MESSAGE).label("message"),
    LOG.c.started,
    LOG.c.duration.label("seconds"),
    LOG.c.attempts,
    LOG.c.longest_lock_wait,
    LOG.c.username,
    LOG.c.host,
    LOG.c.build,
)
NOTHING: Mapping[str, Any] = MappingProxyType({})


class History(NamedTuple):
    """The content of the ledger; empty for a database without one."""

    rows: Sequence[LedgerRow] = ()  # the last, newest first
    row_count: int = 0  # of the whole ledger
    moves: Sequence[LedgerRow] = ()  # the last of each revision and direction, oldest first
    times_applied: Mapping[str, int] = NOTHING  # by revision
    checksums: Mapping[str, str] = NOTHING  # of the files that were applied, by revision
    half: Half | None = None


def read(connection: Connection) -> History:
    """Return the content of the ledger, as far as a report shows it."""
    is_done = LOG.c.state == "done"
    newest = sa.select(sa.func.max(LOG.c.id))
    moved = newest.where(
        LOG.c.state != "undone", LOG.c.direction.in_((*APPLYING, "downgrade"))
    ).group_by(LOG.c.revision, LOG.c.direction)
    recorded = newest.where(
        is_done, LOG.c.direction != "downgrade", LOG.c.checksum.is_not(None)
    ).group_by(LOG.c.revision)
    applied = (
        sa.select(LOG.c.revision, sa.func.count())
        .where(is_done, LOG.c.direction == "upgrade")
        .group_by(LOG.c.revision)
    )
    checksums = sa.select(LOG.c.revision, LOG.c.checksum).where(LOG.c.id.in_(recorded))
    last = sa.select(*COLUMNS).order_by(LOG.c.id.desc()).limit(LAST_ROWS)
    moves = sa.select(*COLUMNS).where(LOG.c.id.in_(moved)).order_by(LOG.c.id)
    return History(
        rows=ledger_rows(connection, last),
        row_count=connection.scalar(sa.select(sa.func.count()).select_from(LOG)) or 0,
        moves=ledger_rows(connection, moves),
        times_applied=pairs(connection, applied),
        checksums=pairs(connection, checksums),
        half=ledger.unfinished(connection),
    )


def ledger_rows(connection: Connection, query: sa.Select[Any]) -> list[LedgerRow]:
    """Return the rows of a query for COLUMNS."""
    rows = connection.execute(query).mappings()
    return [LedgerRow(**{**row, "started": in_utc(row["started"])}) for row in rows]


def pairs(connection: Connection, query: sa.Select[Any]) -> dict[str, Any]:
    """Return the rows of a query for two columns as a dictionary."""
    return {name: value for name, value in connection.execute(query)}  # noqa: C416  # rows are no tuples to mypy


def in_utc(moment: datetime) -> datetime:
    """Return a time of the ledger in UTC; SQLite keeps no time zone, and its times are in UTC."""
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def revisions(past: History, files: Sequence[RevisionFile], position: Position) -> list[Revision]:
    """Return the revisions of the files, and the applied ones that have no file here, in order."""
    by_id = {file.revision: file for file in files}
    without_file = applied_without_file(past, by_id, position)
    applied = position.applied | without_file
    return [
        describe(revision, past, by_id.get(revision), is_applied=revision in applied)
        for revision in ids_in_order(past, by_id, position, without_file)
    ]


def applied_without_file(
    past: History, known: Collection[str], position: Position
) -> frozenset[str]:
    """Return the revisions that the ledger has as applied, and that have no file here.

    Unless the database is ahead, only those from before its last upgrade: a later one was left
    by a stamp.
    """
    moves, last_direction = past.moves, {row.revision: row.direction for row in past.moves}
    if not position.is_ahead:
        upgrades = [
            number
            for number, row in enumerate(moves)
            if row.direction == "upgrade" and row.revision in position.heads
        ]
        moves = moves[: upgrades[-1]] if upgrades else ()
    return frozenset(
        row.revision
        for row in moves
        if row.revision not in known
        and row.revision != "base"
        and last_direction[row.revision] in APPLYING
    )


def ids_in_order(
    past: History, known: Iterable[str], position: Position, without_file: Collection[str]
) -> list[str]:
    """Return the ids of the files in order, and those without a file where the ledger has them.

    Each of those comes after the revision that was applied before it; last come the ones of which
    the ledger tells nothing.
    """
    ids, place = list(known), 0
    for row in past.moves:
        if row.direction in APPLYING:
            if row.revision in without_file and row.revision not in ids:
                ids.insert(place, row.revision)
            if row.revision in ids:
                place = ids.index(row.revision) + 1
    last = [*position.heads, *([past.half.revision] if past.half else [])]
    return list(dict.fromkeys([*ids, *last]))


def describe(
    revision: str, past: History, file: RevisionFile | None, *, is_applied: bool
) -> Revision:
    """Return a revision with the row of the step that led to its state."""
    is_half = past.half is not None and past.half.revision == revision
    directions: Sequence[str] = APPLYING if is_applied else ("downgrade",)
    if past.half and is_half:
        directions = (past.half.direction,)
    rows = [row for row in past.moves if row.revision == revision and row.direction in directions]
    last = rows[-1] if rows else None
    return Revision(
        revision=revision,
        message=file.message if file else (last and last.message) or "",
        state="unfinished" if is_half else "applied" if is_applied else "pending",
        has_file=file is not None,
        last_row=last,
        times_applied=past.times_applied.get(revision, 0),
        paragraphs=file.paragraphs if file else [],
    )
