"""What the revision files of this build say of themselves, read without running them."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from safely.ledger.ledger import checksum
from service.evolution.schemas import Paragraph

VERSIONS = Path(__file__).parent.parent.parent / "migrations/versions"
HEADING = re.compile(r"^([A-Z][\w ]{0,30}):\s+", re.MULTILINE)


class File(NamedTuple):
    """A revision as its file describes it."""

    revision: str
    name: str  # of the file
    message: str
    about: list[Paragraph]
    checksum: str


def revision_files(place: Path = VERSIONS) -> list[File]:
    """Those of this build, in order; their names begin with the revision (migrations/env.py)."""
    return [read(path) for path in sorted(place.glob("[0-9]*_*.py"))]


def read(path: Path) -> File:
    """One of them; of a draft that isn't Python yet, what its name tells."""
    revision, _, slug = path.stem.partition("_")
    try:
        told = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    except SyntaxError as error:
        told = f"{slug.replace('_', ' ')}\n\nIts file is not Python: {error.msg}."
    message, _, rest = told.partition("\n\n")
    about = list(paragraphs(rest))
    return File(revision, path.name, one_line(message).rstrip("."), about, checksum(path))


def paragraphs(told: str) -> Iterator[Paragraph]:
    """The parts of a docstring, by their headings; what stands before the first has none."""
    before, *parts = HEADING.split(told)
    if before.strip():
        yield Paragraph(heading="", text=one_line(before))
    for heading, words in zip(parts[::2], parts[1::2], strict=True):
        yield Paragraph(heading=heading, text=one_line(words))


def one_line(words: str) -> str:
    """Without the line breaks, which are those of the file."""
    return " ".join(words.split())
