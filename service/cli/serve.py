"""Serving: granian's workers, from the first check to the last word."""

import ctypes
import logging
import os
import signal
import socket
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException

import msgspec
from granian import Granian
from granian.constants import Interfaces, Loops
from granian.log import LogLevels

from service import embedded
from service.auth.tokens import check_access
from service.observability.access_log import check_access_log
from service.observability.logs import configure_logging, logging_config
from service.settings import Settings, SettingsError

IN_MEMORY = "/dev/shm"  # noqa: S108  # what is made there has a name of its own
PR_SET_PDEATHSIG = 1  # <linux/prctl.h>
STOP_TIMEOUT = 20  # seconds for requests that are under way; less than compose allows
LOOK_INTERVAL = 0.05  # seconds between two looks whether a worker answers
ANSWER_TIMEOUT = 5  # seconds

log = logging.getLogger("service")


def serve(settings: Settings) -> None:
    """Serve until a signal says stop; raise SettingsError where that can't begin."""
    check_access(settings)
    check_access_log(settings)
    settings = embedded.resolved(settled(settings))
    os.environ.pop("DATABASE_URL_FILE", None)
    os.environ["DATABASE_URL"] = settings.database_url  # the workers read the environment
    configure_logging(settings)
    with counting_together(settings):
        run_workers(settings)


@contextmanager
def counting_together(settings: Settings) -> Iterator[None]:
    """Give several workers a directory in which prometheus-client adds up what they count."""
    if settings.workers == 1 or not settings.metrics:
        yield
        return
    # files that are mapped into memory: where their disk is full, the worker is killed
    place = IN_MEMORY if os.access(IN_MEMORY, os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="users-metrics-", dir=place) as directory:
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = directory
        yield


def settled(settings: Settings) -> Settings:
    """The settings, with an address in place of a name, and a port that is free in place of 0.

    Raise SettingsError if somebody listens there: the server would share the port with them.
    """
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    try:
        with socket.create_server((settings.host, settings.port), family=family) as tried:
            host, port = tried.getsockname()[:2]
    except OSError as error:
        place = f"{settings.host}:{settings.port}"
        number = error.errno or 0  # negative where a name was not found
        reason = os.strerror(number) if number > 0 else error.strerror
        raise SettingsError(f"can't listen on {place}: {reason}") from error
    return msgspec.structs.replace(settings, host=host, port=port)


def run_workers(settings: Settings) -> None:
    """Run the workers until they are told to stop."""
    server = Granian(
        "service.app:create",
        factory=True,
        interface=Interfaces.ASGI,
        address=settings.host,
        port=settings.port,
        workers=settings.workers,
        workers_kill_timeout=STOP_TIMEOUT,
        loop=Loops.uvloop,
        websockets=False,
        log_level=LogLevels.warning,
        log_dictconfig=logging_config(settings),
    )
    over = threading.Event()

    def announce() -> None:
        # only then: a worker is a fork, and would inherit what a thread holds at that moment
        while not (len(server.wrks) == settings.workers and answers(settings)):
            if over.wait(LOOK_INTERVAL):
                return
        host = f"[{settings.host}]" if ":" in settings.host else settings.host
        place = f"http://{host}:{settings.port}"
        log.info("listening on %s, documentation at %s/docs", place, place)

    @server.on_shutdown
    def farewell() -> None:
        over.set()
        log.info("stopped")

    os.register_at_fork(after_in_child=follow_the_parent)
    server.on_startup(lambda: signal.signal(signal.SIGHUP, server.signal_handler_interrupt))
    server.on_startup(threading.Thread(target=announce, daemon=True).start)
    server.serve()


def answers(settings: Settings) -> bool:
    """Whether a worker answers already; granian itself does not tell."""
    connection = HTTPConnection(settings.host, settings.port, timeout=ANSWER_TIMEOUT)
    try:
        connection.request("GET", "/health/live")
        return connection.getresponse().status == HTTPStatus.OK
    except (OSError, HTTPException):
        return False
    finally:
        connection.close()


def follow_the_parent() -> None:
    """In a worker: end when told to, and when the parent ends, however that ends."""
    # it inherits the parent's handler, and would swallow a SIGTERM until it has set its own
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
