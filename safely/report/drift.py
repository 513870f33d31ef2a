"""Drift, as far as whoever may only look can tell; `safely.ledger.drift` refuses it."""

import json
from collections.abc import Sequence

import sqlalchemy as sa

from safely.ledger import drift as refusing
from safely.ledger.ledger import LOG, SERVER, as_text
from safely.ledger.snapshot import differences
from safely.report.files import File
from safely.report.history import History
from safely.report.postgresql import PostgreSQL
from safely.report.sqlite import SQLite
from service.evolution.schemas import Drift

LISTED = 50  # differences, at most
LAST = (
    sa.select(LOG.c.direction, LOG.c.revision, LOG.c.started, LOG.c.server, LOG.c.snapshot)
    .where(LOG.c.snapshot.is_not(None))
    .order_by(LOG.c.id.desc())
    .limit(1)
)


def drift(
    place: PostgreSQL | SQLite, past: History, files: Sequence[File], revision: str | None
) -> Drift:
    """What differs from what was recorded, in the files and in the schema."""
    edited = edited_files(past, files, revision or "")
    since, unknown, differing = schema_drift(place, past)
    return Drift(
        found=True if edited or differing else None if unknown else False,
        since=since,
        unknown=unknown,
        differences=differing[:LISTED],
        more=len(differing[LISTED:]),
        edited=edited,
    )


def edited_files(past: History, files: Sequence[File], revision: str) -> list[str]:
    """Which applied revision files are others than those that were applied, each in words."""
    return [
        refusing.edit(file.name, was, file.checksum)
        for file in files
        if file.revision <= revision
        and (was := past.checksums.get(file.revision))
        and was != file.checksum
    ]


def schema_drift(
    place: PostgreSQL | SQLite, past: History
) -> tuple[str | None, str | None, list[str]]:
    """Since when the schema is recorded, why nothing can be said, and what differs."""
    last = place.connection.execute(LAST).first() if place.has_ledger else None
    if last is None:
        return None, why_unrecorded(place), []
    since = f"{last.direction} {last.revision}"
    if reason := why_unknown(place, past, last.server):
        return since, reason, []
    seen = place.snapshot()
    if seen is None:
        return since, "somebody has locked what would have to be looked at", []
    differing = differences(json.loads(last.snapshot), json.loads(seen))
    if differing and place.connection.execute(LAST).first() != last:
        return since, "a migration has just changed the schema: look again", []
    return since, None, differing


def why_unrecorded(place: PostgreSQL | SQLite) -> str:
    """Why there is nothing to compare the schema with."""
    return "the ledger can't be read" if place.is_closed else "nothing is recorded yet"


def why_unknown(place: PostgreSQL | SQLite, past: History, recorded_by: str) -> str | None:
    """Why the schema can't be compared with what is recorded; None if it can."""
    if past.half:
        return f"{past.half.direction} {past.half.revision} is not finished"
    server = place.connection.scalar(sa.select(as_text(SERVER[place.kind])))
    other = None if server == recorded_by else recorded_by
    return refusing.Drift("", [], other_server=other).why_unknown()
