"""backup: writes a file with the content of the database."""

import argparse
import asyncio
import json
from pathlib import Path

from alembic.util import CommandError

from safely.backup.backup import DIRECTORY, back_up
from safely.cli import NO, WELL
from safely.environment import Environment

WHAT = "write the content of the database to a file, while clients go on writing"
NEEDS_DATABASE = True


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument(
        "directory",
        nargs="?",
        type=Path,
        default=Path(DIRECTORY),
        help=f"where the file goes; default: {DIRECTORY}/",
    )
    parser.add_argument(
        "--verify",
        action="store_true",
        help="restore it into a scratch database, and compare schema, rows and checksums",
    )


async def run(options: argparse.Namespace, environment: Environment) -> int:
    """Back up, print the result, and return the exit code."""
    try:
        backup = await back_up(environment, options.directory, verify=options.verify)
    except asyncio.CancelledError:
        raise CommandError("interrupted before the backup was complete and verified") from None
    if backup is None:
        raise CommandError("there is nothing to back up: the database is empty")
    if options.json:
        print(json.dumps(backup._asdict(), default=str))
    elif backup.differences:
        heading = f"{backup.file} differs from the database:"
        print("\n  ".join([heading, *backup.differences]))
    else:
        print(f"{backup.file.parent}/{backup.words()}")
    return NO if backup.verified is False else WELL
