"""The purpose of a run of env.py, where Alembic's command line alone can't tell it."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from alembic.config import Config

from safely.environment import Environment

KEY = "safely"  # in Config.attributes, which Alembic keeps for its callers

Command = Callable[[Environment], Awaitable[int]]
"""A command of `python -m safely`; returns its exit code."""


@dataclass
class Invocation:
    """A command to run in the place of Alembic's, or another database to run Alembic's on."""

    command: Command | None = None
    needs_database: bool = True
    """Whether the command can't do without one; otherwise `Environment.unreachable` says why."""
    exit_code: int | None = None
    """The exit code of the command; None as long as env.py has not run it."""
    address: str = ""
    """A scratch database, which takes the place of the one that env.py names."""
    app_role: str = ""
    """The application's role on that scratch database."""


def of(config: Config) -> Invocation:
    """Return what this run is for; of plain Alembic an empty one."""
    invocation = config.attributes.get(KEY)
    return invocation if isinstance(invocation, Invocation) else Invocation()
