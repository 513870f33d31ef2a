"""drift: what differs from what was recorded."""

import argparse
import json

from alembic.script import ScriptDirectory

from migrations import drift
from migrations.commands import NO, UNKNOWN, WELL, at_the_database
from migrations.connecting import read

WHAT = "whether schema or revision files differ from what was recorded"


def arguments(_: argparse.ArgumentParser) -> None:
    """It takes none."""


async def run(options: argparse.Namespace, script: ScriptDirectory) -> int:
    """Print what differs from what was recorded."""
    async with at_the_database() as engine:
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
