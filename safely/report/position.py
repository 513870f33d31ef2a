"""The position of a database among the revision files; ids have no order of their own."""

from collections.abc import Sequence
from dataclasses import dataclass

from safely.report.contents import Standing
from safely.report.files import RevisionFile, with_ancestors


@dataclass(frozen=True)
class Position:
    """The revisions that are applied, as the version table and the revision files tell."""

    heads: Sequence[str]
    """The revisions in the version table, in the order of the files; usually one."""
    applied: frozenset[str]
    """The heads and the revisions that they build on, as far as there are files."""
    is_ahead: bool
    """Whether a head has no file here: then every file counts as applied."""

    @property
    def revision(self) -> str | None:
        """The last of the heads; None: nothing is applied."""
        return self.heads[-1] if self.heads else None


def locate(heads: Sequence[str], files: Sequence[RevisionFile]) -> Position:
    """Return the position of a database that is at these heads."""
    ids = [file.revision for file in files]
    in_order = [revision for revision in ids if revision in heads]
    without_file = sorted(set(heads) - set(ids))
    applied = set(ids) if without_file else with_ancestors(heads, files)
    return Position(
        heads=[*in_order, *without_file],
        applied=frozenset(applied.union(heads)),
        is_ahead=bool(without_file),
    )


def standing(position: Position, build: str, files: Sequence[RevisionFile]) -> Standing:
    """Return how the database's position compares with the revision of the build.

    "ahead" also where that can't be told: the database has a revision without a file here.
    """
    if not position.heads:
        return "empty"
    if list(position.heads) == [build]:
        return "current"
    return "behind" if set(position.heads) <= with_ancestors([build], files) else "ahead"
