"""Numbers in the form in which people read them."""

MINUTE, HOUR, DAY = 60, 3600, 86400  # seconds
ALMOST_ONE = 0.9995  # seconds; from here on a duration in milliseconds would read "1000 ms"
UNITS = ("bytes", "kB", "MB", "GB", "TB")
FACTOR = 1000  # from one unit to the next
NO_DECIMALS = 100  # an amount from here on is shown without decimals


def duration(seconds: float) -> str:
    """Return a duration with two or three significant digits: "21 ms", "2.2 s", "1 h 2 min"."""
    if seconds < ALMOST_ONE:
        return unbreakable(f"{seconds * 1000:.0f} ms")
    if seconds < MINUTE:
        return unbreakable(f"{seconds:.1f} s")
    minutes, rest = divmod(round(seconds), MINUTE)
    if seconds < HOUR:
        return unbreakable(f"{minutes} min {rest} s")
    hours, minutes = divmod(minutes, MINUTE)
    return unbreakable(f"{hours} h {minutes} min" if seconds < DAY else f"{hours // 24} days")


def size(count: int) -> str:
    """Return a number of bytes with a decimal unit: "999 bytes", "1.23 kB"."""
    amount, unit = float(count), 0
    while amount >= FACTOR and unit < len(UNITS) - 1:
        amount, unit = amount / FACTOR, unit + 1
    number = f"{amount:.0f}" if amount >= NO_DECIMALS else f"{amount:.3g}"
    return unbreakable(f"{number} {UNITS[unit]}")


def unbreakable(text: str) -> str:
    """Return the text with no-break spaces, so that a number is not parted from its unit."""
    return text.replace(" ", "\N{NO-BREAK SPACE}")


def counted(number: int, singular: str, plural: str = "") -> str:
    """Return a number with its noun, "1 table" or "2 tables"; `plural` if it is not just an s."""
    return f"{number:,} {singular if number == 1 else plural or singular + 's'}"


def ordinal(number: int) -> str:
    """Return "2nd", "3rd", "4th" and so on."""
    is_teen = number % 100 in {11, 12, 13}
    suffix = "th" if is_teen else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{suffix}"
