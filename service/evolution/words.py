"""Numbers and moments as people read them."""

from datetime import datetime

from service.evolution.html import Html, tag

MINUTE, HOUR, DAY = 60, 3600, 86400  # seconds
ALMOST_ONE = 0.9995  # which is rounded to one
UNITS = ("bytes", "kB", "MB", "GB", "TB")
STEP, HUNDRED = 1000, 100  # from one unit to the next; without decimals from there on


def moment(at: datetime) -> Html:
    """A time to the minute; the page says once that all are of UTC."""
    return tag("time", f"{at:%Y-%m-%d %H:%M}", datetime=at.isoformat(timespec="seconds"))


def exactly(at: datetime) -> Html:
    """A time to the second, for who may not have read what the page says."""
    return tag("time", f"{at:%Y-%m-%d %H:%M:%S} UTC", datetime=at.isoformat(timespec="seconds"))


def duration(seconds: float) -> str:
    """How long, with two or three digits that matter."""
    if seconds < ALMOST_ONE:
        return unbroken(f"{seconds * 1000:.0f} ms")
    if seconds < MINUTE:
        return unbroken(f"{seconds:.1f} s")
    minutes, rest = divmod(round(seconds), MINUTE)
    if seconds < HOUR:
        return unbroken(f"{minutes} min {rest} s")
    hours, minutes = divmod(minutes, MINUTE)
    return unbroken(f"{hours} h {minutes} min" if seconds < DAY else f"{hours // 24} days")


def size(count: int) -> str:
    """How much space."""
    amount, unit = float(count), 0
    while amount >= STEP and unit < len(UNITS) - 1:
        amount, unit = amount / STEP, unit + 1
    number = f"{amount:.0f}" if amount >= HUNDRED else f"{amount:.3g}"
    return unbroken(f"{number} {UNITS[unit]}")


def unbroken(words: str) -> str:
    """Words that stay on one line."""
    return words.replace(" ", "\N{NO-BREAK SPACE}")


def counted(number: int, one: str, many: str = "") -> str:
    """A number of things: 1 table, 2 tables."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def ordinal(number: int) -> str:
    """2nd, 3rd, 4th."""
    is_teen = number % 100 in {11, 12, 13}
    ending = "th" if is_teen else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{ending}"
