"""Parses the names of what is set aside: `_aside_<revision>_<name>`."""

from collections.abc import Collection

from safely.operations.aside import PREFIX


def set_aside_by(hidden: str, ids: Collection[str]) -> tuple[str, str] | None:
    """Return the revision and the former name that a name contains; None if it has no such form.

    An id may contain underscores, so the name is compared with the known `ids`, longest first; an
    unknown id is taken to end at the first underscore.
    """
    rest = hidden.removeprefix(PREFIX)
    for revision in sorted(ids, key=len, reverse=True):
        if rest.startswith(f"{revision}_"):
            return revision, rest.removeprefix(f"{revision}_")
    revision, _, name = rest.partition("_")
    return (revision, name) if revision and name else None
