"""The access log: one line per request.

A record of `logging` takes as long to format as the rest of a request. A line of this log takes a
few microseconds, and lines are written several at a time.
A line has the template of the route and never the path or the query: those may hold an id, a name
or an address.
"""

import atexit
import logging
import os
import select
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from threading import Lock

import msgspec

from service.observability.logs import RateLimitedWarning, is_human_readable, on_terminal
from service.settings import Settings, SettingsError

# bytes per write; POSIX lets the writes of several workers to a pipe mix above PIPE_BUF
STDERR_BUFFER_SIZE = select.PIPE_BUF
FILE_BUFFER_SIZE = 8 * 1024  # bytes; O_APPEND keeps each write to a file in one piece
OPEN_FLAGS = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC


class Line(msgspec.Struct, omit_defaults=True, gc=False):
    """A line of the access log; other log lines use the same field names."""

    event: str
    level: str
    logger: str
    timestamp: datetime
    request_id: str
    method: str
    route: str
    status: int  # 499: the client closed the connection before the response started
    milliseconds: float
    token: str | None = None  # the token's name
    trace_id: str | None = None
    cut_off: bool = False  # the response is incomplete: the client left, or the app failed


class AccessLog:
    """A buffered log on a file or standard error.

    Lines that can't be written are dropped, with a warning: a full disk must not fail a request.
    """

    def __init__(self, settings: Settings) -> None:
        self.path = None if settings.access_log == "stderr" else settings.access_log
        human = settings.log_format == "console" if self.path else is_human_readable(settings)
        self.encode = encode_text if human else encode_json
        self.unbuffered = self.path is None and on_terminal()
        self.buffer_size = STDERR_BUFFER_SIZE if self.path is None else FILE_BUFFER_SIZE
        self.lines: list[bytes] = []
        self.size = 0
        self.file: int | None = None
        self.lock = Lock()  # a thread that logs an error flushes, too
        self.lost = RateLimitedWarning("lines of the access log are lost: %s")

    @contextmanager
    def open(self) -> Iterator[None]:
        """Flush before each error that is logged inside, and at the end; then close the file.

        After the end, lines are written unbuffered.
        """
        handlers = logging.getLogger().handlers
        for handler in handlers:
            handler.addFilter(self.flush_before_error)
        atexit.register(self.flush)
        try:
            yield
        finally:
            atexit.unregister(self.flush)
            for handler in handlers:
                handler.removeFilter(self.flush_before_error)
            self.unbuffered = True
            self.flush()
            if self.file is not None:
                os.close(self.file)
                self.file = None

    def add(self, line: Line) -> None:
        """Add a line to the buffer; flush where it is full, and after the line of an error."""
        encoded = self.encode(line)
        if self.size + len(encoded) > self.buffer_size:
            self.flush()
        self.lines.append(encoded)
        self.size += len(encoded)
        if self.unbuffered or line.level == "error":
            self.flush()

    def flush_before_error(self, record: logging.LogRecord) -> bool:
        """Flush before an error is logged, so that the requests before it stand above it.

        This is a logging filter that accepts every record.
        """
        if record.levelno >= logging.ERROR:
            self.flush()
        return True

    def flush(self) -> None:
        """Write the buffered lines."""
        with self.lock:
            count = len(self.lines)
            data = b"".join(self.lines[:count])
            del self.lines[:count]  # keeps a line that another thread has just added
            self.size = 0
            if not data:
                return
            try:
                os.write(self.descriptor(), data)
            except (OSError, ValueError) as error:  # ValueError: standard error was closed
                failure = error
            else:
                return
        if self.path is not None:  # a warning goes to standard error, which is lost as well
            self.lost.log(failure)

    def descriptor(self) -> int:
        """Return the file descriptor to write to; reopen a file that was moved or deleted."""
        if self.path is None:
            if sys.stderr is None:
                raise ValueError("this process has no standard error")
            return sys.stderr.fileno()
        if self.file is not None and not is_same_file(self.path, self.file):
            os.close(self.file)
            self.file = None
        if self.file is None:
            self.file = os.open(self.path, OPEN_FLAGS, 0o640)
        return self.file


def encode_json(line: Line) -> bytes:
    """Return a line as JSON."""
    return encoder.encode(line) + b"\n"


def encode_text(line: Line) -> bytes:
    """Return a line for people, in the layout of structlog's console renderer."""
    timestamp = line.timestamp.isoformat().replace("+00:00", "Z")
    context = f"request_id={line.request_id}"
    if line.token is not None:
        context += f" token={line.token}"
    if line.trace_id is not None:
        context += f" trace_id={line.trace_id}"
    if line.cut_off:
        context += " cut_off"
    return (
        f"{timestamp} [{line.level:<9}] {line.method} {line.route} {line.status} "
        f"{line.milliseconds:.1f} ms {context}\n"
    ).encode()


def is_same_file(path: str, file: int) -> bool:
    """Return whether the path still names the open file."""
    try:
        return os.path.samestat(os.stat(path), os.fstat(file))  # noqa: PTH116  # thousands of times
    except FileNotFoundError:
        return False


def check_access_log(settings: Settings) -> None:
    """Raise SettingsError where the file of the access log can't be written."""
    if settings.access_log not in ("stderr", "off"):
        try:
            os.close(os.open(settings.access_log, OPEN_FLAGS, 0o640))
        except OSError as error:
            place = settings.access_log
            raise SettingsError(f"ACCESS_LOG: can't write {place}: {error.strerror}") from None


encoder = msgspec.json.Encoder()
