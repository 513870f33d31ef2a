"""What the ledger tells."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy import Connection

from safely.ledger import ledger
from safely.ledger.ledger import LOG, Half
from safely.report.files import File
from service.evolution.schemas import Entry, Revision

LOG_ROWS = 20  # that are shown, beside the last of each revision
LONG = 2000  # characters of a message: drift that was accepted may have taken many words
APPLYING = ("upgrade", "stamp")

COLUMNS = (
    LOG.c.revision,
    LOG.c.direction,
    LOG.c.state,
    sa.func.substr(LOG.c.message, 1, LONG).label("message"),
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
    """What was done; of a database without a ledger, nothing."""

    log: Sequence[Entry] = ()  # the last, newest first
    length: int = 0  # of the whole ledger
    moves: Sequence[Entry] = ()  # the last of each revision and direction, oldest first
    times: Mapping[str, int] = NOTHING  # how often each revision was applied
    checksums: Mapping[str, str] = NOTHING  # of the files that were applied, by revision
    half: Half | None = None


def read(connection: Connection) -> History:
    """All that is asked of the ledger."""
    done = LOG.c.state == "done"
    newest = sa.select(sa.func.max(LOG.c.id))
    moved = newest.where(
        LOG.c.state != "undone", LOG.c.direction.in_((*APPLYING, "downgrade"))
    ).group_by(LOG.c.revision, LOG.c.direction)
    recorded = newest.where(
        done, LOG.c.direction != "downgrade", LOG.c.checksum.is_not(None)
    ).group_by(LOG.c.revision)
    applied = (
        sa.select(LOG.c.revision, sa.func.count())
        .where(done, LOG.c.direction == "upgrade")
        .group_by(LOG.c.revision)
    )
    checksums = sa.select(LOG.c.revision, LOG.c.checksum).where(LOG.c.id.in_(recorded))
    shown = sa.select(*COLUMNS).order_by(LOG.c.id.desc()).limit(LOG_ROWS)
    moves = sa.select(*COLUMNS).where(LOG.c.id.in_(moved)).order_by(LOG.c.id)
    return History(
        log=entries(connection, shown),
        length=connection.scalar(sa.select(sa.func.count()).select_from(LOG)) or 0,
        moves=entries(connection, moves),
        times=pairs(connection, applied),
        checksums=pairs(connection, checksums),
        half=ledger.unfinished(connection),
    )


def entries(connection: Connection, query: sa.Select[Any]) -> list[Entry]:
    """Rows of the ledger."""
    rows = connection.execute(query).mappings()
    return [Entry(**{**row, "started": in_utc(row["started"])}) for row in rows]


def pairs(connection: Connection, query: sa.Select[Any]) -> dict[str, Any]:
    """Rows of two columns."""
    return {name: value for name, value in connection.execute(query)}  # noqa: C416  # rows are no tuples to mypy


def in_utc(moment: datetime) -> datetime:
    """A time of the ledger; SQLite keeps no time zone, and those in it are of UTC."""
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def chain(past: History, files: Sequence[File], revision: str | None) -> list[Revision]:
    """The revisions of this build, and those that the database has beside them."""
    here = revision or ""
    by_revision = {file.revision: file for file in files}
    there = {entry.revision for entry in past.moves if entry.revision <= here} | {here} - {""}
    if past.half:
        there.add(past.half.revision)
    numbers = sorted(there | set(by_revision))
    return [link(number, here, past, by_revision.get(number)) for number in numbers]


def link(number: str, here: str, past: History, file: File | None) -> Revision:
    """One of them."""
    is_half = past.half is not None and past.half.revision == number
    is_applied = number <= here
    wanted: Sequence[str] = APPLYING if is_applied else ("downgrade",)
    if past.half and is_half:
        wanted = (past.half.direction,)
    made = [e for e in past.moves if e.revision == number and e.direction in wanted]
    last = made[-1] if made else None
    return Revision(
        revision=number,
        message=file.message if file else (last and last.message) or "",
        state="unfinished" if is_half else "applied" if is_applied else "pending",
        known=file is not None,
        last=last,
        times=past.times.get(number, 0),
        about=file.about if file else [],
    )
