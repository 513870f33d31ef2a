"""What an import's bytes become: rows or rejections, however they are cut into chunks."""

import csv
import io
import itertools
import json
import tracemalloc
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from service.errors import InvalidInput, Rejected
from service.transfer.lines import (
    LINE_LIMIT,
    MEDIA_TYPES,
    Batch,
    Columns,
    CsvReader,
    NdjsonReader,
    Row,
    any_line,
    plain_line,
)
from tests.paths import ROOT

PEOPLE = ROOT / "tests/data/people.csv"
HEADER = b"full_name,email,age\n"
ADA = b"Ada,ada@example.org,36\n"
Reader = NdjsonReader | CsvReader


def read(reader: Reader, chunks: Iterable[bytes]) -> Batch:
    """All that the chunks give."""
    batches = [*(reader.feed(chunk) for chunk in chunks), reader.finish()]
    rows, rejected = zip(*batches, strict=True)
    return Batch(list(itertools.chain(*rows)), list(itertools.chain(*rejected)))


def ndjson(data: bytes) -> Batch:
    return read(NdjsonReader(), [data])


def below_header(data: bytes) -> Batch:
    return read(CsvReader(), [HEADER + data])


def flaws(batch: Batch) -> list[tuple[int, str, str]]:
    return [(line, *flaw) for line, found in batch.rejected for flaw in found]


def lines_of(found: list[Row] | list[Rejected]) -> list[int]:
    return [one.line for one in found]


def pieces(data: bytes, cuts: list[int]) -> Iterator[bytes]:
    for start, end in itertools.pairwise([0, *sorted(cuts), len(data)]):
        yield data[start:end]


# people


def test_of_1535_people_1383_are_rows_and_152_are_too_old() -> None:
    batch = read(CsvReader(), [PEOPLE.read_bytes()])
    assert len(batch.rows) == 1377 + 6
    assert len({row.email for row in batch.rows}) == 1377
    assert len(batch.rejected) == 152
    assert {(p, d) for _, p, d in flaws(batch)} == {("/age", "must be between 0 and 150")}


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
def test_a_byte_at_a_time_will_do(kind: type[Reader]) -> None:
    data = {
        NdjsonReader: '\ufeff{"full_name":"Zoë"}\r\n\r\n{"full_name":"Ada","age":1}',
        CsvReader: '\ufefffull_name,email,age\r\n"Zoë\r\n",,\r\n\r\nAda,ada@example.org,1',
    }[kind].encode()
    batch = read(kind(), (bytes([byte]) for byte in data))
    assert batch == read(kind(), [data])
    assert [row.full_name for row in batch.rows] == ["Zoë", "Ada"]


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
    batch = reader.feed(b"\n")
    assert flaws(batch) == [(2, "", "is longer than 64 KiB")]


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
FIELDS = st.sampled_from(["full_name", "full_name", "email", "age", "id", "a/b"])


@settings(max_examples=300, deadline=None)
@given(
    st.lists(st.tuples(FIELDS, VALUES), max_size=5),
    st.sampled_from([json.dumps, partial(json.dumps, ensure_ascii=False)]),
)
def test_the_fast_way_through_json_agrees_with_the_thorough_one(
    members: list[tuple[str, Any]], encode: Callable[[Any], str]
) -> None:
    texts = [f"{json.dumps(name)}: {encode(value)}" for name, value in members]
    line = f"{{{','.join(texts)}}}".encode()
    assert plain_line(7, line) in {None, any_line(7, line)}


@settings(max_examples=300, deadline=None)
@given(
    st.permutations(["full_name", "email", "age", "id"]),
    st.integers(1, 4),
    st.lists(st.sampled_from([*NAMES, *EMAILS, *AGES]) | st.text(max_size=5), max_size=5),
)
def test_the_fast_way_through_cells_agrees_with_the_thorough_one(
    names: list[str], width: int, cells: list[str]
) -> None:
    columns = Columns([*{"full_name": 0, **dict.fromkeys(names[:width])}])
    assert columns.plain_row(7, cells) in {None, columns.row(7, cells)}


