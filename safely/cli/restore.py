"""restore: replaces the content of the database by that of a backup."""

import argparse
import asyncio
import json
from pathlib import Path

from alembic.util import CommandError

from safely.backup.restore import restore
from safely.cli import WELL
from safely.environment import Environment

WHAT = "restore a backup: all of it, or nothing"
NEEDS_DATABASE = True


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument("file", type=Path, help="the backup")
    parser.add_argument(
        "--replace", action="store_true", help="lose what the database holds, if it isn't empty"
    )
    parser.add_argument(
        "--other-version", action="store_true", help="accept a backup of an older PostgreSQL"
    )


async def run(options: argparse.Namespace, environment: Environment) -> int:
    """Restore, print the state of the database afterwards, and return the exit code."""
    try:
        restored = await restore(
            environment,
            options.file,
            replace=options.replace,
            other_version=options.other_version,
        )
    except asyncio.CancelledError:
        raise CommandError("interrupted: the database is as it was") from None
    if options.json:
        print(json.dumps({"file": str(options.file), **restored._asdict()}))
    else:
        print(f"restored {options.file}: {restored.words()}")
    return WELL
