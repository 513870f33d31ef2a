"""What there is to tell of a database's evolution, gathered by whoever may only look.

The service shows it at /evolution, and this is its one door to migrations: what is imported here
knows no more of the service than its models, its outages and the structs of that page.
The service's role has no right to the tables. It reads the ledger through a published version,
and the rest from the catalogue, which is open to all.
"""

from collections.abc import Sequence
from datetime import UTC, datetime

from sqlalchemy import Connection

from safely.report import history
from safely.report.advice import advice
from safely.report.drift import drift
from safely.report.files import File
from safely.report.history import History
from safely.report.postgresql import PostgreSQL
from safely.report.sqlite import SQLite
from service.evolution.schemas import Database, Evolution, Standing
from service.models import SCHEMA_REVISION


def look(connection: Connection, files: Sequence[File]) -> Evolution:
    """Everything, by reading only; `files` are the revision files of this build."""
    is_postgresql = connection.dialect.name == "postgresql"
    place = PostgreSQL(connection) if is_postgresql else SQLite(connection)
    past = history.read(connection) if place.has_ledger else History()
    revision = place.revision()
    found = Evolution(
        looked=datetime.now(UTC),
        build=SCHEMA_REVISION,
        database=Database(
            kind="postgresql" if is_postgresql else "sqlite",
            server=place.server,
            name=place.name,
            revision=revision,
            standing="unknown" if place.is_closed and revision is None else standing(revision),
        ),
        advice=[],
        running=place.running(),
        chain=history.chain(past, files, revision),
        published=place.published(),
        builds=place.builds(),
        aside=list(place.aside()),
        drift=drift(place, past, files, revision),
        log=list(past.log),
        log_length=past.length,
    )
    found.advice.extend(advice(found, is_closed=place.is_closed))
    return found


def standing(revision: str | None) -> Standing:
    """Where the database is, beside this build."""
    if revision is None:
        return "empty"
    if revision == SCHEMA_REVISION:
        return "current"
    return "behind" if revision < SCHEMA_REVISION else "ahead"
