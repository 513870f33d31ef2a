"""Logging to standard error: readable on a terminal, JSON lines elsewhere."""

import logging
import logging.config
import sys
import time
from typing import Any

import structlog
from structlog.typing import EventDict

from service.observability.request_context import current_request
from service.settings import Settings

WARNING_INTERVAL = 60.0  # seconds between two warnings of the same RateLimitedWarning

log = logging.getLogger("service")


class RateLimitedWarning:
    """A warning that is logged at most once per WARNING_INTERVAL, however often it occurs."""

    def __init__(self, message: str) -> None:
        """Prepare the warning; `message` may have %-style placeholders."""
        self.message = message
        self.last_logged = -WARNING_INTERVAL

    def log(self, *arguments: object) -> None:
        """Log the warning, unless it was logged less than WARNING_INTERVAL ago."""
        now = time.monotonic()
        if now - self.last_logged >= WARNING_INTERVAL:
            self.last_logged = now
            log.warning(self.message, *arguments)


def configure_logging(settings: Settings) -> None:
    """Configure logging for this process."""
    logging.config.dictConfig(logging_config(settings))


def logging_config(settings: Settings) -> dict[str, Any]:
    """Return the `dictConfig` that gives all loggers, also the server's, one format."""
    renderer: list[Any] = (
        [escape_unprintable, structlog.dev.ConsoleRenderer()]
        if is_human_readable(settings)
        else [structlog.processors.JSONRenderer()]  # which escapes all but ASCII
    )
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {
            "structured": {
                "()": structlog.stdlib.ProcessorFormatter,
                "processors": [
                    structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                    # without local variables, which hold names, addresses and passwords
                    structlog.processors.format_exc_info,
                    *renderer,
                ],
                "foreign_pre_chain": [
                    structlog.stdlib.add_log_level,
                    structlog.stdlib.add_logger_name,
                    structlog.processors.TimeStamper(fmt="iso", utc=True),
                    add_request_context,
                ],
            }
        },
        "handlers": {
            "stderr": {"class": "logging.StreamHandler", "formatter": "structured"},
        },
        "root": {"handlers": ["stderr"], "level": settings.log_level},
        # granian adds handlers to its own loggers unless the configuration names them
        "loggers": {
            **{
                name: {"handlers": [], "propagate": True} for name in ("_granian", "granian.access")
            },
            # SQLAlchemy's pool logs each connection, under the module of our subclass
            "service.database": {"level": "WARNING"},
            # its lines of level DEBUG repeat the parameters of each statement
            "aiosqlite": {"level": "WARNING"},
        },
    }


def is_human_readable(settings: Settings) -> bool:
    """Return whether lines on standard error are formatted for people instead of machines."""
    return settings.log_format == "console" or (settings.log_format == "auto" and on_terminal())


def on_terminal() -> bool:
    """Return whether standard error is a terminal; a process may also have no standard error."""
    return sys.stderr is not None and sys.stderr.isatty()


def escape_unprintable(_logger: Any, _method: str, event: EventDict) -> EventDict:
    """Escape what a terminal would obey, and indent all lines but the first (structlog processor).

    An exception's message may repeat what a client sent: its newline must not begin a line that
    looks like one of the log, and its control characters must not hide or colour others.
    """
    for name, value in event.items():
        if isinstance(value, str) and not value.isprintable():
            event[name] = "\n    ".join(printable(line) for line in value.split("\n"))
    return event


def printable(line: str) -> str:
    """Return the line with an escape sequence in place of each character that is not printable."""
    return "".join(
        character if character.isprintable() or character == "\t" else ascii(character)[1:-1]
        for character in line
    )


def add_request_context(_logger: Any, _method: str, event: EventDict) -> EventDict:
    """Add the id of the current request, and of its trace, to a log line (structlog processor)."""
    if (request := current_request.get(None)) is not None:
        event["request_id"] = request.request_id
        if request.trace_id is not None:
            event["trace_id"] = request.trace_id
    return event
