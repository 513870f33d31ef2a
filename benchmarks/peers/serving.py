"""Granian as the service runs it, for peers that are served by it too."""

import os

from granian import Granian
from granian.constants import Interfaces, Loops
from granian.log import LogLevels


def serve(target: str) -> None:
    """Serve the ASGI application that `module:function` makes, with one worker."""
    Granian(
        target,
        factory=True,
        interface=Interfaces.ASGI,
        address="127.0.0.1",
        port=int(os.environ["PORT"]),
        workers=1,
        loop=Loops.uvloop,
        websockets=False,
        log_level=LogLevels.warning,
    ).serve()
