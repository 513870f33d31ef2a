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


def typed(config: Config) -> tuple[str, str]:
    """Return Alembic's command as it was typed, such as `alembic upgrade`, and its target.

    Both are empty for a command without a target, and where Alembic was called by a program.
    """
    options = config.cmd_opts
    function, *_ = getattr(options, "cmd", (None,))
    target = getattr(options, "revisions", None) or getattr(options, "revision", None) or ""
    if not (function and target):
        return "", ""
    return f"alembic {function.__name__}", target if isinstance(target, str) else " ".join(target)
