"""Ends quietly where what reads our output has ended, as `head` does."""

import io
import os
import select
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from safely.errors import causes

EXIT_CODE = 141  # as shells have it, for SIGPIPE


@contextmanager
def quiet() -> Iterator[None]:
    """Exit without a message where a write fails since nobody reads standard output any more.

    A lost connection to a database is a BrokenPipeError, too, so the output itself is asked.
    """
    try:
        yield
    except Exception as error:
        output = select.poll()
        output.register(sys.stdout, 0)
        is_broken = any(isinstance(cause, BrokenPipeError) for cause in causes(error))
        if not is_broken or not output.poll(0):
            raise
        # otherwise Python would report at its exit that the rest can't be written
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(EXIT_CODE)


class StandardOutput(io.TextIOBase):
    """Standard output, whatever it is at the moment; ends the program where nobody reads it."""

    def write(self, text: str) -> int:
        """Write a text."""
        with quiet():
            return sys.stdout.write(text)

    def flush(self) -> None:
        """Send what was written."""
        with quiet():
            sys.stdout.flush()
