"""The log of all requests of a run, and its figures."""

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from http import HTTPStatus
from itertools import pairwise
from operator import attrgetter
from pathlib import Path
from typing import NamedTuple

UNAVAILABLE_LIMIT = 5.0  # seconds that a 503 may take
UNANSWERED = 0  # in place of a status: no response came
CUT_OFF = 1  # in place of a status: a response began, and did not end
WORDS = {UNANSWERED: "unanswered", CUT_OFF: "cut off"}
ITS_OWN = 0.05  # seconds around a kill in which a request belongs to what was killed


class Entry(NamedTuple):
    """A request; times are seconds of the event loop's clock."""

    client: int
    start: float
    end: float
    request: str
    status: int
    problem: str  # the problem's type, without `urn:problem:`; of no answer, the error's type
    acknowledged: str  # what the client knows to be stored since; empty: nothing

    @property
    def is_success(self) -> bool:
        """Whether the service did what was asked for."""
        return HTTPStatus.OK <= self.status < HTTPStatus.BAD_REQUEST

    def __str__(self) -> str:
        """Return a line for people."""
        answer = f"{WORDS.get(self.status, self.status)} {self.problem}".strip()
        return f"{self.request}: {answer} after {self.end - self.start:.2f} s"


@dataclass
class RequestLog:
    """The requests of all clients, and when the fault began and ended."""

    clients: int
    entries: list[Entry] = field(default_factory=list)
    began: float = 0
    returned: float = 0
    kills: list[tuple[float, float]] = field(default_factory=list)
    """Times in which a process of the service was ended, from its end until its return."""

    def others(self) -> list[Entry]:
        """Return the requests whose answer is none that a client may get."""
        return [entry for entry in self.entries if not self.is_allowed(entry)]

    def is_allowed(self, entry: Entry) -> bool:
        """Return whether the answer is success, the client's fault, or 503 within 5 s.

        The clients send what is right: theirs is only to ask for a user whom they deleted, or again
        while the first request is under way.
        What a killed process had accepted has no answer. An export that is cut off is no complete
        one: its client knows by the connection's error, as the README says.
        """
        if entry.status == UNANSWERED:
            return any(
                entry.start <= back + ITS_OWN and entry.end >= gone - ITS_OWN
                for gone, back in self.kills
            )
        if entry.status == CUT_OFF:
            return "/export" in entry.request
        if entry.status == HTTPStatus.SERVICE_UNAVAILABLE:
            return entry.end - entry.start <= UNAVAILABLE_LIMIT
        return (
            entry.is_success
            or entry.status == HTTPStatus.NOT_FOUND
            or (entry.problem == "in-progress")
        )

    def longest_outage(self) -> float:
        """Return the longest time without a success, in seconds."""
        ends = sorted(entry.end for entry in self.entries if entry.is_success)
        return max((later - earlier for earlier, later in pairwise(ends)), default=0.0)

    def recovery(self) -> float | None:
        """Return the seconds until every client had written again; None if one never did.

        They count from the return of what was gone; for a client whose request was under way at
        that time, from the end of that request.
        """
        first = bisect_left(self.entries, self.returned, key=attrgetter("end"))
        by_client: dict[int, list[Entry]] = {client: [] for client in range(self.clients)}
        for entry in self.entries[first:]:
            by_client[entry.client].append(entry)
        seconds = [self.time_to_write(entries) for entries in by_client.values()]
        known = [second for second in seconds if second is not None]
        return max(known) if len(known) == len(seconds) else None

    def time_to_write(self, entries: list[Entry]) -> float | None:
        """Return the seconds until a client had written again, by its requests since the return."""
        since = self.returned
        for entry in entries:
            if entry.acknowledged:
                return max(0.0, entry.end - since)
            if entry.start <= self.returned:
                since = entry.end
        return None

    def save(self, file: Path) -> None:
        """Write a line for each request; times are seconds from the beginning of the fault."""
        lines = ["client\tstart\tend\tstatus\tproblem\trequest\tacknowledged"]
        lines += [
            f"{entry.client}\t{entry.start - self.began:.3f}\t{entry.end - self.began:.3f}\t"
            f"{entry.status}\t{entry.problem}\t{entry.request}\t{entry.acknowledged}"
            for entry in self.entries
        ]
        file.write_text("\n".join(lines) + "\n", encoding="utf-8")

    def answers(self) -> str:
        """Return how often each answer came, as words."""
        counts = Counter(
            f"{WORDS.get(entry.status, entry.status)} {entry.problem}".strip()
            for entry in self.entries
        )
        return ", ".join(f"{number} x {answer}" for answer, number in counts.most_common())


def sample(sentences: Iterable[object], limit: int = 5) -> Iterator[str]:
    """Yield the first sentences, and how many there are more."""
    everything = [str(sentence) for sentence in sentences]
    yield from everything[:limit]
    if len(everything) > limit:
        yield f"... and {len(everything) - limit} more"
