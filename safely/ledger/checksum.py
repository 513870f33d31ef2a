"""Checksums of what revisions do."""

import ast
import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

KIND = "ast:"  # of a checksum; those without are of whole files, and can't be compared any more


def checksum(path: str | Path, revision: str | None = None, down_revision: Any = None) -> str:
    """Return the checksum of what a revision file does.

    It covers the syntax tree without docstrings, comments and imports, so that prose can be
    corrected. A file that is not Python gets the checksum of its text.
    With a `revision`, return the checksum that the file would have under that id, as the one that
    follows `down_revision`.
    """
    source = Path(path).read_bytes()  # the parser knows the encoding that the file declares
    try:
        tree = ast.parse(source)
        if revision is not None:
            renumber(tree, {"revision": revision, "down_revision": down_revision})
        content = "".join(canonical(tree)).encode()
    except (SyntaxError, ValueError):  # ValueError: it contains a null byte
        content = b"\n".join(source.splitlines())
    return KIND + hashlib.sha256(content).hexdigest()


def renumber(tree: ast.Module, ids: Mapping[str, Any]) -> None:
    """Replace the values that a revision file gives to these variables."""
    for node in tree.body:
        if not isinstance(node, ast.Assign | ast.AnnAssign):
            continue
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        for target in targets:
            if isinstance(target, ast.Name) and target.id in ids:
                node.value = ast.parse(repr(ids[target.id]), mode="eval").body


def is_comparable(recorded: str) -> bool:
    """Return whether a recorded checksum is of today's kind."""
    return recorded.startswith(KIND)


def short(recorded: str) -> str:
    """Return the first digits of a checksum, for people."""
    return recorded.removeprefix(KIND)[:12]


def canonical(node: ast.AST) -> Iterator[str]:
    """Yield the parts of a text that is the same for the same code under every Python version.

    `ast.dump` is not: newer versions leave empty fields out, and add some.
    """
    yield f"({type(node).__name__}"
    for name, value in ast.iter_fields(node):
        parts = value if isinstance(value, list) else [value]
        for part in without_docstring(node, name, parts):
            if isinstance(part, ast.Import | ast.ImportFrom | ast.expr_context) or part is None:
                continue
            yield f" {name}="
            if isinstance(part, ast.AST):
                yield from canonical(part)
            else:
                yield repr(part)
    yield ")"


def without_docstring(node: ast.AST, field: str, parts: list[object]) -> list[object]:
    """Return the statements of a body without its docstring."""
    documented = ast.Module | ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
    if field != "body" or not isinstance(node, documented) or not parts:
        return parts
    return parts[1:] if ast.get_docstring(node, clean=False) is not None else parts
