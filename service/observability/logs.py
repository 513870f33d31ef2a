"""Logs: for eyes on a terminal, as JSON lines elsewhere; always on standard error."""

import logging
import logging.config
import sys
from collections.abc import Mapping
from contextvars import ContextVar
from types import MappingProxyType
from typing import Any

import structlog
from structlog.typing import EventDict

from service.settings import Settings

NOTHING: Mapping[str, str] = MappingProxyType({})

# what every line says that is logged on behalf of a request: its id, and that of its trace
about: ContextVar[Mapping[str, str]] = ContextVar("about", default=NOTHING)


def configure_logging(settings: Settings) -> None:
    """Set logging up for this process."""
    logging.config.dictConfig(logging_config(settings))


def logging_config(settings: Settings) -> dict[str, Any]:
    """One format for everything that is logged, by us or by the server."""
    renderer: list[Any] = (
        # tracebacks without local variables, which hold names, addresses and passwords
        [structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)]
        if for_eyes(settings)
        else [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    )
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {
            "structured": {
                "()": structlog.stdlib.ProcessorFormatter,
                "processors": [
                    structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                    *renderer,
                ],
                "foreign_pre_chain": [
                    structlog.stdlib.add_log_level,
                    structlog.stdlib.add_logger_name,
                    structlog.processors.TimeStamper(fmt="iso", utc=True),
                    add_request,
                ],
            }
        },
        "handlers": {
            "stderr": {"class": "logging.StreamHandler", "formatter": "structured"},
        },
        "root": {"handlers": ["stderr"], "level": settings.log_level},
        # granian's own loggers bring their handlers along unless they are told not to
        "loggers": {
            **{
                name: {"handlers": [], "propagate": True} for name in ("_granian", "granian.access")
            },
            # SQLAlchemy's pool, which takes the name of our class: it tells of each connection
            "service.database": {"level": "WARNING"},
        },
    }


def for_eyes(settings: Settings) -> bool:
    """Whether somebody reads standard error as it is written."""
    return settings.log_format == "console" or (settings.log_format == "auto" and on_terminal())


def on_terminal() -> bool:
    """Whether standard error is a terminal; a process may also have none."""
    return sys.stderr is not None and sys.stderr.isatty()


def add_request(_: Any, __: str, line: EventDict) -> EventDict:
    """Say on whose behalf a line is logged."""
    line.update(about.get())
    return line
