"""What a run leaves for Prometheus: a textfile, which the node exporter's collector picks up.

Names are those of the service where both tell the same.
"""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

from alembic import context
from alembic.runtime.migration import MigrationContext, RevisionStep
from prometheus_client import CollectorRegistry, Gauge, generate_latest
from sqlalchemy import Connection
from sqlalchemy.ext.asyncio import AsyncEngine

from safely import files
from safely.database import read
from safely.run.steps import Step, half_of

LOOK_TIMEOUT = 5.0  # seconds until the database is taken not to answer

log = logging.getLogger("migrations")


class Run:
    """A command that migrates, as it went so far."""

    def __init__(self) -> None:
        self.began = time.monotonic()
        self.succeeded = False
        self.reached: str | None = None  # the database's revision, "0" where it has none
        self.steps: dict[tuple[str, str], float] = {}  # seconds by revision and direction

    @contextmanager
    def timed(self, step: Step) -> Iterator[None]:
        """Note how long a step takes, with its retries, unless it fails."""
        began = time.monotonic()
        yield
        if isinstance(step, RevisionStep):
            self.steps[half_of(step)] = time.monotonic() - began

    def registry(self) -> CollectorRegistry:
        """What is known of it."""
        registry = CollectorRegistry()

        def gauge(name: str, meaning: str, *labels: str) -> Gauge:
            return Gauge(name, meaning, labels, registry=registry)

        gauge("migration_last_run_timestamp_seconds", "When the last run ended.").set(time.time())
        gauge("migration_last_run_success", "Whether it did what it should.").set(self.succeeded)
        gauge("migration_last_run_duration_seconds", "How long it took.").set(
            time.monotonic() - self.began
        )
        step = gauge(
            "migration_step_duration_seconds",
            "How long each of its steps took.",
            "revision",
            "direction",
        )
        for labels, seconds in self.steps.items():
            step.labels(*labels).set(seconds)
        revision = gauge(
            "schema_revision",
            "The schema's revision: the one that the build knows, the one the database is at.",
            "of",
        )
        for of, name in (("build", context.script.get_current_head()), ("database", self.reached)):
            if name is not None and name.isdecimal():
                revision.labels(of).set(int(name))
        return registry


@asynccontextmanager
async def measured(engine: AsyncEngine, path: str) -> AsyncIterator[Run]:
    """Measure what is done inside, and write it to the file there, however it ends; "": don't."""
    run = Run()
    try:
        yield run
        run.succeeded = True
    finally:
        if path:
            run.reached = await reached(engine)
            try:
                files.write(Path(path), generate_latest(run.registry()))
            except OSError as error:
                log.warning("METRICS_TEXTFILE: can't write %s: %s", path, error.strerror)


async def reached(engine: AsyncEngine) -> str | None:
    """The revision that the database is at, "0" where it has none; None where it does not tell."""

    def newest(connection: Connection) -> str:
        return max(MigrationContext.configure(connection).get_current_heads(), default="0")

    try:
        async with asyncio.timeout(LOOK_TIMEOUT):
            return await read(engine, newest)
    except Exception as error:  # noqa: BLE001  # why the run failed is being told already
        log.debug("the database does not tell its revision: %s", type(error).__name__)
        return None
