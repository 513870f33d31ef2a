"""`python -m tests.ha [NAME ...]`: make faults of a cluster under load; print the table.

A cluster of three by Patroni, etcd and HAProxy is made for each kind of replication. Each fault is
made under load, and once more in the middle of a migration under load. With all faults the table
is also written into docs/high-availability.md. The exit code is 1 where replication is synchronous
and an acknowledged write is lost, duplicated or wrong, and wherever an answer was none of those
promised or a migration could not be finished.
"""

import asyncio
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import asyncpg

from tests.chaos.acknowledged import FAULTS
from tests.chaos.command_line import faults_and_logs
from tests.chaos.run import Fault, Result, Run, Size, under_load
from tests.chaos.table import line, write
from tests.chaos.worlds import World, direct
from tests.commands import run_alembic
from tests.debian_packages import NoPackages
from tests.ha.cluster import Cluster, cluster
from tests.ha.faults import ALL
from tests.ha.migrating import during_migration
from tests.ha.packages import require_packages
from tests.paths import ROOT

DOCUMENT = ROOT / "docs/high-availability.md"
SIZE = Size(clients=16, calm=2.0, scale=1.0)
ACCESS = ("HAProxy", "several hosts")
HEAD = (
    "fault", "access", "replication", "requests", *FAULTS, "longest outage",
    "what the migration did",
)  # fmt: skip
RULES = ("---", "---", "---", *["---:"] * (len(FAULTS) + 2), "---")
ALONE = "standbys_killed"  # the fault that only a strict primary notices for long


class Replication(NamedTuple):
    """A kind of replication: its name in the table, and Patroni's settings for it."""

    name: str
    is_synchronous: bool
    is_strict: bool


KINDS = (
    Replication("synchronous", is_synchronous=True, is_strict=False),
    Replication("strict", is_synchronous=True, is_strict=True),
    Replication("asynchronous", is_synchronous=False, is_strict=False),
)


class Case(NamedTuple):
    """A row of the table."""

    fault: str
    access: str
    replication: Replication
    migrates: bool


def cases(names: list[str], kind: Replication) -> Iterator[Case]:
    """Yield the rows of one kind of replication."""
    for name in names:
        if kind.is_strict != (name == ALONE) and kind.is_synchronous:
            continue  # strict differs from synchronous where there is no standby left
        for access in ACCESS:
            for migrates in (False, True):
                yield Case(name, access, kind, migrates)


async def make(case: Case, running: Cluster, logs: Path | None) -> tuple[list[str], bool]:
    """Make a fault under load; return the cells of its row, and whether all is as it must be."""
    database = f"{case.fault}_{ACCESS.index(case.access)}{'_migration' * case.migrates}"
    administrator = await asyncpg.connect(running.url("postgres", "several hosts"))
    try:
        await administrator.execute(f"CREATE DATABASE {database} TEMPLATE head")
    finally:
        await administrator.close()
    did = ""

    async def fault(run: Run) -> None:
        nonlocal did
        if case.migrates:
            did = await during_migration(ALL[case.fault], run, running)
        else:
            await ALL[case.fault](run, running)

    world = World(running.url(database, case.access), running.url(database, "several hosts"))
    made = Fault(database, case.fault, str(ALL[case.fault].__doc__), fault, direct, {})
    result = await under_load(made, world, running.directory, SIZE)
    cells = row(case, result, did)
    print(line(cells), flush=True)
    print(f"    {result.log.answers()}", flush=True)
    flaws = [f"{entry}" for entry in result.log.others()] + result.complaints
    if case.replication.is_synchronous:
        flaws += [sentence for kind in FAULTS for sentence in result.comparison.faults[kind]]
    for flaw in flaws[:10]:
        print(f"    {flaw}", flush=True)
    if logs is not None:
        await asyncio.to_thread(logs.mkdir, parents=True, exist_ok=True)
        result.log.save(logs / f"{database}.requests.tsv")
    return cells, not flaws


def row(case: Case, result: Result, did: str) -> list[str]:
    """Return the cells of a run."""
    return [
        case.fault.replace("_", " ").replace("postgresql", "PostgreSQL"),
        case.access,
        case.replication.name,
        f"{len(result.log.entries):,}",
        *(str(len(result.comparison.faults[kind])) for kind in FAULTS),
        f"{result.log.longest_outage():.1f} s",
        did,
    ]


async def run_all(names: list[str], logs: Path | None) -> bool:
    """Make the faults on all kinds of clusters; return whether all is as it must be."""
    require_packages()
    rows: list[list[str]] = [[*HEAD], [*RULES]]
    print(line(HEAD), line(RULES), sep="\n", flush=True)
    is_good = True
    for kind in KINDS:
        chosen = list(cases(names, kind))
        if not chosen:
            continue
        synchronous, strict = kind.is_synchronous, kind.is_strict
        async with cluster(synchronous=synchronous, strict=strict, logs=logs) as running:
            administrator = await asyncpg.connect(running.url("postgres", "several hosts"))
            await administrator.execute("CREATE DATABASE head")
            await administrator.close()
            await asyncio.to_thread(
                run_alembic, running.url("head", "several hosts"), "upgrade", "head"
            )
            for case in chosen:
                cells, is_well = await make(case, running, logs)
                rows.append(cells)
                is_good &= is_well
    if set(names) == set(ALL):
        write("\n".join(map(line, rows)), DOCUMENT, "make ha")
    return is_good


def main() -> None:
    """Read the command line and run."""
    names, logs = faults_and_logs("python -m tests.ha", __doc__, ALL, "the cluster's logs")
    # as Ctrl-C: the programs of the cluster end with it
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        sys.exit(0 if asyncio.run(run_all(names, logs)) else 1)
    except KeyboardInterrupt:
        sys.exit("interrupted; what the run started has ended")
    except NoPackages as error:
        sys.exit(f"make ha needs etcd and HAProxy of Debian: {error}")


if __name__ == "__main__":
    main()
