"""Files of backups: a name that ends in .part until all of it is on the disk."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

from alembic.util import CommandError

SUFFIXES = {"postgresql": ".dump", "sqlite": ".sqlite"}


class Part:
    """A file that is being written, by us or by a program that got it from us.

    Who writes holds a lock on it, which the kernel lets go when the last of them ends, however.
    """

    def __init__(self, path: Path, descriptor: int) -> None:
        self.path = path
        self.descriptor = descriptor
        self.kept: Path | None = None

    @property
    def size(self) -> int:
        """Its bytes so far."""
        return os.fstat(self.descriptor).st_size

    @property
    def final(self) -> Path:
        """What it will be called."""
        return self.path.with_suffix("")

    def keep(self) -> Path:
        """Give it its name, now that it is whole; it survives a power cut from then on."""
        os.fsync(self.descriptor)
        self.path.rename(self.final)
        sync_directory(self.path.parent)
        self.kept = self.final
        return self.final


@contextmanager
def part(directory: Path, dialect: str) -> Iterator[Part]:
    """A new file, readable for nobody else, which is gone at the end unless it was kept.

    Raises CommandError where it can't be written.
    """
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        remove_abandoned(directory)
        new = begun(directory, SUFFIXES[dialect])
        try:
            yield new
        finally:
            if new.kept is None:
                new.path.unlink(missing_ok=True)
            os.close(new.descriptor)
    except OSError as error:
        raise CommandError(f"can't write a backup to {directory}: {error.strerror}") from None


def begun(directory: Path, suffix: str) -> Part:
    """An empty file of this second, which is ours alone."""
    name = f"users-{datetime.now(UTC):%Y%m%dT%H%M%SZ}"
    number = 1
    while True:
        path = directory / f"{name}{f'-{number}' * (number > 1)}{suffix}.part"
        number += 1
        try:
            descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600)
        except FileExistsError:
            continue
        new = Part(path, descriptor)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        if is_at(descriptor, path):  # nobody took it for abandoned before it was locked
            if not new.final.exists():
                return new
            path.unlink()
        os.close(descriptor)


def remove_abandoned(directory: Path) -> None:
    """Remove what killed runs have left; what somebody writes is left alone."""
    for path in directory.glob("users-*.part"):
        with suppress(OSError), path.open("rb") as file:  # or it is somebody else's
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if is_at(file.fileno(), path):
                path.unlink()


def is_at(descriptor: int, path: Path) -> bool:
    """Whether an open file is still the one of that name."""
    with suppress(FileNotFoundError):
        return os.path.samestat(os.fstat(descriptor), path.stat())
    return False


def sync_directory(directory: Path) -> None:
    """Let a new name survive a power cut."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
