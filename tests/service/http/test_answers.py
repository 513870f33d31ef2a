"""The service answers as it did when the record was written, byte for byte."""

from pathlib import Path

import pytest

from tests.databases import Databases
from tests.recorded_responses import CORPORA, Exchange, differences, legible, recorded, responses_to

UNWATCHED = {"METRICS": "0", "ACCESS_LOG": "off"}


@pytest.mark.parametrize("name", CORPORA)
async def test_every_answer_is_as_it_was(
    databases: Databases, url: str, tmp_path: Path, name: str
) -> None:
    """Watched or not: the record is of services with metrics and an access log."""
    before = recorded(databases.kind)[name]
    environment = {} if name == "everything" else UNWATCHED
    found = differences(before, await responses_to(name, url, tmp_path, before, **environment))
    assert not found, "\n\n".join([f"{len(found)} of {len(before)} answers differ", *found])


def answered(body: str, *, date: str = "Mon, 23 Nov 2026 08:00:00 GMT") -> list[str]:
    return legible(f"HTTP/1.1 200 OK\r\ndate: {date}\r\n\r\n{body}".encode())


def test_a_difference_names_the_request_and_shows_both_answers() -> None:
    before = [Exchange("GET /a", answered("1")), Exchange("GET /b", answered("2"))]
    now = [Exchange("GET /a", answered("1")), Exchange("GET /b", answered("3"))]
    (found,) = differences(before, now)
    assert found.splitlines() == ["2. GET /b", " HTTP/1.1 200 OK", " date: …", " ", "-2", "+3"]


def test_what_is_only_true_now_makes_no_difference() -> None:
    assert answered("1") == answered("1", date="Tue, 24 Nov 2026 09:00:00 GMT")


def test_another_corpus_than_the_recorded_one_is_told() -> None:
    before = [Exchange("GET /a", answered("1")), Exchange("GET /b", answered("2"))]
    (found,) = differences(before, before[:1])
    assert found == "2. was GET /b, is no request: write the record anew"
