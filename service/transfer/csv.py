"""Reading CSV (RFC 4180): a header, and a user in each record."""

import csv
import re
from collections import Counter
from collections.abc import Iterator
from operator import itemgetter

from service import schemas, validation
from service.errors import Flaw, InvalidInput, Rejected
from service.transfer.charsets import ToUtf8
from service.transfer.lines import (
    LINE_LIMIT,
    TOO_LONG,
    Lines,
    Outcome,
    Row,
    check_members,
    reject,
)

SEPARATOR_LINE = "sep="  # and the separator; some spreadsheets write it before the header
NO_HEADER = Flaw("", "must begin with a line of column names, full_name among them")
NOT_UTF8 = "is not UTF-8: save the file as UTF-8, or name its charset"
NO_NAME = Flaw("", "has a column without a name among the others: remove it, or name it")
NOT_CLOSED = "opens a quote that does not close before the end of the file"
NOT_CSV = (
    "is not CSV (RFC 4180): after a closing quote comes a separator or the line's end,"
    " after a carriage return a newline"
)


class TooLong(Exception):  # noqa: N818  # it only stops csv.reader
    """The record has grown past LINE_LIMIT."""


class CsvReader:
    """A reader of CSV (RFC 4180) with a header; an empty cell is null, an `id` is ignored.

    Spreadsheets write semicolons or tabs in place of commas, other charsets, and empty cells behind
    the last column: all that is read.
    A quote opens a field only at the beginning of the field; elsewhere it is an ordinary character.
    A record that breaks the rules, or grows too long, is rejected together with all the lines that
    it includes, and the next line begins a new record: a stray quote costs at most LINE_LIMIT.
    """

    def __init__(self, charset: str | None = None) -> None:
        """Raise ValueError, with what to do, for a charset that can't be read."""
        self.to_utf8 = ToUtf8(charset)
        self.lines = Lines()
        self.separator = ","
        self.columns: Columns | None = None  # until the header is read
        self.number = 1  # of the first line of the current record
        self.record: list[bytes] = []  # the lines of the current record so far
        self.size = 0  # their bytes
        self.is_utf8 = True  # whether all of them are
        self.pending: list[bytes] = []  # lines that were not given to csv.reader yet
        self.pending_size = 0  # their bytes; summed up for each chunk it would be quadratic, too
        self.exhausted = False  # whether csv.reader has taken all lines

    def feed(self, chunk: bytes) -> Outcome:
        """Return what the chunk completes.

        Raise InvalidInput for a header that can't be used, or a file that is not in its charset.
        """
        lines = self.lines.feed(self.decode(chunk))
        self.pending += lines
        self.pending_size += sum(map(len, lines))
        if self.pending_size < self.size:
            # an unfinished record is parsed from its beginning again; to do that for every chunk
            # would take quadratic time
            return Outcome([], [])
        return self.read(self.take_pending())

    def finish(self) -> Outcome:
        """Return what is left at the end of the file; raise InvalidInput if it has no header."""
        rest = self.lines.feed(self.decode(b"", final=True))
        outcome = self.read(self.take_pending() + rest + self.lines.finish())
        if self.record:
            outcome.rejected.append(self.reject_record(NOT_CLOSED))
        if self.columns is None:
            raise InvalidInput(NO_HEADER)
        return outcome

    def decode(self, chunk: bytes, *, final: bool = False) -> bytes:
        """Return the chunk in UTF-8; raise InvalidInput if it is not in its charset."""
        try:
            return self.to_utf8.feed(chunk, final=final)
        except ValueError as error:
            raise InvalidInput(Flaw("", str(error))) from None

    def take_pending(self) -> list[bytes]:
        """Return the pending lines, and forget them."""
        lines, self.pending, self.pending_size = self.pending, [], 0
        return lines

    def read(self, lines: list[bytes]) -> Outcome:
        """Return the records that end in these lines, and keep the lines of an unfinished one."""
        outcome = Outcome([], [])
        lines = self.take_record() + lines
        if self.columns is None:
            self.separator = separator_of(lines)
        source = iter(lines)
        self.exhausted = False
        while not self.exhausted:
            try:
                for cells in csv.reader(
                    self.decoded(source), delimiter=self.separator, strict=True
                ):
                    number = self.number
                    self.number += len(self.record)
                    self.record.clear()
                    self.size = 0
                    if (
                        self.columns
                        and self.is_utf8
                        and (row := self.columns.fast_row(number, cells))
                    ):
                        outcome.rows.append(row)
                    elif cells:
                        self.read_record(number, cells, outcome)
            except csv.Error:
                if not self.exhausted:
                    outcome.rejected.append(self.reject_record(NOT_CSV))
            except TooLong:
                outcome.rejected.append(self.reject_record(TOO_LONG))
        return outcome

    def decoded(self, lines: Iterator[bytes]) -> Iterator[str]:
        """Yield the lines as text for csv.reader, and add each to the current record."""
        for line in lines:
            self.record.append(line)
            self.size += len(line)
            if self.size > LINE_LIMIT:
                raise TooLong
            try:
                yield line.decode()
            except UnicodeDecodeError:
                self.is_utf8 = False
                # csv.reader still has to find the end of the record
                yield line.decode(errors="surrogateescape")
        self.exhausted = True

    def take_record(self) -> list[bytes]:
        """Return the lines of the current record, and forget them."""
        lines, self.record, self.size, self.is_utf8 = self.record, [], 0, True
        return lines

    def read_record(self, number: int, cells: list[str], outcome: Outcome) -> None:
        """Read the cells as the header, or as a user by all the rules."""
        if not self.is_utf8:
            self.is_utf8 = True
            if self.columns is None:
                raise InvalidInput(Flaw("", NOT_UTF8))
            outcome.rejected.append(reject(number, NOT_UTF8))
        elif self.columns is not None:
            outcome.add(self.columns.thorough_row(number, cells))
        elif cells[0] != SEPARATOR_LINE:
            self.columns = Columns(cells)

    def reject_record(self, detail: str) -> Rejected:
        """Return the rejection of the current record; the next line begins another one."""
        if self.columns is None:
            raise InvalidInput(NO_HEADER)
        first, self.number = self.number, self.number + len(self.take_record())
        if (last := self.number - 1) > first:
            detail = f"{detail}; lines {first} to {last} were taken for one record"
        return reject(first, detail)


