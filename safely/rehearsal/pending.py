"""The steps that a rehearsal takes: from one revision to the next, and back."""

from collections.abc import Mapping
from typing import NamedTuple

from alembic.script import Script, ScriptDirectory
from alembic.util import CommandError, to_tuple

from safely.revisions import in_order, with_ancestors

Needs = Mapping[str, set[str]]
"""By revision, those that must have been applied before it."""


class PendingStep(NamedTuple):
    """The revisions that lead from one revision of the database to the next.

    Usually that is one. Where the history branches, the database would have several heads in
    between, so all revisions up to the merge are taken together, and undone together.
    """

    before: str | None  # the revision at which it begins; None: base
    revisions: list[Script]
    not_undone: str | None  # why it can't be undone to where it began; None: it can

    @property
    def names(self) -> list[str]:
        """The ids of the revisions."""
        return [script.revision for script in self.revisions]

    @property
    def revision(self) -> str:
        """The revision at which it ends."""
        return self.revisions[-1].revision

    @property
    def message(self) -> str:
        """The message of that revision, with the ids of those that are taken along."""
        message = self.revisions[-1].doc.rstrip(".")
        others = ", ".join(self.names[:-1])
        return f"{message} (with {others})" if others else message


def pending_steps(script: ScriptDirectory, reached: str | None, to: str) -> list[PendingStep]:
    """Return the steps from the revision of the copy, or from base, up to another.

    Raise CommandError for a copy at a revision that has no file.
    """
    order = in_order(script)
    if reached and reached not in order:
        raise CommandError(
            f"the copy is at {reached}, for which there is no revision file: rehearse with the "
            "files of the release that the database is at, or a later one"
        )
    pending = with_ancestors(script, to) - with_ancestors(script, reached or "base")
    remaining = [
        revision for name in order if name in pending for revision in script.get_revisions(name)
    ]
    needs = {revision.revision: needed_by(script, revision) for revision in remaining}
    steps: list[PendingStep] = []
    group: list[Script] = []
    before = reached
    while remaining:
        group.append(remaining.pop(0))
        if leads_to_all(group[-1].revision, remaining, needs):
            steps.append(PendingStep(before, group, why_not_undone(before, group, needs)))
            before, group = group[-1].revision, []
    return steps


def needed_by(script: ScriptDirectory, revision: Script) -> set[str]:
    """Return the revisions that must have been applied before this one."""
    names = to_tuple(revision.down_revision, default=()) + to_tuple(
        revision.dependencies, default=()
    )
    return {other.revision for other in script.get_revisions(names)} if names else set()


def leads_to_all(revision: str, later: list[Script], needs: Needs) -> bool:
    """Return whether all later revisions build on this one, directly or on each other."""
    known = {revision} | {script.revision for script in later}
    return all(needs[script.revision] and needs[script.revision] <= known for script in later)


def why_not_undone(before: str | None, group: list[Script], needs: Needs) -> str | None:
    """Return why a downgrade would not lead back to the one revision before; None if it would."""
    known = {before} | {script.revision for script in group}
    for name in (script.revision for script in group):
        if not needs[name] <= known or (before and not needs[name]):
            others = ", ".join(sorted(needs[name] - known)) or "base"
            return (
                f"{name} builds on {others}, beside {before}: undone, the database would have "
                "several heads"
            )
    return None
