"""A finding with its place in the project, as formats and baselines need it."""

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

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
    """The same as long as the code stays: other lines may move it within the file."""


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
