"""The directory in which prometheus-client sums up over the workers, also after a kill."""

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

IN_MEMORY = "/dev/shm"  # noqa: S108  # names there come from `tempfile`
PREFIX = "users-metrics-"
NEW = "new-"  # before the prefix, until the directory is locked


@contextmanager
def metrics_directory() -> Iterator[Path]:
    """Yield a new directory, and delete it at the end, with all that killed services left.

    The directory is locked. Workers inherit the lock, so it lasts as long as any process of the
    service; a directory without one has no owner any more.
    """
    # prometheus-client maps its files into memory, and a full disk kills the worker with SIGBUS
    parent = Path(IN_MEMORY if os.access(IN_MEMORY, os.W_OK) else tempfile.gettempdir())
    delete_abandoned(parent)
    new = Path(tempfile.mkdtemp(prefix=NEW + PREFIX, dir=parent))
    lock = locked(new)
    # renamed only now: another service that starts would take it for an abandoned one
    directory = new.rename(new.with_name(new.name.removeprefix(NEW)))
    try:
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)
        os.close(lock)


def delete_abandoned(parent: Path) -> None:
    """Delete the directories of services that were killed, together with their workers."""
    for directory in parent.glob(f"{PREFIX}*"):
        with suppress(OSError):  # locked by its service; another user's; deleted by another start
            lock = locked(directory)
            shutil.rmtree(directory, ignore_errors=True)
            os.close(lock)


def locked(directory: Path) -> int:
    """Return a descriptor that holds the directory's lock; raise OSError if another does."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor
