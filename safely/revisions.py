"""The order of revisions, as the script directory has it; ids have none of their own."""

import re
from collections.abc import Collection

from alembic.script import ScriptDirectory
from alembic.util import CommandError

USABLE_ID = re.compile(r"[A-Za-z0-9_.]+")


def in_order(script: ScriptDirectory) -> list[str]:
    """Return all revisions, each after those that it builds on."""
    return [revision.revision for revision in script.walk_revisions()][::-1]


def with_ancestors(script: ScriptDirectory, *revisions: str) -> set[str]:
    """Return these revisions and all that they build on; none for `base` and for unknown ones."""
    known = set(in_order(script))
    there = tuple(revision for revision in revisions if revision in known)
    if not there:
        return set()
    return {revision.revision for revision in script.iterate_revisions(there, "base")}


def older_than(script: ScriptDirectory, revision: str) -> set[str]:
    """Return all revisions that this one builds on, without itself."""
    return with_ancestors(script, revision) - {revision}


def known(script: ScriptDirectory, name: str) -> str:
    """Return a revision's id for its id, its first characters or `head`; `base` for `base`.

    Raise CommandError for an unknown one.
    """
    if name == "base":
        return name
    try:
        revision = script.get_revision(name)
    except CommandError as error:
        if "Can't locate" not in str(error):
            raise  # several begin like this
        raise CommandError(f"there is no revision {name}") from error
    if revision is None:
        raise CommandError(f"there is no revision {name}")
    return revision.revision


def without_file(script: ScriptDirectory, revisions: Collection[str]) -> list[str]:
    """Return those of the revisions that have no file here, sorted."""
    return sorted(set(revisions) - set(in_order(script)))


def ahead(heads: Collection[str], script: ScriptDirectory) -> str:
    """Return the sentence for a database that is ahead of these files; empty where it is not."""
    unknown = without_file(script, heads)
    if not unknown:
        return ""
    return (
        f"the database is at {', '.join(unknown)}, which these files don't have: it is ahead of "
        f"them (they end at {', '.join(script.get_heads()) or 'base'})"
    )


def refuse_unknown(heads: Collection[str], script: ScriptDirectory) -> None:
    """Raise CommandError for a database that is ahead of these files."""
    if sentence := ahead(heads, script):
        raise CommandError(
            f"{sentence}. Run this command with the files of a build that has "
            f"{', '.join(without_file(script, heads))}"
        )


def refuse_unusable_id(revision: str) -> None:
    """Raise CommandError for a revision id that can't be part of a schema's name."""
    if not USABLE_ID.fullmatch(revision):
        raise CommandError(
            f"{revision!r} can't be the id of a revision here, since schemas and columns are named "
            "after it: use letters, digits, _ and ."
        )
