"""Drift, as far as a role without rights can tell; `safely.ledger.drift` refuses to migrate it."""

import json
from collections.abc import Sequence

import sqlalchemy as sa

from safely.ledger import drift as ledger_drift
from safely.ledger.checksum import is_comparable
from safely.ledger.ledger import LOG, SERVER, as_text
from safely.ledger.snapshot import undeclared_differences
from safely.report.contents import DriftReport
from safely.report.files import RevisionFile
from safely.report.history import History
from safely.report.position import Position
from safely.report.postgresql import PostgreSQL
from safely.report.sqlite import SQLite

LISTED = 50  # differences, at most
LAST_SNAPSHOT = (
    sa.select(LOG.c.direction, LOG.c.revision, LOG.c.started, LOG.c.server, LOG.c.snapshot)
    .where(LOG.c.snapshot.is_not(None))
    .order_by(LOG.c.id.desc())
    .limit(1)
)


def drift(
    place: PostgreSQL | SQLite, past: History, files: Sequence[RevisionFile], position: Position
) -> DriftReport:
    """Return how the revision files and the schema differ from what the ledger recorded."""
    edited = edited_files(past, files, position)
    since, why_unknown, sentences = schema_drift(place, past)
    return DriftReport(
        is_different=True if edited or sentences else None if why_unknown else False,
        since=since,
        why_unknown=why_unknown,
        differences=sentences[:LISTED],
        more=len(sentences[LISTED:]),
        edited_files=edited,
    )


def edited_files(past: History, files: Sequence[RevisionFile], position: Position) -> list[str]:
    """Return a sentence for each applied revision whose file is not the one that was applied."""
    return [
        ledger_drift.edit_in_words(file.name, recorded, file.checksum)
        for file in files
        if file.revision in position.applied
        and (recorded := past.checksums.get(file.revision))
        and is_comparable(recorded)
        and recorded != file.checksum
    ]


def schema_drift(
    place: PostgreSQL | SQLite, past: History
) -> tuple[str | None, str | None, list[str]]:
    """Return the step that recorded the schema, why drift is unknown, and the differences."""
    last = place.connection.execute(LAST_SNAPSHOT).first() if place.has_ledger else None
    if last is None:
        return None, why_unrecorded(place), []
    since = f"{last.direction} {last.revision}"
    if reason := why_not_comparable(place, past, last.server):
        return since, reason, []
    current = place.snapshot()
    if current is None:
        return since, "a table is locked, and reading its definition would have to wait", []
    sentences = undeclared_differences(json.loads(last.snapshot), json.loads(current))
    if sentences and place.connection.execute(LAST_SNAPSHOT).first() != last:
        return since, "a migration has just changed the schema: look again", []
    return since, None, sentences


def why_unrecorded(place: PostgreSQL | SQLite) -> str:
    """Return why there is no snapshot to compare the schema with."""
    return "the ledger can't be read" if place.is_closed else "nothing is recorded yet"


def why_not_comparable(place: PostgreSQL | SQLite, past: History, server: str) -> str | None:
    """Return why the schema can't be compared with the snapshot that `server` recorded, or None."""
    if past.half:
        return f"{past.half.direction} {past.half.revision} is not finished"
    current = place.connection.scalar(sa.select(as_text(SERVER[place.kind])))
    other = None if current == server else server
    return ledger_drift.Drift("", [], other_server=other).why_unknown()
