"""The ledger, `migration_log`: what was done to the schema, when, by whom, and what came of it.

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
    sa.Column(
        "direction", sa.Text, nullable=False
    ),  # upgrade, downgrade, stamp, accept, purge, backup
    sa.Column("state", sa.Text, nullable=False),  # started, done, undone
    sa.Column("message", sa.Text),
    sa.Column("started", sa.DateTime(timezone=True), nullable=False),
    sa.Column("duration", sa.Float),  # seconds that the run took which finished it
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
VERIFIED = ", verified: "  # in the message of a backup that was
SCRIPT_FUNCTION = "pg_temp.migration_snapshot"


@dataclass
class Work:
    """How a step is going."""

    started: datetime = field(default_factory=lambda: datetime.now(UTC))
    began: float = field(default_factory=monotonic)
    attempts: int = 1
    longest_wait: float = 0.0  # seconds
    blocker: str | None = None  # who was in the way last
    rows: int = 0  # that a backfill has walked over


class Entry(NamedTuple):
    """Something that is done at once: a stamp, a purge, drift that is accepted, a backup."""

    direction: str
    revision: str
    message: str
    script: Script | None = None  # whose file is taken as it is


class Half(NamedTuple):
    """A step that was begun and not finished."""

    revision: str
    direction: str


def create(migration: MigrationContext) -> None:
    """Make the table if it is missing; a script also brings the query that looks at the schema."""
    migration.execute(sa.schema.CreateTable(LOG, if_not_exists=True))
    if migration.as_sql and migration.dialect.name == "postgresql":
        look = SNAPSHOT["postgresql"].replace(":", r"\:")
        migration.execute(
            sa.text(
                f"CREATE OR REPLACE FUNCTION {SCRIPT_FUNCTION}() RETURNS text LANGUAGE sql "
                f"AS $look$\n{look}\n$look$"
            )
        )


def begin(migration: MigrationContext, script: Script, direction: str, work: Work | None) -> None:
    """Note that a step begins; one that is going on again keeps its row. No `work`: offline."""
    values = made_by(migration, work) | {
        "revision": script.revision,
        "direction": direction,
        "state": "started",
        "message": script.doc.rstrip("."),
        "checksum": checksum(script.path),
    }
    row = sa.select(*(as_sql(name, value) for name, value in values.items()))
    unfinished = sa.exists().where(is_half(Half(script.revision, direction)))
    migration.execute(LOG.insert().from_select(list(values), row.where(~unfinished)))
    # a step that was refused may have been mended since
    half = is_half(Half(script.revision, direction))
    mended = {name: values[name] for name in ("build", "message", "checksum")}
    migration.execute(LOG.update().where(half).values(mended))


def finish(migration: MigrationContext, half: Half, state: str, work: Work | None) -> None:
    """Note that a step is `done`, or that the half of it that was begun is `undone`."""
    values: dict[str, Any] = {"state": state, **seen(migration)}
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


def look_again(migration: MigrationContext) -> None:
    """Put what the schema looks like now in the place of what was recorded last."""
    last = sa.select(sa.func.max(LOG.c.id)).where(LOG.c.snapshot.is_not(None)).scalar_subquery()
    migration.execute(LOG.update().where(LOG.c.id == last).values(seen(migration)))


def record(migration: MigrationContext, entry: Entry, work: Work | None) -> None:
    """Note something that is done at once, and the schema as it stands."""
    migration.execute(LOG.insert().values(row_of(migration, entry, work) | seen(migration)))


def note(migration: MigrationContext, entry: Entry, work: Work) -> None:
    """Note something that leaves the schema as it is: how it stood last remains recorded."""
    took = {"duration": sa.literal(monotonic() - work.began)}
    migration.execute(LOG.insert().values(row_of(migration, entry, work) | took))


def row_of(migration: MigrationContext, entry: Entry, work: Work | None) -> dict[str, Any]:
    """What there is to say of it."""
    values = made_by(migration, work) | {
        "revision": entry.revision,
        "direction": entry.direction,
        "state": "done",
        "message": entry.message,
        "checksum": entry.script and checksum(entry.script.path),
    }
    return {name: as_sql(name, value) for name, value in values.items()}


def made_by(migration: MigrationContext, work: Work | None) -> dict[str, Any]:
    """When and by whom; a script can only say when it is run, and as which role."""
    if work is not None:
        return {
            "started": work.started,
            "username": operator(),
            "host": socket.gethostname(),
            "build": migration.opts["build"],
        }
    if migration.dialect.name == "postgresql":
        by: dict[str, Any] = {
            "started": sa.func.clock_timestamp(),
            "username": sa.text("session_user"),
        }
    else:
        by = {"started": sa.func.current_timestamp()}
    return by | {"build": migration.opts["build"]}


def seen(migration: MigrationContext) -> dict[str, Any]:
    """The schema as it stands, and the server that says so."""
    dialect = migration.dialect.name
    query = SNAPSHOT[dialect]
    if migration.as_sql and dialect == "postgresql":
        query = f"SELECT {SCRIPT_FUNCTION}()"  # a script has it once, not behind every step
    return {"snapshot": as_text(query), "server": as_text(SERVER[dialect])}


def as_sql(name: str, value: Any) -> Any:
    """A value for a column."""
    return value if isinstance(value, sa.ClauseElement) else sa.literal(value, LOG.c[name].type)


def as_text(query: str) -> sa.TextClause:
    """A query as a value; no colon in it is taken for a parameter."""
    return sa.text("({})".format(query.replace(":", r"\:")))


def is_half(half: Half) -> sa.ColumnElement[bool]:
    """The row of a step that was begun and not finished."""
    return sa.and_(
        LOG.c.revision == half.revision,
        LOG.c.direction == half.direction,
        LOG.c.state == "started",
    )


def operator() -> str:
    """Who runs this program."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user without a name
        return str(os.getuid())


def unfinished(connection: Connection) -> Half | None:
    """The step that a run which was killed, or which failed, left half done."""
    row = connection.execute(
        sa.select(LOG.c.revision, LOG.c.direction).where(LOG.c.state == "started")
    ).first()
    return None if row is None else Half(row.revision, row.direction)


def undone_revisions(connection: Connection) -> set[str]:
    """The revisions whose last step was down."""
    rows = connection.execute(
        sa.select(LOG.c.revision, LOG.c.direction)
        .where(LOG.c.state == "done", LOG.c.direction.in_(("upgrade", "downgrade", "stamp")))
        .order_by(LOG.c.id)
    )
    last = {row.revision: row.direction for row in rows}
    return {revision for revision, direction in last.items() if direction == "downgrade"}


def last_verified(connection: Connection) -> str | None:
    """The last backup that was restored elsewhere and found equal, in words."""
    row = connection.execute(
        sa.select(LOG.c.started, LOG.c.message)
        .where(LOG.c.direction == "backup", LOG.c.message.contains(VERIFIED))
        .order_by(LOG.c.id.desc())
    ).first()
    return None if row is None else f"of {row.started:%Y-%m-%d %H:%M} UTC: {row.message}"
