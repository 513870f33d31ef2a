"""The service's responses are those of the record, byte for byte."""

from pathlib import Path

import pytest

from tests.databases import Databases
from tests.recorded_responses import CORPORA, Exchange, differences, legible, recorded, responses_to

WITHOUT_OBSERVABILITY = {"METRICS": "0", "ACCESS_LOG": "off"}


@pytest.mark.parametrize("name", CORPORA)
async def test_every_response_is_as_recorded(
    databases: Databases, url: str, tmp_path: Path, name: str
) -> None:
    """With and without metrics and an access log; the record was written with both."""
    before = recorded(databases.kind)[name]
    environment = {} if name == "everything" else WITHOUT_OBSERVABILITY
    changes = differences(before, await responses_to(name, url, tmp_path, before, **environment))
    assert not changes, "\n\n".join([f"{len(changes)} of {len(before)} responses differ", *changes])


def response_lines(body: str, *, date: str = "Mon, 23 Nov 2026 08:00:00 GMT") -> list[str]:
    return legible(f"HTTP/1.1 200 OK\r\ndate: {date}\r\n\r\n{body}".encode())


def test_a_difference_names_the_request_and_shows_both_responses() -> None:
    before = [Exchange("GET /a", response_lines("1")), Exchange("GET /b", response_lines("2"))]
    now = [Exchange("GET /a", response_lines("1")), Exchange("GET /b", response_lines("3"))]
    (change,) = differences(before, now)
    assert change.splitlines() == ["2. GET /b", " HTTP/1.1 200 OK", " date: …", " ", "-2", "+3"]


def test_another_date_is_no_difference() -> None:
    assert response_lines("1") == response_lines("1", date="Tue, 24 Nov 2026 09:00:00 GMT")


def test_a_request_missing_from_the_corpus_is_reported() -> None:
    before = [Exchange("GET /a", response_lines("1")), Exchange("GET /b", response_lines("2"))]
    (change,) = differences(before, before[:1])
    assert change == "2. was GET /b, is no request: write the record anew"
