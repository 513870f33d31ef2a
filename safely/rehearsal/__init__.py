"""A rehearsal: the pending revisions on a copy, under traffic, with a verdict.

Each revision goes up, down and up again. Meanwhile a reader and a writer of every published version
work on the copy, and an observer sees what they wait for. The migrator is the `alembic` of any
other day; it writes its statements down (`-x trace`).
"""

import gc
import time
from collections.abc import Iterator
from contextlib import contextmanager

from safely.environment import Environment
from safely.rehearsal.connection import quoted
from safely.rehearsal.observer import Observer
from safely.rehearsal.report import Budgets, Report, moments
from safely.rehearsal.sources import Copy, Source
from safely.rehearsal.traffic import Traffic
from safely.rehearsal.up_and_down import Progress, Rehearsal
from safely.scratch import databases as scratch

# commits take as long as in production, and write as much WAL
DURABLE = ("-c", "fsync=on", "-c", "synchronous_commit=on", "-c", "full_page_writes=on")
CONNECTIONS = ("-c", "max_connections=500")  # clients of many versions
# comparing values must not use the cores on which the clients are measured
ONE_CORE = {"max_parallel_workers_per_gather": "0"}


async def rehearse(
    environment: Environment, source: Source, budgets: Budgets, *, to: str, progress: Progress
) -> Report:
    """Rehearse the revisions that are pending on a copy made of the source, up to a revision.

    Raise CommandError where the copy can't be made.
    """
    project = environment.project
    async with scratch.server(*DURABLE, *CONNECTIONS) as server:
        if project.app_role:
            await scratch.execute(server, f"CREATE ROLE {quoted(project.app_role)}")
        await scratch.execute(server, f"CREATE DATABASE {scratch.DATABASE}")
        copy = Copy(environment, server.url(scratch.DATABASE))
        report = Report(str(source), budgets, time.time())
        progress(report, f"making the copy: {source}")
        await copy.make(source)
        traffic = Traffic(copy.address, project.name, project.app_role)
        observer = Observer(copy.address, f"{project.name}@", copy.bookkeeping)
        connection = await copy.address.connect(**ONE_CORE)
        rehearsal = Rehearsal(
            copy, connection, environment.script, traffic, observer, report, progress
        )
        try:
            with garbage_collection_off(), first_error_of_group():
                async with observer.observing(), traffic.flowing():
                    await rehearsal.run(source, to)
        finally:
            await connection.close()
        report.ended = time.time()
        report.unwritten = traffic.unwritten
        report.strip = moments(traffic.served, traffic.failed)
        return report


@contextmanager
def garbage_collection_off() -> Iterator[None]:
    """Switch the garbage collector off: its pauses would be measured as the database's."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


@contextmanager
def first_error_of_group() -> Iterator[None]:
    """Raise, instead of an exception group of tasks, the first error in it."""
    try:
        yield
    except BaseExceptionGroup as group:
        error: BaseException = group
        while isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
        raise error from None
