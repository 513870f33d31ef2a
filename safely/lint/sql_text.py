"""Pieces of SQL as text: lists, parentheses, names."""

import re
from collections.abc import Iterator
from typing import NamedTuple

TOKEN = re.compile(
    r"""(?P<comment>--[^\n]*|/\*.*?\*/)|(?P<literal>(?P<tag>\$\w*\$).*?(?P=tag)|'(?:[^']|'')*')"""
    r"""|(?P<space>\s+)|"[^"]*"|.""",
    re.DOTALL,
)


class Sql(NamedTuple):
    """A statement on one line, without comments."""

    flat: str
    masked: str
    """`flat` with the content of its string literals replaced by `x`; of the same length."""


def split(text: str) -> Iterator[Sql]:
    """Yield the statements of a text."""
    flat = masked = ""
    for token in TOKEN.finditer(text + ";"):
        piece = token.group()
        if piece == ";":
            if flat.strip():
                yield Sql(flat.rstrip(), masked.rstrip())
            flat = masked = ""
        elif token["comment"] or token["space"]:
            space = "" if not flat or flat.endswith(" ") else " "
            flat, masked = flat + space, masked + space
        else:
            flat += piece
            masked += piece[0] + "x" * (len(piece) - 2) + piece[-1] if token["literal"] else piece


def mask(text: str) -> str:
    """Return SQL without its comments and the content of its string literals."""
    return " ".join(statement.masked for statement in split(text))


def split_at_commas(statement: Sql) -> Iterator[Sql]:
    """Yield the pieces between the commas that stand in no parentheses."""
    begin = 0
    for at in [*top_level(statement.masked, ","), len(statement.masked)]:
        start = begin + (statement.flat[begin : begin + 1] == " ")
        yield Sql(statement.flat[start:at], statement.masked[start:at])
        begin = at + 1


def top_level(masked: str, pattern: str) -> Iterator[int]:
    """Yield each position outside of parentheses where the pattern matches."""
    positions = {match.start() for match in re.finditer(pattern, masked, re.IGNORECASE)}
    depth = 0
    for at, letter in enumerate(masked):
        if depth == 0 and at in positions:
            yield at
        depth += (letter in "([") - (letter in ")]")


def items(text: str) -> list[str]:
    """Return the pieces of a list in SQL, such as column names."""
    return [item.flat.strip() for statement in split(text) for item in split_at_commas(statement)]


def split_before(text: str, pattern: str) -> tuple[str, str]:
    """Return the text before the first match, and the rest; the whole text without a match.

    A match in parentheses or in a string literal doesn't count.
    """
    at = next(top_level(mask(text), pattern), len(text))
    return text[:at].strip(), text[at:].strip()


def parenthesized(text: str) -> tuple[str, str]:
    """Return the content of the parentheses at the beginning of a text, and the text after them."""
    depth = 0
    for at, letter in enumerate(mask(text)):
        depth += (letter == "(") - (letter == ")")
        if letter == ")" and depth == 0:
            return text[1:at].strip(), text[at + 1 :].strip()
    return text, ""


def unqualified(name: str) -> str:
    """Return a name without schema and quotes."""
    return (
        name[-1 - name[::-1].find('"', 1) :].strip('"')
        if name.endswith('"')
        else name.rpartition(".")[2]
    )


def identifiers(text: str) -> set[str]:
    """Return the names and keywords in an expression, in lower case."""
    without_literals = re.sub(r"'x*'", "", mask(text))
    return set(re.findall(r"[a-z_][a-z0-9_$]*", without_literals.lower()))
