"""A finding with its place in the project, as formats and baselines need it."""

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from alembic.script import Script, ScriptDirectory

from safely.lint.findings import Finding

FINGERPRINT = 20  # characters


class Report(NamedTuple):
    """A finding with its place in the project."""

    path: str
    revision: str
    finding: Finding
    lines: tuple[str, ...]
    """The lines of code that it is about."""
    fingerprint: str
    """Names the finding by its code, so it stays when other lines move the code in the file."""


def reports(
    path: str, revision: str, source: Sequence[str], findings: Iterable[Finding]
) -> Iterator[Report]:
    """Yield the findings in a file whose lines are `source`."""
    same: Counter[str] = Counter()
    for finding in findings:
        lines = tuple(source[finding.line - 1 : finding.last])
        key = "\0".join([revision, finding.rule, " ".join(" ".join(lines).split())])
        digest = hashlib.sha256(f"{key}\0{same[key]}".encode()).hexdigest()
        same[key] += 1
        yield Report(path, revision, finding, lines, digest[:FINGERPRINT])


def path_for_people(revision: Script, script: ScriptDirectory) -> str:
    """Return the path of a revision's file from the current directory if it is below that.

    Otherwise the path starts at the parent of the script directory, or is absolute where the file
    lies elsewhere.
    """
    return path_below(Path(revision.path), (Path.cwd(), Path(script.dir).resolve().parent))


def path_below(file: Path, roots: tuple[Path, ...]) -> str:
    """Return a path from the first of the directories that it is below, else the whole path."""
    path = file.resolve()
    for root in roots:
        if path.is_relative_to(root):
            return path.relative_to(root).as_posix()
    return path.as_posix()
