"""Changes of a type that rewrite nothing: PostgreSQL changes its catalogue alone."""

import ast
import re
from typing import NamedTuple

VARYING = {"string", "varchar", "character varying", "unicode"}
TEXT = {"text", "unicodetext"}
NUMERIC = {"numeric", "decimal"}
SQL_TYPE = re.compile(r"(?P<name>[a-z ]+?) ?(?:\((?P<sizes>[\d, ]+)\))?")
PARAMETERS = ("length", "precision", "scale")


class SizedType(NamedTuple):
    """A type of text or of numbers, with its sizes."""

    family: str
    """`text`, with one size or none, or `numeric`, with precision and scale or nothing."""
    sizes: tuple[int, ...]


def rewrites_nothing(existing: ast.expr | None, new: str) -> bool:
    """Return whether a column keeps its rows and indexes under its new type.

    `existing`: the type that the file says it has, such as `sa.String(20)`; `new`: as SQL.
    """
    before, after = of_code(existing), of_sql(new)
    if before is None or after is None or before.family != after.family:
        return False
    if not after.sizes:
        return True
    if not before.sizes or before.sizes[1:] != after.sizes[1:]:
        return False
    return before.sizes[0] <= after.sizes[0]


def can_be_wider(new: str) -> bool:
    """Return whether a column of some other type keeps its rows under a type, as SQL."""
    return of_sql(new) is not None


def of_code(node: ast.expr | None) -> SizedType | None:
    """Return the type of an expression such as `sa.VARCHAR(length=20)`; None for another type."""
    arguments: list[ast.expr] = []
    if isinstance(node, ast.Call):
        named = {keyword.arg: keyword.value for keyword in node.keywords}
        arguments = [*node.args, *(named[name] for name in PARAMETERS if name in named)]
        if not set(named) <= {*PARAMETERS, "asdecimal"}:
            return None  # such as a collation, which the indexes depend on
        node = node.func
    name = node.attr if isinstance(node, ast.Attribute) else getattr(node, "id", "")
    sizes = [argument.value for argument in arguments if isinstance(argument, ast.Constant)]
    if len(sizes) < len(arguments):
        return None
    return sized(name.lower(), tuple(size for size in sizes if isinstance(size, int)))


def of_sql(text: str) -> SizedType | None:
    """Return the type of SQL such as `varchar(20)`; None for another type."""
    match = SQL_TYPE.fullmatch(text.lower())
    if match is None:
        return None
    return sized(match["name"], tuple(map(int, re.findall(r"\d+", match["sizes"] or ""))))


def sized(name: str, sizes: tuple[int, ...]) -> SizedType | None:
    """Return the type of a name; None where it is neither text nor a number of our kind."""
    if name in TEXT:
        return SizedType("text", ())
    if name in VARYING:
        return SizedType("text", sizes)
    if name in NUMERIC:
        return SizedType("numeric", (*sizes, 0) if len(sizes) == 1 else sizes)
    return None
