"""Measure the service with workers, PgBouncer and a replica, and the cores of each process.

    python -m benchmarks.scale --rows 1000000 --rounds 3

It starts a PostgreSQL of its own with the settings that a server has by default, and fills it.
The service runs with everything on: tokens, access log, metrics. In every round each way of
running it has its turn, never two at a time and in another order each time, and wrk asks for
lookups, pages, creates and a mix of them, with as many connections for each worker. Reads of wrk
carry no position of a write, so with a replica all lookups and pages are the replica's.

All processes share the cores of one machine, the load generator as well. The rate says how far
this machine gets; the requests for each second of a core say what others would give.

It has two parts, of which --only chooses some: these requests, and rows: what a user takes on
disk, and how long an import, a backfill, an index, a backup and a replica take. Both are written
into docs/scaling.md, with what follows for 10^9 users; 10,000,000 users take some 15 GB of TMPDIR.

The exit code is 0 unless something came out wrong.
"""

import argparse
import asyncio
import os
import platform
import random
import sys
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AsyncExitStack, ExitStack, contextmanager
from datetime import UTC, datetime
from functools import partial
from itertools import chain, cycle
from pathlib import Path
from statistics import median
from typing import NamedTuple

from benchmarks import rows
from benchmarks.compare import DIFFERENT, FEWEST, WARM_UP, cursor, missing, requests, servers
from benchmarks.cores import LOAD, OTHERS, Cores, between, postmaster, with_children
from benchmarks.growth import at_rest, fill, in_turn
from benchmarks.load import WRK, Load
from benchmarks.results import CREATE, LOOKUP, RANDOM
from benchmarks.sizing import REQUESTS, ROWS, table, write
from benchmarks.world import (
    PROC,
    Database,
    carried_out,
    database,
    positive,
    postgresql,
    running,
)
from safely.scratch.embedded import Server
from tests.pgbouncer import PgBouncer, pgbouncer
from tests.pgbouncer_packages import DIRECTORY, SUITES
from tests.replication import catch_up, standby_of

SUITE = SUITES[-1]  # of Debian, whose PgBouncer it is
LEAST = 0.02  # cores: with fewer, a rate divided by them says nothing
CLIENTS = 32  # connections for each worker
WORKERS = (1, 2, 4)
MIX = "mix"
SHARES = {LOOKUP: 70, RANDOM: 20, CREATE: 10}  # of a hundred requests of the mix
KINDS = (LOOKUP, RANDOM, CREATE, MIX)
WORDS = {
    LOOKUP: "look a user up",
    RANDOM: "list 50 users from anywhere",
    CREATE: "create a user",
    MIX: "a mix: 70 lookups, 20 lists, 10 creates",
}
SERVICE, PRIMARY, REPLICA, POOLER = "service", "primary", "replica", "PgBouncer"
GROUPS = (SERVICE, PRIMARY, REPLICA, POOLER, LOAD, OTHERS)
GAUGED = (SERVICE, PRIMARY, REPLICA)
HEAD = (
    *("workers", "requests/s", "p99, ms", "cores: service", *GROUPS[1:]),
    *(f"{group}'s requests/core-second" for group in GAUGED),
)
QUICK = {
    "rows": 2000,
    "rounds": 1,
    "seconds": 1,
    "workers": [1],
    "kinds": [MIX],
    "warm_up": 0,
    "sizes": [2000],
}


class Way(NamedTuple):
    """A way of running the service."""

    workers: int
    pooled: bool  # whether PgBouncer is between it and each PostgreSQL
    replicated: bool  # whether it reads from a replica

    def __str__(self) -> str:
        return ", ".join([str(self.workers), *self.pooled * [POOLER], *self.replicated * [REPLICA]])


class Turn(NamedTuple):
    """The rate, latency and cores of one kind of request in one round."""

    rate: float  # requests a second
    p99: float  # milliseconds
    cores: dict[str, float]  # by group of processes

    def used(self, group: str) -> float:
        """Return the cores that a group used."""
        return self.cores.get(group, 0.0)


class Place(NamedTuple):
    """A PostgreSQL, and the PgBouncer before it; None where there is none to be had."""

    server: Server
    pooler: PgBouncer | None

    def url(self, database: str, *, pooled: bool) -> str:
        """Return the address of a database, behind PgBouncer or not."""
        place = self.pooler if pooled and self.pooler is not None else self.server
        return place.url(database)


