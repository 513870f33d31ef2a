"""Both readers of imports: the same rules, however a file is cut into chunks."""

import csv
import io
import itertools
import json
import tracemalloc
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from service.transfer.csv import Columns, CsvReader
from service.transfer.formats import MEDIA_TYPES, READERS, Reader
from service.transfer.lines import LINE_LIMIT, Outcome
from service.transfer.ndjson import NdjsonReader, fast_row, thorough_row
from tests.import_lines import HEADER, flaws, ndjson, read
from tests.paths import ROOT

PEOPLE = ROOT / "tests/data/people.csv"


def pieces(data: bytes, cuts: list[int]) -> Iterator[bytes]:
    for start, end in itertools.pairwise([0, *sorted(cuts), len(data)]):
        yield data[start:end]


# people


def test_of_1535_people_1383_are_rows_and_152_are_too_old() -> None:
    outcome = read(CsvReader(), [PEOPLE.read_bytes()])
    assert len(outcome.rows) == 1377 + 6
    assert len({row.email for row in outcome.rows}) == 1377
    assert len(outcome.rejected) == 152
    assert {(p, d) for _, p, d in flaws(outcome)} == {("/age", "must be between 0 and 150")}


def test_people_are_the_same_in_both_formats() -> None:
    with PEOPLE.open(encoding="utf-8", newline="") as file:
        people = [
            {**row, "email": row["email"] or None, "age": int(row["age"]) if row["age"] else None}
            for row in csv.DictReader(file)
        ]
    # a line stands for the header
    as_json = "\n".join(["", *(json.dumps(person) for person in people)]).encode()
    assert ndjson(as_json) == read(CsvReader(), [PEOPLE.read_bytes()])


# chunks

FRAGMENTS = [
    *(b"\n", b"\r\n", b"\r", b",", b'"', b'""', b'"\n', b',"', b'",', b"\xc3\xab", b"\xff", b"\0"),
    *(b"Ada", b"Ada,a@example.org,36\n", b'"Ada, ""A""\n",,\n', b"\xef\xbb\xbf", b"42", b" "),
    *(b'{"full_name":"Ada"}\n', b'{"full_name":"Zo\xc3\xab","age":null}\r\n', b"{", b"[" * 3000),
    *(b"x" * 40_000, (b"y" * 999 + b"\n") * 40, b"x" * LINE_LIMIT),
]
FILES = st.lists(st.sampled_from(FRAGMENTS), max_size=12).map(b"".join)
CUTS = st.lists(st.integers(0, 400) | st.integers(0, 200_000), max_size=8)


@settings(max_examples=100, deadline=None)
@given(FILES, CUTS)
@example(b"\xef\xbb\xbf" + b"x" * LINE_LIMIT + b"\n", [LINE_LIMIT + 3])
@example(b"\xef\xbb\xbf" + b" " * LINE_LIMIT + b"{}\n", [LINE_LIMIT + 4])
def test_ndjson_is_read_the_same_however_it_is_cut(data: bytes, cuts: list[int]) -> None:
    assert read(NdjsonReader(), pieces(data, cuts)) == ndjson(data)


@settings(max_examples=100, deadline=None)
@given(FILES, CUTS)
def test_csv_is_read_the_same_however_it_is_cut(data: bytes, cuts: list[int]) -> None:
    data = HEADER + data
    assert read(CsvReader(), pieces(data, cuts)) == read(CsvReader(), [data])


@pytest.mark.parametrize("kind", [NdjsonReader, CsvReader])
def test_a_file_can_be_read_a_byte_at_a_time(kind: type[Reader]) -> None:
    data = {
        NdjsonReader: '\ufeff{"full_name":"Zoë"}\r\n\r\n{"full_name":"Ada","age":1}',
        CsvReader: '\ufefffull_name,email,age\r\n"Zoë\r\n",,\r\n\r\nAda,ada@example.org,1',
    }[kind].encode()
    outcome = read(kind(), (bytes([byte]) for byte in data))
    assert outcome == read(kind(), [data])
    assert [row.full_name for row in outcome.rows] == ["Zoë", "Ada"]


@pytest.mark.parametrize("kind", [NdjsonReader, CsvReader])
@pytest.mark.parametrize("beginning", [b"x", b'"', b'{"full_name":"'])
def test_a_line_of_100_mb_is_rejected_and_not_kept(kind: type[Reader], beginning: bytes) -> None:
    reader = kind()
    reader.feed(HEADER + beginning)
    chunk = b"x" * 65536
    tracemalloc.start()
    for _ in range(1600):
        reader.feed(chunk)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 10 * len(chunk)
    outcome = reader.feed(b"\n")
    assert flaws(outcome) == [(2, "", "is longer than 64 KiB")]


