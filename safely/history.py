"""The revision files as one history; raises in one line where they make none."""

import re
import warnings
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType
from typing import Any

from alembic.config import Config
from alembic.script import Script, ScriptDirectory
from alembic.script.revision import RevisionError
from alembic.util import CommandError

from safely.alembic_internals import load_each

NUMBER = re.compile(r"[0-9]+")
TWICE = re.compile(r"Revision (\S+) is present more than once")
TEXTS = "a text in quotes, such as '0010'"


def check(config: Config, *, numbered: bool) -> None:
    """Raise CommandError unless the revision files make one history.

    The message names the file that can't be loaded, or the ids that don't fit together. Alembic
    itself takes one of two files with the same id, and shows a stack trace for the rest.
    `numbered`: ids are numbers, and there is one head.
    """
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)  # those of revision files are none of ours
        script = ScriptDirectory.from_config(config)
        try:
            script.get_heads()
        except Exception as error:
            refuse_files(script)
            refuse_missing(script)
            if isinstance(error, RevisionError):  # a circle, or a branch label that is taken
                raise CommandError(
                    f"{error}: look at the `down_revision` of these files (alembic history shows "
                    "nothing until that is mended)"
                ) from error
            raise
    for warning in caught:
        if twice := TWICE.match(str(warning.message)):
            refuse_twice(script, twice[1], numbered=numbered)
    if numbered:
        refuse_unnumbered(script)
        refuse_several_heads(script, numbered=True)


def refuse_files(script: ScriptDirectory) -> None:
    """Raise CommandError for a file that can't be loaded, or whose ids are of a wrong type."""
    for path, load in load_each(script):
        try:
            loaded = load()
        except CommandError:
            raise  # of Alembic; it names the file
        except Exception as error:
            reason = f"{type(error).__name__}: {error}"
            if isinstance(error, TypeError):
                reason = f"its `revision` must be {TEXTS} (or it raised {reason})"
            elif isinstance(error, RevisionError):
                reason = str(error)
            raise CommandError(f"{path.name} can't be loaded: {reason}") from error
        if loaded is not None:
            refuse_types(loaded)


def refuse_types(loaded: Script) -> None:
    """Raise CommandError for an id that is no text, or a list of others that are none."""
    if not isinstance(loaded.revision, str):
        raise CommandError(f"{Path(loaded.path).name}: its `revision` must be {TEXTS}")
    for name in ("down_revision", "depends_on"):
        if not is_ids(getattr(loaded.module, name, None)):
            raise CommandError(
                f"{Path(loaded.path).name}: its `{name}` must be {TEXTS}, several of them, or None"
            )


def is_ids(value: Any) -> bool:
    """Return whether a value is an id, several ids, or None."""
    if value is None or isinstance(value, str):
        return True
    return isinstance(value, Iterable) and all(isinstance(item, str) for item in value)


def refuse_missing(script: ScriptDirectory) -> None:
    """Raise CommandError for a file that builds on a revision without a file."""
    files = [loaded for _, load in load_each(script) if (loaded := load()) is not None]
    known = {name for file in files for name in (file.revision, *file.branch_labels)}
    for file in files:
        if missing := sorted(names_in(file) - known):
            raise CommandError(
                f"{Path(file.path).name} names {missing[0]}, of which there is no file: put that "
                "file beside it, or correct the `down_revision` (or `depends_on`)"
            )


def names_in(loaded: Script) -> set[str]:
    """Return the ids that a revision names as those that it builds on."""
    names = (getattr(loaded.module, name, None) or () for name in ("down_revision", "depends_on"))
    return {name for value in names for name in ([value] if isinstance(value, str) else value)}


def refuse_twice(script: ScriptDirectory, revision: str, *, numbered: bool) -> None:
    """Raise CommandError for two files with one id, with the way out for each of their authors."""
    names = sorted(
        path.name
        for path, load in load_each(script)
        if (loaded := load()) and loaded.revision == revision
    )
    before = ", ".join(sorted(names_in(script.get_revision(revision)))) or "base"
    noun = "number" if numbered else "id"
    raise CommandError(
        f"two revision files have the {noun} {revision}: {' and '.join(names)}. Give the one that "
        "is not yet applied anywhere another one (file name and `revision`), and make its "
        "`down_revision` the other. If yours is applied to this database already, undo it first: "
        f"move the other file out of the way, alembic downgrade {before}, and put it back"
    )


def refuse_unnumbered(script: ScriptDirectory) -> None:
    """Raise CommandError for an id that is no number; other projects have any."""
    for revision in script.walk_revisions():
        if not NUMBER.fullmatch(revision.revision):
            raise CommandError(
                f"the revision {revision.revision} ({Path(revision.path).name}) has no number, and "
                "this project numbers its revisions (Project(numbered=True) in env.py): undo it "
                "where it is applied (alembic downgrade), and rename file and `revision`; or leave "
                "numbering out"
            )


def refuse_several_heads(script: ScriptDirectory, *, numbered: bool) -> None:
    """Raise CommandError where the history has two ends: nothing says which to migrate to."""
    heads = script.get_heads()
    if len(heads) < 2:  # noqa: PLR2004  # several
        return
    way_out = (
        "make one of them follow the other (its `down_revision`); this project keeps one line and "
        "no merges"
        if numbered
        else "make one of them follow the other (its `down_revision`), or merge them (alembic "
        "merge heads)"
    )
    raise CommandError(
        f"the history has {len(heads)} heads, {', '.join(sorted(heads))}: {way_out}. If the one "
        "that follows is applied already, undo it first (alembic downgrade)"
    )


def refuse_merge_of_one(script: ScriptDirectory, *, numbered: bool) -> None:
    """Raise CommandError where `alembic merge` would write a revision that merges nothing."""
    heads = script.get_heads()
    if len(heads) < 2:  # noqa: PLR2004  # several
        why = ", and this project keeps one line of numbered revisions" if numbered else ""
        raise CommandError(
            f"the history has one head, {', '.join(heads) or 'none'}: there is nothing to "
            f"merge{why}. A new revision comes from alembic revision"
        )


def refuse_missing_function(error: AttributeError) -> None:
    """Raise CommandError where a revision file has no `upgrade` or `downgrade`."""
    if isinstance(error.obj, ModuleType) and error.name in ("upgrade", "downgrade"):
        raise CommandError(
            f"{Path(str(error.obj.__file__)).name} has no function {error.name}(): write it, or "
            "put the whole file back"
        ) from error
