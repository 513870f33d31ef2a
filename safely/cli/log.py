"""log: the ledger for people."""

import argparse
import json
from collections.abc import Iterator, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection

from safely.cli import WELL
from safely.environment import Environment
from safely.ledger import drift, ledger
from safely.words import duration

WHAT = "what was done to the schema, when, by whom, and how long it took"
NEEDS_DATABASE = True
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
UNSAFE = "unsafe"  # of the rows whose message is the reason that somebody gave
LONGEST_MESSAGE = 60  # characters; --json has it all


def arguments(_: argparse.ArgumentParser) -> None:
    """Add no arguments."""


async def run(options: argparse.Namespace, environment: Environment) -> int:
    """Print the ledger, oldest row first."""

    def read(connection: Connection) -> list[dict[str, Any]]:
        drift.refuse_missing(connection)
        rows = connection.execute(sa.select(ledger.LOG).order_by(ledger.LOG.c.id)).mappings()
        return [{name: row[name] for name in row if name != "snapshot"} for row in rows]

    rows = await environment.read(read)
    lines = (json.dumps(row, default=str) for row in rows) if options.json else table(rows)
    for line in lines:
        print(line)
    return WELL


def table(rows: Sequence[dict[str, Any]]) -> Iterator[str]:
    """Yield the lines of a table with aligned columns."""
    cells = [COLUMNS, *map(cells_of, rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    for row in cells:
        line = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        yield "  ".join(line).rstrip()


def cells_of(row: dict[str, Any]) -> tuple[str, ...]:
    """Return the cells of a row of the ledger."""
    message = " ".join((row["message"] or "").split())
    if len(message) > LONGEST_MESSAGE and row["direction"] != UNSAFE:
        message = f"{message[: LONGEST_MESSAGE - 2]} …"
    return (
        row["revision"],
        row["direction"],
        row["state"],
        message,
        f"{row['started']:%Y-%m-%d %H:%M:%S}",
        in_words(row["duration"]),
        str(row["attempts"] or ""),
        in_words(row["longest_lock_wait"]),
        "@".join(filter(None, (row["username"], row["host"]))),
        row["build"],
    )


def in_words(seconds: float | None) -> str:
    """Return a duration; empty where none was recorded."""
    return "" if seconds is None else duration(seconds)
