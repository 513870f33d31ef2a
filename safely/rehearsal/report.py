"""What a rehearsal found: the figures of each revision, both ways, and the verdict."""

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any

from safely.rehearsal.traffic import Failed, Served

LONG = 110  # characters of a statement that a line shows
INSIDE = re.compile(  # what a block is about
    r"\b((?:ALTER TABLE|(?:CREATE|DROP) (?:OR REPLACE )?(?:TRIGGER|SCHEMA|FUNCTION)) [^;]+);"
)
PIECE = 0.5  # seconds of the strip


@dataclass
class Budgets:
    """What a migration may cost; None: as much as it likes."""

    max_wait: float = 0.25  # seconds that a client waits for a lock of the migrator
    max_duration: float | None = 600.0  # seconds of a revision, one way
    max_failed: int = 0  # queries
    max_space: int | None = None  # bytes on disk, at most, beside what was there
    max_wal: int | None = None  # bytes


@dataclass
class Statement:
    """What the migrator said, once or many times."""

    sql: str
    times: int = 0
    seconds: float = 0.0  # of all of them
    longest: float = 0.0
    locks: dict[str, str] = field(default_factory=dict)  # by table, the strongest
    held: float = 0.0  # seconds until the locks were let go, at most


@dataclass
class Latency:
    """What queries took, in seconds."""

    p50: float
    p99: float
    longest: float

    @classmethod
    def of(cls, served: Iterable[Served]) -> "Latency | None":
        """None where nothing was served."""
        times = sorted(s.seconds for s in served)
        if not times:
            return None
        return cls(times[len(times) // 2], times[int(len(times) * 0.99)], times[-1])


@dataclass
class Moment:
    """A piece of the strip."""

    at: float  # seconds since 1970
    latency: Latency
    failed: int


@dataclass
class Way:
    """A revision taken in one direction."""

    direction: str
    began: float  # seconds since 1970
    ended: float
    seconds: float
    attempts: int
    rows: int  # that it changed, walked over, checked or indexed
    statements: list[Statement]
    rewritten: list[str]  # tables that got a new file
    served: int
    failed: int
    errors: list[str]
    before: Latency | None
    during: Latency | None
    longest_wait: float
    waits: int
    blame: str | None  # the statement whose lock was waited for longest
    broken: str | None  # the error that it ended with, and the statement it came from
    wal: int  # bytes, without what clients write
    space: int  # bytes, at the most
    ok: bool = True  # it could be taken

    @property
    def rate(self) -> float | None:
        """Rows a second."""
        return self.rows / self.seconds if self.rows and self.seconds else None


@dataclass
class Rehearsed:
    """A revision: up, down, and up again."""

    revision: str
    message: str
    up: Way | None = None
    down: Way | None = None
    again: Way | None = None
    leaves: str | None = None  # what its way down says that it doesn't undo
    compared: int = 0  # rows whose values were compared
    problems: list[str] = field(default_factory=list)

    @property
    def ways(self) -> list[Way]:
        """Those that were taken."""
        return [way for way in (self.up, self.down, self.again) if way]


@dataclass
class Report:
    """All of them."""

    source: str  # of the copy, in words
    budgets: Budgets
    began: float  # seconds since 1970
    ended: float = 0.0
    rows: dict[str, int] = field(default_factory=dict)  # by table, about
    unwritten: dict[str, str] = field(default_factory=dict)  # by table: why nobody wrote to it
    revisions: list[Rehearsed] = field(default_factory=list)
    strip: list[Moment] = field(default_factory=list)

    @property
    def problems(self) -> list[str]:
        """Why the verdict is no."""
        return [f"{one.revision}: {words}" for one in self.revisions for words in one.problems]

    def as_json(self) -> dict[str, Any]:
        """For machines."""
        return {"verdict": "no" if self.problems else "yes", "problems": self.problems} | asdict(
            self
        )


def strip(served: Iterable[Served], failed: Iterable[Failed]) -> list[Moment]:
    """Latency over time, in pieces of the same length; none where nothing was served."""
    pieces: dict[int, list[Served]] = {}
    for one in served:
        pieces.setdefault(int(one.due / PIECE), []).append(one)
    fell = Counter(int(one.at / PIECE) for one in failed)
    return [
        Moment(number * PIECE, latency, fell[number])
        for number, some in sorted(pieces.items())
        if (latency := Latency.of(some))
    ]


def short(sql: str) -> str:
    """A statement in a line; of a block, what it does."""
    inside = INSIDE.search(sql) if sql.startswith("DO ") else None
    words = " ".join((inside[1] if inside else sql).split())
    return words if len(words) <= LONG else words[: LONG - 1] + "…"
