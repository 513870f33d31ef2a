"""Turns the report of `safely` into the structs of /evolution.json."""

from typing import TYPE_CHECKING

from service.evolution.schemas import (
    Aside,
    Build,
    Database,
    Drift,
    Entry,
    Evolution,
    Paragraph,
    Revision,
    Running,
    Standby,
)

if TYPE_CHECKING:
    # Alembic comes with it, 8 MiB and 0.2 s; here only its types are needed
    from safely.report import contents


def evolution(report: "contents.SchemaReport") -> Evolution:
    """Return the whole report as /evolution.json shows it."""
    return Evolution(
        looked=report.made,
        build=report.build,
        database=database(report.database),
        advice=list(report.advice),
        running=running(report.running) if report.running else None,
        chain=[revision(item) for item in report.revisions],
        published=list(report.published),
        builds=None if report.builds is None else [build(item) for item in report.builds],
        standbys=None if report.standbys is None else [standby(item) for item in report.standbys],
        aside=[aside(item) for item in report.set_aside],
        drift=drift(report.drift),
        log=[entry(row) for row in report.rows],
        log_length=report.row_count,
    )


def database(report: "contents.Database") -> Database:
    """Return the database and where it stands."""
    return Database(
        kind=report.kind,
        server=report.server,
        name=report.name,
        revision=report.revision,
        standing=report.standing,
    )


def running(migration: "contents.RunningMigration") -> Running:
    """Return the migration that is running."""
    return Running(
        since=migration.connected_since,
        waiting=migration.waiting,
        blockers=list(migration.blockers),
        waits_for_standby=migration.waits_for_standby,
    )


def standby(item: "contents.StandbyLag") -> Standby:
    """Return a standby and how far it is behind."""
    return Standby(name=item.name, state=item.state, bytes=item.bytes, seconds=item.seconds)


def revision(item: "contents.Revision") -> Revision:
    """Return a link of the chain."""
    return Revision(
        revision=item.revision,
        message=item.message,
        state=item.state,
        known=item.has_file,
        last=entry(item.last_row) if item.last_row else None,
        times=item.times_applied,
        about=[Paragraph(heading=part.heading, text=part.text) for part in item.paragraphs],
    )


def build(item: "contents.Build") -> Build:
    """Return a build that is connected."""
    return Build(revision=item.revision, connections=item.connections, published=item.is_published)


def aside(item: "contents.SetAside") -> Aside:
    """Return a column or table that is set aside."""
    return Aside(kind=item.kind, revision=item.revision, name=item.name, bytes=item.bytes)


def drift(report: "contents.DriftReport") -> Drift:
    """Return how schema and files differ from what the ledger recorded."""
    return Drift(
        found=report.is_different,
        since=report.since,
        unknown=report.why_unknown,
        differences=list(report.differences),
        more=report.more,
        edited=list(report.edited_files),
    )


def entry(row: "contents.LedgerRow") -> Entry:
    """Return a row of the ledger."""
    return Entry(
        revision=row.revision,
        direction=row.direction,
        state=row.state,
        message=row.message,
        started=row.started,
        seconds=row.seconds,
        attempts=row.attempts,
        longest_lock_wait=row.longest_lock_wait,
        username=row.username,
        host=row.host,
        build=row.build,
    )
