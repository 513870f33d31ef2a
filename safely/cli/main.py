"""python -m migrations COMMAND: what Alembic lacks."""

import argparse
import asyncio
import logging
import os
import signal
import sys
from collections.abc import Awaitable
from pathlib import Path

from alembic.config import Config
from alembic.script import ScriptDirectory
from alembic.util import CommandError

from safely.cli import CODES, UNKNOWN, backup, drift, lint, log, purge, rehearse, restore
from safely.database import LOCK_TIMEOUT, connected
from safely.environment import Environment
from safely.project import Project
from safely.scratch import embedded
from service.models import SCHEMA_REVISION, Base
from service.settings import Settings, SettingsError

INTERRUPTED = 130  # as shells have it
COMMANDS = {
    "log": log,
    "drift": drift,
    "rehearse": rehearse,
    "lint": lint,
    "backup": backup,
    "restore": restore,
    "purge": purge,
}


def main(arguments: list[str] | None = None) -> int:
    """Run a command; return the exit code."""
    options = parser().parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(levelname)s [%(name)s] %(message)s")
    logging.getLogger("alembic.runtime.migration").setLevel(logging.WARNING)
    script = ScriptDirectory.from_config(
        Config(Path(__file__).parent.parent.parent / "alembic.ini")
    )
    command = in_environment if options.run is rehearse.run else options.run
    try:
        return asyncio.run(until_told(command(options, script)))
    except CommandError as error:
        print(f"FAILED: {error}", file=sys.stderr)
        return UNKNOWN
    except (KeyboardInterrupt, asyncio.CancelledError):
        print("interrupted", file=sys.stderr)
        return INTERRUPTED


async def in_environment(options: argparse.Namespace, script: ScriptDirectory) -> int:
    """Run a command that takes an Environment, with the one of the users service."""
    try:
        settings = Settings.from_environment(os.environ)
    except SettingsError as error:
        raise CommandError(str(error)) from error
    if settings.database_url == "embedded":
        if (embedded.data_directory() / "postgresql").exists():
            settings = embedded.resolved(settings)
        else:
            settings = Settings(database_url=f"sqlite:///{embedded.data_directory()}/none.sqlite")
    project = Project(
        name="users",
        metadata=Base.metadata,
        build=SCHEMA_REVISION,
        app_role=settings.app_role,
        numbered=True,
    )
    async with connected(settings, LOCK_TIMEOUT) as engine:
        environment = Environment(project=project, config=Config(), script=script, engine=engine)
        return int(await options.run(options, environment))


async def until_told(command: Awaitable[int]) -> int:
    """Run a command; SIGTERM ends it as ^C does, so that it leaves nothing behind."""
    task = asyncio.ensure_future(command)
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    return await task


def parser() -> argparse.ArgumentParser:
    """The commands and what they take."""
    top = argparse.ArgumentParser(prog="python -m migrations", description=__doc__, epilog=CODES)
    commands = top.add_subparsers(required=True, metavar="COMMAND")
    for name, module in COMMANDS.items():
        command = commands.add_parser(name, help=module.WHAT, description=module.WHAT, epilog=CODES)
        command.set_defaults(run=module.run)
        command.add_argument("--json", action="store_true", help="for machines")
        module.arguments(command)
    return top
