"""backup: a file with all that the database holds."""

import argparse
import asyncio
import json
from pathlib import Path

from alembic.script import ScriptDirectory
from alembic.util import CommandError

from safely.backup.backup import DIRECTORY, back_up
from safely.cli import NO, WELL, at_the_database

WHAT = "write all that the database holds to a file, while everybody goes on"


def arguments(parser: argparse.ArgumentParser) -> None:
    """Where to, and whether to try it."""
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


async def run(options: argparse.Namespace, _: ScriptDirectory) -> int:
    """Write it, and tell what is in it."""
    try:
        async with at_the_database() as engine:
            made = await back_up(engine, options.directory, verify=options.verify)
    except asyncio.CancelledError:
        raise CommandError("interrupted before the backup was complete and verified") from None
    if made is None:
        raise CommandError("there is nothing to back up: the database is empty")
    if options.json:
        print(json.dumps(made._asdict(), default=str))
    elif made.differences:
        print("\n  ".join([f"{made.file} is not what the database held:", *made.differences]))
    else:
        print(f"{made.file.parent}/{made.words()}")
    return NO if made.verified is False else WELL
