"""Which lines of JSON are rows, and which are rejected and why."""

import json

import pytest

from service.transfer.lines import LINE_LIMIT, Outcome, Row
from tests.import_lines import flaws, lines_of, ndjson

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
    line, expected = REJECTED_JSON[case]
    outcome = ndjson(line + b'\n{"full_name":"Next"}')
    assert flaws(outcome) == [(1, *flaw) for flaw in expected]
    assert outcome.rows == [Row(2, "Next", None, None, has_age=False)]


def test_an_age_that_is_not_there_is_not_null() -> None:
    outcome = ndjson(b'{"full_name":"A"}\n{"full_name":"A","age":null}\n{"full_name":"A","age":7}')
    assert [(row.age, row.has_age) for row in outcome.rows] == [
        (None, False),
        (None, True),
        (7, True),
    ]


def test_an_exported_user_can_be_imported() -> None:
    outcome = ndjson(b'{"id":7,"full_name":"Ada","email":null,"age":36}')
    assert outcome.rows == [Row(1, "Ada", None, 36, has_age=True)]


def test_empty_lines_of_json_are_counted_and_skipped() -> None:
    outcome = ndjson(b'\n\r\n  \n{"full_name":"A"}\n\n')
    assert lines_of(outcome.rows) == [4]
    assert not outcome.rejected


REPEATED = {
    b'{"full_name":"A","age":9,"full_name":"B","age":9}': ["/full_name", "/age"],
    b'{"full_name":"A","full_name":"A"}': ["/full_name"],
    b'{"full_name":"A","full\\u005fname":"B"}': ["/full_name"],
    b'{"full_name":"A:B","email":null,"email":"a@example.org"}': ["/email"],
    b'{"full_name":"A","id":1,"id":2}': ["/id"],
    b'{"full_name":"A","id":{"x":1,"x":2}}': ["/x"],
}


@pytest.mark.parametrize("line", REPEATED, ids=bytes.decode)
def test_a_member_that_is_repeated_is_refused(line: bytes) -> None:
    expected = [(1, pointer, "is given more than once") for pointer in REPEATED[line]]
    assert flaws(ndjson(line)) == expected


def test_a_colon_in_a_text_repeats_no_member() -> None:
    outcome = ndjson(b'{"full_name":"A: B: C","id":{"x":1,"y":":"},"age":9}')
    assert outcome.rows == [Row(1, "A: B: C", None, 9, has_age=True)]


def test_a_rejection_has_at_most_20_flaws() -> None:
    line = json.dumps({f"field {number}": 1 for number in range(1000)}).encode()
    assert len(flaws(ndjson(line))) == 20


def test_an_empty_file_has_no_rows() -> None:
    assert ndjson(b"") == ndjson(b"\xef\xbb\xbf") == Outcome([], [])
