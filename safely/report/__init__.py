"""The history and the state of a schema, read by a role that may change nothing.

The application shows it to operators. Its role needs no rights on the tables: it reads the ledger
through a published version, and the rest from the catalogue, which every role may read.
"""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime

from sqlalchemy import Connection

from safely.report import history
from safely.report.advice import advice
from safely.report.contents import Database, SchemaReport
from safely.report.drift import drift
from safely.report.files import RevisionFile
from safely.report.history import History
from safely.report.position import locate, standing
from safely.report.postgresql import PostgreSQL
from safely.report.sqlite import SQLite


def look(  # noqa: PLR0913  # the parts of a project; callers name each
    connection: Connection,
    *,
    project: str,
    build: str,
    files: Sequence[RevisionFile],
    version_table: str = "alembic_version",
    version_table_schema: str | None = None,
) -> SchemaReport:
    """Return a report on the database, which is only read.

    `project` is the name of the project, whose builds connect as `<project>@<revision>`; `build`
    is the revision that the models of this build describe; `files` are those of `revision_files`.
    On PostgreSQL the schema of the tables is the connection's current one, unless the role reads
    it through a published version; the connection's `schema_translate_map` is replaced.
    """
    ids = [file.revision for file in files]
    place: PostgreSQL | SQLite
    if connection.dialect.name == "postgresql":
        place = PostgreSQL(connection, project, ids, version_table, version_table_schema)
    else:
        place = SQLite(connection, version_table)
    past = history.read(connection) if place.has_ledger else History()
    position = locate(place.heads(), files)
    is_unknown = place.is_closed and not position.heads
    report = SchemaReport(
        made=datetime.now(UTC),
        build=build,
        database=Database(
            kind=place.kind,
            server=place.server,
            name=place.name,
            revision=position.revision,
            standing="unknown" if is_unknown else standing(position, build, files),
        ),
        advice=[],
        running=place.running(),
        revisions=history.revisions(past, files, position),
        published=place.published(),
        builds=place.builds(),
        standbys=place.standbys(),
        set_aside=list(place.set_aside({*ids, *(row.revision for row in past.moves)})),
        drift=drift(place, past, files, position),
        rows=list(past.rows),
        row_count=past.row_count,
    )
    return replace(report, advice=list(advice(report, project, is_closed=place.is_closed)))
