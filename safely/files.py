"""Files that are written completely or not at all.

Until its last byte is on the disk a file is called `….part`. Then it gets its name, in one step
that a power cut can't undo. A file of that name, if there was one, is replaced.
"""

import fcntl
import os
from contextlib import suppress
from glob import escape
from pathlib import Path
from uuid import uuid4

SUFFIX = ".part"


class PartialFile:
    """A file that is being written, by this process or by a program with the same descriptor.

    All who have the descriptor share a lock on the file. The kernel releases it when the last of
    them ends, even by kill -9; a partial file without a lock is abandoned.
    """

    def __init__(self, path: Path, final: Path, descriptor: int) -> None:
        self.path = path
        self.final = final  # its path once it is complete
        self.descriptor = descriptor
        self.is_complete = False

    @property
    def size(self) -> int:
        """The bytes that are written so far."""
        return os.fstat(self.descriptor).st_size

    def complete(self) -> Path:
        """Give the file its name, now that all of it is written; return the new path."""
        os.fsync(self.descriptor)
        self.path.replace(self.final)
        sync_directory(self.final.parent)
        self.is_complete = True
        return self.final

    def close(self) -> None:
        """Close the file, and delete it unless it is complete."""
        if not self.is_complete:
            self.path.unlink(missing_ok=True)
        os.close(self.descriptor)


def create(path: Path, final: Path, *, mode: int = 0o666) -> PartialFile:
    """Create and lock an empty partial file; the caller closes it.

    `mode`: the permissions, of which the umask takes some away. Raise FileExistsError if there is
    a file of that path already.
    """
    descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, mode)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    if not is_open_file(path, descriptor):  # before it was locked, it was deleted as abandoned
        os.close(descriptor)
        raise FileExistsError(path)
    return PartialFile(path, final, descriptor)


def write(path: Path, content: bytes) -> None:
    """Write a file whose readers see either its old content or all of the new one.

    Raise OSError, and leave the old content, where it can't be written.
    """
    remove_abandoned(path.parent, f".{escape(path.name)}.*{SUFFIX}")
    part = create(path.with_name(f".{path.name}.{uuid4().hex[:8]}{SUFFIX}"), path)
    try:
        with os.fdopen(part.descriptor, "wb", closefd=False) as file:
            file.write(content)
        part.complete()
    finally:
        part.close()


def remove_abandoned(directory: Path, pattern: str) -> None:
    """Delete the partial files that killed processes have left, and no file that is being written.

    `pattern` is that of `Path.glob`.
    """
    for path in directory.glob(pattern):
        with suppress(OSError), path.open("rb") as file:  # OSError: it is locked, or not ours
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if is_open_file(path, file.fileno()):
                path.unlink()


def is_open_file(path: Path, descriptor: int) -> bool:
    """Return whether an open file is still the one at the path."""
    with suppress(FileNotFoundError):
        return os.path.samestat(os.fstat(descriptor), path.stat())
    return False


def sync_directory(directory: Path) -> None:
    """Write a directory to the disk, so that a power cut can't undo the new name in it."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
