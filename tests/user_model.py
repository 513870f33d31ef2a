"""A simple model of the service: what it answers to each request, if it is right."""

import json
import unicodedata
from collections.abc import Sequence
from typing import Any, NamedTuple

NAMES = {  # as they are sent: as they are kept
    "Ada": "Ada",
    " ada b\t": "ada b",
    "ADAM": "ADAM",
    "bob": "bob",
    "Zoe\u0308": "Zoë",
    "zoë": "zoë",
    "=1+1": "=1+1",
}
EMAILS = {  # as they are sent: as they are kept
    None: None,
    "ada@example.org": "ada@example.org",
    "ADA@Example.org": "ADA@example.org",
    "bob@example.org": "bob@example.org",
    "ZOË@example.org": "zoë@example.org",
    "zoe\u0308@example.org": "zoë@example.org",
}
AGES = (None, 0, 36)
PREFIXES = {  # as they are sent: folded
    "a": "a",
    "AD": "ad",
    " ada": "ada",
    "ada ": "ada ",
    "zo": "zo",
    "Zoe\u0308": "zoë",
    "": "",
    "%": "%",
}
MALFORMED = "malformed"

Fields = dict[str, Any]  # as they are sent
Place = tuple[Any, ...]  # of a user in an order


class User(NamedTuple):
    """A user as it is kept."""

    full_name: str
    email: str | None
    age: int | None

    @property
    def address(self) -> str | None:
        """The address as it is compared."""
        return None if self.email is None else self.email.lower()

    def with_fields(self, fields: Fields) -> "User":
        """Return the user after a change."""
        kept = dict(fields)
        if "full_name" in kept:
            kept["full_name"] = NAMES[kept["full_name"]]
        if "email" in kept:
            kept["email"] = EMAILS[kept["email"]]
        return self._replace(**kept)


NOBODY = User("", None, None)


class Listing(NamedTuple):
    """Which users a list has, and in which order, as its parameters say."""

    sort: str | None = None
    name: str | None = None
    email: str | None = None

    @property
    def parameters(self) -> Fields:
        """The parameters that are given."""
        return {name: value for name, value in self._asdict().items() if value is not None}

    @property
    def order(self) -> str:
        """The order, also where no parameter names it."""
        return self.sort or ("id" if self.name is None else "full_name")

    @property
    def is_refused(self) -> bool:
        """Whether the parameters contradict each other."""
        return self.name is not None and not self.order.endswith("full_name")

    @property
    def identity(self) -> tuple[str, str | None, str | None]:
        """The parameters by which it is another list: a cursor of one is none of another."""
        name = None if self.name is None else unicodedata.normalize("NFC", self.name).lstrip()
        return self.order, name, EMAILS[self.email]

    def place(self, user_id: int, user: User) -> Place:
        """Return the place of a user in the ascending order."""
        if self.order.endswith("full_name"):
            return user.full_name.lower(), user_id
        return (user_id,)

    def has(self, user: User) -> bool:
        """Return whether the list has the user."""
        if self.name is not None and not user.full_name.lower().startswith(PREFIXES[self.name]):
            return False
        email = EMAILS[self.email]
        return email is None or user.address == email.lower()


class Import(NamedTuple):
    """The result of an import: the counts, None where it is refused; and the users afterwards."""

    counts: Fields | None
    users: list[User]  # that are new
    changed: dict[int, User]


class Model:
    """The users, by id."""

    def __init__(self) -> None:
        self.users: dict[int, User] = {}

    def owner(self, address: str | None) -> int | None:
        """Return the id of the user with the address."""
        owners = (user_id for user_id, user in self.users.items() if user.address == address)
        return None if address is None else next(owners, None)

    def is_taken(self, user: User, user_id: int | None = None) -> bool:
        """Return whether another user has this one's address."""
        return self.owner(user.address) not in {None, user_id}

    def shown(self, user_id: int) -> Fields:
        """Return a user as clients see it."""
        return {"id": user_id, **self.users[user_id]._asdict()}

    def listed(self, listing: Listing, after: Place | None = None) -> list[int]:
        """Return the ids of a list's users after a place, in their order."""
        is_descending = listing.order.startswith("-")
        places = {
            user_id: listing.place(user_id, user)
            for user_id, user in self.users.items()
            if listing.has(user)
        }
        ids = sorted(places, key=places.__getitem__, reverse=is_descending)
        if after is None:
            return ids
        if is_descending:
            return [user_id for user_id in ids if places[user_id] < after]
        return [user_id for user_id in ids if places[user_id] > after]

    def imported(self, lines: Sequence[Fields], on_conflict: str) -> Import:
        """Return what an import of these lines does, one after the other; no names: bad lines."""
        new: list[User] = []
        changed: dict[int, User] = {}
        counts = dict.fromkeys(("created", "updated", "skipped", "rejected"), 0)
        conflicts = 0
        for line in lines:
            if "full_name" not in line:
                counts["rejected"] += 1
                continue
            user = NOBODY.with_fields(line)
            owner = self.owner(user.address)
            twin = next((n for n, each in enumerate(new) if each.address == user.address), None)
            if user.address is None or (owner is None and twin is None):
                new.append(user)
                counts["created"] += 1
                continue
            conflicts += 1
            if on_conflict == "skip":
                counts["skipped"] += 1
            elif owner is not None:
                before = changed.get(owner, self.users[owner])
                changed[owner] = before.with_fields(line)
                counts["updated"] += 1
            elif twin is not None:
                new[twin] = new[twin].with_fields(line)
                counts["updated"] += 1
        if on_conflict == "fail" and (counts["rejected"] or conflicts):
            return Import(None, [], {})
        return Import(counts, new, changed)


def as_ndjson(lines: Sequence[Fields]) -> bytes:
    """Return the lines of an import; those without a name can't be users."""
    return "".join(json.dumps(line) + "\n" for line in lines).encode()
