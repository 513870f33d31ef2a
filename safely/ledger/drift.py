"""Drift: differences between the ledger and the revision files, or the schema."""

import json
import logging
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import sqlalchemy as sa
from alembic.script import Script, ScriptDirectory
from alembic.util import CommandError, to_tuple
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
    undone_revisions,
    unfinished,
)
from safely.revisions import in_order, older_than, with_ancestors, without_file

HOW_TO_ADOPT = (
    "If its schema is the one that a revision describes, adopt it there: alembic stamp REVISION "
    "(`alembic stamp head`, then `alembic check`, for the newest)"
)

# of the rows that record the file of a revision as it was applied
HAS_FILE = (LOG.c.state == "done", LOG.c.direction != "downgrade", LOG.c.checksum.is_not(None))

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

    With `accept`, record them as they are; but never the file of another revision, since what it
    does would be skipped. Where nothing was migrated yet, make the ledger.
    """
    connection, script = environment_connection(migration), environment.script
    heads = migration.get_current_heads()
    if without_file(script, heads):
        return  # nothing is migrated from there: the command's plan says why
    if not sa.inspect(connection).has_table(LOG.name):
        refuse_unrecorded(environment, connection, heads)
        create(migration)
        return
    refuse_skipped(connection, script, heads)
    renew_checksums(connection, script, heads)
    edited = edited_files(connection, script, heads)
    refuse_others(connection, script, edited)
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
        sa.select(LOG.c.revision, LOG.c.checksum).where(*HAS_FILE).order_by(LOG.c.id)
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
    for revision in applied(connection, script, heads):
        old, new = recorded.get(revision.revision), checksum(revision.path)
        if old is not None and is_comparable(old) and old != new:
            edited[revision.revision] = edit_in_words(Path(revision.path).name, old, new)
    return edited


def applied(
    connection: Connection, script: ScriptDirectory, heads: Sequence[str]
) -> Iterator[Script]:
    """Yield the files of the revisions that are applied, the newest first.

    Where a head has no file here, those that the ledger has not as undone.
    """
    names = with_ancestors(script, *heads)
    if without_file(script, heads):
        names = set(in_order(script)) - undone_revisions(connection)
    for name in reversed(in_order(script)):
        if name in names:
            yield script.get_revision(name)


def refuse_skipped(connection: Connection, script: ScriptDirectory, heads: Sequence[str]) -> None:
    """Raise CommandError for a file that counts as applied, and that the ledger has not as such.

    Somebody has put it before a revision that was applied already, by its `down_revision`. A stamp
    says that all before it is applied.
    """
    moves = connection.execute(
        sa.select(LOG.c.revision, LOG.c.direction)
        .where(LOG.c.state == "done", LOG.c.direction.in_(("upgrade", "downgrade", "stamp")))
        .order_by(LOG.c.id)
    ).all()
    done: set[str] = set()
    for move in moves:
        if move.direction == "stamp":
            done |= with_ancestors(script, move.revision)
        elif move.direction == "upgrade":
            done.add(move.revision)
        else:
            done.discard(move.revision)
    counted = with_ancestors(script, *heads)
    skipped = [revision for revision in in_order(script) if revision in counted - done]
    if not skipped or not moves:
        return
    file = script.get_revision(skipped[0])
    name, before = Path(file.path).name, down_revision_in_words(file)
    followers = [one for one in done if file.revision in older_than(script, one)]
    why = f" ({', '.join(sorted(followers))} builds on it now)" if followers else ""
    raise CommandError(
        f"{name} counts as applied{why}, and {LOG.name} says that it never was: to go on would "
        "skip what it does. Undo what builds on it first, with the files as they were when that "
        f"was applied (git): alembic downgrade {before}; then take these files again, and alembic "
        f"upgrade head. Or, if what {name} does is there already: alembic stamp "
        f"{', '.join(sorted(heads))}"
    )


def down_revision_in_words(file: Script) -> str:
    """Return the revisions that a file builds on, as a target of `alembic downgrade`."""
    return ", ".join(to_tuple(file.down_revision, default=())) or "base"


def refuse_others(connection: Connection, script: ScriptDirectory, edited: Collection[str]) -> None:
    """Raise CommandError where another revision was applied under the id of an edited file.

    Two people gave their revisions one number; then one of them was renumbered. Its checksum with
    the old number is the one in the ledger. Where that file is gone, another title tells.
    """
    for revision in edited:
        file, row = script.get_revision(revision), last_applied(connection, revision)
        renumbered = [
            Path(other.path).name
            for other in script.walk_revisions()
            if checksum(other.path, revision, file.down_revision) == row["checksum"]
        ]
        title = row["message"] if row["direction"] == "upgrade" else None  # others say why
        if not renumbered and title in {None, file.doc.rstrip(".")}:
            continue
        name = Path(file.path).name
        before = down_revision_in_words(file)
        where = f", and is now {renumbered[0]}" if renumbered else ""
        raise CommandError(
            f"{name} is not the {revision} that was applied here "
            f"({title or 'another one'}{where}): to go on would skip what {name} does. Give it the "
            "next number, beside the file that was applied. Or undo that one first: put its file "
            f"back in the place of this one (git), alembic downgrade {before}, take these files "
            "again, and alembic upgrade head"
            + ("" if renumbered else f". If it is the same one, give it its title again: {title}")
        )


def last_applied(connection: Connection, revision: str) -> sa.RowMapping:
    """Return direction, message and checksum of the ledger's last row with the file's checksum."""
    return (
        connection.execute(
            sa.select(LOG.c.direction, LOG.c.message, LOG.c.checksum)
            .where(LOG.c.revision == revision, *HAS_FILE)
            .order_by(LOG.c.id.desc())
            .limit(1)
        )
        .mappings()
        .one()
    )


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
