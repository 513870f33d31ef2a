"""HTML in which nothing is forgotten to be escaped: whatever is not Html is text."""

from collections.abc import Iterable
from html import escape

VOID = frozenset({"link", "meta"})  # elements that have no end


class Html(str):
    """What is HTML already."""

    __slots__ = ()


def tag(name: str, /, *content: str, **attributes: str | None) -> Html:
    """An element; an attribute that is None is left out, `class_` stands for `class`."""
    given = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape(value)}"'
        for key, value in attributes.items()
        if value is not None
    )
    if name in VOID:
        return Html(f"<{name}{given}>")
    return Html(f"<{name}{given}>{joined(content)}</{name}>")


def joined(content: Iterable[str], between: str = "") -> Html:
    """Pieces one after the other."""
    return Html(text(between).join(text(piece) for piece in content))


def text(piece: str) -> Html:
    """A piece as it stands in a page."""
    return piece if isinstance(piece, Html) else Html(escape(piece))


def with_code(sentence: str) -> Html:
    """A sentence in which `what is to be typed` stands in backquotes."""
    pieces = sentence.split("`")
    return joined(tag("code", piece) if place % 2 else piece for place, piece in enumerate(pieces))
