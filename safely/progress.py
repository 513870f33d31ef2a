"""Progress of long work: a bar on a terminal where `rich` is installed, else lines in the log."""

import logging
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

try:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    HAS_RICH = True
except ImportError:  # it comes with the extra `rehearse`
    HAS_RICH = False

SECONDS_BETWEEN_LINES = 5.0

log = logging.getLogger("safely")


@contextmanager
def progress(title: str, rows: int) -> Iterator[Callable[[int], None]]:
    """Show how many of about `rows` rows are done; yield a function that takes how many more.

    `rows` may be 0 where the number is unknown.
    """
    if not (HAS_RICH and sys.stderr.isatty()):
        yield in_lines(title, rows)
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, TimeRemainingColumn(), console=Console(stderr=True)) as bar:
        task = bar.add_task(title, total=rows or None)
        yield lambda more: bar.advance(task, more)
        bar.update(task, total=bar.tasks[task].completed)  # `rows` was an estimate


def in_lines(title: str, rows: int) -> Callable[[int], None]:
    """Return a function that takes how many more rows are done, and logs a line now and then."""
    done, last_line = 0, time.monotonic()

    def advance(more: int) -> None:
        nonlocal done, last_line
        done += more
        if time.monotonic() - last_line >= SECONDS_BETWEEN_LINES:
            last_line = time.monotonic()
            log.info("%s: %d of about %d rows", title, done, max(rows, done))

    return advance
