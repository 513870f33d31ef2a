"""`python -m tests.chaos [NAME ...]`: make all faults, or these, and print the table.

With all of them the table is also written into docs/reliability.md. The exit code is 1 where
anything was lost, duplicated or wrong, an answer was none of those promised, or recovery took long.
"""

import argparse
import sys

import uvloop

from tests.chaos.faults import ALL
from tests.chaos.run import FULL, Result, execute
from tests.chaos.table import line, row, table, write
from tests.chaos.worlds import SkippedError, shared_world


async def run_all(names: list[str]) -> bool:
    """Make the faults, and print each result; return whether all are as they must be."""
    results: list[Result] = []
    with shared_world() as shared:
        for name in names:
            try:
                result = await execute(ALL[name], shared, FULL)
            except SkippedError as reason:
                print(f"{name} is skipped: {reason}")
                continue
            results.append(result)
            print(f"{name}: {line(row(result))}\n    {result.answers}", flush=True)
            for flaw in result.flaws():
                print(f"    {flaw}", flush=True)
    print(f"\n{table(results)}")
    if set(names) == set(ALL):
        write(table(results))
    return not any(result.flaws() for result in results)


def main() -> None:
    """Read the command line and run."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(ALL))
    names = parser.parse_args().names or list(ALL)
    if unknown := set(names) - set(ALL):
        parser.error(f"there is no fault {min(unknown)}; see --help")
    sys.exit(0 if uvloop.run(run_all(names)) else 1)


if __name__ == "__main__":
    main()
