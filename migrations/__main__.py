"""python -m migrations COMMAND: what Alembic lacks."""

import argparse
import asyncio
import json
import logging
import sys
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from alembic.config import Config
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from rich.console import Console
from rich.table import Table
from sqlalchemy import Connection
from sqlalchemy.ext.asyncio import AsyncEngine

from migrations import drift, ledger
from migrations.connecting import LOCK_TIMEOUT, connected, read, settings_found
from migrations.purge import Doomed, purge

WELL, NO, UNKNOWN = 0, 1, 2
CODES = "Exit codes: 0 all is well; 1 drift found, or purge not done; 2 it can't be told or done."
WARNING = (
    "There is no way back from this. Builds behind a pooler, or scaled to zero, can't be seen "
    "from here: be sure that none is left."
)
COLUMNS = (
    "revision",
    "direction",
    "state",
    "message",
    "started",
    "seconds",
    "attempts",
    "longest wait",
    "by",
    "build",
)


def main(arguments: list[str] | None = None) -> int:
    """Run a command; return the exit code."""
    options = parser().parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(levelname)s [%(name)s] %(message)s")
    logging.getLogger("alembic.runtime.migration").setLevel(logging.WARNING)
    script = ScriptDirectory.from_config(Config(Path(__file__).parent.parent / "alembic.ini"))

    async def run() -> int:
        async with connected(settings_found(), LOCK_TIMEOUT) as engine:
            code: int = await options.run(engine, script, options)
            return code

    try:
        return asyncio.run(run())
    except CommandError as error:
        print(f"FAILED: {error}", file=sys.stderr)
        return UNKNOWN


def parser() -> argparse.ArgumentParser:
    """The commands and what they take."""
    top = argparse.ArgumentParser(prog="python -m migrations", description=__doc__, epilog=CODES)
    commands = top.add_subparsers(required=True, metavar="COMMAND")

    def add(name: str, run: object, what: str) -> argparse.ArgumentParser:
        command = commands.add_parser(name, help=what, description=what, epilog=CODES)
        command.set_defaults(run=run)
        command.add_argument("--json", action="store_true", help="for machines")
        return command

    add("log", show_log, "what was done to the schema, when, by whom, and how long it took")
    add("drift", show_drift, "whether schema or revision files differ from what was recorded")
    command = add("purge", do_purge, "drop for good what was set aside, and what old builds need")
    command.add_argument("--before", metavar="REV", help="give up every build before this revision")
    command.add_argument(
        "--undone",
        action="store_true",
        help="what revisions that are undone have set aside: applied again, they begin anew",
    )
    command.add_argument("--yes", action="store_true", help="don't ask")
    return top


async def show_log(engine: AsyncEngine, _: ScriptDirectory, options: argparse.Namespace) -> int:
    """Print the ledger, oldest first."""

    def entries(connection: Connection) -> list[dict[str, Any]]:
        drift.refuse_missing(connection)
        rows = connection.execute(sa.select(ledger.LOG).order_by(ledger.LOG.c.id)).mappings()
        return [{name: row[name] for name in row if name != "snapshot"} for row in rows]

    table = Table(*COLUMNS, box=None, pad_edge=False)
    for entry in await read(engine, entries):
        if options.json:
            print(json.dumps(entry, default=str))
        table.add_row(*told(entry))
    if not options.json:
        # as wide as it is, where no terminal sets a limit
        Console(width=None if sys.stdout.isatty() else 250).print(table)
    return WELL


def told(entry: dict[str, Any]) -> list[str]:
    """A row of the ledger for people."""
    return [
        entry["revision"],
        entry["direction"],
        entry["state"],
        entry["message"] or "",
        f"{entry['started']:%Y-%m-%d %H:%M:%S}",
        in_seconds(entry["duration"]),
        str(entry["attempts"] or ""),
        in_seconds(entry["longest_lock_wait"]),
        "@".join(filter(None, (entry["username"], entry["host"]))),
        entry["build"],
    ]


def in_seconds(value: float | None) -> str:
    """A time for people."""
    return "" if value is None else f"{value:.3f}"


async def show_drift(
    engine: AsyncEngine, script: ScriptDirectory, options: argparse.Namespace
) -> int:
    """Print what differs from what was recorded."""
    edited, found = await read(engine, drift.look, script)
    differs = [*edited.values(), *found.differences]
    if options.json:
        parts = found._asdict() | {"edited": list(edited.values())}
        print(json.dumps(parts | {"half": found.half and found.half._asdict()}))
    elif reason := found.why_unknown():
        print(reason)
    else:
        print("\n".join(differs) or f"no drift since {found.since}")
    if differs:
        return NO
    return UNKNOWN if found.why_unknown() else WELL


async def do_purge(
    engine: AsyncEngine, script: ScriptDirectory, options: argparse.Namespace
) -> int:
    """List what would go, refuse or ask, and drop it."""
    if options.before is None and not options.undone:
        raise CommandError("say --before REV, or --undone, or both")

    def agreed(items: list[Doomed]) -> bool:
        if options.yes or options.json:
            return bool(options.yes)
        print("\n".join(map(str, items)))
        print(WARNING)
        return sys.stdin.isatty() and input('Type "purge" to go on: ').strip() == "purge"

    seen = await purge(engine, script, before=options.before, undone=options.undone, agreed=agreed)
    if options.json:
        items = [item._asdict() for item in seen.items]
        print(json.dumps({"items": items, "builds": seen.builds, "done": seen.done}))
    elif seen.builds:
        for build, number in seen.builds.items():
            print(f"{build} is connected ({number}): stop it first")
        print("nothing was purged")
    elif not seen.items:
        print("there is nothing to purge")
    else:
        print(f"purged {len(seen.items)}" if seen.done else "nothing was purged: say --yes")
    return WELL if seen.done or not (seen.items or seen.builds) else NO


if __name__ == "__main__":
    sys.exit(main())
