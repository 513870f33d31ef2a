"""Read the bytes of an import, and take the outcome apart."""

import itertools
from collections.abc import Iterable

from service.errors import Rejected
from service.transfer.formats import Reader
from service.transfer.lines import Outcome, Row
from service.transfer.ndjson import NdjsonReader

HEADER = b"full_name,email,age\n"
ADA = b"Ada,ada@example.org,36\n"


def read(reader: Reader, chunks: Iterable[bytes]) -> Outcome:
    """Return all that the chunks become."""
    outcomes = [*(reader.feed(chunk) for chunk in chunks), reader.finish()]
    rows, rejected = zip(*outcomes, strict=True)
    return Outcome(list(itertools.chain(*rows)), list(itertools.chain(*rejected)))


def ndjson(data: bytes) -> Outcome:
    return read(NdjsonReader(), [data])


def flaws(outcome: Outcome) -> list[tuple[int, str, str]]:
    return [(line, *flaw) for line, line_flaws in outcome.rejected for flaw in line_flaws]


def lines_of(lines: list[Row] | list[Rejected]) -> list[int]:
    return [line.line for line in lines]
