"""Reading NDJSON: a user on each line."""

from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from service import schemas, validation
from service.errors import Rejected
from service.transfer.lines import (
    LINE_LIMIT,
    TOO_LONG,
    Lines,
    Outcome,
    Row,
    check_members,
    reject,
)


class NdjsonReader:
    """A reader of newline-delimited JSON: a NewUser on each line, where an `id` is ignored."""

    def __init__(self) -> None:
        self.lines = Lines()
        self.number = 0  # of the last line

    def feed(self, chunk: bytes) -> Outcome:
        """Return what the chunk completes."""
        return self.read(self.lines.feed(chunk))

    def finish(self) -> Outcome:
        """Return what is left at the end of the file."""
        return self.read(self.lines.finish())

    def read(self, lines: list[bytes]) -> Outcome:
        """Return the lines as rows and rejections; an empty line is counted and skipped."""
        outcome = Outcome([], [])
        for number, line in enumerate(lines, self.number + 1):
            if row := fast_row(number, line):
                outcome.rows.append(row)
            elif line.strip():
                outcome.add(thorough_row(number, line))
        self.number += len(lines)
        return outcome


class PlainUser(Struct, forbid_unknown_fields=True):
    """The shape of most lines, which msgspec decodes and checks at once."""

    full_name: str
    email: str | UnsetType | None = UNSET
    age: Annotated[int, Meta(ge=0, le=schemas.AGE_LIMIT)] | UnsetType | None = UNSET
    id: Any = UNSET

    @property
    def members(self) -> int:
        """How many members of the object were kept: of repeated ones, the last."""
        return 1 + (self.email is not UNSET) + (self.age is not UNSET) + (self.id is not UNSET)


decode_plain_user = msgspec.json.Decoder(PlainUser).decode


def fast_row(number: int, line: bytes) -> Row | None:
    """Return the row of the line, or None where `thorough_row` must read it."""
    if len(line) > LINE_LIMIT:
        return None
    try:
        user = decode_plain_user(line)
        # each member has a colon: more of them are in texts, or belong to a repeated member
        if line.count(b":") != user.members:
            return None
        name = validation.full_name(user.full_name)
        email = None if user.email is UNSET else validation.email(user.email)
    except (ValueError, RecursionError):
        return None
    has_age = user.age is not UNSET
    # Row(…) would take as long as decoding does
    return tuple.__new__(Row, (number, name, email, user.age if has_age else None, has_age))


def thorough_row(number: int, line: bytes) -> Row | Rejected:
    """Return the row of the line, or every flaw that it has."""
    if len(line) > LINE_LIMIT:
        return reject(number, TOO_LONG)
    try:
        members = msgspec.json.decode(line)
        repeated = validation.repeated_members(line)
    except ValueError:
        return reject(number, "is not JSON in UTF-8")
    except RecursionError:
        return reject(number, "is nested too deeply")
    if not isinstance(members, dict):
        return reject(number, "must be an object")
    if repeated:
        return Rejected(number, tuple(repeated[: schemas.FLAW_LIMIT]))
    return check_members(number, members)
