"""A baseline: the findings that a history had when its project began to lint.

`lint` leaves them out. An entry has the revision, the rule and a fingerprint of the code, so that
it goes on applying where lines move, and ends where the code changes.
"""

import json
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any, NamedTuple

from alembic.util import CommandError

from safely import files
from safely.lint.findings import NOT_SUPPRESSIBLE
from safely.lint.reports import Report

VERSION = 1


class Entry(NamedTuple):
    """A finding that is left out."""

    revision: str
    rule: str
    fingerprint: str


def read(path: Path) -> set[Entry]:
    """Return the entries of a file; raise CommandError where it is missing, or is no baseline."""
    try:
        content: Any = json.loads(path.read_text(encoding="utf-8"))
        if content["version"] != VERSION:
            raise CommandError(f"{path} is a baseline of version {content['version']}, not 1")
        return {Entry(*(str(one[name]) for name in Entry._fields)) for one in content["findings"]}
    except FileNotFoundError:
        raise CommandError(
            f"there is no baseline {path}: write it first (lint --baseline {path} --write-baseline)"
        ) from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        words = f"{type(error).__name__}: {error}"
        raise CommandError(f"{path} is no baseline of `lint --write-baseline` ({words})") from error


def write(path: Path, entries: Iterable[Entry]) -> None:
    """Write the entries in their order, one a line; raise CommandError where that fails."""
    lines = [json.dumps(entry._asdict()) for entry in sorted(entries)]
    listed = ",\n".join(f"    {line}" for line in lines)
    findings = f"[\n{listed}\n  ]" if lines else "[]"
    text = f'{{\n  "version": {VERSION},\n  "findings": {findings}\n}}\n'
    try:
        files.write(path, text.encode())
    except OSError as error:
        raise CommandError(f"can't write {path}: {error.strerror}") from error


def entry_of(report: Report) -> Entry:
    """Return the entry that would leave a finding out."""
    return Entry(report.revision, report.finding.rule, report.fingerprint)


def entries_of(reports: Iterable[Report]) -> set[Entry]:
    """Return the entries of all findings that a baseline can leave out."""
    return {entry_of(report) for report in reports if report.finding.rule != NOT_SUPPRESSIBLE}


def obsolete(
    entries: Iterable[Entry], reports: Iterable[Report], unlinted: Collection[str]
) -> list[Entry]:
    """Return the entries that apply to no finding any more.

    `unlinted`: the revisions that weren't linted this time, so that nothing is known of them.
    """
    present = {entry_of(report) for report in reports}
    return sorted(
        entry for entry in entries if entry not in present and entry.revision not in unlinted
    )
