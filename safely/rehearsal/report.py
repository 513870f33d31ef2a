"""The measurements of a rehearsal: figures of each revision, in each direction, and problems.

The names of the fields are the keys of rehearsal.json.
"""

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any

from safely.rehearsal.traffic import FailedQuery, ServedQuery

LONGEST_LINE = 110  # characters of a statement that a line shows
INSIDE_BLOCK = re.compile(  # the statement that a DO block is about
    r"\b((?:ALTER TABLE|(?:CREATE|DROP) (?:OR REPLACE )?(?:TRIGGER|SCHEMA|FUNCTION)) [^;]+);"
)
MOMENT = 0.5  # seconds


@dataclass
class Budgets:
    """The limits of what a migration may cost; None: without a limit."""

    max_wait: float = 0.25  # seconds that a client waits for a lock of the migrator
    max_duration: float | None = 600.0  # seconds of a revision, in one direction
    max_failed: int = 0  # queries
    max_space: int | None = None  # bytes on disk at the most, beside what was there
    max_wal: int | None = None  # bytes


@dataclass
class Statement:
    """A statement of the migrator, which it executed once or many times."""

    sql: str
    times: int = 0
    seconds: float = 0.0  # of all executions
    longest: float = 0.0
    locks: dict[str, str] = field(default_factory=dict)  # by table, the strongest
    held: float = 0.0  # seconds until the locks were released, at most


@dataclass
class Latency:
    """How long queries took, in seconds."""

    p50: float
    p99: float
    longest: float

    @classmethod
    def of(cls, served: Iterable[ServedQuery]) -> "Latency | None":
        """Return the latency of these queries; None if there are none."""
        seconds = sorted(query.seconds for query in served)
        if not seconds:
            return None
        return cls(seconds[len(seconds) // 2], seconds[int(len(seconds) * 0.99)], seconds[-1])


@dataclass
class Moment:
    """The latency of the queries of half a second."""

    at: float  # seconds since 1970
    latency: Latency
    failed: int


@dataclass
class StepResult:
    """The figures of one revision in one direction."""

    direction: str
    began: float  # seconds since 1970
    ended: float
    seconds: float
    attempts: int
    rows: int  # that were changed, checked or indexed
    statements: list[Statement]
    rewritten: list[str]  # tables that PostgreSQL wrote to a new file
    effects: list[str]  # in sentences, beside those
    served: int
    failed: int
    errors: list[str]
    before: Latency | None
    during: Latency | None
    longest_wait: float
    waits: int
    blame: str | None  # the statement whose lock was waited for longest
    broken: str | None  # the error that it ended with, and the statement that raised it
    wal: int  # bytes, without those of the clients
    space: int  # bytes, at the most
    ok: bool = True  # whether the database reached the revision

    @property
    def rate(self) -> float | None:
        """Rows per second; None where no rows were touched."""
        return self.rows / self.seconds if self.rows and self.seconds else None


@dataclass
class RevisionResult:
    """A revision that was upgraded, downgraded and upgraded again."""

    revision: str
    message: str
    up: StepResult | None = None
    down: StepResult | None = None
    again: StepResult | None = None
    leaves: str | None = None  # what its downgrade says that it doesn't undo
    not_undone: str | None = None  # why there was no downgrade
    compared: int = 0  # rows whose values were compared
    problems: list[str] = field(default_factory=list)

    @property
    def steps(self) -> list[StepResult]:
        """The steps that were taken."""
        return [step for step in (self.up, self.down, self.again) if step]


@dataclass
class Report:
    """The result of a rehearsal."""

    source: str  # of the copy, in words
    budgets: Budgets
    began: float  # seconds since 1970
    ended: float = 0.0
    rows: dict[str, int] = field(default_factory=dict)  # by table, estimated
    unwritten: dict[str, str] = field(default_factory=dict)  # by table: why no client wrote to it
    left_out: dict[str, str] = field(default_factory=dict)  # by table: what was not tried, and why
    revisions: list[RevisionResult] = field(default_factory=list)
    strip: list[Moment] = field(default_factory=list)

    @property
    def problems(self) -> list[str]:
        """Why the verdict is no."""
        return [f"{one.revision}: {problem}" for one in self.revisions for problem in one.problems]

    def as_json(self) -> dict[str, Any]:
        """Return the report as an object for json.dumps."""
        verdict = "no" if self.problems else "yes"
        return {"verdict": verdict, "problems": self.problems} | asdict(self)


def moments(served: Iterable[ServedQuery], failed: Iterable[FailedQuery]) -> list[Moment]:
    """Return the latency over time, without the moments in which no query was served."""
    by_number: dict[int, list[ServedQuery]] = {}
    for query in served:
        by_number.setdefault(int(query.due / MOMENT), []).append(query)
    failures = Counter(int(query.at / MOMENT) for query in failed)
    return [
        Moment(number * MOMENT, latency, failures[number])
        for number, queries in sorted(by_number.items())
        if (latency := Latency.of(queries))
    ]


def in_one_line(sql: str) -> str:
    """Return a statement without line breaks, cut off; of a DO block the statement inside."""
    inside = INSIDE_BLOCK.search(sql) if sql.startswith("DO ") else None
    line = " ".join((inside[1] if inside else sql).split())
    return line if len(line) <= LONGEST_LINE else line[: LONGEST_LINE - 1] + "…"
