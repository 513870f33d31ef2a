"""Streaming standbys of a PostgreSQL: made by pg_basebackup, paused, frozen and waited for."""

import asyncio
import os
import shutil
import signal
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import asyncpg
from prometheus_client.parser import text_string_to_metric_families

from safely.scratch.embedded import Server
from tests.dying_databases import SOCKET

POLL = 0.01  # seconds between two looks at a standby: PostgreSQL 18 has no event for "replayed"
PATIENCE = 30.0  # seconds until a standby that doesn't catch up fails the test


class Standby(Server):
    """A streaming standby: its data are a copy of the primary's, and it replays what that writes.

    `options` are those of `postgres`. The name of its directory is its name in pg_stat_replication.
    """

    def __init__(self, primary: Server, directory: Path, *options: str) -> None:
        self.source = f"host={primary.sockets} user=postgres application_name={directory.name}"
        # as an option: `restart` empties the file in which pg_basebackup writes it
        super().__init__(directory, "-c", f"primary_conninfo={self.source}", *options)

    def make_data(self) -> None:
        """Copy the primary's data, which must run."""
        new = self.directory.with_suffix(".new")
        if new.exists():
            shutil.rmtree(new)
        self.make_directory(new)
        how = ("--checkpoint=fast", "--wal-method=stream", "--write-recovery-conf", "--no-sync")
        self.call("pg_basebackup", "-D", str(new), "-d", self.source, *how)
        for file in new.glob(f"{SOCKET}*"):  # the primary's socket may be among its data
            file.unlink()
        new.rename(self.directory)


@contextmanager
def standby_of(primary: Server, directory: Path, *options: str) -> Iterator[Standby]:
    """Run a streaming standby of the primary with its data in `directory`; stop it at the end.

    `kill`, `stop`, `restart` and `start_again` of dying_databases take it as any other server.
    """
    standby = Standby(primary, directory, *options)
    standby.join()
    try:
        yield standby
    finally:
        standby.leave()


async def catch_up(primary: Server, standby: Server) -> None:
    """Return as soon as the standby has replayed what the primary has written until now."""
    written = await value(primary, "SELECT pg_current_wal_insert_lsn()::text")
    query = f"SELECT pg_last_wal_replay_lsn() >= '{written}'::pg_lsn"
    async with asyncio.timeout(PATIENCE):
        while not await value(standby, query):
            await asyncio.sleep(POLL)


async def pause_replay(standby: Server) -> None:
    """Let the standby receive what the primary writes, and not replay it."""
    await value(standby, "SELECT pg_wal_replay_pause()")
    async with asyncio.timeout(PATIENCE):
        while await value(standby, "SELECT pg_get_wal_replay_pause_state()") != "paused":
            await asyncio.sleep(POLL)


async def resume_replay(standby: Server) -> None:
    """Let the standby replay again."""
    await value(standby, "SELECT pg_wal_replay_resume()")


async def value(server: Server, query: str) -> object:
    """Return the value that a query yields in the database postgres of a server."""
    connection = await asyncpg.connect(server.url("postgres"))
    try:
        return await connection.fetchval(query)
    finally:
        await connection.close()


@contextmanager
def frozen(server: Server) -> Iterator[None]:
    """Stop all processes of a server by SIGSTOP, so that its connections stay open and are silent.

    They go on at the end of the block.
    """
    pids = processes_of(server)
    try:
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGSTOP)
        yield
    finally:
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)


def processes_of(server: Server) -> list[int]:
    """Return the ids of the postmaster and of its processes, the postmaster's first."""
    lock_file = server.directory / "postmaster.pid"
    pid = lock_file.read_text(encoding="utf-8").split()[0]
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="utf-8").split()
    return [int(pid), *map(int, children)]


def reads_by_server(metrics: str) -> Counter[str]:
    """Return how many reads each server has answered."""
    reads: Counter[str] = Counter()
    for family in text_string_to_metric_families(metrics):
        for sample in family.samples:
            if sample.name == "db_reads_total":
                reads[sample.labels["server"]] += int(sample.value)
    return reads
