"""Durations, sizes and counts as people write and read them."""

import re
from collections.abc import Mapping

SECONDS = {"ms": 0.001, "s": 1.0, "min": 60.0, "h": 3600.0}  # in one of each unit
BYTES = {"KB": 2**10, "MB": 2**20, "GB": 2**30, "TB": 2**40}
MINUTE, HOUR = 60.0, 3600.0  # seconds
UNIT = 1024  # bytes in a KiB, KiB in a MiB, …


def duration(seconds: float) -> str:
    """Return a duration in the unit that suits it: `250 ms`, `2.0 s`, `1.5 min` or `2.0 h`."""
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < MINUTE:
        return f"{seconds:.1f} s"
    return f"{seconds / MINUTE:.1f} min" if seconds < HOUR else f"{seconds / HOUR:.1f} h"


def size(number: float) -> str:
    """Return a number of bytes in the unit that suits it, such as `12 KiB` or `1.5 GiB`."""
    for unit in ("B", "KiB", "MiB"):
        if number < UNIT:
            return f"{number:.0f} {unit}"
        number /= UNIT
    return f"{number:.1f} GiB"


def count(number: int, singular: str, plural: str = "") -> str:
    """Return a number with its noun, such as `1 row` or `100,000 rows`."""
    return f"{number:,} {singular if number == 1 else plural or singular + 's'}"


def parse_duration(text: str) -> float:
    """Return the seconds of `250ms`, `2s`, `10min` or `1h`; raise ValueError for other texts."""
    return parse(text, SECONDS, "a time, such as 250ms, 2s or 10min")


def parse_size(text: str) -> int:
    """Return the bytes of `500MB` or `10GB`; raise ValueError for other texts."""
    return int(parse(text, BYTES, "a size, such as 500MB or 10GB"))


def parse_count(text: str) -> int:
    """Return the number of `100000`, `100,000` or `100_000`; raise ValueError for other texts."""
    return int(text.replace(",", "").replace("_", ""))


def parse(text: str, units: Mapping[str, float], expected: str) -> float:
    """Return a number times its unit; raise ValueError that names what was `expected`."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([a-zA-Z]+)", text)
    if not match or match[2] not in units:
        raise ValueError(f"{text!r} is not {expected}")
    return float(match[1]) * units[match[2]]