def separator_of(lines: list[bytes]) -> str:
    """Return what separates the names in the first line: a comma, or else a semicolon or a tab."""
    header = next((line for line in lines if line.strip()), b"")
    return next((each for each in ",;\t" if each.encode() in header), ",")


COLUMN_NAMES = ("full_name", "email", "age")  # that are read; an `id` is allowed as well
PLAIN_AGES: dict[str, int | None] = {
    "": None,
    **{str(age): age for age in range(schemas.AGE_LIMIT + 1)},
}
INTEGER = re.compile(r"-?[0-9]{1,4000}")  # Python refuses to read more than 4300 digits


class Columns:
    """The columns that a CSV's header names."""

    def __init__(self, names: list[str]) -> None:
        """Raise InvalidInput unless the names are fields of a user, each once.

        Columns without a name may come after the others.
        """
        flaws = []
        while names and not names[-1]:
            names = names[:-1]
        for name, times in Counter(names).items():
            if not name:
                flaws.append(NO_NAME)
            elif name not in {*COLUMN_NAMES, "id"}:
                flaws.append(
                    Flaw(f"/{validation.escape_pointer(name)}", "is not a field of a user")
                )
            elif times > 1:
                flaws.append(Flaw(f"/{name}", f"is the name of {times} columns"))
        if "full_name" not in names:
            flaws.append(Flaw("/full_name", "must be the name of a column"))
        if flaws:
            raise InvalidInput(*flaws[: schemas.FLAW_LIMIT])
        self.names = names
        self.has_age = "age" in names
        # fast_row appends an empty cell, which stands for each column that is missing
        places = (names.index(name) if name in names else len(names) for name in COLUMN_NAMES)
        self.pick = itemgetter(*places)

    def fast_row(self, number: int, cells: list[str]) -> Row | None:
        """Return the row of the record, or None where `thorough_row` must read it."""
        if len(cells) != len(self.names):
            cells = self.without_empty_end(cells)
        if len(cells) != len(self.names):
            return None
        name, email, age = self.pick([*cells, ""])
        try:
            name, email, age = (
                validation.full_name(name),
                validation.email(email or None),
                PLAIN_AGES[age],
            )
        except (ValueError, KeyError):
            return None
        # Row(…) would take as long as parsing does
        return tuple.__new__(Row, (number, name, email, age, self.has_age))

    def without_empty_end(self, cells: list[str]) -> list[str]:
        """Return the cells without empty ones behind the last column."""
        width = len(self.names)
        return cells if any(cells[width:]) else cells[:width]

    def thorough_row(self, number: int, cells: list[str]) -> Row | Rejected:
        """Return the row of the record, or every flaw that it has."""
        cells = self.without_empty_end(cells)
        if len(cells) != len(self.names):
            fields = "1 field" if len(cells) == 1 else f"{len(cells)} fields"
            return reject(number, f"has {fields}, not {len(self.names)}")
        members: dict[str, object] = dict(zip(self.names, cells, strict=True))
        for name in ("email", "age"):
            if members.get(name) == "":
                members[name] = None
        age = members.get("age")
        if isinstance(age, str) and INTEGER.fullmatch(age):
            members["age"] = int(age)
        return check_members(number, members)
