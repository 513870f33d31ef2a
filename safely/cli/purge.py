"""purge: ask, and drop for good."""

import argparse
import json
import sys

from alembic.util import CommandError

from safely.cli import NO, WELL
from safely.environment import Environment
from safely.run.purge import Purge, purge

WHAT = "drop for good what was set aside, and what old builds need"
NEEDS_DATABASE = True
WARNING = (
    "There is no way back from this. Builds behind a pooler, or scaled to zero, can't be seen "
    "from here: be sure that none is left."
)


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments that say what to drop, and whether to ask."""
    parser.add_argument("--before", metavar="REV", help="give up every build before this revision")
    parser.add_argument(
        "--undone",
        action="store_true",
        help="what revisions that are undone have set aside: applied again, they begin anew",
    )
    parser.add_argument("--yes", action="store_true", help="don't ask")


async def run(options: argparse.Namespace, environment: Environment) -> int:
    """List what would go, refuse or ask, and drop it."""
    if options.before is None and not options.undone:
        raise CommandError("say --before REV, or --undone, or both")

    def agreed(seen: Purge) -> bool:
        if options.yes or options.json:
            return bool(options.yes)
        print("\n".join(map(str, seen.items)))
        print(WARNING)
        print(backed_up(seen))
        return sys.stdin.isatty() and input('Type "purge" to go on: ').strip() == "purge"

    seen = await purge(environment, before=options.before, undone=options.undone, agreed=agreed)
    if options.json:
        keys = ("kind", "revision", "name", "table")
        items = [{key: getattr(item, key) for key in keys} for item in seen.items]
        print(json.dumps(seen._asdict() | {"items": items}))
    elif seen.builds:
        for build, number in seen.builds.items():
            print(f"{build} is connected ({number}): stop it first")
        print("nothing was purged")
    elif seen.needed_by:
        for item, names in seen.needed_by.items():
            print(f"{item}: needed by {', '.join(names)}")
        print("drop or change what needs it first; nothing was purged")
    elif not seen.items:
        print("there is nothing to purge")
    else:
        print(f"purged {len(seen.items)}" if seen.done else "nothing was purged: say --yes")
    return WELL if seen.done or not (seen.items or seen.builds) else NO


def backed_up(seen: Purge) -> str:
    """Return the backup from which it could be brought back, in words."""
    if seen.backup is None:
        return "There is no verified backup: python -m safely backup --verify"
    return f"The last verified backup is {seen.backup}"
