"""The command that serves: a process of its own, on a port of its own."""

import asyncio
import json
import re
import signal
import socket
from collections.abc import AsyncIterator
from http import HTTPStatus

import httpx
import pytest

from tests.problems import problem
from tests.servers import free_port, listening_event, service_process, wait_until_ready


# SIGHUP is what a closed terminal sends
@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
async def test_it_logs_where_it_listens_serves_and_stops_cleanly(
    url: str, stop: signal.Signals
) -> None:
    port = free_port()
    async with service_process(DATABASE_URL=url, PORT=str(port)) as service:
        place = f"http://127.0.0.1:{port}"
        event = await listening_event(service)
        assert event == f"listening on {place}, documentation at {place}/docs"
        async with httpx.AsyncClient(base_url=place) as client:  # it answers from now on
            created = await client.post("/users", json={"full_name": "Ada Lovelace"})
            assert created.status_code == HTTPStatus.CREATED
            assert (await client.get(created.headers["Location"])).json() == created.json()
        service.send_signal(stop)
        out, err = await asyncio.wait_for(service.communicate(), 10)
        assert service.returncode == 0
        assert out == b""
        # granian may say before that it kills a worker which has in fact just ended
        assert json.loads(err.splitlines()[-1])["event"] == "stopped"


@pytest.mark.only("sqlite")
async def test_it_accepts_a_host_name_and_chooses_a_port_for_0(url: str) -> None:
    async with service_process(DATABASE_URL=url, HOST="localhost", PORT="0") as service:
        match = re.match(
            r"listening on (http://127\.0\.0\.1:[1-9]\d+),", await listening_event(service)
        )
        assert match
        async with httpx.AsyncClient(base_url=match.group(1)) as client:
            assert (await client.get("/health/live")).is_success


@pytest.mark.only("sqlite")
@pytest.mark.parametrize("delay", [0.2, 0.5, 0.7, 0.9])
async def test_a_signal_during_the_start_stops_it(url: str, delay: float) -> None:
    port = free_port()
    async with service_process(DATABASE_URL=url, PORT=str(port)) as service:
        await asyncio.sleep(delay)  # the moment is the point
        service.terminate()
        await asyncio.wait_for(service.communicate(), 10)
    with socket.create_server(("127.0.0.1", port)):
        pass  # no process listens any more


@pytest.mark.only("sqlite")
async def test_after_sigkill_no_worker_keeps_the_port(url: str) -> None:
    port = free_port()
    async with service_process(DATABASE_URL=url, PORT=str(port)) as service:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client:
            await wait_until_ready(client)
        service.kill()
        await asyncio.wait_for(
            service.communicate(), 10
        )  # ends when the last process has closed the pipes
    with socket.create_server(("127.0.0.1", port)):
        pass


@pytest.mark.only("sqlite")
async def test_behind_a_real_server_refusals_are_those_of_the_app(url: str) -> None:
    """A real HTTP server could answer itself where sizes, methods or lengths are wrong."""
    port = free_port()
    async with (
        service_process(DATABASE_URL=url, PORT=str(port)),
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client,
    ):
        await wait_until_ready(client)
        headers = {"Content-Type": "application/json"}
        body = b'{"full_name": "' + b"x" * 2 * 1024 * 1024 + b'"}'

        async def chunked() -> AsyncIterator[bytes]:
            yield body

        response = await client.post("/users", content=body, headers=headers)
        problem(response, HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "too-large")
        response = await client.post("/users", content=chunked(), headers=headers)
        problem(response, HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "too-large")
        response = await client.request("BREW", "/users")
        problem(response, HTTPStatus.METHOD_NOT_ALLOWED, "method-not-allowed")


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"PORT": "http"}, b"can't start: PORT: "),
        ({"DATABASE_URL": "mysql://u:hunter2@h/d"}, b"can't start: DATABASE_URL has the unknown"),
        ({"DATABASE_URL_FILE": "/no/such/file"}, b"can't start: DATABASE_URL_FILE: can't read"),
        ({"TOKENS_FILE": "/no/such/file"}, b"can't start: can't read the token file /no/such"),
        ({"HOST": "::"}, b"can't start: HOST=:: can be reached from elsewhere, and anybody"),
    ],
)
async def test_a_wrong_setting_stops_it_with_one_line(
    environment: dict[str, str], expected: bytes
) -> None:
    async with service_process(**environment) as service:
        out, err = await asyncio.wait_for(service.communicate(), 10)
        assert service.returncode == 2
        assert (out, err.count(b"\n")) == (b"", 1)
        assert err.startswith(expected)
        assert b"hunter2" not in err


async def test_a_port_in_use_stops_it_with_one_line() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        async with service_process(DATABASE_URL="sqlite:////nowhere/x", PORT=port) as service:
            _, err = await asyncio.wait_for(service.communicate(), 10)
            assert service.returncode == 2
            assert err.startswith(f"can't start: can't listen on 127.0.0.1:{port}".encode())
            assert err.count(b"\n") == 1
