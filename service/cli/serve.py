"""The command `serve`: run granian and its workers until a signal stops them."""

import logging
import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException

import msgspec

from service.auth.tokens import check_access
from service.cli.development import with_database
from service.cli.metrics_directory import metrics_directory
from service.cli.workers import Workers, set_process_limits
from service.observability.access_log import check_access_log
from service.observability.logs import configure_logging
from service.settings import SECRETS, Settings, SettingsError
from service.signals import hold_stop_signals

POLL_INTERVAL = 0.05  # seconds between two requests that ask whether a worker responds
RESPONSE_TIMEOUT = 5  # seconds

log = logging.getLogger("service")


def serve(settings: Settings) -> None:
    """Serve until a signal stops the process; raise SettingsError where it can't start."""
    check_access(settings)
    check_access_log(settings)
    settings = with_database(with_free_port(settings))
    for name in SECRETS:
        os.environ.pop(f"{name}_FILE", None)
    # the workers read the environment
    os.environ |= {name: getattr(settings, name.lower()) for name in SECRETS}
    os.environ["PORT"] = str(settings.port)
    configure_logging(settings)
    set_process_limits()
    with shared_metrics(settings):
        run_workers(settings)
    # one more signal would end Python with another exit code, now that its handlers go
    hold_stop_signals()


@contextmanager
def shared_metrics(settings: Settings) -> Iterator[None]:
    """Give the workers, if there are several, a directory in which prometheus-client sums up."""
    if settings.workers == 1 or not settings.metrics:
        yield
        return
    with metrics_directory() as directory:
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(directory)
        yield


def with_free_port(settings: Settings) -> Settings:
    """Return the settings with the host as an address, and a free port in place of port 0.

    Raise SettingsError if another process listens there: the server would share the port with it.
    """
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    try:
        with socket.create_server((settings.host, settings.port), family=family) as probe:
            host, port = probe.getsockname()[:2]
    except OSError as error:
        place = f"{settings.host}:{settings.port}"
        number = error.errno or 0  # negative where the host name is unknown
        reason = os.strerror(number) if number > 0 else error.strerror
        raise SettingsError(f"can't listen on {place}: {reason}") from error
    return msgspec.structs.replace(settings, host=host, port=port)


def run_workers(settings: Settings) -> None:
    """Run the workers until a signal stops them."""
    stopping = threading.Event()

    def announce_start() -> None:
        while not responds(settings):
            if stopping.wait(POLL_INTERVAL):
                return
        server.has_served.set()
        host = f"[{settings.host}]" if ":" in settings.host else settings.host
        place = f"http://{host}:{settings.port}"
        log.info("listening on %s, documentation at %s/docs", place, place)

    server = Workers(settings, announce_start)

    @server.on_shutdown
    def announce_stop() -> None:
        stopping.set()
        log.info("stopped")

    server.run()


def responds(settings: Settings) -> bool:
    """Return whether a worker responds; granian has no hook for that."""
    connection = HTTPConnection(settings.host, settings.port, timeout=RESPONSE_TIMEOUT)
    try:
        connection.request("GET", "/health/live")
        return connection.getresponse().status == HTTPStatus.OK
    except (OSError, HTTPException):
        return False
    finally:
        connection.close()