class Scale:
    """The ways of running the service that are measured, and their results until now."""

    def __init__(
        self,
        directory: Path,
        psql: Database,
        places: tuple[Place, Place],
        options: argparse.Namespace,
    ) -> None:
        self.psql = psql
        self.primary, self.replica = places
        self.rows: int = options.rows
        self.load = Load(directory, options.seconds)
        self.service = next(iter(servers(directory)))
        self.warm_up: int = options.warm_up
        self.kinds: list[str] = options.kinds
        self.files = written(directory, self.rows)
        self.ways = [
            Way(workers, pooled, replicated)
            for replicated in (False, True)
            for pooled in ((False, True) if self.primary.pooler else (False,))
            for workers in options.workers
        ]
        self.turns: defaultdict[tuple[Way, str], list[Turn]] = defaultdict(list)

    def round(self, number: int) -> None:
        """Give each way its turn; which one begins, and in which direction, changes each time."""
        for place in in_turn(range(len(self.ways)), number):
            self.turn(self.ways[place])

    def turn(self, way: Way) -> None:
        """Run the service in one way, and measure each kind of request."""
        with running(
            "service",
            WORKERS=str(way.workers),
            **{
                **self.service.settings,
                **self.addresses(way),
                "LOG_LEVEL": "ERROR",  # it warns of more workers than cores
            },
        ) as (client, pid):
            at_rest(pid, way.workers)
            cores = Cores(self.groups(way, pid))
            for kind in self.kinds:
                connections = CLIENTS * way.workers
                headers = self.service.headers
                ask = partial(self.load.wrk, self.files[kind], client.port, headers, connections)
                if self.warm_up:
                    ask(self.warm_up)
                before = cores.now()
                figures = ask()
                used = between(before, cores.now())
                self.turns[way, kind].append(Turn(figures.rate, figures.p99, used))
                print(f"{way!s:24}{kind:14}{figures.rate:>10,.0f}/s", flush=True)
        Path(self.service.settings["ACCESS_LOG"]).unlink()
        self.psql.psql(f"DELETE FROM users WHERE id > {self.rows}")
        self.psql.settle()
        asyncio.run(catch_up(self.primary.server, self.replica.server))

    def addresses(self, way: Way) -> dict[str, str]:
        """Return the settings by which the service finds its database."""
        name, pooled = self.psql.name, way.pooled
        settings = {"DATABASE_URL": self.primary.url(name, pooled=pooled)}
        if way.replicated:
            settings["READ_DATABASE_URL"] = self.replica.url(name, pooled=pooled)
        return settings

    def groups(self, way: Way, service: int) -> dict[str, Callable[[], Iterable[int]]]:
        """Return the processes of each group."""
        groups: dict[str, Callable[[], Iterable[int]]] = {
            SERVICE: partial(with_children, service),
            PRIMARY: partial(with_children, postmaster(self.primary.server)),
            # in all ways: it replays what the primary writes, whether it is read from or not
            REPLICA: partial(with_children, postmaster(self.replica.server)),
        }
        poolers = (self.primary.pooler, self.replica.pooler) if way.pooled else ()
        pids = [int((pooler.directory / "pid").read_text()) for pooler in poolers if pooler]
        if pids:
            groups[POOLER] = lambda: chain.from_iterable(map(with_children, pids))
        return groups


def written(directory: Path, rows: int) -> dict[str, Path]:
    """Write what wrk asks for into a file for each kind; the same each time."""
    lines = {kind: lines for kind, lines in requests(rows, cursor).items() if kind in KINDS}
    endless = {kind: cycle(each) for kind, each in lines.items()}
    chance = random.Random(4)  # noqa: S311  # nothing is secret
    kinds = chance.choices([*SHARES], [*SHARES.values()], k=DIFFERENT)
    lines[MIX] = [next(endless[kind]) for kind in kinds]
    files = {}
    for kind in KINDS:
        files[kind] = directory / f"{kind}.requests"
        files[kind].write_text("".join(f"{line}\n" for line in lines[kind]), encoding="utf-8")
    return files


@contextmanager
def pooling(server: Server) -> Iterator[PgBouncer | None]:
    """Run PgBouncer before the server, in transaction mode; None where there is none to be had."""
    if not (DIRECTORY / SUITE / "usr/sbin/pgbouncer").exists():
        yield None
        return
    stack = AsyncExitStack()
    with asyncio.Runner() as loop:
        context = pgbouncer(server, SUITE, pool_mode="transaction", max_client_conn=1000)
        try:
            yield loop.run(stack.enter_async_context(context))
        finally:
            loop.run(stack.aclose())


def report(scale: Scale) -> str:
    """Return a table for each kind of request, in Markdown."""
    return "\n\n".join(f"{WORDS[kind]}:\n\n{table(cells(scale, kind))}" for kind in scale.kinds)