def test_most_people_go_the_fast_way() -> None:
    with PEOPLE.open(encoding="utf-8", newline="") as file:
        columns = Columns(next(csv.reader(file)))
        fast = [row for cells in csv.reader(file) if (row := columns.plain_row(1, cells))]
    assert len(fast) == 1383
    as_json = [json.dumps(row._asdict() | {"id": 1}).encode() for row in fast]
    as_json = [
        line.replace(b'"line": 1, ', b"").replace(b', "age_given": true', b"") for line in as_json
    ]
    assert [plain_line(1, line) for line in as_json] == fast


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
    expected = Batch([], [])
    for name, email, age in records:
        number = file.getvalue().count("\n") + 1
        number_or_text = int(age) if age.lstrip("-").isdecimal() and age.isascii() else age or None
        user = {"full_name": name, "email": email or None, "age": number_or_text}
        expected.add(any_line(number, json.dumps(user).encode()))
        writer.writerow([name, email, age])
    assert read(CsvReader(), [file.getvalue().encode()]) == expected


# NDJSON

REJECTED_JSON: dict[str, tuple[bytes, list[tuple[str, str]]]] = {
    "cut off": (b'{"full_name":"Ada"', [("", "is not JSON in UTF-8")]),
    "no JSON": (b"Ada", [("", "is not JSON in UTF-8")]),
    "two on a line": (b'{"full_name":"A"} {"full_name":"B"}', [("", "is not JSON in UTF-8")]),
    "not UTF-8": (b'{"full_name":"\xff"}', [("", "is not JSON in UTF-8")]),
    "not UTF-8 in an id": (b'{"full_name":"A","id":"\xff"}', [("", "is not JSON in UTF-8")]),
    "a list": (b'["Ada"]', [("", "must be an object")]),
    "null": (b"null", [("", "must be an object")]),
    "nested": (b"[" * 60_000, [("", "is nested too deeply")]),
    "nested id": (b'{"full_name":"A","id":' + b"[" * 60_000, [("", "is nested too deeply")]),
    "no name": (b"{}", [("/full_name", "is required")]),
    "NUL": (b'{"full_name":"\\u0000a"}', [("/full_name", "must not contain control characters")]),
    "text as age": (b'{"full_name":"A","age":"4"}', [("/age", "must be a whole number or null")]),
    "fraction": (b'{"full_name":"A","age":4.0}', [("/age", "must be a whole number or null")]),
    "too old": (b'{"full_name":"A","age":151}', [("/age", "must be between 0 and 150")]),
    "unknown": (b'{"full_name":"A","a/b":1}', [("/a~1b", "is not a field of a user")]),
    "all at once": (
        b'{"full_name":"","age":-1,"x":1}',
        [
            ("/full_name", "must not be empty"),
            ("/age", "must be between 0 and 150"),
            ("/x", "is not a field of a user"),
        ],
    ),
    "long": (b'{"full_name":"A"' + b" " * LINE_LIMIT + b"}", [("", "is longer than 64 KiB")]),
}


@pytest.mark.parametrize("case", REJECTED_JSON)
def test_a_json_line_is_rejected_and_the_next_one_read(case: str) -> None:
    line, found = REJECTED_JSON[case]
    batch = ndjson(line + b'\n{"full_name":"Next"}')
    assert flaws(batch) == [(1, *flaw) for flaw in found]
    assert batch.rows == [Row(2, "Next", None, None, age_given=False)]


def test_an_age_that_is_not_there_is_not_null() -> None:
    batch = ndjson(b'{"full_name":"A"}\n{"full_name":"A","age":null}\n{"full_name":"A","age":7}')
    assert [(row.age, row.age_given) for row in batch.rows] == [
        (None, False),
        (None, True),
        (7, True),
    ]


def test_an_exported_user_can_be_imported() -> None:
    batch = ndjson(b'{"id":7,"full_name":"Ada","email":null,"age":36}')
    assert batch.rows == [Row(1, "Ada", None, 36, age_given=True)]


