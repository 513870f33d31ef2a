"""Reading NDJSON: a user a line."""

from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from service import schemas
from service.errors import Rejected
from service.transfer.lines import LINE_LIMIT, TOO_LONG, Batch, Lines, Row, judged, rejected


class NdjsonReader:
    """Newline-delimited JSON: a NewUser a line; its `id`, if any, is left out of account."""

    def __init__(self) -> None:
        self.lines = Lines()
        self.number = 0  # of the last line

    def feed(self, chunk: bytes) -> Batch:
        """What the chunk completes."""
        return self.read(self.lines.feed(chunk))

    def finish(self) -> Batch:
        """What was left when the file ended."""
        return self.read(self.lines.finish())

    def read(self, lines: list[bytes]) -> Batch:
        """The lines as rows and rejections; empty ones are only counted."""
        batch = Batch([], [])
        for number, line in enumerate(lines, self.number + 1):
            if row := plain_line(number, line):
                batch.rows.append(row)
            elif line.strip():
                batch.add(any_line(number, line))
        self.number += len(lines)
        return batch


class PlainUser(Struct, forbid_unknown_fields=True):
    """What most lines fit."""

    full_name: str
    email: str | None = None
    age: Annotated[int, Meta(ge=0, le=schemas.AGE_LIMIT)] | UnsetType | None = UNSET
    id: Any = None


plain_user = msgspec.json.Decoder(PlainUser).decode


def plain_line(number: int, line: bytes) -> Row | None:
    """The row, fast; None for what any_line must look at."""
    if len(line) > LINE_LIMIT:
        return None
    try:
        user = plain_user(line)
        name, email = schemas.full_name(user.full_name), schemas.email(user.email)
    except (ValueError, RecursionError):
        return None
    given = user.age is not UNSET
    # Row(…) would take as long as decoding does
    return tuple.__new__(Row, (number, name, email, user.age if given else None, given))


def any_line(number: int, line: bytes) -> Row | Rejected:
    """The line by all the rules, with every flaw it has."""
    if len(line) > LINE_LIMIT:
        return rejected(number, TOO_LONG)
    try:
        given = msgspec.json.decode(line)
    except ValueError:
        return rejected(number, "is not JSON in UTF-8")
    except RecursionError:
        return rejected(number, "is nested too deeply")
    if not isinstance(given, dict):
        return rejected(number, "must be an object")
    return judged(number, given)
