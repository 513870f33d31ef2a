"""The writes that the service acknowledged, compared with the rows that the database kept."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple


class Fields(NamedTuple):
    """The fields of a user; a client writes a marker, the user's own, as the name's first word."""

    full_name: str
    email: str | None
    age: int | None

    @property
    def marker(self) -> str:
        """The word by which a user is known, whatever became of its fields."""
        return self.full_name.partition(" ")[0]


State = Fields | None
"""A user's fields; None: there is no such user."""


@dataclass(eq=False)
class Owned:
    """A user that one client alone writes, and the states in which it may be.

    - `possible`: the state acknowledged last; and those of writes since whose outcome is not known
    - `earlier`: states that an acknowledged write replaced
    - `denied`: states that were refused as not stored (503), and by no other answer left open
    """

    marker: str
    identity: int | None = None
    possible: set[State] = field(default_factory=lambda: {None})
    earlier: set[State] = field(default_factory=set)
    denied: set[State] = field(default_factory=set)
    settled: bool = True
    """Whether no write may still be on its way, which would overwrite a later one."""

    @property
    def state(self) -> State:
        """The one possible state; the caller knows that there is only one."""
        [state] = self.possible
        return state

    def acknowledge(self, state: State) -> None:
        """Note that the service has stored the state."""
        self.earlier |= self.possible
        self.possible = {state}

    def deny(self, state: State) -> None:
        """Note that the service has not stored the state, as it says."""
        self.denied.add(state)

    def doubt(self, state: State) -> None:
        """Note that nobody knows whether the state was stored, or will be."""
        self.possible = self.possible | {state}
        self.settled = False

    def fault_of(self, kept: State) -> str:
        """Return what is wrong with the state that was read or kept: empty, or a word of FAULTS."""
        if kept in self.possible:
            return ""
        if kept in self.denied:
            return "wrong"
        return "lost" if kept is None or kept in self.earlier else "wrong"


FAULTS = ("lost", "duplicated", "wrong")


@dataclass
class Comparison:
    """The differences between acknowledged writes and stored rows: sentences by kind."""

    faults: dict[str, list[str]] = field(default_factory=lambda: {name: [] for name in FAULTS})

    def add(self, fault: str, sentence: str) -> None:
        """Note a fault; nothing where `fault` is empty."""
        if fault:
            self.faults[fault].append(sentence)


def compare(
    owned: Iterable[Owned], imports: Iterable[list[Owned]], rows: Iterable[tuple[int, Fields]]
) -> Comparison:
    """Compare users with the rows of the table, each with its id.

    An import is stored as a whole or not at all.
    """
    kept: dict[str, list[tuple[int, Fields]]] = defaultdict(list)
    for identity, fields in rows:
        kept[fields.marker].append((identity, fields))
    comparison = Comparison()
    for lines in imports:
        stored = [user.marker in kept for user in lines]
        if any(stored) and not all(stored):
            comparison.add("wrong", f"half an import: {sum(stored)} of {len(lines)} lines")
    for user in owned:
        stored_rows = kept.pop(user.marker, [])
        if len(stored_rows) > 1:
            comparison.add("duplicated", f"{user.marker}: {stored_rows}")
            continue
        ids = {identity for identity, _ in stored_rows}
        if user.identity is not None and not ids <= {user.identity}:
            comparison.add("wrong", f"{user.marker} has the id {ids}, not {user.identity}")
        state = stored_rows[0][1] if stored_rows else None
        comparison.add(user.fault_of(state), difference(user, state))
    for marker, stored_rows in kept.items():
        comparison.add("wrong", f"nobody wrote {marker}: {stored_rows}")
    return comparison


def difference(user: Owned, kept: State) -> str:
    """Return a sentence about a user whose state is not as it was acknowledged."""
    states = " or ".join(map(str, user.possible))
    sentence = f"{user.marker} is {kept} instead of {states}"
    return f"{sentence}: a 503 denied that it was stored" if kept in user.denied else sentence