def cells(scale: Scale, kind: str) -> Iterator[Sequence[str]]:
    """Yield the head of a table, and a line for each way."""
    yield HEAD
    for way in scale.ways:
        turns = scale.turns[way, kind]
        yield (
            str(way),
            f"{median(turn.rate for turn in turns):,.0f}",
            f"{median(turn.p99 for turn in turns):.1f}",
            *(f"{median(turn.used(group) for turn in turns):.2f}" for group in GROUPS),
            *(each(turns, group) for group in GAUGED),
        )


def each(turns: Iterable[Turn], group: str) -> str:
    """Return the requests for each second that a group used a core; empty where it used too few."""
    gauged = [turn.rate / used for turn in turns if (used := turn.used(group)) >= LEAST]
    return f"{median(gauged):,.0f}" if gauged else ""


def conditions(psql: Database, options: argparse.Namespace, load: float) -> str:
    """Return under which conditions it is measured."""
    return (
        f"{datetime.now(UTC):%Y-%m-%d}, {options.rows:,} users, {CLIENTS} connections of wrk for "
        f"each worker, {os.cpu_count()} cores ({platform.machine()}) for all processes, "
        f"load average {load:.1f} at the start, medians of {options.rounds} x {options.seconds} "
        f"seconds, Python {platform.python_version()}, "
        f"PostgreSQL {psql.psql('SHOW server_version').split()[0]}"
    )


def requests_part(options: argparse.Namespace, directory: Path, load: float) -> str:
    """Measure the ways of running the service; return the tables."""
    with ExitStack() as stack:
        psql = stack.enter_context(database(directory / "requests"))
        fill(psql, options.rows)
        standby = stack.enter_context(standby_of(psql.server, directory / "replica"))
        primary, replica = (
            Place(server, stack.enter_context(pooling(server))) for server in (psql.server, standby)
        )
        lines = [f"{conditions(psql, options, load)}."]
        if primary.pooler is None:
            lines.append("Without PgBouncer: `make pgbouncer` downloads it, on Debian.")
        print(*lines, sep="\n", flush=True)
        scale = Scale(directory, psql, (primary, replica), options)
        for number in range(options.rounds):
            scale.round(number)
        return "\n".join([*lines, "", report(scale)])


def rows_part(options: argparse.Namespace, directory: Path, load: float) -> str:
    """Measure what rows take; return the table."""
    measured = {}
    smallest = min(options.sizes)
    for size in sorted({*options.sizes}):
        with postgresql(directory / f"rows_{size}") as server:
            changes = size == smallest
            measured[size] = rows.measure(directory, server, size, options.seconds, changes=changes)
    words = f"{datetime.now(UTC):%Y-%m-%d}, {rows.conditions(load, options.seconds)}."
    return f"{words}\n\n{table(rows.report(measured))}"


PARTS = {REQUESTS: requests_part, ROWS: rows_part}


def run(options: argparse.Namespace, directory: Path) -> None:
    """Measure, print, and write the document; raise WrongError for a wrong result."""
    load, *_ = os.getloadavg()
    for name in options.only:
        text = PARTS[name](options, directory, load)
        print(f"\n{text}", flush=True)
        if not options.quick:
            write({name: text})


def main() -> int:
    """Run it as the command line says."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scale", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--rows", type=positive, default=1_000_000)
    parser.add_argument("--rounds", type=positive, default=3)
    parser.add_argument("--seconds", type=positive, default=3, help="of each run")
    parser.add_argument("--workers", nargs="+", type=positive, default=[*WORKERS])
    parser.add_argument(
        "--sizes", nargs="+", type=positive, default=[1_000_000, 10_000_000], help="of the rows"
    )
    parser.add_argument("--only", nargs="+", choices=PARTS, default=[*PARTS], metavar="PART")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=[*KINDS], metavar="KIND")
    parser.set_defaults(warm_up=WARM_UP)
    parser.add_argument("--quick", action="store_true", help="a trial, whose figures mean nothing")
    options = parser.parse_args()
    if options.quick:
        parser.set_defaults(**QUICK)
        options = parser.parse_args()
    if options.rows < FEWEST:
        parser.error(f"there must be at least {FEWEST} rows")
    if WRK is None:
        print(missing(), file=sys.stderr)
        return 2
    if not PROC.exists():
        print("the cores that processes use are known on Linux alone (/proc)", file=sys.stderr)
        return 2
    return carried_out(partial(run, options))


if __name__ == "__main__":
    sys.exit(main())
