"""The metrics of the service and of migrations, as Prometheus reads them."""

import asyncio
import signal
import socket
from collections.abc import Iterator
from http import HTTPStatus
from pathlib import Path

import httpx
import pytest
from prometheus_client.openmetrics import parser as openmetrics
from prometheus_client.parser import text_string_to_metric_families

from tests.app import serving
from tests.chain import HEAD, PREVIOUS
from tests.commands import run_alembic
from tests.databases import UNREACHABLE_URL, writes_blocked
from tests.problems import problem
from tests.servers import free_port, listening_event, service_process, wait_until_ready

Samples = dict[tuple[str, ...], float]


def samples(text: str) -> Samples:
    """Values by name and labels, the labels in the order of their names."""
    return {
        (sample.name, *(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


async def scraped(client: httpx.AsyncClient) -> Samples:
    response = await client.get("/metrics")
    assert response.status_code == HTTPStatus.OK
    assert response.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
    return samples(response.text)


COUNT = "http_request_duration_seconds_count"


async def test_requests_are_counted_by_their_routes_template(client: httpx.AsyncClient) -> None:
    for name in ("Ada", "Grace"):
        created = await client.post("/users", json={"full_name": name})
        await client.get(created.headers["Location"])
        await client.head(created.headers["Location"])
    await client.get("/users/3")
    metrics = await scraped(client)
    assert {key[1:]: value for key, value in metrics.items() if key[0] == COUNT} == {
        ("POST", "/users", "201"): 2,
        ("GET", "/users/{user_id}", "200"): 2,
        ("HEAD", "/users/{user_id}", "200"): 2,
        ("GET", "/users/{user_id}", "404"): 1,
    }
    assert metrics["http_request_duration_seconds_bucket", "+Inf", "POST", "/users", "201"] == 2
    assert 0 < metrics["http_request_duration_seconds_sum", "POST", "/users", "201"] < 60
    assert metrics["http_requests_in_progress",] == 1  # this one
    assert metrics["process_resident_memory_bytes",] > 0
    assert metrics["python_gc_collections_total", "0"] > 0


async def test_clients_can_not_make_new_labels() -> None:
    async with serving(database_url=UNREACHABLE_URL) as client:
        for number in range(10):
            await client.request(f"M{number}", "/users")
            await client.get(f"/some/where/{number}")
            await client.get(f"/docs/assets/{number}")
        metrics = await scraped(client)
    assert {key[1:]: value for key, value in metrics.items() if key[0] == COUNT} == {
        ("other", "unmatched", "405"): 10,
        ("GET", "unmatched", "404"): 20,
    }


async def test_metrics_have_the_revisions_of_build_and_database(
    client: httpx.AsyncClient, url: str
) -> None:
    metrics = await scraped(client)
    assert (
        metrics["schema_revision", "build"] == metrics["schema_revision", "database"] == int(HEAD)
    )
    run_alembic(url, "downgrade", "-1")
    metrics = await scraped(client)
    assert metrics["schema_revision", "build"] == int(HEAD)
    assert metrics["schema_revision", "database"] == int(PREVIOUS)


async def test_an_empty_database_is_at_revision_0(empty_url: str) -> None:
    async with serving(database_url=empty_url) as client:
        assert (await scraped(client))["schema_revision", "database"] == 0


@pytest.fixture(params=["silent", "missing"])
def no_database(request: pytest.FixtureRequest) -> Iterator[str]:
    """The address of a database that accepts connections and never answers, or of none."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        yield (
            f"postgresql://u:p@127.0.0.1:{port}/d" if request.param == "silent" else UNREACHABLE_URL
        )


async def test_without_a_database_there_are_all_metrics_but_its_revision(no_database: str) -> None:
    async with serving(database_url=no_database) as client:
        metrics = await scraped(client)
        assert ("schema_revision", "build") in metrics
        assert ("db_pool_connections",) in metrics
        assert ("schema_revision", "database") not in metrics


@pytest.mark.only("postgresql")  # on SQLite a cancelled request waits for the lock all the same
async def test_metrics_have_the_connections_in_use_and_the_requests_waiting_for_one(
    url: str,
) -> None:
    patient = {"pool_timeout": 60.0, "statement_timeout": 60.0}
    async with serving(database_url=url, pool_size=1, **patient) as client:
        idle = await scraped(client)
        assert idle["db_pool_connections_in_use",] == idle["db_pool_waiting",] == 0
        async with writes_blocked(url), asyncio.TaskGroup() as tasks:
            ada = {"full_name": "Ada"}
            # creates would share a connection
            changes = [tasks.create_task(client.patch("/users/1", json=ada)) for _ in range(3)]
            async with asyncio.timeout(30):
                while (busy := await scraped(client))["db_pool_waiting",] < 2:
                    await asyncio.sleep(0)  # the others must have their turn between two of ours
            assert busy["http_requests_in_progress",] == 4
            assert busy["db_pool_connections_in_use",] == 1
            assert busy["db_pool_connections",] == 2  # the other one reads
            assert busy["schema_revision", "database"] == int(HEAD)
            for change in changes:
                change.cancel()
        after = await scraped(client)
        assert after["http_requests_in_progress",] == 1
        assert after["db_pool_connections_in_use",] == after["db_pool_waiting",] == 0
        assert after[COUNT, "PATCH", "/users/{user_id}", "499"] == 3


async def test_openmetrics_is_served_on_request() -> None:
    accept = {"Accept": "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;q=0.2"}
    async with serving(database_url=UNREACHABLE_URL) as client:
        await client.get("/health/live")
        response = await client.get("/metrics", headers=accept)
        assert response.headers["Content-Type"].startswith("application/openmetrics-text; ")
        names = {
            family.name
            for family in openmetrics.text_string_to_metric_families(response.text)  # type: ignore[no-untyped-call]  # is so
        }
        assert {"http_request_duration_seconds", "schema_revision", "build"} <= names


async def test_metrics_can_be_switched_off() -> None:
    async with serving(database_url=UNREACHABLE_URL, metrics=False) as client:
        problem(await client.get("/metrics"), HTTPStatus.NOT_FOUND, "not-found")
        assert "/metrics" not in (await client.get("/openapi.json")).json()["paths"]


async def test_two_apps_in_a_process_count_for_themselves() -> None:
    async with (
        serving(database_url=UNREACHABLE_URL) as one,
        serving(database_url=UNREACHABLE_URL) as other,
    ):
        await one.get("/health/live")
        key = COUNT, "GET", "/health/live", "200"
        assert (await scraped(one))[key] == 1
        assert key not in await scraped(other)


@pytest.mark.only("sqlite")
async def test_every_worker_returns_the_metrics_of_all(url: str) -> None:
    port = free_port()
    async with service_process(DATABASE_URL=url, PORT=str(port), WORKERS="2") as service:
        await listening_event(service)
        no_keepalive = httpx.Limits(max_keepalive_connections=0)  # any worker may get a request
        async with httpx.AsyncClient(
            base_url=f"http://127.0.0.1:{port}", limits=no_keepalive
        ) as client:
            for _ in range(20):
                await client.get("/users")
            for _ in range(10):
                metrics = await scraped(client)
                assert metrics[COUNT, "GET", "/users", "200"] == 20
                assert metrics["http_requests_in_progress",] == 1
                assert metrics["schema_revision", "database"] == int(HEAD)


@pytest.mark.only("sqlite")
async def test_counters_of_a_dead_worker_stay_and_its_gauges_go(url: str, tmp_path: Path) -> None:
    port = free_port()
    environment = {
        "DATABASE_URL": url,
        "PORT": str(port),
        "PROMETHEUS_MULTIPROC_DIR": str(tmp_path),
    }
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client:
        async with service_process(**environment) as service:
            await wait_until_ready(client)
            await client.get("/users")
            assert (await scraped(client))["db_pool_connections",] == 1
            service.send_signal(signal.SIGKILL)
        with pytest.raises(httpx.TransportError):  # the worker goes after its parent, in its time
            await until_silent(client)
        async with service_process(**environment) as service, asyncio.timeout(30):
            await wait_until_ready(client)
            await scraped(client)  # opens a connection, the only one from now on
            while (metrics := await scraped(client))["db_pool_connections",] != 1:
                await asyncio.sleep(0.05)  # the old worker no longer listens, and ends
            assert metrics[COUNT, "GET", "/users", "200"] == 1


async def until_silent(client: httpx.AsyncClient) -> None:
    async with asyncio.timeout(30):
        while True:
            await client.get("/health/live")


def test_a_migration_leaves_a_textfile(empty_url: str, tmp_path: Path) -> None:
    file = tmp_path / "migrations.prom"
    run_alembic(empty_url, "upgrade", "0002", METRICS_TEXTFILE=str(file))
    metrics = samples(file.read_text(encoding="utf-8"))
    steps = {key[1:] for key in metrics if key[0] == "migration_step_duration_seconds"}
    assert steps == {("upgrade", "0001"), ("upgrade", "0002")}
    assert 0 < metrics["migration_step_duration_seconds", "upgrade", "0001"] < 60
    assert metrics["migration_last_run_success",] == 1
    assert metrics["migration_last_run_timestamp_seconds",] > 1_700_000_000
    assert 0 < metrics["migration_last_run_duration_seconds",] < 60
    assert metrics["schema_revision", "build"] == int(HEAD)
    assert metrics["schema_revision", "database"] == 2

    run_alembic(empty_url, "downgrade", "base", METRICS_TEXTFILE=str(file))
    metrics = samples(file.read_text(encoding="utf-8"))
    steps = {key[1:] for key in metrics if key[0] == "migration_step_duration_seconds"}
    assert steps == {("downgrade", "0002"), ("downgrade", "0001")}
    assert metrics["schema_revision", "database"] == 0


def test_a_failed_migration_is_in_the_textfile(empty_url: str, tmp_path: Path) -> None:
    file = tmp_path / "migrations.prom"
    arguments = ("-x", "drift=perhaps", "upgrade", "head")
    assert run_alembic(empty_url, *arguments, check=False, METRICS_TEXTFILE=str(file)).returncode
    metrics = samples(file.read_text(encoding="utf-8"))
    assert metrics["migration_last_run_success",] == 0
    assert metrics["schema_revision", "database"] == 0


def test_a_migration_without_a_database_is_a_failed_run(tmp_path: Path) -> None:
    file = tmp_path / "migrations.prom"
    url = "postgresql://u:p@127.0.0.1:1/d"
    assert run_alembic(url, "upgrade", "head", check=False, METRICS_TEXTFILE=str(file)).returncode
    metrics = samples(file.read_text(encoding="utf-8"))
    assert metrics["migration_last_run_success",] == 0
    assert metrics["schema_revision", "build"] == int(HEAD)
    assert ("schema_revision", "database") not in metrics


def test_a_textfile_that_can_not_be_written_fails_no_migration(empty_url: str) -> None:
    stderr = run_alembic(empty_url, "upgrade", "0001", METRICS_TEXTFILE="/no/such/file").stderr
    assert "WARNING [safely] can't write the metrics to /no/such/file: " in stderr


def test_alembic_check_writes_no_textfile(url: str, tmp_path: Path) -> None:
    file = tmp_path / "migrations.prom"
    run_alembic(url, "check", METRICS_TEXTFILE=str(file))
    assert not file.exists()
