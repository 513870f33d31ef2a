"""`python -m tests.rollout`: roll three builds out and back, as deploy/kubernetes says, under load.

Each build is a copy of the service with its own models and one revision more. The order is that of
docs/kubernetes.md: a Job that migrates while the old pods serve, then the roll-out; back again the
older build's Job, its roll-out, and at last a Job that downgrades. The exit code is 0 where no
request failed and nothing that was acknowledged is lost, duplicated or wrong; the table is also
written into docs/kubernetes.md.
"""

import argparse
import asyncio
import sys
import tempfile
import time
from collections.abc import Awaitable
from http import HTTPStatus
from itertools import chain, pairwise
from pathlib import Path
from typing import NamedTuple

import asyncpg

from safely.scratch.embedded import Server
from service.auth import tokens
from tests.chaos.acknowledged import FAULTS, Comparison
from tests.chaos.clients import Client
from tests.chaos.migration_faults import LOAD
from tests.chaos.postgresql import Postgresql, started
from tests.chaos.request_log import Entry, RequestLog
from tests.chaos.run import LOADED, compared
from tests.chaos.table import line, write
from tests.deploy.manifests import written
from tests.dying_databases import MOMENTS
from tests.paths import ROOT
from tests.replication import standby_of
from tests.rollout.builds import Build, builds, with_mistake
from tests.rollout.kubernetes import Authorized, Cluster, RolloutError

DOCUMENT = ROOT / "docs/kubernetes.md"
CLIENTS = 12
READERS = 4  # of them write seldom: after a write a client's reads go to the primary for a while
SELDOM = 20  # times as seldom as the others
CALM = 3.0  # seconds of load before the first step and after the last
ROWS = 100_000
FORGOTTEN = 10  # seconds in place of progressDeadlineSeconds, where nobody has migrated
# operate: /metrics says what the standby answered
SCOPES: tuple[tokens.Scope, ...] = ("read", "write", "operate")
TOKENS = "/tokens/tokens.json"  # where the manifests mount it
HEAD = ("step", "seconds", "requests", "errors", "longest time without an answer")


class Step(NamedTuple):
    """A step of the rehearsal, and when it began and ended, by `time.monotonic`."""

    name: str
    began: float
    ended: float


class Rehearsal:
    """The steps, with the clients that work meanwhile."""

    def __init__(self, cluster: Cluster, server: Server, clients: list[Client]) -> None:
        self.cluster = cluster
        self.server = server
        self.clients = clients
        self.log = clients[0].log
        self.steps: list[Step] = []
        self.complaints: list[str] = []
        self.read_by_standby = 0

    async def step(self, name: str, work: Awaitable[object]) -> None:
        """Do the work of a step, and print its line."""
        began = time.monotonic()
        await work
        self.steps.append(Step(name, began, time.monotonic()))
        print(line(self.row(self.steps[-1])), flush=True)

    async def fails(self, work: Awaitable[object], expected: str) -> None:
        """Complain unless the work fails with a sentence."""
        try:
            await work
        except RolloutError as error:
            if expected in str(error):
                return
            self.complaints.append(f"it failed otherwise than expected: {error}")
        else:
            self.complaints.append(f"it should have failed: {expected}")

    async def roll_out(self, build: Build) -> None:
        """Roll a build out, and wait until the old pods have ended."""
        await self.count_reads()
        await self.cluster.roll_out(build)
        await self.cluster.gone()

    async def count_reads(self) -> None:
        """Count what the standby has answered to the pods that are about to go."""
        for pod in self.cluster.pods:
            if pod.is_ready and not pod.is_deleted:
                reads = await pod.read_by_standbys()
                self.read_by_standby += reads
                if not reads:
                    self.complaints.append(f"a pod of {pod.build.name} never read from the standby")

    def errors(self, began: float, ended: float) -> list[Entry]:
        """Return the requests between two times that a client would call failed."""
        return [
            entry
            for entry in self.log.entries
            if began <= entry.start < ended
            and not entry.is_success
            and entry.status != HTTPStatus.NOT_FOUND
            and entry.problem != "in-progress"
        ]

    def row(self, step: Step) -> list[str]:
        """Return the cells of a step."""
        entries = [one for one in self.log.entries if step.began <= one.start < step.ended]
        ends = sorted(one.end for one in entries if one.is_success)
        gap = max((later - earlier for earlier, later in pairwise(ends)), default=0.0)
        return [
            step.name,
            f"{step.ended - step.began:.1f}",
            f"{len(entries):,}",
            str(len(self.errors(step.began, step.ended))),
            f"{gap:.2f} s",
        ]


async def rehearse(rehearsal: Rehearsal, directory: Path) -> None:
    """Roll A out, then B and C, and back, as docs/kubernetes.md says."""
    cluster, step = rehearsal.cluster, rehearsal.step
    a, b, c = await asyncio.to_thread(builds, directory)
    broken = await asyncio.to_thread(with_mistake, c, 2)
    await cluster.run_job(a)
    connection = await asyncpg.connect(rehearsal.server.url("users"))
    await connection.execute(LOAD, LOADED, ROWS)
    await connection.close()
    await cluster.roll_out(a)
    async with asyncio.TaskGroup() as tasks:
        for client in rehearsal.clients:
            tasks.create_task(client.work())
        try:
            await step("A serves", asyncio.sleep(CALM))
            await step("the Job of B, killed once, while A serves", killed_once(rehearsal, b))
            await step("roll-out of B", rehearsal.roll_out(b))
            failing = rehearsal.fails(cluster.run_job(broken), "a revision with a mistake")
            await step("a Job that fails four times, while B serves", failing)
            await step("roll-out of C, whose Job was forgotten", forgotten(rehearsal, c))
            await step("the Job of C, while B serves", cluster.run_job(c))
            await step("roll-out of C", rehearsal.roll_out(c))
            await step("roll-back to B: its Job", cluster.run_job(b))
            await step("roll-back to B: its pods", rehearsal.roll_out(b))
            await step("roll-back to A: its Job", cluster.run_job(a))
            await step("roll-back to A: its pods", rehearsal.roll_out(a))
            down = cluster.run_job(c, "alembic", "downgrade", a.revision)
            await step("the Job that downgrades, by C, while A serves", down)
            await step("A serves", asyncio.sleep(CALM))
            await rehearsal.count_reads()
        finally:
            for client in rehearsal.clients:
                client.stopping = True


