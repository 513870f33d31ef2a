"""The access log: a line for each request, cheap enough to be written for every one.

Formatting a record of `logging` takes as long as the rest of a request; a line here takes a few
microseconds, and is kept until some more can be written with it.
A line tells the route's template: a path may hold an id, a query a name or an address.
"""

import atexit
import logging
import os
import select
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from threading import Lock

import msgspec

from service.observability.logs import for_eyes, on_terminal
from service.settings import Settings, SettingsError

AT_ONCE = select.PIPE_BUF  # bytes; more could come out of a pipe mixed with another worker's
AT_ONCE_TO_FILE = 8 * 1024  # bytes; they are appended in one piece
COMPLAINT_INTERVAL = 60.0  # seconds between two warnings that lines are lost
FLAGS = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC

log = logging.getLogger("service")


class Line(msgspec.Struct, omit_defaults=True, gc=False):
    """What is told of a request; the names are those of the other log lines."""

    event: str
    level: str
    logger: str
    timestamp: datetime
    request_id: str
    method: str
    route: str
    status: int  # 499: the client went away before there was one
    milliseconds: float
    token: str | None = None  # its name
    trace_id: str | None = None
    cut_off: bool = False  # the client went away, or the app failed, before the answer's end


class AccessLog:
    """Where lines go: to a file or standard error, some at a time.

    What can't be written is lost: a full disk must not fail a request.
    """

    def __init__(self, settings: Settings) -> None:
        self.path = None if settings.access_log == "stderr" else settings.access_log
        readable = settings.log_format == "console" if self.path else for_eyes(settings)
        self.encode = readably if readable else as_json
        self.at_once = self.path is None and on_terminal()
        self.most = AT_ONCE if self.path is None else AT_ONCE_TO_FILE
        self.lines: list[bytes] = []
        self.size = 0
        self.file: int | None = None
        self.writing = Lock()  # other threads log, too
        self.complained = -COMPLAINT_INTERVAL

    @contextmanager
    def open(self) -> Iterator[None]:
        """Keep lines back only inside; write them before any error that is logged meanwhile."""
        handlers = logging.getLogger().handlers
        for handler in handlers:
            handler.addFilter(self.flush_before)
        atexit.register(self.flush)
        try:
            yield
        finally:
            atexit.unregister(self.flush)
            for handler in handlers:
                handler.removeFilter(self.flush_before)
            self.at_once = True
            self.flush()
            if self.file is not None:
                os.close(self.file)
                self.file = None

    def add(self, line: Line) -> None:
        """Write a line, perhaps a little later."""
        encoded = self.encode(line)
        if self.size + len(encoded) > self.most:
            self.flush()
        self.lines.append(encoded)
        self.size += len(encoded)
        if self.at_once or line.level == "error":
            self.flush()

    def flush_before(self, record: logging.LogRecord) -> bool:
        """Write what was kept back before an error: it is what led there."""
        if record.levelno >= logging.ERROR:
            self.flush()
        return True

    def flush(self) -> None:
        """Write what was kept back."""
        with self.writing:
            count = len(self.lines)
            data = b"".join(self.lines[:count])
            del self.lines[:count]  # a line that was added meanwhile stays
            self.size = 0
            if not data:
                return
            try:
                os.write(self.descriptor(), data)
            except (OSError, ValueError) as error:  # ValueError: standard error was closed
                failure = error
            else:
                return
        self.complain(failure)

    def descriptor(self) -> int:
        """Where to write now; a file that was moved away is made anew."""
        if self.path is None:
            if sys.stderr is None:
                raise ValueError("this process has no standard error")
            return sys.stderr.fileno()
        if self.file is not None and not is_at(self.path, self.file):
            os.close(self.file)
            self.file = None
        if self.file is None:
            self.file = os.open(self.path, FLAGS, 0o640)
        return self.file

    def complain(self, failure: Exception) -> None:
        """Say once in a while that lines are lost; not where nobody could read that either."""
        now = time.monotonic()
        if self.path is not None and now - self.complained >= COMPLAINT_INTERVAL:
            self.complained = now
            log.warning("lines of the access log are lost: %s", failure)


def as_json(line: Line) -> bytes:
    """A line for machines."""
    return encoder.encode(line) + b"\n"


def readably(line: Line) -> bytes:
    """A line for eyes."""
    moment = line.timestamp.isoformat().replace("+00:00", "Z")
    more = f"request_id={line.request_id}"
    if line.token is not None:
        more += f" token={line.token}"
    if line.trace_id is not None:
        more += f" trace_id={line.trace_id}"
    if line.cut_off:
        more += " cut_off"
    return (
        f"{moment} [{line.level:<9}] {line.method} {line.route} {line.status} "
        f"{line.milliseconds:.1f} ms {more}\n"
    ).encode()


def is_at(path: str, file: int) -> bool:
    """Whether an open file is the one of that name."""
    try:
        return os.path.samestat(os.stat(path), os.fstat(file))  # noqa: PTH116  # thousands of times
    except FileNotFoundError:
        return False


def check_access_log(settings: Settings) -> None:
    """Raise SettingsError where the access log can't be written."""
    if settings.access_log not in ("stderr", "off"):
        try:
            os.close(os.open(settings.access_log, FLAGS, 0o640))
        except OSError as error:
            place = settings.access_log
            raise SettingsError(f"ACCESS_LOG: can't write {place}: {error.strerror}") from None


encoder = msgspec.json.Encoder()
