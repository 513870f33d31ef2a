"""`python -m tests.chaos [NAME ...]`: make all faults, or these, and print the table.

With all of them the table is also written into docs/reliability.md. The exit code is 1 where
anything was lost, duplicated or wrong, an answer was none of those promised, or recovery took long.
"""

import shutil
import sys
import traceback
from pathlib import Path

import uvloop

from tests.chaos.command_line import faults_and_logs
from tests.chaos.faults import ALL
from tests.chaos.run import FULL, Result, execute
from tests.chaos.table import line, row, table, write
from tests.chaos.worlds import Shared, SkippedError, shared_world


async def run_all(names: list[str], logs: Path | None) -> bool:
    """Make the faults, and print each result; return whether all are as they must be."""
    results: list[Result] = []
    left_out: list[str] = []
    with shared_world() as shared:
        for name in names:
            try:
                result = await execute(ALL[name], shared, FULL)
            except SkippedError as reason:
                left_out.append(f"Left out: {ALL[name].name}; {reason}.")
                continue
            except Exception:  # noqa: BLE001  # a run that fails leaves the others their results
                traceback.print_exc()
                left_out.append(f"Failed: {ALL[name].name}.")
                continue
            finally:
                keep_log(shared, name, logs)
            results.append(result)
            print(f"{name}: {line(row(result))}\n    {result.log.answers()}", flush=True)
            for flaw in result.flaws():
                print(f"    {flaw}", flush=True)
            if logs is not None:
                result.log.save(logs / f"{name}.requests.tsv")
    text = "\n\n".join([table(results), *left_out])
    print(f"\n{text}")
    if set(names) == set(ALL):
        write(text)
    failed = any(sentence.startswith("Failed") for sentence in left_out)
    return not failed and not any(result.flaws() for result in results)


def keep_log(shared: Shared, name: str, logs: Path | None) -> None:
    """Copy the service's log of a run, if there is one."""
    log = shared.directory / f"{name}.log"
    if logs is not None and log.exists():
        logs.mkdir(parents=True, exist_ok=True)
        shutil.copy(log, logs)


def main() -> None:
    """Read the command line and run."""
    names, logs = faults_and_logs("python -m tests.chaos", __doc__, ALL, "the service's logs")
    sys.exit(0 if uvloop.run(run_all(names, logs)) else 1)


if __name__ == "__main__":
    main()
