"""Pieces of Python for spellings: calls of `safely`, strings, lists."""

import re
from collections.abc import Sequence

PARAMETER = re.compile(r"(?<![:\w\\]):(?=\w++(?!:))")  # as sa.text() finds them


def safely_call(function: str, *arguments: str, **options: str | None) -> str:
    """Return a call of `safely`, with the options that aren't None."""
    named = [f"{name}={value}" for name, value in options.items() if value is not None]
    return f"safely.{function}({', '.join([*arguments, *named])})"


def string_literal(text: str) -> str:
    """Return a Python string, in double quotes where they need no escape."""
    return repr(text) if set('"\\') & set(text) or not text.isprintable() else f'"{text}"'


def optional_literal(text: str) -> str | None:
    """Return a Python string; None for an empty one."""
    return string_literal(text) if text else None


def text_literal(sql: str) -> str:
    """Return SQL as sa.text(), in which a colon that begins a parameter is escaped."""
    return f"sa.text({string_literal(without_parameters(sql))})"


def without_parameters(sql: str) -> str:
    """Return SQL for sa.text(): a colon that would begin a parameter is escaped."""
    return PARAMETER.sub(r"\\:", sql)


def name_list(names: Sequence[str]) -> str:
    """Return names as a Python list."""
    return f"[{', '.join(map(string_literal, names))}]"


def yes(flag: object) -> str | None:
    """Return True as Python for an option that is set, and None for one that isn't."""
    return "True" if flag else None


def literal_dict(items: dict[str, str]) -> str | None:
    """Return a dictionary of strings as Python; None for an empty one."""
    pairs = (f"{string_literal(key)}: {string_literal(value)}" for key, value in items.items())
    return f"{{{', '.join(pairs)}}}" if items else None
