"""The files of backups: named by project and time, and readable by their owner only."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from alembic.util import CommandError

from safely import files
from safely.files import SUFFIX, PartialFile

EXTENSIONS = {"postgresql": ".dump", "sqlite": ".sqlite"}  # by dialect


@contextmanager
def backup_file(directory: Path, project: str, dialect: str) -> Iterator[PartialFile]:
    """Yield a new file in the directory, which is made if need be; delete it unless completed.

    Raise CommandError where it can't be written.
    """
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        files.remove_abandoned(directory, f"{project}-*{SUFFIX}")
        part = create(directory, project, EXTENSIONS[dialect])
        try:
            yield part
        finally:
            part.close()
    except OSError as error:
        raise CommandError(f"can't write a backup to {directory}: {error.strerror}") from None


def create(directory: Path, project: str, extension: str) -> PartialFile:
    """Create a file named by this second; if that name is taken, `-2` and so on are appended."""
    name = f"{project}-{datetime.now(UTC):%Y%m%dT%H%M%SZ}"
    number = 1
    while True:
        final = directory / f"{name}{f'-{number}' * (number > 1)}{extension}"
        number += 1
        try:
            part = files.create(final.with_name(final.name + SUFFIX), final, mode=0o600)
        except FileExistsError:
            continue
        if not final.exists():
            return part
        part.close()
