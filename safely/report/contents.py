"""The contents of a report, as frozen dataclasses; times are in UTC, sizes in bytes."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

Standing = Literal["current", "behind", "ahead", "empty", "unknown"]


@dataclass(frozen=True, kw_only=True)
class LedgerRow:
    """A row of the ledger: something that was done to the schema."""

    revision: str
    direction: str
    """`upgrade`, `downgrade`, `stamp`, `accept`, `purge` or `backup`."""
    state: str
    """`done`; `started`: not finished yet; `undone`: begun, and then taken back."""
    message: str | None
    started: datetime
    seconds: float | None
    """The duration of the run that finished it, with its retries."""
    attempts: int | None
    longest_lock_wait: float | None
    """Seconds."""
    username: str | None
    host: str | None
    build: str
    """The revision that the models of the migrator describe."""


@dataclass(frozen=True, kw_only=True)
class Paragraph:
    """A part of the docstring of a revision file."""

    heading: str
    """Such as `What` or `Lock`; may be empty."""
    text: str


@dataclass(frozen=True, kw_only=True)
class Revision:
    """A revision: its file, and its state in the database."""

    revision: str
    message: str
    state: Literal["applied", "unfinished", "pending"]
    """`unfinished`: running now, or left between two revisions by a run that ended."""
    has_file: bool
    last_row: LedgerRow | None
    """The row of the step that led to the state; None where the ledger has none."""
    times_applied: int
    paragraphs: Sequence[Paragraph]
    """The docstring of its file, without the message."""


@dataclass(frozen=True, kw_only=True)
class Build:
    """The connections of one build of the application, at this moment."""

    revision: str
    """The revision that the build reads and writes through."""
    connections: int
    is_published: bool
    """Whether its version is published; its queries fail without."""


@dataclass(frozen=True, kw_only=True)
class RunningMigration:
    """A migration that is running at this moment."""

    connected_since: datetime | None
    """None where this role may not see it."""
    waiting: float | None
    """For how many seconds it has been waiting for a lock; None: it does not wait."""
    blockers: Sequence[str]
    """The sessions that hold the lock: see `safely.run.blockers`."""
    waits_for_standby: bool
    """Whether it waits until a standby has caught up."""


@dataclass(frozen=True, kw_only=True)
class StandbyLag:
    """A streaming standby and how far its replay is behind; None: this role may not see it."""

    name: str
    """Its application_name."""
    state: str | None
    """`startup`, `catchup` or `streaming`."""
    bytes: int | None
    """WAL that it has not replayed yet."""
    seconds: float | None
    """The age of what it replays; None also where nothing has been written for a while."""


@dataclass(frozen=True, kw_only=True)
class SetAside:
    """A column or table that was set aside, and keeps its values until it is purged."""

    kind: Literal["column", "table"]
    revision: str
    """The revision that set it aside."""
    name: str
    """Its name before: `table`, or `table.column`."""
    bytes: int | None
    """Estimated for a column. None where the database does not tell."""


@dataclass(frozen=True, kw_only=True)
class DriftReport:
    """The differences between the ledger and the schema, and between it and the revision files."""

    is_different: bool | None
    """None where it can't be told."""
    since: str | None
    """The step after which the schema was recorded last."""
    why_unknown: str | None
    differences: Sequence[str]
    """The first 50 differences of the schema, a sentence each."""
    more: int
    """The number of differences beyond those."""
    edited_files: Sequence[str]
    """The applied revision files that were edited, a sentence each."""


@dataclass(frozen=True, kw_only=True)
class Database:
    """The database and its revision."""

    kind: Literal["postgresql", "sqlite"]
    server: str
    """The name and version of the server."""
    name: str
    revision: str | None
    """None: nothing is applied, or it can't be told."""
    standing: Standing
    """The database's revision, compared with that of the build."""


@dataclass(frozen=True, kw_only=True)
class SchemaReport:
    """The history of the schema, and the state of everything at one moment."""

    made: datetime
    build: str
    """The revision that the models of this build describe."""
    database: Database
    advice: Sequence[str]
    """The recommended actions, a sentence each; the most urgent first."""
    running: RunningMigration | None
    """None: there is none, or the database does not tell (SQLite)."""
    revisions: Sequence[Revision]
    """In the order in which they are applied."""
    published: Sequence[str]
    """The revisions whose versions are published, in order."""
    builds: Sequence[Build] | None
    """None where the database does not tell (SQLite)."""
    standbys: Sequence[StandbyLag] | None
    """The standbys that are connected to the server; None where there can't be any (SQLite)."""
    set_aside: Sequence[SetAside]
    drift: DriftReport
    rows: Sequence[LedgerRow]
    """The last rows of the ledger, newest first."""
    row_count: int
    """The number of rows of the whole ledger."""
