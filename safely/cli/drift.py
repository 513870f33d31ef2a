"""drift: differences from what was recorded, or from what the revisions make."""

import argparse
import json

from safely.cli import NO, UNKNOWN, WELL
from safely.environment import Environment
from safely.ledger import replay
from safely.ledger.drift import read_drift

WHAT = "whether the schema differs from what was recorded, or from what the revisions make"
NEEDS_DATABASE = True


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the argument that says what to compare with."""
    parser.add_argument(
        "--against-replay",
        action="store_true",
        help="compare with what the revisions make of a scratch database, not with the ledger, "
        "which may be missing",
    )


async def run(options: argparse.Namespace, environment: Environment) -> int:
    """Print the differences."""
    edited: dict[str, str] = {}
    if options.against_replay:
        drift = await replay.drift_against_replay(environment)
    else:
        edited, drift = await environment.read(read_drift, environment)
    differences = [*edited.values(), *drift.differences]
    if options.json:
        parts = drift._asdict() | {"edited": list(edited.values())}
        print(json.dumps(parts | {"half": drift.half and drift.half._asdict()}))
    elif reason := drift.why_unknown():
        print(reason)
    else:
        against = "from" if options.against_replay else "since"
        print("\n".join(differences) or f"no drift {against} {drift.since}")
    if differences:
        return NO
    return UNKNOWN if drift.why_unknown() else WELL
