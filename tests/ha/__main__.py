"""`python -m tests.ha [NAME ...]`: make faults of a cluster's primary under load; print the table.

A cluster of three by Patroni, etcd and HAProxy is made for each kind of replication. The exit code
is 1 where replication is synchronous and an acknowledged write is lost, duplicated or wrong, and
wherever an answer was none of those promised.
"""

import asyncio
import sys
from pathlib import Path

import asyncpg

from tests.chaos.acknowledged import FAULTS
from tests.chaos.command_line import faults_and_logs
from tests.chaos.run import Fault, Result, Run, Size, under_load
from tests.chaos.table import line
from tests.chaos.worlds import World, direct
from tests.commands import run_alembic
from tests.debian_packages import NoPackages
from tests.ha.cluster import Cluster, cluster
from tests.ha.faults import ALL
from tests.ha.packages import require_packages

SIZE = Size(clients=16, calm=2.0, scale=1.0)
ACCESS = ("HAProxy", "several hosts")
HEAD = ("fault", "access", "synchronous", "requests", *FAULTS, "longest outage")


async def one_row(
    running: Cluster, name: str, access: str, *, synchronous: bool, logs: Path | None
) -> bool:
    """Make a fault under load and print its row; return whether all is as it must be."""
    database = f"{name}_{ACCESS.index(access)}"
    administrator = await asyncpg.connect(running.url("postgres", "several hosts"))
    try:
        await administrator.execute(f"CREATE DATABASE {database} TEMPLATE head")
    finally:
        await administrator.close()

    async def make(run: Run) -> None:
        await ALL[name](run, running)

    fault = Fault(name, name, str(ALL[name].__doc__), make, direct, {})
    world = World(running.url(database, access), running.url(database, "several hosts"))
    result = await under_load(fault, world, running.directory, SIZE)
    print(line(row(result, access, synchronous=synchronous)), flush=True)
    print(f"    {result.log.answers()}", flush=True)
    flaws = [f"{entry}" for entry in result.log.others()] + result.complaints
    if synchronous:
        flaws += [sentence for kind in FAULTS for sentence in result.comparison.faults[kind]]
    for flaw in flaws[:10]:
        print(f"    {flaw}", flush=True)
    if logs is not None:
        await asyncio.to_thread(logs.mkdir, parents=True, exist_ok=True)
        result.log.save(logs / f"{database}.requests.tsv")
    return not flaws


def row(result: Result, access: str, *, synchronous: bool) -> list[str]:
    """Return the cells of a run."""
    return [
        result.fault.name.replace("_", " "),
        access,
        "yes" if synchronous else "no",
        f"{len(result.log.entries):,}",
        *(str(len(result.comparison.faults[kind])) for kind in FAULTS),
        f"{result.log.longest_outage():.1f} s",
    ]


async def run_all(names: list[str], logs: Path | None) -> bool:
    """Make the faults on both kinds of clusters; return whether all is as it must be."""
    require_packages()
    print(line(HEAD))
    print(line(["---"] * len(HEAD)), flush=True)
    good = True
    for synchronous in (True, False):
        async with cluster(synchronous=synchronous, strict=False, logs=logs) as running:
            administrator = await asyncpg.connect(running.url("postgres", "several hosts"))
            await administrator.execute("CREATE DATABASE head")
            await administrator.close()
            await asyncio.to_thread(
                run_alembic, running.url("head", "several hosts"), "upgrade", "head"
            )
            for name in names:
                for access in ACCESS:
                    good &= await one_row(running, name, access, synchronous=synchronous, logs=logs)
    return good


def main() -> None:
    """Read the command line and run."""
    names, logs = faults_and_logs("python -m tests.ha", __doc__, ALL, "the cluster's logs")
    try:
        sys.exit(0 if asyncio.run(run_all(names, logs)) else 1)
    except NoPackages as error:
        sys.exit(f"make ha needs etcd and HAProxy of Debian: {error}")


if __name__ == "__main__":
    main()