def test_empty_lines_of_json_are_counted_and_skipped() -> None:
    batch = ndjson(b'\n\r\n  \n{"full_name":"A"}\n\n')
    assert lines_of(batch.rows) == [4]
    assert not batch.rejected


def test_of_a_member_that_is_repeated_the_last_counts() -> None:
    batch = ndjson(b'{"full_name":"A","age":999,"full_name":"B","age":9}')
    assert batch.rows == [Row(1, "B", None, 9, age_given=True)]


def test_no_more_than_20_flaws_of_a_line_are_told() -> None:
    line = json.dumps({f"field {number}": 1 for number in range(1000)}).encode()
    assert len(flaws(ndjson(line))) == 20


def test_no_json_at_all_is_nothing() -> None:
    assert ndjson(b"") == ndjson(b"\xef\xbb\xbf") == Batch([], [])


# CSV

NOT_CSV = (
    "is not CSV (RFC 4180): after a closing quote comes a comma or the line's end,"
    " after a carriage return a newline"
)
REJECTED_CSV: dict[str, tuple[bytes, list[tuple[str, str]]]] = {
    "a field missing": (b"Ada,ada@example.org", [("", "has 2 fields, not 3")]),
    "a field too many": (b"Lovelace, Ada,ada@example.org,36", [("", "has 4 fields, not 3")]),
    "no name": (b",ada@example.org,36", [("/full_name", "must not be empty")]),
    "no address": (b"Ada, ,", [("/email", "is not an e-mail address")]),
    "NUL": (b"A\0da,,", [("/full_name", "must not contain control characters")]),
    "a newline inside": (b'"A\nda",,', [("/full_name", "must not contain control characters")]),
    "not UTF-8": (b"Andr\xe9,,", [("", "is not UTF-8")]),
    "not UTF-8 over two lines": (b'"Andr\xe9\nGide",,', [("", "is not UTF-8")]),
    "after the closing quote": (b'"Ada" Lovelace,,', [("", NOT_CSV)]),
    "a lonely carriage return": (b"Ada\rBob,,", [("", NOT_CSV)]),
    "age in words": (b"Ada,,old", [("/age", "must be a whole number or null")]),
    "age with a space": (b"Ada,, 36", [("/age", "must be a whole number or null")]),
    "age with a point": (b"Ada,,36.0", [("/age", "must be a whole number or null")]),
    "too old": (b"Ada,,151", [("/age", "must be between 0 and 150")]),
    "not born": (b"Ada,,-1", [("/age", "must be between 0 and 150")]),
    "very old": (b"Ada,," + b"9" * 4000, [("/age", "must be between 0 and 150")]),
    "beyond counting": (b"Ada,," + b"9" * 5000, [("/age", "must be a whole number or null")]),
    "long": (b"x" * LINE_LIMIT + b",,", [("", "is longer than 64 KiB")]),
    "all at once": (
        b",x,200",
        [
            ("/full_name", "must not be empty"),
            ("/email", "is not an e-mail address"),
            ("/age", "must be between 0 and 150"),
        ],
    ),
}


@pytest.mark.parametrize("case", REJECTED_CSV)
def test_a_csv_record_is_rejected_and_the_next_one_read(case: str) -> None:
    record, expected = REJECTED_CSV[case]
    batch = below_header(record + b"\r\n" + ADA)
    found = flaws(batch)
    assert [(line, pointer) for line, pointer, _ in found] == [(2, p) for p, _ in expected]
    for (*_, told), (_, detail) in zip(found, expected, strict=True):
        assert told.startswith(detail)
    assert [row.full_name for row in batch.rows] == ["Ada"]
    assert lines_of(batch.rows) == [3 + record.count(b"\n")]


ACCEPTED_CSV = {
    "Ada,ada@example.org,36\r\n": Row(2, "Ada", "ada@example.org", 36, age_given=True),
    "Ada,,": Row(2, "Ada", None, None, age_given=True),
    '"Ada","",""': Row(2, "Ada", None, None, age_given=True),
    '"Lovelace, ""Ada""",,': Row(2, 'Lovelace, "Ada"', None, None, age_given=True),
    'Eric "Rick" Crawford,,': Row(2, 'Eric "Rick" Crawford', None, None, age_given=True),
    '6" Tall,,': Row(2, '6" Tall', None, None, age_given=True),
    '" Ada\r\n",,7\n': Row(2, "Ada", None, 7, age_given=True),
    "Zoe\u0308,,007": Row(2, "Zoë", None, 7, age_given=True),
    "\n\r\nAda,,": Row(4, "Ada", None, None, age_given=True),
}


