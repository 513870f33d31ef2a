"""Reading CSV (RFC 4180): a header, then a user a record."""

import csv
import re
from collections import Counter
from collections.abc import Iterator
from operator import itemgetter

from service import schemas
from service.errors import Flaw, InvalidInput, Rejected
from service.transfer.lines import LINE_LIMIT, TOO_LONG, Batch, Lines, Row, judged, rejected

NO_HEADER = Flaw("", "must begin with a line of column names, full_name among them")
NOT_UTF8 = "is not UTF-8"
NOT_CLOSED = "opens a quote that does not close before the end of the file"
NOT_CSV = (
    "is not CSV (RFC 4180): after a closing quote comes a comma or the line's end,"
    " after a carriage return a newline"
)


class TooLong(Exception):  # noqa: N818  # it only stops csv.reader
    """The record has grown past LINE_LIMIT."""


class CsvReader:
    """CSV (RFC 4180) with a header; an empty cell is null, an `id` is left out of account.

    A quote opens a field only where the field begins; elsewhere it stands for itself.
    A record that breaks the rules, or grows too long, is rejected with all the lines it swallowed,
    and the next line begins a new one: a stray quote costs at most LINE_LIMIT.
    """

    def __init__(self) -> None:
        self.lines = Lines()
        self.columns: Columns | None = None  # until the header was read
        self.number = 1  # of the line on which the record begins
        self.record: list[bytes] = []  # its lines so far
        self.size = 0  # their bytes
        self.utf8 = True  # whether all of them are
        self.held: list[bytes] = []  # lines that nobody has looked at yet
        self.ended = False  # whether csv.reader has taken all lines that there are

    def feed(self, chunk: bytes) -> Batch:
        """What the chunk completes; raises InvalidInput for a header that can't be used."""
        self.held += self.lines.feed(chunk)
        if sum(map(len, self.held)) < self.size:
            # a begun record is read from its beginning: not for every chunk, or time is quadratic
            return Batch([], [])
        return self.read(self.released())

    def finish(self) -> Batch:
        """What was left when the file ended; raises InvalidInput if there was no header."""
        batch = self.read(self.released() + self.lines.finish())
        if self.record:
            batch.rejected.append(self.broken(NOT_CLOSED))
        if self.columns is None:
            raise InvalidInput(NO_HEADER)
        return batch

    def released(self) -> list[bytes]:
        """The lines that were held back."""
        lines, self.held = self.held, []
        return lines

    def read(self, lines: list[bytes]) -> Batch:
        """The records that end in these lines; the lines of one that does not are kept."""
        batch = Batch([], [])
        source = iter(self.begin_again() + lines)
        self.ended = False
        while not self.ended:
            try:
                for cells in csv.reader(self.handed(source), strict=True):
                    number = self.number
                    self.number += len(self.record)
                    self.record.clear()
                    self.size = 0
                    if (
                        self.columns
                        and self.utf8
                        and (row := self.columns.plain_row(number, cells))
                    ):
                        batch.rows.append(row)
                    elif cells:
                        self.take(number, cells, batch)
            except csv.Error:
                if not self.ended:
                    batch.rejected.append(self.broken(NOT_CSV))
            except TooLong:
                batch.rejected.append(self.broken(TOO_LONG))
        return batch

    def handed(self, lines: Iterator[bytes]) -> Iterator[str]:
        """Lines for csv.reader, each noted down as one of the record's."""
        for line in lines:
            self.record.append(line)
            self.size += len(line)
            if self.size > LINE_LIMIT:
                raise TooLong
            try:
                yield line.decode()
            except UnicodeDecodeError:
                self.utf8 = False
                yield line.decode(errors="surrogateescape")  # so that the record's end is found
        self.ended = True

    def begin_again(self) -> list[bytes]:
        """The lines of the record that was begun, which nobody has read then."""
        lines, self.record, self.size, self.utf8 = self.record, [], 0, True
        return lines

    def take(self, number: int, cells: list[str], batch: Batch) -> None:
        """The record as the header, or by all the rules."""
        if not self.utf8:
            self.utf8 = True
            if self.columns is None:
                raise InvalidInput(Flaw("", NOT_UTF8))
            batch.rejected.append(rejected(number, NOT_UTF8))
        elif self.columns is None:
            self.columns = Columns(cells)
        else:
            batch.add(self.columns.row(number, cells))

    def broken(self, detail: str) -> Rejected:
        """The record that was begun, as rejected; the next line begins another."""
        if self.columns is None:
            raise InvalidInput(NO_HEADER)
        first, self.number = self.number, self.number + len(self.begin_again())
        if (last := self.number - 1) > first:
            detail = f"{detail}; lines {first} to {last} were taken for one record"
        return rejected(first, detail)


FIELDS = ("full_name", "email", "age")
PLAIN_AGES: dict[str, int | None] = {
    "": None,
    **{str(age): age for age in range(schemas.AGE_LIMIT + 1)},
}
INTEGER = re.compile(r"-?[0-9]{1,4000}")  # Python refuses to read more than 4300 digits


class Columns:
    """What a CSV's header says of the cells below it."""

    def __init__(self, names: list[str]) -> None:
        """Raises InvalidInput unless the names are fields of a user, each once."""
        flaws = []
        for name, times in Counter(names).items():
            if name not in {*FIELDS, "id"}:
                flaws.append(Flaw(f"/{schemas.escaped(name)}", "is not a field of a user"))
            elif times > 1:
                flaws.append(Flaw(f"/{name}", f"is the name of {times} columns"))
        if "full_name" not in names:
            flaws.append(Flaw("/full_name", "must be the name of a column"))
        if flaws:
            raise InvalidInput(*flaws[: schemas.FLAW_LIMIT])
        self.names = names
        self.age_given = "age" in names
        # a column that is missing has its cell behind the last one, see plain_row
        self.pick = itemgetter(*(names.index(f) if f in names else len(names) for f in FIELDS))

    def plain_row(self, number: int, cells: list[str]) -> Row | None:
        """The row, fast; None for what `row` must look at."""
        if len(cells) != len(self.names):
            return None
        name, email, age = self.pick([*cells, ""])
        try:
            name, email, age = (
                schemas.full_name(name),
                schemas.email(email or None),
                PLAIN_AGES[age],
            )
        except (ValueError, KeyError):
            return None
        return tuple.__new__(Row, (number, name, email, age, self.age_given))

    def row(self, number: int, cells: list[str]) -> Row | Rejected:
        """The record by all the rules, with every flaw it has."""
        if len(cells) != len(self.names):
            return rejected(number, f"has {len(cells)} fields, not {len(self.names)}")
        given: dict[str, object] = dict(zip(self.names, cells, strict=True))
        for name in ("email", "age"):
            if given.get(name) == "":
                given[name] = None
        age = given.get("age")
        if isinstance(age, str) and INTEGER.fullmatch(age):
            given["age"] = int(age)
        return judged(number, given)
