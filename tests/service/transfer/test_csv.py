"""Which records of CSV are rows, and which are rejected and why."""

import pytest

from service.errors import InvalidInput
from service.transfer.csv import CsvReader
from service.transfer.lines import LINE_LIMIT, Outcome, Row
from tests.import_lines import ADA, HEADER, flaws, lines_of, read


def below_header(data: bytes) -> Outcome:
    return read(CsvReader(), [HEADER + data])


NOT_CSV = (
    "is not CSV (RFC 4180): after a closing quote comes a separator or the line's end,"
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
    outcome = below_header(record + b"\r\n" + ADA)
    rejected = flaws(outcome)
    assert [(line, pointer) for line, pointer, _ in rejected] == [(2, p) for p, _ in expected]
    for (*_, message), (_, detail) in zip(rejected, expected, strict=True):
        assert message.startswith(detail)
    assert [row.full_name for row in outcome.rows] == ["Ada"]
    assert lines_of(outcome.rows) == [3 + record.count(b"\n")]


ACCEPTED_CSV = {
    "Ada,ada@example.org,36\r\n": Row(2, "Ada", "ada@example.org", 36, has_age=True),
    "Ada,,": Row(2, "Ada", None, None, has_age=True),
    '"Ada","",""': Row(2, "Ada", None, None, has_age=True),
    '"Lovelace, ""Ada""",,': Row(2, 'Lovelace, "Ada"', None, None, has_age=True),
    'Eric "Rick" Crawford,,': Row(2, 'Eric "Rick" Crawford', None, None, has_age=True),
    '6" Tall,,': Row(2, '6" Tall', None, None, has_age=True),
    '" Ada\r\n",,7\n': Row(2, "Ada", None, 7, has_age=True),
    "Zoe\u0308,,007": Row(2, "Zoë", None, 7, has_age=True),
    "\n\r\nAda,,": Row(4, "Ada", None, None, has_age=True),
}


@pytest.mark.parametrize("text", ACCEPTED_CSV)
def test_a_csv_record_is_read(text: str) -> None:
    assert below_header(text.encode()) == Outcome([ACCEPTED_CSV[text]], [])


def test_columns_may_stand_in_any_order_and_an_id_among_them() -> None:
    outcome = read(CsvReader(), [b'\xef\xbb\xbf"age",id,full_name,email\n36,9,Ada,ada@example.org'])
    assert outcome.rows == [Row(2, "Ada", "ada@example.org", 36, has_age=True)]


def test_without_a_column_for_it_a_row_has_no_age() -> None:
    outcome = read(CsvReader(), [b"full_name\nAda\n"])
    assert outcome.rows == [Row(2, "Ada", None, None, has_age=False)]


REFUSED = {
    b"": [""],
    b"\n\n": [""],
    b"\xef\xbb\xbf": [""],
    b'"full_name': [""],
    b'"full_name"x\n': [""],
    b"full_name,n\xe9\n": [""],
    b"x" * LINE_LIMIT + b"\n": [""],
    b"full_name|email|age\n": ["/full_name|email|age", "/full_name"],
    b"full_name;email,age\n": ["/full_name;email", "/full_name"],
    b"full_name,,age\n": [""],
    b"Full_Name,email\n": ["/Full_Name", "/full_name"],
    b"full_name,nickname\n": ["/nickname"],
    b"full_name,email,email\n": ["/email"],
    b"email,age\n": ["/full_name"],
    b"Ada,ada@example.org,36\n": ["/Ada", "/ada@example.org", "/36", "/full_name"],
    b"full_name\rAda\r": [""],
    b",".join(b"%d" % number for number in range(1000)): [f"/{number}" for number in range(20)],
}


@pytest.mark.parametrize("data", REFUSED, ids=lambda data: data[:24])
def test_without_a_usable_header_the_whole_file_is_refused(data: bytes) -> None:
    with pytest.raises(InvalidInput) as refused:
        read(CsvReader(), [data])
    assert [flaw.pointer for flaw in refused.value.flaws] == REFUSED[data]


def test_a_quote_that_never_closes_costs_its_line_up_to_the_end() -> None:
    outcome = below_header(ADA + b'"Ada,,\n' + ADA)
    assert lines_of(outcome.rows) == [2]
    detail = "opens a quote that does not close before the end of the file"
    assert flaws(outcome) == [(3, "", f"{detail}; lines 3 to 4 were taken for one record")]


def test_a_stray_quote_costs_64_kib_at_most() -> None:
    outcome = below_header(ADA * 100 + b'"Ada,,\n' + ADA * 9900)
    [(line, _, detail)] = flaws(outcome)
    assert line == 102
    last = int(detail.removesuffix(" were taken for one record").rpartition(" ")[2])
    assert detail.startswith("is longer than 64 KiB; lines 102 to ")
    assert 0 <= (last - line) * len(ADA) - LINE_LIMIT < 2 * len(ADA)
    assert lines_of(outcome.rows) == [*range(2, 102), *range(last + 1, 10_003)]


def test_a_stray_quote_ends_at_the_next_quote_that_can_not_close_it() -> None:
    outcome = below_header(b'"Ada,,\n' + ADA + b'"Ada",,\n' + ADA)
    assert flaws(outcome) == [(2, "", f"{NOT_CSV}; lines 2 to 4 were taken for one record")]
    assert lines_of(outcome.rows) == [5]


PEOPLE = 'full_name,email,age\r\nZoë Ångström,zoë@example.org,36\r\n"Smith, Bob",,\r\n'
READ = [
    Row(2, "Zoë Ångström", "zoë@example.org", 36, has_age=True),
    Row(3, "Smith, Bob", None, None, has_age=True),
]
SAVED_BY_SPREADSHEETS = {  # the file, and its charset if it is named
    "UTF-8": (PEOPLE.encode(), None),
    "UTF-8 with a mark": (PEOPLE.encode("utf-8-sig"), None),
    "UTF-8 by name": (PEOPLE.encode("utf-8-sig"), "UTF8"),
    "UTF-16": (b"\xff\xfe" + PEOPLE.encode("utf-16-le"), None),
    "UTF-16, big end first": (b"\xfe\xff" + PEOPLE.encode("utf-16-be"), None),
    "UTF-16 by name": (PEOPLE.encode("utf-16"), "utf-16"),
    "UTF-16 without a mark": (PEOPLE.encode("utf-16-be"), "utf-16be"),
    "Windows": (PEOPLE.encode("cp1252"), "windows-1252"),
    "Latin-1": (PEOPLE.encode("latin-1"), "ISO-8859-1"),
    "Macintosh": (PEOPLE.encode("mac-roman"), "macintosh"),
}


@pytest.mark.parametrize("case", SAVED_BY_SPREADSHEETS)
@pytest.mark.parametrize("size", [1, 2, 3, 1000])
def test_a_file_is_read_in_its_charset_wherever_it_is_cut(case: str, size: int) -> None:
    data, charset = SAVED_BY_SPREADSHEETS[case]
    chunks = [data[start : start + size] for start in range(0, len(data), size)]
    assert read(CsvReader(charset), chunks) == Outcome(READ, [])


def test_a_file_that_is_not_in_its_charset_is_refused() -> None:
    cut = PEOPLE.encode("utf-16")[:-1]
    for data, charset in ((cut, None), (b"\xff", "ascii"), (b"full_name\n\x81", "cp1252")):
        with pytest.raises(InvalidInput, match="the body is not"):
            read(CsvReader(charset), [data])


@pytest.mark.parametrize(
    "charset", ["", "utf-7", "idna", "unicode_escape", "rot13", "base64", "x", "é", "a" * 9999]
)
def test_a_charset_that_is_not_known_is_refused_with_what_to_do(charset: str) -> None:
    with pytest.raises(ValueError, match="save the file as UTF-8"):
        CsvReader(charset)


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_the_header_tells_what_separates_the_cells(separator: str) -> None:
    lines = (("full_name", "email", "age"), ("Ada, Countess; of", "ada@example.org", "36"))
    text = "\n".join(separator.join(f'"{cell}"' for cell in cells) for cells in lines)
    outcome = read(CsvReader(), [text.encode()])
    assert outcome == Outcome(
        [Row(2, "Ada, Countess; of", "ada@example.org", 36, has_age=True)], []
    )


def test_empty_cells_may_stand_behind_the_last_column() -> None:
    data = b"full_name,age,,\nAda,36,,\nBob,7\nEve,8,,,,\nMallory,9,,x\n,,,\n"
    outcome = read(CsvReader(), [data])
    assert [row.full_name for row in outcome.rows] == ["Ada", "Bob", "Eve"]
    assert flaws(outcome) == [
        (5, "", "has 4 fields, not 2"),
        (6, "/full_name", "must not be empty"),
    ]


@pytest.mark.parametrize("separator", [b",", b";", b"\t"])
def test_a_line_that_names_the_separator_may_come_first(separator: bytes) -> None:
    lines = [b"sep=,\r\n", b"\r\n", b"full_name,age\r\n", b"Ada,36\r\n"]
    outcome = read(CsvReader(), [line.replace(b",", separator) for line in lines])
    assert outcome == Outcome([Row(4, "Ada", None, 36, has_age=True)], [])
