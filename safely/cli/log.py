"""log: the ledger for people."""

import argparse
import json
import sys
from typing import Any

import sqlalchemy as sa
from alembic.script import ScriptDirectory
from rich.console import Console
from rich.table import Table
from sqlalchemy import Connection

from safely.cli import WELL, at_the_database
from safely.database import read
from safely.ledger import drift, ledger
from safely.words import duration

WHAT = "what was done to the schema, when, by whom, and how long it took"
COLUMNS = (
    "revision",
    "direction",
    "state",
    "message",
    "started",
    "duration",
    "attempts",
    "longest wait",
    "by",
    "build",
)


def arguments(_: argparse.ArgumentParser) -> None:
    """It takes none."""


async def run(options: argparse.Namespace, _: ScriptDirectory) -> int:
    """Print the ledger, oldest first."""

    def entries(connection: Connection) -> list[dict[str, Any]]:
        drift.refuse_missing(connection)
        rows = connection.execute(sa.select(ledger.LOG).order_by(ledger.LOG.c.id)).mappings()
        return [{name: row[name] for name in row if name != "snapshot"} for row in rows]

    async with at_the_database() as engine:
        found = await read(engine, entries)
    table = Table(*COLUMNS, box=None, pad_edge=False)
    for entry in found:
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
        duration_or_nothing(entry["duration"]),
        str(entry["attempts"] or ""),
        duration_or_nothing(entry["longest_lock_wait"]),
        "@".join(filter(None, (entry["username"], entry["host"]))),
        entry["build"],
    ]


def duration_or_nothing(seconds: float | None) -> str:
    """Return a duration; empty where none was recorded."""
    return "" if seconds is None else duration(seconds)
