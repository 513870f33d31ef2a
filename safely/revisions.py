"""The order of revisions, as the script directory has it; ids have none of their own."""

from collections.abc import Collection

from alembic.script import ScriptDirectory
from alembic.util import CommandError


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


def refuse_unknown(heads: Collection[str], script: ScriptDirectory) -> None:
    """Raise CommandError for a database that is ahead of these files."""
    known = {revision.revision for revision in script.walk_revisions()}
    if unknown := sorted(set(heads) - known):
        raise CommandError(
            f"the database is at {', '.join(unknown)}, which these files don't have: it is ahead "
            f"of this build, which knows {', '.join(script.get_heads()) or 'none'}. There is "
            "nothing to migrate: this build works on it as it is"
        )
