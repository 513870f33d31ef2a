"""Two other ways of a database to a revision: scripts that psql runs, and runs that are killed."""

import asyncio
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from random import Random

import sqlalchemy as sa

from safely.scratch.embedded import Server
from tests.databases import name_of
from tests.dying_databases import Fault, Wire, wire
from tests.everything import Everything
from tests.migrated import leftovers


@dataclass
class Scripted:
    """A database that psql changes, by the scripts of `alembic --sql`."""

    project: Everything
    server: Server
    refused: list[str] = field(default_factory=list)

    async def run(self, command: str, start: str, end: str) -> None:
        """Print the script of the steps between two revisions, and let psql run it.

        Where it is refused, when it is printed or before it changes anything, note why, and run
        the command itself.
        """
        printed = await asyncio.to_thread(self.script, command, f"{start}:{end}")
        refusal = printed.stdout if printed.returncode else ""
        if not refusal:
            before = catalogue(self.project, self.server)
            psql = await asyncio.to_thread(self.psql, printed.stdout)
            if psql.returncode == 0:
                return
            refusal = psql.stderr
            assert catalogue(self.project, self.server) == before
        assert "run `alembic" in refusal, refusal
        self.refused.append(refusal)
        await asyncio.to_thread(self.project.alembic, command, end)

    def script(self, command: str, steps: str) -> subprocess.CompletedProcess[str]:
        return self.project.process(["alembic", command, steps, "--sql"], merged=False)

    def psql(self, script: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [self.server.programs / "psql", "-Xq", "-v", "ON_ERROR_STOP=1", self.project.url],
            input=script,
            capture_output=True,
            text=True,
            check=False,
        )


@dataclass
class Killed:
    """A database whose migrations are killed at random requests, until one reaches its end."""

    project: Everything
    server: Server
    random: Random = field(default_factory=Random)
    kills: int = 0

    async def run(self, command: str, target: str, *, kills: int, requests: int) -> None:
        """Kill the migration up to so many times, then let it end.

        `requests` is how many an undisturbed run sends.
        """
        url = self.project.url
        for _ in range(kills):
            fault = Fault(self.random.randint(1, requests), loss="client")
            async with wire(self.server, name_of(url), fault) as proxy:
                self.project.address_is(proxy.url)
                proxy.process = await self.project.start(command, target)
                output, _ = await proxy.process.communicate()
            if not proxy.failed_request:
                assert proxy.process.returncode == 0, output.decode()
            self.kills += proxy.process.returncode != 0
        self.project.address_is(url)
        await asyncio.to_thread(self.project.alembic, command, target)
        assert await leftovers("postgresql", url) == []


@asynccontextmanager
async def counted(project: Everything, server: Server) -> AsyncIterator[Wire]:
    """Let the project reach its database through a proxy that counts its requests; yield that."""
    url = project.url
    async with wire(server, name_of(url), Fault(0)) as proxy:
        project.address_is(proxy.url)
        try:
            yield proxy
        finally:
            project.address_is(url)


def catalogue(project: Everything, server: Server) -> str:
    """Return what pg_dump writes of a database without its rows, and what its ledger says."""
    schema = subprocess.run(
        [server.programs / "pg_dump", "--schema-only", "--restrict-key=none", project.url],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    with project.connection() as connection:
        if not sa.inspect(connection).has_table("migration_log"):
            return schema
    ledger = project.rows(
        "SELECT direction, revision, state, checksum FROM migration_log "
        "WHERE state <> 'undone' ORDER BY id"
    )
    return "\n".join([schema, *map(str, ledger)])
