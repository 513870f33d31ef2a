"""restore: what a backup holds, in the place of what a database holds."""

import argparse
import asyncio
import json
from pathlib import Path

from alembic.script import ScriptDirectory
from alembic.util import CommandError

from safely.backup.restore import restore
from safely.cli import WELL, at_the_database

WHAT = "bring back what a backup holds, all of it or nothing"


def arguments(parser: argparse.ArgumentParser) -> None:
    """What, and over what."""
    parser.add_argument("file", type=Path, help="the backup")
    parser.add_argument(
        "--replace", action="store_true", help="lose what the database holds, if it isn't empty"
    )
    parser.add_argument(
        "--other-version", action="store_true", help="take a backup of an older PostgreSQL"
    )


async def run(options: argparse.Namespace, _: ScriptDirectory) -> int:
    """Restore it, and tell where the database is then."""
    try:
        async with at_the_database() as engine:
            restored = await restore(
                engine, options.file, replace=options.replace, other_version=options.other_version
            )
    except asyncio.CancelledError:
        raise CommandError("interrupted: the database is as it was") from None
    if options.json:
        print(json.dumps({"file": str(options.file), **restored._asdict()}))
    else:
        print(f"restored {options.file}: {restored.words()}")
    return WELL
