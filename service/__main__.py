"""`python -m service`: serve."""

import ctypes
import logging
import os
import signal
import socket
import sys

from granian import Granian
from granian.constants import Interfaces, Loops
from granian.log import LogLevels

from service import embedded
from service.logs import configure_logging, logging_config
from service.settings import Settings, SettingsError

PR_SET_PDEATHSIG = 1  # <linux/prctl.h>
STOP_TIMEOUT = 20  # seconds for requests that are under way; less than compose allows

log = logging.getLogger("service")


def main() -> int:
    """Serve until a signal says stop; return the exit code."""
    try:
        settings = Settings.from_environment(os.environ)
        check_port(settings)
        settings = embedded.resolved(settings)
    except SettingsError as error:
        print(f"can't start: {error}", file=sys.stderr)
        return 2
    os.environ.pop("DATABASE_URL_FILE", None)
    os.environ["DATABASE_URL"] = settings.database_url  # the workers read the environment
    configure_logging(settings)
    serve(settings)
    return 0


def check_port(settings: Settings) -> None:
    """Raise SettingsError if somebody listens there: the server would share the port with them."""
    try:
        socket.create_server((settings.host, settings.port)).close()
    except OSError as error:
        place = f"{settings.host}:{settings.port}"
        number = error.errno or 0  # negative where a name was not found
        reason = os.strerror(number) if number > 0 else error.strerror
        raise SettingsError(f"can't listen on {place}: {reason}") from error


def serve(settings: Settings) -> None:
    """Run the workers."""
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

    @server.on_startup
    def announce() -> None:
        place = f"http://{settings.host}:{settings.port}"
        log.info("listening on %s, documentation at %s/docs", place, place)

    @server.on_shutdown
    def farewell() -> None:
        log.info("stopped")

    os.register_at_fork(after_in_child=follow_the_parent)
    server.on_startup(lambda: signal.signal(signal.SIGHUP, server.signal_handler_interrupt))
    server.serve()


def follow_the_parent() -> None:
    """In a worker: end when told to, and when the parent ends, however that ends."""
    # it inherits the parent's handler, and would swallow a SIGTERM until it has set its own
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


if __name__ == "__main__":
    sys.exit(main())
