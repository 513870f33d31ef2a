"""stats: print how large the tables are, for `lint --stats FILE` elsewhere."""

import argparse

from safely.cli import WELL
from safely.environment import Environment
from safely.lint import statistics

WHAT = "how many rows and bytes the tables have, and how much is written, as JSON for lint --stats"
NEEDS_DATABASE = True


def arguments(_: argparse.ArgumentParser) -> None:
    """Add no arguments."""


async def run(_: argparse.Namespace, environment: Environment) -> int:
    """Print the statistics of the database: names and numbers, no data."""
    print(statistics.as_json(await environment.read(statistics.read, environment.version_table)))
    return WELL
