"""The ledger, `migration_log`: each change of the schema, its time, its author and its outcome.

A row is written when a step begins, in the step's own transaction: a step that is one transaction
leaves a finished row or none. One that commits on its way leaves a row in the state `started` if
it is killed, which tells the next run that the schema is between two revisions.
"""

import getpass
import os
import socket
from dataclasses import dataclass, field
from datetime import UTC, datetime
from time import monotonic
from typing import Any, NamedTuple

import sqlalchemy as sa
from alembic.script import Script
from sqlalchemy import Connection

from safely.alembic_internals import MigrationContext
from safely.ledger import snapshot
from safely.ledger.checksum import checksum

LOG = sa.Table(
    "migration_log",
    sa.MetaData(),
    sa.Column(
        "id",
        sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
        sa.Identity(),
        primary_key=True,
    ),
    sa.Column("revision", sa.Text, nullable=False),
    # upgrade, downgrade, stamp, accept, purge, backup, unsafe
    sa.Column("direction", sa.Text, nullable=False),
    sa.Column("state", sa.Text, nullable=False),  # started, done, undone
    sa.Column("message", sa.Text),
    sa.Column("started", sa.DateTime(timezone=True), nullable=False),
    sa.Column("duration", sa.Float),  # seconds of the run that finished it
    sa.Column("attempts", sa.Integer),  # of that run
    sa.Column("longest_lock_wait", sa.Float),  # seconds, of all its attempts
    sa.Column("username", sa.Text),
    sa.Column("host", sa.Text),
    sa.Column("build", sa.Text, nullable=False),  # the revision that the migrator's models describe
    sa.Column("checksum", sa.Text),  # see safely.ledger.checksum
    sa.Column("server", sa.Text),  # major version; each words definitions its own way
    sa.Column("snapshot", sa.Text),  # of the schema afterwards: see safely.ledger.snapshot
)
SERVER = {
    "postgresql": "SELECT (current_setting('server_version_num')::int / 10000)::text",
    "sqlite": "SELECT 'SQLite'",
}
SNAPSHOT = {"postgresql": snapshot.POSTGRESQL, "sqlite": snapshot.SQLITE}
VERIFIED = ", verified: "  # in the message of a backup that was restored and compared
SCRIPT_FUNCTION = "pg_temp.migration_snapshot"


@dataclass
class Work:
    """The attempts at a step, and its waits for locks."""

    started: datetime = field(default_factory=lambda: datetime.now(UTC))
    began: float = field(default_factory=monotonic)
    attempts: int = 1
    longest_wait: float = 0.0  # seconds
    blocker: str | None = None  # the session that blocked the step last
    rows: int = 0  # that a backfill has read


class Entry(NamedTuple):
    """A row for what is no step: a stamp, a purge, drift that is accepted, a backup.

    Or the reason for which a step with grave findings was run.
    """

    direction: str
    revision: str
    message: str
    script: Script | None = None  # the revision whose file is recorded as it is


class Half(NamedTuple):
    """A step that was begun and not finished."""

    revision: str
    direction: str


def create(migration: MigrationContext) -> None:
    """Create the table if it is missing; under `--sql` also a function with the snapshot query."""
    migration.execute(sa.schema.CreateTable(LOG, if_not_exists=True))
    if migration.as_sql and migration.dialect.name == "postgresql":
        query = SNAPSHOT["postgresql"].replace(":", r"\:")
        migration.execute(
            sa.text(
                f"CREATE OR REPLACE FUNCTION {SCRIPT_FUNCTION}() RETURNS text LANGUAGE sql "
                f"AS $look$\n{query}\n$look$"
            )
        )


def begin(migration: MigrationContext, script: Script, direction: str, work: Work | None) -> None:
    """Write the row of a step that begins; a step that was begun before keeps its row.

    `work` is None under `--sql`.
    """
    values = origin_columns(migration, work) | {
        "revision": script.revision,
        "direction": direction,
        "state": "started",
        "message": script.doc.rstrip("."),
        "checksum": checksum(script.path),
    }
    row = sa.select(*(as_sql(name, value) for name, value in values.items()))
    unfinished = sa.exists().where(is_half(Half(script.revision, direction)))
    migration.execute(LOG.insert().from_select(list(values), row.where(~unfinished)))
    # the file of a step that was refused may have been mended since
    half = is_half(Half(script.revision, direction))
    current = {name: values[name] for name in ("build", "message", "checksum")}
    migration.execute(LOG.update().where(half).values(current))


def finish(migration: MigrationContext, half: Half, state: str, work: Work | None) -> None:
    """Finish the row of a step: it is `done`, or the half of it that was begun is `undone`."""
    values: dict[str, Any] = {"state": state, **schema_columns(migration)}
    if work is not None:
        values |= {
            "duration": monotonic() - work.began,
            "attempts": work.attempts,
            "longest_lock_wait": work.longest_wait,
        }
    elif migration.dialect.name == "postgresql":
        passed = sa.func.clock_timestamp() - LOG.c.started
        values["duration"] = sa.extract("epoch", passed)
    migration.execute(LOG.update().where(is_half(half)).values(values))


