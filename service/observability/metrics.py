"""The service's metrics, for Prometheus.

Each worker counts its own requests. Several workers share a directory of memory-mapped files
(PROMETHEUS_MULTIPROC_DIR), and a scrape of any worker returns the sum over all of them.
"""

import asyncio
import logging
import os
import platform
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import get_args

from prometheus_client import (
    CollectorRegistry,
    Counter,
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
from service.replicas import Replica, Replicas, State
from service.schema_revision import revision_of

BUCKETS = (.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 300)  # fmt: skip
REVISION_TIMEOUT = 1.0  # seconds that a scrape waits for the database's revision

log = logging.getLogger("service")


class Metrics:
    """The metrics of one app, in a registry of its own."""

    def __init__(
        self, database: Database, replicas: Replicas, running: Callable[[], float]
    ) -> None:
        """Create the metrics; `running` returns the number of requests in progress."""
        self.database = database
        self.replicas = replicas
        self.directory = os.environ.get("PROMETHEUS_MULTIPROC_DIR")
        self.registry = CollectorRegistry()
        # with several workers, MultiProcessCollector reads the values from files instead
        registry = self.registry if self.directory is None else None
        self.duration = Histogram(
            "http_request_duration_seconds",
            "Seconds from a request to the end of its answer.",
            ("method", "route", "status"),
            buckets=BUCKETS,
            registry=registry,
        )

        def gauge(name: str, documentation: str) -> Gauge:
            # livesum: the sum over live workers; a dead worker no longer uses a connection
            return Gauge(name, documentation, registry=registry, multiprocess_mode="livesum")

        self.in_progress = gauge("http_requests_in_progress", "Requests that are being answered.")
        if self.directory is None:  # other workers can't call `running`, they need a value
            self.in_progress.set_function(running)
        self.connections = gauge("db_pool_connections", "Open connections to the database.")
        self.in_use = gauge("db_pool_connections_in_use", "Connections that a request uses.")
        self.waiting = gauge(
            "db_pool_waiting",
            "Requests that wait for a connection; those that go together are one.",
        )
        self.replica_metrics = ReplicaMetrics(registry) if replicas else None
        self.build_info = BuildInfo()
        self.registry.register(self.build_info)
        if self.directory is None:
            ProcessCollector(registry=self.registry)
            PlatformCollector(registry=self.registry)
            GCCollector(registry=self.registry)
        else:
            MultiProcessCollector(self.registry, self.directory)  # type: ignore[no-untyped-call]  # it has no types
        self.observers: dict[tuple[str, str, int], Callable[[float], None]] = {}

    def request_started(self) -> None:
        """Count a request in progress."""
        if self.directory is not None:
            self.in_progress.inc()

    def request_finished(self, method: str, route: str, status: int, seconds: float) -> None:
        """Observe the duration of a request that is no longer in progress."""
        if self.directory is not None:
            self.in_progress.dec()
        labels = method, route, status
        try:
            observe = self.observers[labels]
        except KeyError:  # cached, since `labels()` takes longer than the rest of this function
            observe = self.observers[labels] = self.duration.labels(*labels).observe
        observe(seconds)

    def update_gauges(self) -> None:
        """Set the gauges of the connection pools, and of the replicas, to their current state."""
        pools = [*self.database.pools, *self.replicas.pools]
        in_use = sum(pool.checkedout() for pool in pools)
        self.connections.set(in_use + sum(pool.checkedin() for pool in pools))
        self.in_use.set(in_use)
        self.waiting.set(sum(pool.waiting for pool in pools))
        if self.replica_metrics is not None:
            self.replica_metrics.update(self.database, self.replicas)

    async def render(self, encode: Callable[[CollectorRegistry], bytes]) -> bytes:
        """Return all metrics with their current values, in the format that `encode` writes."""
        self.update_gauges()
        if self.directory is not None:
            delete_gauges_of_dead_workers(Path(self.directory))
        self.build_info.database_revision = await self.database_revision()
        return encode(self.registry)

    async def database_revision(self) -> int | None:
        """Return the database's revision, or None where it does not answer in time."""
        try:
            async with asyncio.timeout(REVISION_TIMEOUT):
                return int(await self.database.query(revision_of) or 0)
        except Exception as error:  # noqa: BLE001  # the scrape must not fail: the other metrics are known
            log.debug("the database's revision is not known: %s", type(error).__name__)
            return None


class ReplicaMetrics:
    """The metrics of replicas: state and lag of each, and the reads by server."""

    def __init__(self, registry: CollectorRegistry | None) -> None:
        self.state = Gauge(
            "db_replica_state",
            "The workers to which the replica is in this state: used, or why it is left out.",
            ("replica", "state"),
            registry=registry,
            multiprocess_mode="livesum",
        )
        self.lag = Gauge(
            "db_replica_lag_seconds",
            "For how long the replica has lacked something that the primary had.",
            ("replica",),
            registry=registry,
            multiprocess_mode="livemax",
        )
        self.lag_bytes = Gauge(
            "db_replica_lag_bytes",
            "The write-ahead log that the replica has not replayed yet.",
            ("replica",),
            registry=registry,
            multiprocess_mode="livemax",
        )
        self.reads = Counter(
            "db_reads",
            "Lookups, lists and exports by the server that answered them.",
            ("server",),
            registry=registry,
        )

    def update(self, database: Database, replicas: Replicas) -> None:
        """Set all to what is known now."""
        servers: list[tuple[str, Database | Replica]] = [("primary", database)]
        for replica in replicas:
            servers.append((replica.name, replica))
            for state in get_args(State):
                self.state.labels(replica.name, state).set(state == replica.state)
            self.lag.labels(replica.name).set(replica.lag_seconds)
            self.lag_bytes.labels(replica.name).set(replica.lag_bytes)
        for name, server in servers:
            self.reads.labels(name).inc(server.answered)
            server.answered = 0


class BuildInfo(Collector):
    """The build, and the schema revisions of the build and of the database."""

    def __init__(self) -> None:
        self.database_revision: int | None = None

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics; without the database's revision where it is not known."""
        revision = GaugeMetricFamily(
            "schema_revision",
            "The schema's revision: the one that the build knows, the one the database is at.",
            labels=["of"],
        )
        revision.add_metric(["build"], int(SCHEMA_REVISION))
        if self.database_revision is not None:
            revision.add_metric(["database"], self.database_revision)
        yield revision
        build = {"revision": SCHEMA_REVISION, "python": platform.python_version()}
        yield InfoMetricFamily("build", "What runs.", value=build)


def delete_gauges_of_dead_workers(directory: Path) -> None:
    """Delete the gauge files of workers that no longer run; their counters stay."""
    for file in directory.glob("gauge_live*.db"):
        pid = int(file.stem.rpartition("_")[2])
        try:
            os.kill(pid, 0)
        except (ProcessLookupError, PermissionError):  # another user's process may reuse the pid
            file.unlink(missing_ok=True)  # another worker may delete it at the same time
