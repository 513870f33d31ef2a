"""Drift: what differs from the ledger, in the revision files and in the schema."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import sqlalchemy as sa
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import Connection

from safely.ledger import snapshot
from safely.ledger.ledger import (
    LOG,
    SERVER,
    SNAPSHOT,
    Entry,
    Half,
    Work,
    as_text,
    checksum,
    create,
    record,
    unfinished,
)
from service.models import Base

DIGITS = 12  # of a checksum, for people
HOW_TO_ADOPT = (
    "If its schema is the one that a revision describes, adopt it there: alembic stamp REVISION "
    "(`alembic stamp head`, then `alembic check`, for the newest)"
)


class Drift(NamedTuple):
    """How the schema differs from the one that was recorded last."""

    since: str  # what was recorded then, in words
    differences: list[str]
    other_server: str | None = None  # recorded by this one: nothing can be said
    half: Half | None = None  # a step is unfinished: nothing can be said

    def why_unknown(self) -> str | None:
        """Why nothing can be said, in words; None if something can."""
        if self.half:
            return f"{self.since} was begun and not finished: run it again, or the way back"
        if self.other_server:
            return (
                f"recorded by PostgreSQL {self.other_server}, and each version words definitions "
                "its own way: the next migration records them anew"
            )
        return None


def examine(
    connection: Connection, _: object = None, *, script: ScriptDirectory, accept: bool
) -> None:
    """Refuse a database that isn't as the ledger left it; with `accept`, record it as it is."""
    with connection.begin():
        compare(connection, script, accept=accept)


def compare(connection: Connection, script: ScriptDirectory, *, accept: bool) -> None:
    """The same, in the connection's transaction."""
    migration = MigrationContext.configure(connection)
    heads = migration.get_current_heads()
    if not sa.inspect(connection).has_table(LOG.name):
        refuse_unrecorded(connection, heads)
        create(migration)
        return
    revision = heads[0] if heads else "base"
    edited = edited_files(connection, script, heads)
    if edited and not accept:
        raise CommandError(
            "\n  ".join([f"{len(edited)} applied revision(s) were edited:", *edited.values()])
            + "\nPut the files back and write a new revision instead; or record them as they are: "
            "alembic -x drift=accept …"
        )
    found = drift(connection)
    if found.differences and not accept:
        raise CommandError(
            "\n  ".join([f"the schema is not as {found.since} left it:", *found.differences])
            + "\nUndo that by hand or write a revision for it; or record it as it is: "
            "alembic -x drift=accept …"
        )
    for name, words in edited.items():
        record(migration, Entry("accept", name, words, script.get_revision(name)), Work())
    if found.differences or found.other_server:
        words = "; ".join(found.differences) or f"recorded before by {found.other_server}"
        at_head = script.get_revision(revision) if heads else None
        record(migration, Entry("accept", revision, words, at_head), Work())


def look(connection: Connection, script: ScriptDirectory) -> tuple[dict[str, str], Drift]:
    """The edited files and the drift of the schema; raise CommandError without a ledger."""
    refuse_missing(connection)
    heads = MigrationContext.configure(connection).get_current_heads()
    return edited_files(connection, script, heads), drift(connection)


def refuse_missing(connection: Connection) -> None:
    """Raise CommandError where there is no ledger to read."""
    if not sa.inspect(connection).has_table(LOG.name):
        raise CommandError(f"there is no {LOG.name} here. {HOW_TO_ADOPT}")


def refuse_unrecorded(connection: Connection, heads: Sequence[str]) -> None:
    """Raise CommandError for a database that was migrated, or made, without a ledger."""
    if heads:
        raise CommandError(
            f"the database is at {heads[0]}, and has no {LOG.name}: it was not migrated by these "
            f"files, or before they kept one. {HOW_TO_ADOPT}"
        )
    if there := sorted(set(Base.metadata.tables) & set(sa.inspect(connection).get_table_names())):
        raise CommandError(
            f"the database has {', '.join(there)} already, and nothing says which revision that "
            f"is. {HOW_TO_ADOPT}"
        )


def edited_files(
    connection: Connection, script: ScriptDirectory, heads: Sequence[str]
) -> dict[str, str]:
    """Which applied revision files are others than those that were applied, each in words."""
    rows = connection.execute(
        sa.select(LOG.c.revision, LOG.c.checksum)
        .where(LOG.c.state == "done", LOG.c.direction != "downgrade", LOG.c.checksum.is_not(None))
        .order_by(LOG.c.id)
    )
    applied: dict[str, str] = {row.revision: row.checksum for row in rows}
    edited = {}
    for revision in script.iterate_revisions(tuple(heads), "base") if heads else ():
        was, now = applied.get(revision.revision), checksum(revision.path)
        if was is not None and was != now:
            edited[revision.revision] = edit(Path(revision.path).name, was, now)
    return edited


def edit(name: str, was: str, now: str) -> str:
    """A file that was edited, in words, by its checksums."""
    return f"{name}: applied with checksum {was[:DIGITS]}, is now {now[:DIGITS]}"


def drift(connection: Connection) -> Drift:
    """Compare the schema with what the ledger recorded last."""
    if half := unfinished(connection):
        return Drift(f"{half.direction} {half.revision}", [], half=half)
    last = connection.execute(
        sa.select(LOG).where(LOG.c.snapshot.is_not(None)).order_by(LOG.c.id.desc()).limit(1)
    ).first()
    if last is None:
        return Drift("nothing", [])
    dialect = connection.dialect.name
    since = f"{last.direction} {last.revision} ({last.started:%Y-%m-%d %H:%M})"
    server = connection.scalar(sa.select(as_text(SERVER[dialect])))
    if server != last.server:
        return Drift(since, [], other_server=last.server)
    found = connection.scalar(sa.select(as_text(SNAPSHOT[dialect])))
    return Drift(since, snapshot.differences(json.loads(last.snapshot), json.loads(found)))
