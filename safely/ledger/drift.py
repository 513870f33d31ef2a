"""Drift: differences between the ledger and the revision files, or the schema."""

import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import sqlalchemy as sa
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import Connection

from safely.alembic_internals import MigrationContext
from safely.environment import Environment
from safely.ledger import snapshot
from safely.ledger.checksum import checksum, is_comparable, short
from safely.ledger.ledger import (
    LOG,
    SERVER,
    SNAPSHOT,
    Entry,
    Half,
    Work,
    as_text,
    create,
    record,
    unfinished,
)
from safely.revisions import refuse_unknown

HOW_TO_ADOPT = (
    "If its schema is the one that a revision describes, adopt it there: alembic stamp REVISION "
    "(`alembic stamp head`, then `alembic check`, for the newest)"
)

log = logging.getLogger("safely")


class Drift(NamedTuple):
    """The differences between the schema and the one that was recorded last."""

    since: str  # what was recorded last, in words
    differences: list[str]
    other_server: str | None = None  # recorded by this one: the two can't be compared
    half: Half | None = None  # a step is unfinished: there is nothing to compare with

    def why_unknown(self) -> str | None:
        """Return why the two can't be compared, in words; None if they can."""
        if self.half:
            return f"{self.since} was begun and not finished: run it again, or the way back"
        if self.other_server:
            return (
                f"recorded by PostgreSQL {self.other_server}, and each version words definitions "
                "its own way: the next migration records them anew"
            )
        return None


def refuse_drift(environment: Environment, migration: MigrationContext, *, accept: bool) -> None:
    """Raise CommandError unless files and schema are as the ledger has them.

    With `accept`, record them as they are. Where nothing was migrated yet, make the ledger.
    """
    connection, script = environment_connection(migration), environment.script
    heads = migration.get_current_heads()
    refuse_unknown(heads, script)
    if not sa.inspect(connection).has_table(LOG.name):
        refuse_unrecorded(environment, connection, heads)
        create(migration)
        return
    renew_checksums(connection, script, heads)
    edited = edited_files(connection, script, heads)
    if edited and not accept:
        raise CommandError(
            "\n  ".join([f"{len(edited)} applied revision(s) were edited:", *edited.values()])
            + "\nPut the files back and write a new revision instead; or record them as they are: "
            "alembic -x drift=accept …"
        )
    drift = schema_drift(connection)
    if drift.differences and not accept:
        raise CommandError(
            "\n  ".join([f"the schema is not as {drift.since} left it:", *drift.differences])
            + "\nUndo that by hand or write a revision for it; or record it as it is: "
            "alembic -x drift=accept …"
        )
    for revision, words in edited.items():
        record(migration, Entry("accept", revision, words, script.get_revision(revision)), Work())
    if drift.differences or drift.other_server:
        words = "; ".join(drift.differences) or f"recorded before by {drift.other_server}"
        at_head = script.get_revision(heads[0]) if heads else None
        record(migration, Entry("accept", heads[0] if heads else "base", words, at_head), Work())


def environment_connection(migration: MigrationContext) -> Connection:
    """Return the connection of a context that is not one of `--sql`."""
    assert migration.connection is not None  # noqa: S101  # only --sql has none
    return migration.connection


def read_drift(connection: Connection, environment: Environment) -> tuple[dict[str, str], Drift]:
    """Return the edited files, in words by revision, and the drift of the schema.

    Raise CommandError where there is no ledger.
    """
    refuse_missing(connection)
    heads = environment.migration(connection).get_current_heads()
    refuse_unknown(heads, environment.script)
    return edited_files(connection, environment.script, heads), schema_drift(connection)


def refuse_missing(connection: Connection) -> None:
    """Raise CommandError where there is no ledger to read."""
    if not sa.inspect(connection).has_table(LOG.name):
        raise CommandError(f"there is no {LOG.name} here. {HOW_TO_ADOPT}")


def refuse_unrecorded(
    environment: Environment, connection: Connection, heads: Sequence[str]
) -> None:
    """Raise CommandError for a database that was migrated, or made, without a ledger."""
    if heads:
        raise CommandError(
            f"the database is at {', '.join(sorted(heads))}, and has no {LOG.name}: it was not "
            f"migrated by these files, or before they kept one. {HOW_TO_ADOPT}"
        )
    names = {table.name for table in environment.project.tables.tables.values()}
    if tables := sorted(names & set(sa.inspect(connection).get_table_names())):
        raise CommandError(
            f"the database has {', '.join(tables)} already, and nothing says which revision that "
            f"is. {HOW_TO_ADOPT}"
        )


def recorded_checksums(connection: Connection) -> dict[str, str]:
    """Return the checksums of the files that were applied, by revision."""
    rows = connection.execute(
        sa.select(LOG.c.revision, LOG.c.checksum)
        .where(LOG.c.state == "done", LOG.c.direction != "downgrade", LOG.c.checksum.is_not(None))
        .order_by(LOG.c.id)
    )
    return {row.revision: row.checksum for row in rows}


def renew_checksums(connection: Connection, script: ScriptDirectory, heads: Sequence[str]) -> None:
    """Replace checksums of the kind that covered whole files, comments and all, by today's.

    Whether such a file does something else than what was applied can't be told any more.
    """
    recorded, renewed = recorded_checksums(connection), []
    for revision in script.iterate_revisions(tuple(heads), "base") if heads else ():
        old = recorded.get(revision.revision)
        if old is not None and not is_comparable(old):
            rows = sa.and_(LOG.c.revision == revision.revision, LOG.c.checksum == old)
            connection.execute(LOG.update().where(rows).values(checksum=checksum(revision.path)))
            renewed.append(revision.revision)
    if renewed:
        log.info(
            "recorded the checksums of %d applied revision(s) anew: they cover what a revision "
            "does, and its comments no more",
            len(renewed),
        )


def edited_files(
    connection: Connection, script: ScriptDirectory, heads: Sequence[str]
) -> dict[str, str]:
    """Return the applied revisions whose files do something else now, each in words."""
    recorded = recorded_checksums(connection)
    edited = {}
    for revision in script.iterate_revisions(tuple(heads), "base") if heads else ():
        old, new = recorded.get(revision.revision), checksum(revision.path)
        if old is not None and is_comparable(old) and old != new:
            edited[revision.revision] = edit_in_words(Path(revision.path).name, old, new)
    return edited


def edit_in_words(file: str, old: str, new: str) -> str:
    """Return the sentence for a file that was edited, with both checksums."""
    return f"{file}: applied with checksum {short(old)}, is now {short(new)}"


def schema_drift(connection: Connection) -> Drift:
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
    now = connection.scalar(sa.select(as_text(SNAPSHOT[dialect])))
    return Drift(since, snapshot.undeclared_differences(json.loads(last.snapshot), json.loads(now)))
