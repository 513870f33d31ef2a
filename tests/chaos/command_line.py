"""The command line of the runs that make faults: which of them, and where their logs go."""

import argparse
from collections.abc import Collection
from pathlib import Path


def faults_and_logs(
    program: str, description: str | None, known: Collection[str], log: str
) -> tuple[list[str], Path | None]:
    """Return the names of the faults, all without one, and the directory of the logs.

    `log` names what is kept there beside the requests. Exit with 2 for a fault that isn't known.
    """
    parser = argparse.ArgumentParser(prog=program, description=description)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(known))
    logs = f"keep all requests, and {log}, in this directory"
    parser.add_argument("--logs", type=Path, metavar="DIRECTORY", help=logs)
    arguments = parser.parse_args()
    names: list[str] = arguments.names or list(known)
    if unknown := set(names) - set(known):
        parser.error(f"there is no fault {min(unknown)}; see --help")
    return names, arguments.logs
