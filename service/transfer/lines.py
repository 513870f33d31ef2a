"""Reading an import: bytes of any length, fed in chunks, become rows and rejected lines.

A reader is fed chunks as they come, wherever they are cut, and gives what each completes.
It keeps no more than the beginning of one record, so memory stays flat whatever the length.
Rows that are plainly fine take a fast way; the other one knows all the rules and finds all flaws.
"""

import codecs
from io import BytesIO
from typing import NamedTuple

from service import schemas
from service.errors import Flaw, Rejected

LINE_LIMIT = 64 * 1024  # bytes of a line, or of all lines of a CSV's record, with their ends
TOO_LONG = f"is longer than {LINE_LIMIT // 1024} KiB"


class Row(NamedTuple):
    """A user as a line gives it."""

    line: int  # from 1, a CSV's header included
    full_name: str
    email: str | None
    age: int | None
    age_given: bool  # False where the line, or the CSV's header, says nothing of an age


class Batch(NamedTuple):
    """What was completed, in the order of the lines."""

    rows: list[Row]
    rejected: list[Rejected]

    def add(self, outcome: Row | Rejected) -> None:
        """Put it where it belongs."""
        if isinstance(outcome, Row):
            self.rows.append(outcome)
        else:
            self.rejected.append(outcome)


class Lines:
    """Cuts chunks into lines; of one that is too long it keeps just enough to show that."""

    def __init__(self) -> None:
        self.begun = b""
        self.mark = codecs.BOM_UTF8  # what the next line may begin with: only the first one

    def feed(self, chunk: bytes) -> list[bytes]:
        """The lines that end in the chunk, with their ends."""
        lines = BytesIO(self.begun + chunk).readlines()
        self.begun = b""
        if lines and not lines[-1].endswith(b"\n"):
            self.begun = lines.pop()[: len(self.mark) + LINE_LIMIT + 1]
        return self.unmarked(lines)

    def finish(self) -> list[bytes]:
        """The last line, if it lacks its end."""
        return self.unmarked([self.begun] if self.begun else [])

    def unmarked(self, lines: list[bytes]) -> list[bytes]:
        """The lines without the byte order mark that some programs begin a file with."""
        if lines and self.mark:
            lines[0] = lines[0].removeprefix(self.mark)
            self.mark = b""
        return lines


def judged(number: int, given: dict[str, object]) -> Row | Rejected:
    """The row that the values make, or every flaw of theirs."""
    given.pop("id", None)
    values, flaws = schemas.checked(given)
    if "full_name" not in given:
        flaws.append(Flaw("/full_name", "is required"))
    if flaws:
        return Rejected(number, tuple(flaws[: schemas.FLAW_LIMIT]))
    return Row(number, values["full_name"], values.get("email"), values.get("age"), "age" in given)


def rejected(number: int, detail: str) -> Rejected:
    """What is wrong as a whole."""
    return Rejected(number, (Flaw("", detail),))
