"""drift: what differs from what was recorded, or from what the revisions make."""

import argparse
import json

from alembic.script import ScriptDirectory

from safely.cli import NO, UNKNOWN, WELL
from safely.database import LOCK_TIMEOUT, connected, read, settings_found
from safely.ledger import drift, replay

WHAT = "whether the schema differs from what was recorded, or from what the revisions make"


def arguments(parser: argparse.ArgumentParser) -> None:
    """What to compare with."""
    parser.add_argument(
        "--against-replay",
        action="store_true",
        help="compare with what the revisions make of a scratch database, not with the ledger, "
        "which may be missing",
    )


async def run(options: argparse.Namespace, script: ScriptDirectory) -> int:
    """Print what differs."""
    settings = settings_found()
    async with connected(settings, LOCK_TIMEOUT) as engine:
        edited: dict[str, str] = {}
        if options.against_replay:
            found = await replay.look(engine, script, settings.app_role)
        else:
            edited, found = await read(engine, drift.look, script)
    differs = [*edited.values(), *found.differences]
    if options.json:
        parts = found._asdict() | {"edited": list(edited.values())}
        print(json.dumps(parts | {"half": found.half and found.half._asdict()}))
    elif reason := found.why_unknown():
        print(reason)
    else:
        against = "from" if options.against_replay else "since"
        print("\n".join(differs) or f"no drift {against} {found.since}")
    if differs:
        return NO
    return UNKNOWN if found.why_unknown() else WELL
