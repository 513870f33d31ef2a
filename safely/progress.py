"""How far long work is: a bar on a terminal, lines in a log elsewhere."""

import logging
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

SECONDS_BETWEEN_LINES = 5.0

log = logging.getLogger("safely")


@contextmanager
def progress(what: str, rows: int) -> Iterator[Callable[[int], None]]:
    """Tell how much of about so many rows is done; what is yielded is told how many more."""
    if not sys.stderr.isatty():
        yield in_lines(what, rows)
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, TimeRemainingColumn(), console=Console(stderr=True)) as bar:
        task = bar.add_task(what, total=rows or None)
        yield lambda more: bar.advance(task, more)
        bar.update(task, total=bar.tasks[task].completed)  # it was an estimate


def in_lines(what: str, rows: int) -> Callable[[int], None]:
    """The same as a line in the log now and then, of what takes long."""
    done, said = 0, time.monotonic()

    def advance(more: int) -> None:
        nonlocal done, said
        done += more
        if time.monotonic() - said >= SECONDS_BETWEEN_LINES:
            said = time.monotonic()
            log.info("%s: %d of about %d rows", what, done, max(rows, done))

    return advance