async def forgotten(rehearsal: Rehearsal, build: Build) -> None:
    """Roll a build out before its Job: it fails, and the old pods go on."""
    cluster = rehearsal.cluster
    deadline = cluster.spec["progressDeadlineSeconds"]
    cluster.spec["progressDeadlineSeconds"] = FORGOTTEN
    await rehearsal.fails(cluster.roll_out(build), "don't become ready")
    cluster.spec["progressDeadlineSeconds"] = deadline
    for pod in cluster.pods:
        if pod.build is build:
            await cluster.delete(pod)


async def killed_once(rehearsal: Rehearsal, build: Build) -> None:
    """Run the Job of a build whose first attempt is killed midway; its second one must succeed."""
    connection = await asyncpg.connect(rehearsal.server.url("users"))
    job = asyncio.ensure_future(rehearsal.cluster.run_job(build))
    while not (is_midway := await connection.fetchval(MOMENTS["a step is begun"])) and (
        not job.done()
    ):
        await asyncio.sleep(0)
    if is_midway:
        rehearsal.cluster.kill_job()
    else:
        rehearsal.complaints.append("the migration ended before it could be killed")
    await connection.close()
    await job


def main() -> None:
    """Read the command line and run."""
    parser = argparse.ArgumentParser(prog="python -m tests.rollout", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.parse_args()
    sys.exit(0 if asyncio.run(run()) else 1)


async def run() -> bool:
    """Rehearse on a server of its own; return whether all is as it must be."""
    with tempfile.TemporaryDirectory(prefix="users-rollout-") as name:
        directory = Path(name)
        connections = ("-c", "max_connections=300")
        server = Postgresql(directory / "postgresql", *connections)
        with (
            started(server),
            standby_of(server, directory / "standby", *connections) as standby,
        ):
            files = await prepare(server, standby, directory)
            log = RequestLog(CLIENTS)
            cluster = Cluster(directory, files)
            Authorized.token = tokens.create(str(files[TOKENS]), "rollout", SCOPES)
            clients = [make_client(number, cluster.port, log) for number in range(CLIENTS)]
            rehearsal = Rehearsal(cluster, server, clients)
            print(line(HEAD))
            print(line(["---", *["---:"] * (len(HEAD) - 1)]), flush=True)
            async with cluster.running():
                await rehearse(rehearsal, directory)
            return report(rehearsal, await compared(rehearsal.clients, server.url("users")))


def make_client(number: int, port: int, log: RequestLog) -> Client:
    """Return a client with a token; the first ones write seldom."""
    client = Client(number, port, log)
    client.connection = Authorized(port, keep_alive=client.connection.keep_alive)
    if number < READERS:
        reads = {client.read, client.list_users, client.export}
        for action in set(client.weights) - reads:
            client.weights[action] /= SELDOM
    return client


def report(rehearsal: Rehearsal, comparison: Comparison) -> bool:
    """Print what came out, write the document, and return whether all is as it must be."""
    errors = rehearsal.errors(0, float("inf"))
    counts = ", ".join(f"{len(comparison.faults[kind])} {kind}" for kind in FAULTS)
    words = (
        f"{len(rehearsal.log.entries):,} requests, {len(errors)} errors; {counts}. "
        f"The standby answered {rehearsal.read_by_standby:,} of the reads."
    )
    print(f"\n{words}")
    flaws = [*map(str, errors), *rehearsal.complaints, *chain(*comparison.faults.values())]
    for flaw in flaws[:20]:
        print(f"    {flaw}")
    rows = [HEAD, ["---", *["---:"] * (len(HEAD) - 1)], *map(rehearsal.row, rehearsal.steps)]
    write("\n".join(map(line, rows)) + f"\n\n{words}", DOCUMENT, "make rollout")
    return not flaws


async def prepare(server: Server, standby: Server, directory: Path) -> dict[str, Path]:
    """Make the database and the roles of the CloudNativePG cluster; return the files of secrets.

    Their keys are the paths at which the manifests mount them.
    """
    initdb = written()["Cluster", "users-db"]["spec"]["bootstrap"]["initdb"]
    database, owner = initdb["database"], initdb["owner"]
    connection = await asyncpg.connect(server.url("postgres"))
    for statement in (
        f"CREATE ROLE {owner} LOGIN",
        f"CREATE DATABASE {database} OWNER {owner}",
        *initdb["postInitSQL"],
    ):
        await connection.execute(statement)
    await connection.close()
    connection = await asyncpg.connect(server.url(database))
    for statement in initdb["postInitApplicationSQL"]:
        await connection.execute(statement)
    await connection.close()
    files = {}
    for path, role, place in (
        ("/secrets/app/url", "users_app", server),
        ("/secrets/app/read-url", "users_app", standby),
        ("/secrets/owner/url", owner, server),
    ):
        files[path] = directory / path[1:].replace("/", "-")
        url = place.url(database).replace("postgres@", f"{role}@")
        files[path].write_text(url, encoding="utf-8")
    files[TOKENS] = directory / "tokens.json"
    return files


if __name__ == "__main__":
    main()
