"""Workers that die are replaced, and a service that is to stop drains first."""

import asyncio
import os
import signal
from http import HTTPStatus
from pathlib import Path

import httpx
import pytest

from tests.problems import problem
from tests.servers import free_port, listening_event, service_process, workers_of

pytestmark = pytest.mark.only("sqlite")

METRICS_DIRECTORIES = "/dev/shm"  # noqa: S108  # the service's own choice


async def until_replaced(service: asyncio.subprocess.Process, dead: int, count: int) -> None:
    """Return when there are `count` workers, without the dead one."""
    async with asyncio.timeout(30):
        while dead in (workers := workers_of(service)) or len(workers) < count:
            await asyncio.sleep(0.05)


async def test_a_killed_worker_is_replaced_and_newcomers_wait_for_the_next(url: str) -> None:
    port = free_port()
    async with service_process(DATABASE_URL=url, PORT=str(port)) as service:
        await listening_event(service)
        for _ in range(3):  # also soon after one another
            [worker] = workers_of(service)
            os.kill(worker, signal.SIGKILL)
            async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client:
                response = await client.get("/users", timeout=10)
                assert response.status_code == HTTPStatus.OK
            await until_replaced(service, worker, 1)
        service.terminate()
        _, err = await asyncio.wait_for(service.communicate(), 10)
        assert service.returncode == 0
        assert err.count(b"worker 1 was lost: killed by SIGKILL; another starts") == 3


async def test_two_workers_that_are_killed_at_once_are_both_replaced(url: str) -> None:
    port = free_port()
    async with service_process(DATABASE_URL=url, PORT=str(port), WORKERS="2") as service:
        await listening_event(service)
        workers = workers_of(service)
        for worker in workers:
            os.kill(worker, signal.SIGKILL)
        for worker in workers:
            await until_replaced(service, worker, 2)
        transport = httpx.AsyncHTTPTransport(retries=10)
        async with httpx.AsyncClient(transport=transport) as client:
            assert (await client.get(f"http://127.0.0.1:{port}/users", timeout=10)).is_success


async def test_where_no_worker_can_start_the_service_ends(url: str, tmp_path: Path) -> None:
    missing = str(tmp_path / "missing")  # prometheus-client can't open its files there
    port = str(free_port())
    environment = {"DATABASE_URL": url, "PORT": port, "PROMETHEUS_MULTIPROC_DIR": missing}
    async with service_process(**environment) as service:
        _, err = await asyncio.wait_for(service.communicate(), 30)
        assert service.returncode == 1
        assert b"another starts" not in err


async def test_the_drain_fails_readiness_first_and_serves_everything_else(url: str) -> None:
    port = free_port()
    environment = {"DATABASE_URL": url, "PORT": str(port), "WORKERS": "2", "DRAIN_TIME": "60"}
    async with service_process(**environment) as service:
        await listening_event(service)
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client:
            assert (await client.get("/health/ready")).is_success
            service.terminate()
            async with asyncio.timeout(10):
                while (ready := await client.get("/health/ready")).is_success:
                    await asyncio.sleep(0.01)
            assert problem(ready, 503, "unavailable")["detail"] == "the service is about to stop"
            assert ready.headers["Retry-After"]
            for path in ("/health/live", "/users"):
                response = await client.get(path)
                assert response.status_code == HTTPStatus.OK
                assert response.headers["Connection"] == "close"
        service.terminate()  # the second signal
        _, err = await asyncio.wait_for(service.communicate(), 10)
        assert service.returncode == 0
        assert b"stopping in 60 s; a second signal stops at once" in err


async def test_a_load_balancer_that_watches_readiness_loses_no_request(
    url: str, *, full: bool
) -> None:
    """Each request has a new connection."""
    port, in_rotation, served = free_port(), True, 0
    environment = {"DATABASE_URL": url, "PORT": str(port), "ACCESS_LOG": "off", "DRAIN_TIME": "3"}

    async def get(path: str) -> int:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
        response = await asyncio.wait_for(reader.read(), 10)
        writer.close()
        return int(response.split()[1])

    async def send_requests() -> None:
        nonlocal served
        while in_rotation:
            assert await get("/users") == HTTPStatus.OK
            served += 1

    async def watch_readiness() -> None:
        nonlocal in_rotation
        while in_rotation:
            await asyncio.sleep(0.1)
            in_rotation = await get("/health/ready") == HTTPStatus.OK

    async with service_process(**environment) as service:
        await listening_event(service)
        async with asyncio.TaskGroup() as group:
            for _ in range(16):
                group.create_task(send_requests())
            group.create_task(watch_readiness())
            async with asyncio.timeout(60):
                while served < (4000 if full else 500):
                    await asyncio.sleep(0.01)
            service.terminate()
        await asyncio.wait_for(service.communicate(), 20)
        assert service.returncode == 0


def limits_of(process: int) -> dict[str, list[str]]:
    """Return the soft and the hard limits of a process, by their names."""
    lines = Path(f"/proc/{process}/limits").read_text(encoding="ascii").splitlines()
    return {line[:26].strip(): line[26:].split()[:2] for line in lines}


async def test_a_process_has_no_core_dump_and_all_files_that_the_system_allows(url: str) -> None:
    port = free_port()
    async with service_process(DATABASE_URL=url, PORT=str(port)) as service:
        await listening_event(service)
        for process in (service.pid, *workers_of(service)):
            limits = limits_of(process)
            assert limits["Max core file size"] == ["0", "0"]
            assert len(set(limits["Max open files"])) == 1


async def test_the_next_start_deletes_the_metrics_directory_of_a_killed_service(url: str) -> None:
    environment = {"DATABASE_URL": url, "WORKERS": "2"}

    def directories() -> set[Path]:
        return set(Path(METRICS_DIRECTORIES).glob("users-metrics-*"))

    before = directories()
    async with service_process(**environment, PORT=str(free_port())) as killed:
        await listening_event(killed)
        [left] = directories() - before
        killed.kill()
        await killed.communicate()
    assert left in directories()
    async with service_process(**environment, PORT=str(free_port())) as running:
        await listening_event(running)
        [own] = directories() - before
        assert own != left
        async with service_process(**environment, PORT=str(free_port())) as another:
            await listening_event(another)
            assert own in directories()
    assert own not in directories()
