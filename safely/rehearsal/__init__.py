"""A rehearsal: the pending revisions on a copy, under traffic, with a verdict.

Each revision goes up, down and up again. Meanwhile a reader and a writer of every published
version work on the copy, what they wait for is seen from beside, and the migrator, which is the
`alembic` of any other day, writes down what it says (`-x trace`).
"""

import gc
import time
from collections.abc import Iterator
from contextlib import contextmanager

import asyncpg
from alembic.script import ScriptDirectory

from safely.rehearsal.copies import Source
from safely.rehearsal.copy import Copy, Progress
from safely.rehearsal.report import Budgets, Report, strip
from safely.rehearsal.traffic import Traffic
from safely.rehearsal.witness import Witness
from safely.scratch import databases as scratch

# commits are as slow as they are in earnest, and WAL is as much
DURABLE = ("-c", "fsync=on", "-c", "synchronous_commit=on", "-c", "full_page_writes=on")
ROOM = ("-c", "max_connections=500")  # for clients of many versions


async def rehearse(  # noqa: PLR0913  # each is said by its name
    script: ScriptDirectory,
    source: Source,
    budgets: Budgets,
    *,
    to: str,
    app_role: str,
    progress: Progress,
) -> Report:
    """Rehearse what is pending on such a copy, up to a revision; raise CommandError if it can't."""
    async with scratch.server(*DURABLE, *ROOM) as server:
        url = server.url("postgres")
        if app_role:
            await scratch.execute(server, f'CREATE ROLE "{app_role}"')
        report = Report(str(source), budgets, time.time())
        progress(report, f"making the copy: {source}")
        await source.make(url, app_role)
        # comparing values must not take the cores away that clients are measured on
        settings = {"max_parallel_workers_per_gather": "0"}
        connection = await asyncpg.connect(url, server_settings=settings)
        traffic, witness = Traffic(url, app_role), Witness(url)
        try:
            with without_pauses(), plainly():
                async with witness.watching(), traffic.flowing():
                    copy = Copy(
                        connection, url, script, traffic, witness, report, progress, app_role
                    )
                    await copy.rehearse(source, to)
        finally:
            await connection.close()
        report.ended = time.time()
        report.unwritten = traffic.unwritten
        report.strip = strip(traffic.served, traffic.failed)
        return report


@contextmanager
def without_pauses() -> Iterator[None]:
    """The garbage collector's pauses would be taken for the database's."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


@contextmanager
def plainly() -> Iterator[None]:
    """Raise what ended a group of tasks as what it is."""
    try:
        yield
    except BaseExceptionGroup as group:
        error: BaseException = group
        while isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
        raise error from None
