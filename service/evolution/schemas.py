"""The content of /evolution.json as structs; `from_report` makes them.

The docstrings of the structs stand in the OpenAPI document.
"""

from datetime import UTC, datetime
from typing import Annotated, Literal

from msgspec import Meta, Struct

RevisionNumber = Annotated[str, Meta(description="The revision's number.")]
Seconds = Annotated[float, Meta(ge=0)]
Bytes = Annotated[int, Meta(ge=0, extra_json_schema={"format": "int64"})]
Count = Annotated[int, Meta(ge=0)]
Moment = Annotated[datetime, Meta(tz=True)]

Standing = Literal["current", "behind", "ahead", "empty", "unknown"]


class Entry(Struct, frozen=True, kw_only=True):
    """A row of the ledger: something that was done to the schema."""

    revision: RevisionNumber
    direction: Annotated[
        str, Meta(description="`upgrade`, `downgrade`, `stamp`, `accept`, `purge`, and the like.")
    ]
    state: Annotated[
        str, Meta(description="`done`; `started`: not finished yet; `undone`: half done, and back.")
    ]
    message: str | None
    started: Moment
    seconds: Annotated[
        Seconds | None, Meta(description="That the run took which finished it, with all its tries.")
    ]
    attempts: Annotated[Count | None, Meta(description="How often that run tried it.")]
    longest_lock_wait: Annotated[
        Seconds | None, Meta(description="Seconds that it waited for a lock, at most.")
    ]
    username: str | None
    host: str | None
    build: Annotated[str, Meta(description="The revision that the migrator's build knows.")]


class Paragraph(Struct, frozen=True, kw_only=True):
    """A part of what a revision's file says of itself."""

    heading: Annotated[str, Meta(description="Such as `What` or `Lock`; may be empty.")]
    text: str


class Revision(Struct, frozen=True, kw_only=True):
    """A link of the chain."""

    revision: RevisionNumber
    message: str
    state: Annotated[
        Literal["applied", "unfinished", "pending"],
        Meta(description="`unfinished`: under way, or left half done by a run that ended."),
    ]
    known: Annotated[bool, Meta(description="Whether this build has its file.")]
    last: Annotated[
        Entry | None,
        Meta(description="What made it so; null where the ledger does not know."),
    ]
    times: Annotated[Count, Meta(description="How often it was applied.")]
    about: Annotated[list[Paragraph], Meta(description="What its file says.")]


class Build(Struct, frozen=True, kw_only=True):
    """Services of one build, connected at this moment."""

    revision: Annotated[str, Meta(description="That it knows, and reads and writes through.")]
    connections: Count
    published: Annotated[bool, Meta(description="If not, its queries fail.")]


class Running(Struct, frozen=True, kw_only=True):
    """A migration that is at work at this moment."""

    since: Annotated[Moment | None, Meta(description="Null where that can't be seen.")]
    waiting: Annotated[
        Seconds | None, Meta(description="How long it has been waiting for a lock; null: it isn't.")
    ]
    blockers: Annotated[list[str], Meta(description="Whom it waits for.")]
    waits_for_standby: Annotated[
        bool, Meta(description="Whether it waits until a standby has caught up.")
    ]


class Standby(Struct, frozen=True, kw_only=True):
    """A streaming standby of the database; what this service's role may not see is null."""

    name: Annotated[str, Meta(description="Its `application_name`.")]
    state: Annotated[str | None, Meta(description="`startup`, `catchup` or `streaming`.")]
    bytes: Annotated[Bytes | None, Meta(description="Of WAL that it has not replayed yet.")]
    seconds: Annotated[
        Seconds | None,
        Meta(description="The age of what it replays; null also where it has replayed all."),
    ]


class Aside(Struct, frozen=True, kw_only=True):
    """Something that was set aside, and holds its values until it is purged."""

    kind: Literal["column", "table"]
    revision: Annotated[str, Meta(description="That set it aside.")]
    name: Annotated[str, Meta(description="As it was: `table`, or `table.column`.")]
    bytes: Annotated[
        Bytes | None,
        Meta(description="Of a column an estimate. Null where the database does not tell."),
    ]


class Drift(Struct, frozen=True, kw_only=True):
    """How schema and revision files differ from what was recorded."""

    found: Annotated[bool | None, Meta(description="Null where it can't be told.")]
    since: Annotated[str | None, Meta(description="What was recorded last.")]
    unknown: Annotated[str | None, Meta(description="Why it can't be told.")]
    differences: Annotated[list[str], Meta(description="Of the schema, the first 50.")]
    more: Annotated[Count, Meta(description="How many differences there are beside those.")]
    edited: Annotated[list[str], Meta(description="Applied revision files that were edited.")]


class Database(Struct, frozen=True, kw_only=True):
    """The database, and where it stands."""

    kind: Literal["postgresql", "sqlite"]
    server: str
    name: str
    revision: Annotated[
        str | None, Meta(description="Where it is; null: nothing is applied, or it can't be told.")
    ]
    standing: Annotated[Standing, Meta(description="Beside this build.")]


class Evolution(Struct, frozen=True, kw_only=True):
    """The schema's history, and where everything stands at this moment."""

    looked: Annotated[datetime, Meta(tz=True, description="When.")]
    build: Annotated[str, Meta(description="The revision that the service knows which tells this.")]
    database: Database
    advice: Annotated[list[str], Meta(description="What to do, a sentence each.")]
    running: Annotated[
        Running | None, Meta(description="Null: none is, or the database does not tell (SQLite).")
    ]
    chain: Annotated[list[Revision], Meta(description="From the first to the last.")]
    published: Annotated[list[str], Meta(description="The revisions that are published.")]
    builds: Annotated[
        list[Build] | None, Meta(description="Null where the database does not tell (SQLite).")
    ]
    standbys: Annotated[
        list[Standby] | None, Meta(description="Null where there can't be any (SQLite).")
    ]
    aside: list[Aside]
    drift: Drift
    log: Annotated[list[Entry], Meta(description="What was done last, newest first.")]
    log_length: Annotated[Count, Meta(description="How many entries there are in all.")]


EXAMPLE_ENTRY = Entry(
    revision="0002",
    direction="upgrade",
    state="done",
    message="add email",
    started=datetime(2026, 11, 22, 21, 4, tzinfo=UTC),
    seconds=0.38,
    attempts=2,
    longest_lock_wait=0.1,
    username="deploy",
    host="ci-7",
    build="0002",
)
EXAMPLE = Evolution(  # of the OpenAPI document
    looked=datetime(2026, 11, 23, 12, 0, tzinfo=UTC),
    build="0002",
    database=Database(
        kind="postgresql",
        server="PostgreSQL 18.6",
        name="users",
        revision="0002",
        standing="current",
    ),
    advice=[],
    running=None,
    chain=[
        Revision(
            revision="0002",
            message="add email",
            state="applied",
            known=True,
            last=EXAMPLE_ENTRY,
            times=1,
            about=[Paragraph(heading="What", text="the e-mail address of a user.")],
        )
    ],
    published=["0001", "0002"],
    builds=[Build(revision="0002", connections=4, published=True)],
    standbys=[Standby(name="standby_1", state="streaming", bytes=16_384, seconds=0.02)],
    aside=[Aside(kind="column", revision="0002", name="users.nickname", bytes=52_000)],
    drift=Drift(found=False, since="upgrade 0002", unknown=None, differences=[], more=0, edited=[]),
    log=[EXAMPLE_ENTRY],
    log_length=2,
)
