"""`python -m service`: serve."""

import os
import sys

from granian import Granian
from granian.constants import Interfaces, Loops
from granian.log import LogLevels

from service import embedded
from service.logs import configure_logging, logging_config
from service.settings import Settings, SettingsError


def main() -> int:
    """Serve until a signal says stop; return the exit code."""
    try:
        settings = embedded.resolved(Settings.from_environment(os.environ))
    except SettingsError as error:
        print(f"can't start: {error}", file=sys.stderr)
        return 2
    os.environ.pop("DATABASE_URL_FILE", None)
    os.environ["DATABASE_URL"] = settings.database_url  # the workers read the environment
    configure_logging(settings)
    serve(settings)
    return 0


def serve(settings: Settings) -> None:
    """Run the workers."""
    server = Granian(
        "service.app:create",
        factory=True,
        interface=Interfaces.ASGI,
        address=settings.host,
        port=settings.port,
        workers=settings.workers,
        loop=Loops.uvloop,
        websockets=False,
        log_level=LogLevels.warning,
        log_dictconfig=logging_config(settings),
    )

    @server.on_startup
    def announce() -> None:
        place = f"http://{settings.host}:{settings.port}"
        print(f"The users service listens on {place}", file=sys.stderr)
        print(f"Its documentation is at {place}/docs", file=sys.stderr, flush=True)

    server.serve()


if __name__ == "__main__":
    sys.exit(main())
