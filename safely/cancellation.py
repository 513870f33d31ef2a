"""Cancellation that came too late to undo the work."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager


class CancelledTooLate(asyncio.CancelledError):
    """The task was cancelled while work finished that can't be undone, such as a COMMIT.

    Like any cancellation it ends the task, unless the caller is in `finishing`.
    """


@contextmanager
def finishing() -> Iterator[None]:
    """Go on after a cancellation that came too late, so that the caller can report success."""
    try:
        yield
    except CancelledTooLate:
        if task := asyncio.current_task():
            task.uncancel()


@contextmanager
def after_commit() -> Iterator[None]:
    """Raise CancelledTooLate instead of CancelledError, since the work is done already."""
    try:
        yield
    except asyncio.CancelledError:
        raise CancelledTooLate from None
