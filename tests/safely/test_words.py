"""Durations, sizes and counts as people write and read them."""

from collections.abc import Callable

import pytest

from safely import words


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 ms"),
        (0.0004, "0 ms"),
        (0.25, "250 ms"),
        (1, "1.0 s"),
        (59.9, "59.9 s"),
        (90, "1.5 min"),
    ],
)
def test_durations(seconds: float, text: str) -> None:
    assert words.duration(seconds) == text


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (12 * 2**10, "12 KiB"),
        (3 * 2**20, "3 MiB"),
        (1.5 * 2**30, "1.5 GiB"),
    ],
)
def test_sizes(number: float, text: str) -> None:
    assert words.size(number) == text


def test_counts_agree_with_their_nouns() -> None:
    assert words.count(1, "row") == "1 row"
    assert words.count(100_000, "row") == "100,000 rows"
    assert words.count(2, "index", "indexes") == "2 indexes"


@pytest.mark.parametrize(
    ("parse", "text", "value"),
    [
        (words.parse_duration, "250ms", 0.25),
        (words.parse_duration, "1.5 min", 90),
        (words.parse_size, "500MB", 500 * 2**20),
        (words.parse_size, "1TB", 2**40),
        (words.parse_count, "1,000_000", 1_000_000),
    ],
)
def test_what_people_write_is_read(parse: Callable[[str], float], text: str, value: float) -> None:
    assert parse(text) == value


@pytest.mark.parametrize(
    ("parse", "text", "message"),
    [
        (words.parse_duration, "250", "'250' is not a time, such as 250ms, 2s or 10min"),
        (words.parse_size, "10 apples", "'10 apples' is not a size, such as 500MB or 10GB"),
        (words.parse_count, "many", "invalid literal"),
    ],
)
def test_other_texts_are_refused_with_an_example(
    parse: Callable[[str], float], text: str, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        parse(text)
