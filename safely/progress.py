"""The progress of long work: one line, written again and again, on a terminal; else log lines."""

import logging
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TextIO

from safely.words import duration

SECONDS_BETWEEN_LINES = 5.0
SECONDS_BETWEEN_WRITES = 0.1  # on a terminal

log = logging.getLogger("safely")


@contextmanager
def progress(name: str, rows: int) -> Iterator[Callable[[int], None]]:
    """Show the progress of work on about so many rows; 0 for an unknown number.

    Yield a function to be called with the number of rows that were done since the last call.
    """
    if not sys.stderr.isatty():
        yield in_log(name, rows)
        return
    line = Line(name, rows, sys.stderr)
    try:
        yield line.advance
    finally:
        line.end()


def in_log(name: str, rows: int) -> Callable[[int], None]:
    """Return a function that writes a line to the log now and then, for work that takes long."""
    done, written = 0, time.monotonic()

    def advance(more: int) -> None:
        nonlocal done, written
        done += more
        if time.monotonic() - written >= SECONDS_BETWEEN_LINES:
            written = time.monotonic()
            log.info("%s: %d of about %d rows", name, done, max(rows, done))

    return advance


class Line:
    """A line on a terminal: name, rows done, about how many there are, the time that is left."""

    def __init__(self, name: str, rows: int, terminal: TextIO) -> None:
        self.name = name
        self.rows = rows
        self.terminal = terminal
        self.done = 0
        self.began = time.monotonic()
        self.written = 0.0

    def advance(self, more: int) -> None:
        """Count rows that were done, and write the line unless it was written a moment ago."""
        self.done += more
        if time.monotonic() - self.written >= SECONDS_BETWEEN_WRITES:
            self.written = time.monotonic()
            self.write(
                f"of about {max(self.rows, self.done)} rows{self.left()}" if self.rows else "rows"
            )

    def left(self) -> str:
        """Return the time that is left at this speed, in words; nothing where that is unknown."""
        if not self.done or self.rows <= self.done:
            return ""
        passed = time.monotonic() - self.began
        return f", about {duration(passed / self.done * (self.rows - self.done))} left"

    def end(self) -> None:
        """Write the line a last time, with the time that the work took, and leave it there."""
        self.write(f"rows in {duration(time.monotonic() - self.began)}")
        self.terminal.write("\n")
        self.terminal.flush()

    def write(self, rest: str) -> None:
        """Write the line over what it said before; a line that wraps could not be written over."""
        width = shutil.get_terminal_size().columns - 1
        text = f"{self.name}: {self.done} {rest}"
        self.terminal.write(f"\r{text[:width]:<{width}}")
        self.terminal.flush()