@pytest.mark.parametrize("text", ACCEPTED_CSV)
def test_a_csv_record_is_read(text: str) -> None:
    assert below_header(text.encode()) == Batch([ACCEPTED_CSV[text]], [])


def test_columns_may_stand_in_any_order_and_an_id_among_them() -> None:
    batch = read(CsvReader(), [b'\xef\xbb\xbf"age",id,full_name,email\n36,9,Ada,ada@example.org'])
    assert batch.rows == [Row(2, "Ada", "ada@example.org", 36, age_given=True)]


def test_without_a_column_for_it_no_age_is_given() -> None:
    batch = read(CsvReader(), [b"full_name\nAda\n"])
    assert batch.rows == [Row(2, "Ada", None, None, age_given=False)]


REFUSED = {
    b"": [""],
    b"\n\n": [""],
    b"\xef\xbb\xbf": [""],
    b'"full_name': [""],
    b'"full_name"x\n': [""],
    b"full_name,n\xe9\n": [""],
    b"x" * LINE_LIMIT + b"\n": [""],
    b"full_name;email;age\n": ["/full_name;email;age", "/full_name"],
    b"Full_Name,email\n": ["/Full_Name", "/full_name"],
    b"full_name,nickname\n": ["/nickname"],
    b"full_name,email,email\n": ["/email"],
    b"email,age\n": ["/full_name"],
    b"Ada,ada@example.org,36\n": ["/Ada", "/ada@example.org", "/36", "/full_name"],
    b"full_name\rAda\r": [""],
    b",".join(b"%d" % number for number in range(1000)): [f"/{number}" for number in range(20)],
}


@pytest.mark.parametrize("data", REFUSED, ids=lambda data: data[:24])
def test_without_a_header_that_can_be_used_all_is_refused(data: bytes) -> None:
    with pytest.raises(InvalidInput) as refused:
        read(CsvReader(), [data])
    assert [flaw.pointer for flaw in refused.value.flaws] == REFUSED[data]


def test_a_quote_that_never_closes_costs_its_line_up_to_the_end() -> None:
    batch = below_header(ADA + b'"Ada,,\n' + ADA)
    assert lines_of(batch.rows) == [2]
    detail = "opens a quote that does not close before the end of the file"
    assert flaws(batch) == [(3, "", f"{detail}; lines 3 to 4 were taken for one record")]


def test_a_stray_quote_costs_64_kib_at_most() -> None:
    batch = below_header(ADA * 100 + b'"Ada,,\n' + ADA * 9900)
    [(line, _, detail)] = flaws(batch)
    assert line == 102
    last = int(detail.removesuffix(" were taken for one record").rpartition(" ")[2])
    assert detail.startswith("is longer than 64 KiB; lines 102 to ")
    assert 0 <= (last - line) * len(ADA) - LINE_LIMIT < 2 * len(ADA)
    assert lines_of(batch.rows) == [*range(2, 102), *range(last + 1, 10_003)]


def test_a_stray_quote_ends_at_the_next_quote_that_can_not_close_it() -> None:
    batch = below_header(b'"Ada,,\n' + ADA + b'"Ada",,\n' + ADA)
    assert flaws(batch) == [(2, "", f"{NOT_CSV}; lines 2 to 4 were taken for one record")]
    assert lines_of(batch.rows) == [5]


# formats


def test_the_media_type_names_the_reader() -> None:
    assert {media_type: kind.__name__ for media_type, kind in MEDIA_TYPES.items()} == {
        "application/x-ndjson": "NdjsonReader",
        "application/ndjson": "NdjsonReader",
        "application/jsonl": "NdjsonReader",
        "text/csv": "CsvReader",
    }