def renew_snapshot(migration: MigrationContext) -> None:
    """Replace the snapshot that was recorded last by one of the schema as it stands."""
    last = sa.select(sa.func.max(LOG.c.id)).where(LOG.c.snapshot.is_not(None)).scalar_subquery()
    migration.execute(LOG.update().where(LOG.c.id == last).values(schema_columns(migration)))


def record(migration: MigrationContext, entry: Entry, work: Work | None) -> None:
    """Write a row for what is no step, with a snapshot of the schema."""
    row = row_of(migration, entry, work) | schema_columns(migration)
    migration.execute(LOG.insert().values(row))


def extend(migration: MigrationContext, message: str, work: Work) -> None:
    """Replace message, duration and snapshot of the row that `record` has written for `work`."""
    values = {"message": message, "duration": monotonic() - work.began}
    row = LOG.c.id == (
        sa.select(sa.func.max(LOG.c.id)).where(LOG.c.started == work.started).scalar_subquery()
    )
    migration.execute(LOG.update().where(row).values(values | schema_columns(migration)))


def note(migration: MigrationContext, entry: Entry, work: Work | None) -> None:
    """Write a row for what leaves the schema as it is: the last snapshot remains the last."""
    duration = {} if work is None else {"duration": sa.literal(monotonic() - work.began)}
    migration.execute(LOG.insert().values(row_of(migration, entry, work) | duration))


def row_of(migration: MigrationContext, entry: Entry, work: Work | None) -> dict[str, Any]:
    """Return the columns of a row for what is no step, but for its snapshot."""
    values = origin_columns(migration, work) | {
        "revision": entry.revision,
        "direction": entry.direction,
        "state": "done",
        "message": entry.message,
        "checksum": entry.script and checksum(entry.script.path),
    }
    return {name: as_sql(name, value) for name, value in values.items()}


def origin_columns(migration: MigrationContext, work: Work | None) -> dict[str, Any]:
    """Return the columns for time and author; a script has the time and the role of its run."""
    if work is not None:
        return {
            "started": work.started,
            "username": operator(),
            "host": socket.gethostname(),
            "build": migration.opts["build"],
        }
    if migration.dialect.name == "postgresql":
        columns: dict[str, Any] = {
            "started": sa.func.clock_timestamp(),
            "username": sa.text("session_user"),
        }
    else:
        columns = {"started": sa.func.current_timestamp()}
    return columns | {"build": migration.opts["build"]}


def schema_columns(migration: MigrationContext) -> dict[str, Any]:
    """Return the columns for the schema as it stands, and the server's version."""
    dialect = migration.dialect.name
    query = SNAPSHOT[dialect]
    if migration.as_sql and dialect == "postgresql":
        query = f"SELECT {SCRIPT_FUNCTION}()"  # a script contains the query once, not in every step
    return {"snapshot": as_text(query), "server": as_text(SERVER[dialect])}


def as_sql(name: str, value: Any) -> Any:
    """Return a value as SQL of the column's type."""
    return value if isinstance(value, sa.ClauseElement) else sa.literal(value, LOG.c[name].type)


def as_text(query: str) -> sa.TextClause:
    """Return a query as a value; no colon in it is taken for a parameter."""
    return sa.text("({})".format(query.replace(":", r"\:")))


def is_half(half: Half) -> sa.ColumnElement[bool]:
    """Return the condition for the row of a step that was begun and not finished."""
    return sa.and_(
        LOG.c.revision == half.revision,
        LOG.c.direction == half.direction,
        LOG.c.state == "started",
    )


def operator() -> str:
    """Return the name of the user who runs this program."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user without a name
        return str(os.getuid())


def unfinished(connection: Connection) -> Half | None:
    """Return the step that a killed or failed run left half done; None if there is none."""
    row = connection.execute(
        sa.select(LOG.c.revision, LOG.c.direction).where(LOG.c.state == "started")
    ).first()
    return None if row is None else Half(row.revision, row.direction)


def unfinished_if_any(connection: Connection) -> Half | None:
    """Return the step that is half done; None also where there is no ledger in this schema."""
    has_ledger = connection.dialect.has_table(connection, LOG.name)
    return unfinished(connection) if has_ledger else None


def revisions(connection: Connection) -> set[str]:
    """Return all revisions that the ledger knows, also those whose files are gone."""
    return set(connection.scalars(sa.select(LOG.c.revision).distinct()))


def undone_revisions(connection: Connection) -> set[str]:
    """Return the revisions whose last step was a downgrade."""
    rows = connection.execute(
        sa.select(LOG.c.revision, LOG.c.direction)
        .where(LOG.c.state == "done", LOG.c.direction.in_(("upgrade", "downgrade", "stamp")))
        .order_by(LOG.c.id)
    )
    last = {row.revision: row.direction for row in rows}
    return {revision for revision, direction in last.items() if direction == "downgrade"}


def last_verified(connection: Connection) -> str | None:
    """Return the last backup that was restored elsewhere and was equal, in words; None: none."""
    row = connection.execute(
        sa.select(LOG.c.started, LOG.c.message)
        .where(LOG.c.direction == "backup", LOG.c.message.contains(VERIFIED))
        .order_by(LOG.c.id.desc())
    ).first()
    return None if row is None else f"of {row.started:%Y-%m-%d %H:%M} UTC: {row.message}"
