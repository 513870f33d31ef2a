"""Metrics of a run for Prometheus, in a file for the node exporter's textfile collector."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

from alembic.util import CommandError
from sqlalchemy import Connection

from safely import files
from safely.alembic_internals import RevisionStep, Step
from safely.environment import Environment
from safely.revisions import in_order

DATABASE_TIMEOUT = 5.0  # seconds until the database is taken not to answer

log = logging.getLogger("safely")


class Run:
    """The durations and the outcome of a command that migrates."""

    def __init__(self) -> None:
        self.began = time.monotonic()
        self.succeeded = False
        self.heads: tuple[str, ...] | None = None  # of the database; None where it does not answer
        self.steps: dict[tuple[str, str], float] = {}  # seconds by revision and direction

    @contextmanager
    def timed(self, step: Step) -> Iterator[None]:
        """Measure how long a step takes, with its retries, unless it fails."""
        began = time.monotonic()
        yield
        if isinstance(step, RevisionStep):
            direction = "upgrade" if step.is_upgrade else "downgrade"
            self.steps[step.revision.revision, direction] = time.monotonic() - began

    def write(self, prometheus: ModuleType, environment: Environment, path: str) -> None:
        """Write the metrics; the file is replaced at once."""
        registry = prometheus.CollectorRegistry()

        def gauge(name: str, meaning: str, *labels: str) -> Any:
            return prometheus.Gauge(name, meaning, labels, registry=registry)

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
        # ids may be hashes: the number of a revision is its place in the history
        places = {id_: number for number, id_ in enumerate(in_order(environment.script), start=1)}
        if environment.build in places:
            revision.labels("build").set(places[environment.build])
        if self.heads is not None and places.keys() >= set(self.heads):
            revision.labels("database").set(max((places[head] for head in self.heads), default=0))
        try:
            files.write(Path(path), prometheus.generate_latest(registry))
        except OSError as error:
            log.warning("can't write the metrics to %s: %s", path, error.strerror)


@asynccontextmanager
async def measured(environment: Callable[[], Environment], path: str) -> AsyncIterator[Run]:
    """Measure what is done inside, and write it to a file, however it ends; "": don't.

    `environment` returns the environment as it is known at the end.
    """
    run, prometheus = Run(), load() if path else None
    try:
        yield run
        run.succeeded = True
    finally:
        if prometheus is not None:
            run.heads = await heads_of(environment())
            run.write(prometheus, environment(), path)


def load() -> ModuleType:
    """Return prometheus_client; raise CommandError where it isn't installed."""
    try:
        # of the extra `metrics`; most projects do without
        import prometheus_client  # noqa: PLC0415
    except ImportError:
        raise CommandError(
            "metrics_textfile needs prometheus-client: pip install 'safely[metrics]'"
        ) from None
    return prometheus_client


async def heads_of(environment: Environment) -> tuple[str, ...] | None:
    """Return the heads that the database is at; None where it does not answer."""

    def heads(connection: Connection) -> tuple[str, ...]:
        return environment.migration(connection).get_current_heads()

    try:
        async with asyncio.timeout(DATABASE_TIMEOUT):
            return await environment.read(heads)
    except Exception as error:  # noqa: BLE001  # the reason why the run failed is raised already
        log.debug("the database does not tell its revision: %s", type(error).__name__)
        return None