def test_a_quote_that_is_never_closed_is_not_kept_either() -> None:
    reader = CsvReader()
    reader.feed(HEADER + b'"')
    chunk = (b"x" * 1023 + b"\n") * 64
    tracemalloc.start()
    for _ in range(300):
        reader.feed(chunk)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 10 * len(chunk)


# the same rules as for one user

NAMES = ["Ada", "Zoë", "Zoe\u0308", " Ada ", "", " ", "a\0b", "a\nb", "x" * 201, "\x85", "=1+1"]
EMAILS = ["ada@example.org", "Ada@EXAMPLE.org", "zoë@münchen.de", "", "x", "a@localhost", " a@b.de"]
AGES = ["0", "42", "150", "151", "-1", "007", " 42", "4.2", "1e1", "", "x", "٣", "9" * 30, "1_0"]
VALUES: st.SearchStrategy[Any] = st.one_of(
    st.sampled_from([*NAMES, *EMAILS, None, 0, 42, 150, 151, -1, 4.0, 1e300, True, 10**30, [], {}]),
    st.text(max_size=5),
)
MEMBERS = st.sampled_from(["full_name", "full_name", "email", "age", "id", "a/b"])


@settings(max_examples=300, deadline=None)
@given(
    st.lists(st.tuples(MEMBERS, VALUES), max_size=5),
    st.sampled_from([json.dumps, partial(json.dumps, ensure_ascii=False)]),
)
def test_the_fast_parser_of_json_agrees_with_the_thorough_one(
    members: list[tuple[str, Any]], encode: Callable[[Any], str]
) -> None:
    texts = [f"{json.dumps(name)}: {encode(value)}" for name, value in members]
    line = f"{{{','.join(texts)}}}".encode()
    assert fast_row(7, line) in {None, thorough_row(7, line)}


@settings(max_examples=300, deadline=None)
@given(
    st.permutations(["full_name", "email", "age", "id"]),
    st.integers(1, 4),
    st.lists(st.sampled_from([*NAMES, *EMAILS, *AGES]) | st.text(max_size=5), max_size=5),
)
def test_the_fast_parser_of_cells_agrees_with_the_thorough_one(
    names: list[str], width: int, cells: list[str]
) -> None:
    columns = Columns([*{"full_name": 0, **dict.fromkeys(names[:width])}])
    assert columns.fast_row(7, cells) in {None, columns.thorough_row(7, cells)}


def test_all_valid_people_are_read_by_the_fast_parsers() -> None:
    with PEOPLE.open(encoding="utf-8", newline="") as file:
        columns = Columns(next(csv.reader(file)))
        fast = [row for cells in csv.reader(file) if (row := columns.fast_row(1, cells))]
    assert len(fast) == 1383
    as_json = [json.dumps(row._asdict() | {"id": 1}).encode() for row in fast]
    as_json = [
        line.replace(b'"line": 1, ', b"").replace(b', "has_age": true', b"") for line in as_json
    ]
    assert [fast_row(1, line) for line in as_json] == fast


@settings(max_examples=100, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(NAMES) | st.text(max_size=9),
            st.sampled_from(EMAILS),
            st.sampled_from(AGES),
        )
    ),
    st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]),
)
def test_what_a_csv_writer_writes_is_read_as_the_same_in_json(
    records: list[tuple[str, str, str]], quoting: Any
) -> None:
    file = io.StringIO()
    writer = csv.writer(file, quoting=quoting)
    writer.writerow(["full_name", "email", "age"])
    expected = Outcome([], [])
    for name, email, age in records:
        number = file.getvalue().count("\n") + 1
        number_or_text = int(age) if age.lstrip("-").isdecimal() and age.isascii() else age or None
        user = {"full_name": name, "email": email or None, "age": number_or_text}
        expected.add(thorough_row(number, json.dumps(user).encode()))
        writer.writerow([name, email, age])
    assert read(CsvReader(), [file.getvalue().encode()]) == expected


# formats


def test_the_media_type_names_the_reader() -> None:
    assert {media_type: READERS[form].__name__ for media_type, form in MEDIA_TYPES.items()} == {
        "application/x-ndjson": "NdjsonReader",
        "application/ndjson": "NdjsonReader",
        "application/jsonl": "NdjsonReader",
        "text/csv": "CsvReader",
    }
