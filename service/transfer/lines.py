"""The lines of a file and the rows that they become, for the readers of both formats.

A reader is fed the chunks of a file, wherever they are cut, and returns what each one completes.
It keeps at most the beginning of one record, so memory stays flat however long the file is.
Each reader parses twice: a fast function reads the rows that break no rule and returns None for
all others, and a thorough one knows every rule and finds every flaw.
"""

import codecs
from io import BytesIO
from typing import NamedTuple

from service import schemas, validation
from service.errors import Flaw, Rejected

LINE_LIMIT = 64 * 1024  # bytes of a line, or of all lines of a CSV record, with their line ends
TOO_LONG = f"is longer than {LINE_LIMIT // 1024} KiB"


class Row(NamedTuple):
    """A user as a line describes it; the fields are the columns of the temporary table."""

    line: int  # from 1, a CSV's header included
    full_name: str
    email: str | None
    age: int | None
    has_age: bool  # False where the line, or the CSV's header, does not mention the age


class Outcome(NamedTuple):
    """The rows and rejections that a chunk completed, in the order of the lines."""

    rows: list[Row]
    rejected: list[Rejected]

    def add(self, item: Row | Rejected) -> None:
        """Append it to the list of its kind."""
        if isinstance(item, Row):
            self.rows.append(item)
        else:
            self.rejected.append(item)


class Lines:
    """Cuts chunks into lines; of a line that is too long it keeps just enough to show that."""

    def __init__(self) -> None:
        self.unfinished = b""  # the beginning of the line whose end has not come yet
        self.bom = codecs.BOM_UTF8  # removed from the first line, and empty afterwards

    def feed(self, chunk: bytes) -> list[bytes]:
        """Return the lines that end in the chunk, with their line ends."""
        lines = BytesIO(self.unfinished + chunk).readlines()
        self.unfinished = b""
        if lines and not lines[-1].endswith(b"\n"):
            self.unfinished = lines.pop()[: len(self.bom) + LINE_LIMIT + 1]
        return self.without_bom(lines)

    def finish(self) -> list[bytes]:
        """Return the last line of the file, if it has no line end."""
        return self.without_bom([self.unfinished] if self.unfinished else [])

    def without_bom(self, lines: list[bytes]) -> list[bytes]:
        """Return the lines without the byte order mark that some programs write first."""
        if lines and self.bom:
            lines[0] = lines[0].removeprefix(self.bom)
            self.bom = b""
        return lines


def check_members(number: int, members: dict[str, object]) -> Row | Rejected:
    """Return the row of line `number`, or every flaw of its members; an `id` is ignored."""
    members.pop("id", None)
    values, flaws = validation.check_fields(members)
    if "full_name" not in members:
        flaws.append(Flaw("/full_name", "is required"))
    if flaws:
        return Rejected(number, tuple(flaws[: schemas.FLAW_LIMIT]))
    return Row(
        number, values["full_name"], values.get("email"), values.get("age"), "age" in members
    )


def reject(number: int, detail: str) -> Rejected:
    """Return the rejection of a line that is wrong as a whole."""
    return Rejected(number, (Flaw("", detail),))
