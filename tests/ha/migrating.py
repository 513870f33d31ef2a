"""Migrations during a fault: two migrators, the next run, and what must hold afterwards."""

import asyncio
from asyncio.subprocess import Process
from pathlib import Path

from tests.chaos.migration_faults import MOMENT_TIMEOUT, prepare, start_migration
from tests.chaos.run import Run
from tests.dying_databases import MOMENTS
from tests.ha.cluster import Cluster
from tests.ha.faults import Make

MOMENT = MOMENTS["a backfill has committed a batch"]
ENDS = 300.0  # seconds in which a migration must have ended, whatever became of its server


async def during_migration(make: Make, run: Run, cluster: Cluster) -> str:
    """Make a fault in the middle of a migration; return what became of the migration.

    A second migrator waits for the first one. What neither finished, the next run does; then the
    schema is downgraded and upgraded, and must be as the ledger says.
    """
    clone = await prepare(run)
    url = run.world.service_url
    migrators = [await start_migration(run, clone, url=url) for _ in range(2)]
    try:
        async with run.administrator() as administrator, asyncio.timeout(MOMENT_TIMEOUT):
            while not await administrator.fetchval(MOMENT):
                if all(migrator.returncode is not None for migrator in migrators):
                    run.complaints.append("the migration ended before the moment came")
                    break
        run.began()
        await make(run, cluster)
        words = await outcome(run, migrators)
    finally:  # also where the run is interrupted
        for migrator in migrators:
            if migrator.returncode is None:
                migrator.kill()
    if "went on" not in words:
        await succeed(run, clone, url)
        words = f"{words}; the next run finished it"
    await succeed(run, clone, url, "alembic", "downgrade", "-1")
    await succeed(run, clone, url)
    await succeed(run, clone, url, "migrations", "drift")
    return words


async def outcome(run: Run, migrators: list[Process]) -> str:
    """Return what became of two migrators, once both have ended; complain of a stack trace."""
    async with asyncio.timeout(ENDS):
        outputs = [(await migrator.communicate())[0].decode() for migrator in migrators]
    for output in outputs:
        if "Traceback" in output:
            run.complaints.append(f"a migrator ended in a stack trace: {output[-500:]}")
    codes = [migrator.returncode for migrator in migrators]
    if codes == [0, 0]:
        return "went on"
    if 0 in codes:
        return "ended; the migrator that waited went on with it"
    return "ended"


async def succeed(run: Run, clone: Path, url: str, *arguments: str) -> None:
    """Complain where a command fails; without arguments it is `alembic upgrade head`."""
    process = await start_migration(run, clone, *arguments, url=url)
    try:
        output, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
    if process.returncode != 0:
        words = " ".join(arguments) or "alembic upgrade head"
        run.complaints.append(f"{words} failed: {output.decode()[-1_000:]}")
