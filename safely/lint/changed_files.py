"""The files that git says were changed since another branch was left."""

import os
import subprocess
from pathlib import Path

from alembic.util import CommandError

# of a hook's own repository or index; relative paths in them would be looked for elsewhere
OF_HOOKS = ("GIT_DIR", "GIT_INDEX_FILE", "GIT_WORK_TREE", "GIT_PREFIX")


def changed_files(directory: Path, ref: str) -> set[Path]:
    """Return the files that differ from the merge base of `ref` and HEAD, and untracked ones.

    Only files that are there now; `directory` is in the repository. Raise CommandError without
    git, a repository, such a ref, or a common ancestor.
    """
    place = f"--diff {ref}"
    top = Path(git(directory, "rev-parse", "--show-toplevel", place=place).rstrip("\n"))
    commit = f"{ref}^{{commit}}"
    try:
        git(top, "rev-parse", "--verify", "--quiet", "--end-of-options", commit, place=place)
    except CommandError as error:
        raise CommandError(
            f"{place}: git knows no {ref} here: fetch it first (git fetch origin)"
        ) from error
    try:
        base = git(top, "merge-base", ref, "HEAD", place=place).strip()
    except CommandError as error:
        raise CommandError(
            f"{place}: git finds no common ancestor of {ref} and HEAD: a shallow clone lacks it "
            "(git fetch --unshallow)"
        ) from error
    names = git(top, "diff", "--name-only", "-z", "--diff-filter=d", base, place=place)
    names += git(top, "ls-files", "--others", "--exclude-standard", "-z", place=place)
    return {(top / name).resolve() for name in names.split("\0") if name}


def git(directory: Path, *arguments: str, place: str) -> str:
    """Return what git prints; raise CommandError where it fails, or is missing."""
    environment = {name: value for name, value in os.environ.items() if name not in OF_HOOKS}
    try:
        process = subprocess.run(  # noqa: S603  # git; the ref that a user names is checked first
            ["git", *arguments],  # noqa: S607  # the user's own git
            cwd=directory,
            env=environment,
            capture_output=True,
            check=False,
            encoding="utf-8",
            errors="surrogateescape",
        )
    except FileNotFoundError:
        raise CommandError(f"{place} needs git, which is not installed here") from None
    if process.returncode:
        reason = (process.stderr.strip().splitlines() or [f"exit code {process.returncode}"])[-1]
        raise CommandError(f"{place}: {reason}")
    return process.stdout


def repository_root(directory: Path) -> Path | None:
    """Return the root of the repository in which a directory lies; None if it lies in none."""
    for place in (directory, *directory.parents):
        if (place / ".git").exists():
            return place
    return None
