"""What can be measured, for Prometheus.

Each worker counts for itself. Where there are several, what they count is in files of a directory
that they share (PROMETHEUS_MULTIPROC_DIR), and whichever is asked tells of all of them.
"""

import asyncio
import logging
import os
import platform
from collections.abc import Callable, Iterator
from pathlib import Path

from prometheus_client import (
    CollectorRegistry,
    Gauge,
    GCCollector,
    Histogram,
    Metric,
    PlatformCollector,
    ProcessCollector,
)
from prometheus_client.metrics_core import GaugeMetricFamily, InfoMetricFamily
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

from service.database import Database
from service.models import SCHEMA_REVISION
from service.schema_revision import revision_of

BUCKETS = (.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 300)  # fmt: skip
REVISION_TIMEOUT = 1.0  # seconds until the database is taken not to answer

log = logging.getLogger("service")


class Metrics:
    """Everything that is measured, in a registry of its own."""

    def __init__(self, database: Database, running: Callable[[], float]) -> None:
        """Measure requests, of which so many are `running`, and this database's connections."""
        self.database = database
        self.directory = os.environ.get("PROMETHEUS_MULTIPROC_DIR")
        self.registry = CollectorRegistry()
        counted = self.registry if self.directory is None else None
        self.seconds = Histogram(
            "http_request_duration_seconds",
            "Seconds from a request to the end of its answer.",
            ("method", "route", "status"),
            buckets=BUCKETS,
            registry=counted,
        )

        def gauge(name: str, meaning: str) -> Gauge:
            # of workers that live: what a dead one had in use is in use no more
            return Gauge(name, meaning, registry=counted, multiprocess_mode="livesum")

        self.running = gauge("http_requests_in_progress", "Requests that are being answered.")
        if self.directory is None:  # else other processes must see it at any time
            self.running.set_function(running)
        self.connections = gauge("db_pool_connections", "Open connections to the database.")
        self.in_use = gauge("db_pool_connections_in_use", "Connections that a request uses.")
        self.waiting = gauge(
            "db_pool_waiting",
            "Requests that wait for a connection; those that go together are one.",
        )
        self.revisions = Revisions()
        self.registry.register(self.revisions)
        if self.directory is None:
            ProcessCollector(registry=self.registry)
            PlatformCollector(registry=self.registry)
            GCCollector(registry=self.registry)
        else:
            MultiProcessCollector(self.registry, self.directory)  # type: ignore[no-untyped-call]  # is so
        self.observers: dict[tuple[str, str, int], Callable[[float], None]] = {}

    def begin(self) -> None:
        """A request has come."""
        if self.directory is not None:
            self.running.inc()

    def end(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count a request that has been answered."""
        if self.directory is not None:
            self.running.dec()
        labels = method, route, status
        try:
            observe = self.observers[labels]
        except KeyError:  # looking labels up takes longer than all the rest
            observe = self.observers[labels] = self.seconds.labels(*labels).observe
        observe(seconds)

    def refresh(self) -> None:
        """Look at the pool."""
        pool = self.database.pool
        self.connections.set(pool.checkedin() + pool.checkedout())
        self.in_use.set(pool.checkedout())
        self.waiting.set(pool.waiting)

    async def text(self, render: Callable[[CollectorRegistry], bytes]) -> bytes:
        """Everything, as it is now."""
        self.refresh()
        if self.directory is not None:
            forget_the_dead(Path(self.directory))
        self.revisions.database = await self.revision()
        return render(self.registry)

    async def revision(self) -> int | None:
        """The revision that the database is at; None where it does not tell in time."""
        try:
            async with asyncio.timeout(REVISION_TIMEOUT), self.database.readers() as reader:
                return int(await revision_of(reader) or 0)
        except Exception as error:  # noqa: BLE001  # whatever is wrong, the other metrics are right
            log.debug("the database's revision is not known: %s", type(error).__name__)
            return None


class Revisions(Collector):
    """Which build this is, and the revisions of build and database."""

    def __init__(self) -> None:
        self.database: int | None = None

    def collect(self) -> Iterator[Metric]:
        """What is known now."""
        revision = GaugeMetricFamily(
            "schema_revision",
            "The schema's revision: the one that the build knows, the one the database is at.",
            labels=["of"],
        )
        revision.add_metric(["build"], int(SCHEMA_REVISION))
        if self.database is not None:
            revision.add_metric(["database"], self.database)
        yield revision
        build = {"revision": SCHEMA_REVISION, "python": platform.python_version()}
        yield InfoMetricFamily("build", "What runs.", value=build)


def forget_the_dead(directory: Path) -> None:
    """Take away the gauges of workers that are no more; what they counted stays."""
    for file in directory.glob("gauge_live*.db"):
        pid = int(file.stem.rpartition("_")[2])
        try:
            os.kill(pid, 0)
        except (ProcessLookupError, PermissionError):  # the number may be somebody else's by now
            file.unlink(missing_ok=True)  # another worker may look at the same time
