"""Request ids, the access log, and HEAD wherever there is GET."""

import asyncio
import json
import logging
import re
import sqlite3
from contextlib import closing, suppress
from http import HTTPStatus
from pathlib import Path
from typing import Any

import httpx
import pytest

from service.observability.access_log import check_access_log
from service.settings import Settings, SettingsError
from tests.app import serving
from tests.databases import UNREACHABLE_URL, path_of, writes_blocked
from tests.servers import free_port, listening_event, service_process, wait_until_ready

GENERATED_ID = re.compile(r"[0-9a-f]{16}")


def lines(log: Path) -> list[dict[str, Any]]:
    if not log.exists():
        return []
    return [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]


def move(log: Path) -> Path:
    return log.rename(log.with_suffix(".1"))


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "access.log"


@pytest.mark.parametrize("request_id", ["1", "x" * 128, "01HF:a-b_c.d"])
async def test_a_clients_request_id_comes_back(request_id: str) -> None:
    async with serving(database_url=UNREACHABLE_URL) as client:
        response = await client.get("/health/live", headers={"X-Request-ID": request_id})
        assert response.headers.get_list("X-Request-ID") == [request_id]


@pytest.mark.parametrize("request_id", ["", "x" * 129, "a b", 'a"b', "é", "a\nb"])
async def test_an_invalid_request_id_is_replaced(request_id: str) -> None:
    async with serving(database_url=UNREACHABLE_URL) as client:
        headers = [(b"X-Request-ID", request_id.encode())]
        response = await client.get("/health/live", headers=headers)
        assert GENERATED_ID.fullmatch(response.headers["X-Request-ID"])


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/health/live", HTTPStatus.OK),
        ("HEAD", "/health/live", HTTPStatus.OK),
        ("OPTIONS", "/users", HTTPStatus.NO_CONTENT),
        ("GET", "/users/0", HTTPStatus.NOT_FOUND),
        ("GET", "/no/such/url", HTTPStatus.NOT_FOUND),
        ("PUT", "/users", HTTPStatus.METHOD_NOT_ALLOWED),
        ("BREW", "/users", HTTPStatus.METHOD_NOT_ALLOWED),
        ("GET", "/users", HTTPStatus.SERVICE_UNAVAILABLE),
    ],
)
async def test_every_response_has_a_request_id(method: str, path: str, status: HTTPStatus) -> None:
    async with serving(database_url=UNREACHABLE_URL) as client:
        first, second = [await client.request(method, path) for _ in range(2)]
        assert first.status_code == second.status_code == status
        assert GENERATED_ID.fullmatch(first.headers["X-Request-ID"])
        assert first.headers["X-Request-ID"] != second.headers["X-Request-ID"]


async def test_every_response_has_the_rate_limit_headers() -> None:
    async with serving(database_url=UNREACHABLE_URL, rate_limit="1/60") as client:
        for status in (HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.TOO_MANY_REQUESTS):
            response = await client.get("/users")
            assert response.status_code == status
            assert response.headers["RateLimit-Policy"] == '"default";q=1;w=60'
            assert response.headers["RateLimit"].startswith('"default";r=0')


@pytest.mark.parametrize(
    "path", ["/users", "/users/1", "/users/2", "/health/ready", "/openapi.json", "/docs", "/nope"]
)
async def test_head_is_get_without_the_body(client: httpx.AsyncClient, path: str) -> None:
    await client.post("/users", json={"full_name": "Ada Lovelace"})
    request_id = {"X-Request-ID": "same"}
    get = await client.get(path, headers=request_id)
    head = await client.head(path, headers=request_id)
    assert (head.status_code, head.headers) == (get.status_code, get.headers)
    assert (int(head.headers["Content-Length"]) > 0, head.content) == (True, b"")


async def test_there_is_no_head_where_there_is_no_get() -> None:
    async with serving(database_url=UNREACHABLE_URL) as client:
        response = await client.head("/users/import")
        assert response.status_code == HTTPStatus.METHOD_NOT_ALLOWED
        assert response.headers["Allow"] == "OPTIONS, POST"
        assert response.content == b""


async def test_a_request_is_logged_without_personal_data(url: str, log: Path) -> None:
    async with serving(database_url=url, access_log=str(log)) as client:
        client.headers["Authorization"] = "Bearer usr_secret"
        ada = {"full_name": "Ada Lovelace", "email": "ada@example.org"}
        created = await client.post("/users", json=ada)
        await client.head(created.headers["Location"], headers={"X-Request-ID": "mine"})
        await client.get("/users", params={"name": "ada", "email": "ada@example.org"})
        await client.get("/users/ada@example.org")
        await client.get("/ada@example.org/Lovelace")
        await client.request("ADA", "/users")
    entries = lines(log)
    assert [(line["method"], line["route"], line["status"]) for line in entries] == [
        ("POST", "/users", 201),
        ("HEAD", "/users/{user_id}", 200),
        ("GET", "/users", 200),
        ("GET", "/users/{user_id}", 404),
        ("GET", "unmatched", 404),
        ("other", "unmatched", 405),
    ]
    assert entries[0].keys() == {
        "event", "level", "logger", "timestamp", "request_id", "method", "route", "status",
        "milliseconds", "token",
    }  # fmt: skip
    assert entries[0]["request_id"] == created.headers["X-Request-ID"]
    assert (entries[1]["request_id"], entries[1]["token"]) == ("mine", "anonymous")
    assert (entries[0]["event"], entries[0]["level"], entries[0]["logger"]) == (
        "request",
        "info",
        "access",
    )
    assert 0 < entries[0]["milliseconds"] < 60_000
    assert entries[0]["timestamp"].endswith("Z")
    assert not re.search(r"(?i)ada|lovelace|example|secret|name=", json.dumps(entries))


async def test_a_failed_request_is_written_immediately(log: Path) -> None:
    async with serving(database_url=UNREACHABLE_URL, access_log=str(log)) as client:
        await client.get("/health/live")
        assert (await client.get("/users")).status_code == HTTPStatus.SERVICE_UNAVAILABLE
        assert [(line["level"], line["status"]) for line in lines(log)] == [
            ("info", 200),
            ("error", 503),
        ]


async def test_buffered_lines_are_written_before_an_error_is_logged(log: Path) -> None:
    async with serving(database_url=UNREACHABLE_URL, access_log=str(log)) as client:
        await client.get("/health/live")
        logging.getLogger("service").error("now")
        assert [line["route"] for line in lines(log)] == ["/health/live"]


async def test_a_line_is_written_after_the_flush_interval(log: Path) -> None:
    async with serving(database_url=UNREACHABLE_URL, access_log=str(log)) as client:
        await client.get("/health/live")
        async with asyncio.timeout(30):
            while not lines(log):
                await asyncio.sleep(0.05)
        assert len(lines(log)) == 1


async def test_a_full_buffer_is_written(log: Path) -> None:
    async with serving(database_url=UNREACHABLE_URL, access_log=str(log)) as client:
        for _ in range(50):
            await client.get("/health/live")
        assert lines(log)
    assert len(lines(log)) == 50


async def test_a_log_file_that_was_moved_is_created_again(log: Path) -> None:
    async with serving(database_url=UNREACHABLE_URL, access_log=str(log)) as client:
        await client.get("/users")
        old = move(log)
        await client.get("/users")
        assert len(lines(log)) == len(lines(old)) == 1


async def test_a_full_disk_fails_no_request_and_is_logged_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with serving(database_url=UNREACHABLE_URL, access_log="/dev/full") as client:
        for _ in range(3):
            assert (await client.get("/users")).status_code == HTTPStatus.SERVICE_UNAVAILABLE
    entries = [text for text in caplog.messages if "access log" in text]
    assert entries == ["lines of the access log are lost: [Errno 28] No space left on device"]


async def test_the_access_log_can_be_switched_off(capfd: pytest.CaptureFixture[str]) -> None:
    async with serving(database_url=UNREACHABLE_URL, access_log="off") as client:
        await client.get("/users")
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(
    ("log_format", "expected"),
    [
        ("auto", r'\{"event":"request",.*"route":"/health/live","status":200,.*\}\n'),
        ("console", r"\S+Z \[info     \] GET /health/live 200 \d+\.\d ms request_id=mine\n"),
    ],
)
async def test_lines_go_to_standard_error_as_json_or_as_text(
    capfd: pytest.CaptureFixture[str], log_format: str, expected: str
) -> None:
    async with serving(database_url=UNREACHABLE_URL, log_format=log_format) as client:
        await client.get("/health/live", headers={"X-Request-ID": "mine"})
    assert re.fullmatch(expected, capfd.readouterr().err)


async def test_an_access_log_that_can_not_be_written_is_a_settings_error() -> None:
    check_access_log(Settings())
    with pytest.raises(SettingsError, match=r"^ACCESS_LOG: can't write /no/such/file: "):
        check_access_log(Settings(access_log="/no/such/file"))


@pytest.mark.only("postgresql")  # on SQLite a cancelled request waits for the lock all the same
async def test_a_client_that_disconnected_is_logged_with_status_499(url: str, log: Path) -> None:
    async with (
        serving(database_url=url, access_log=str(log)) as client,
        writes_blocked(url),
    ):
        with suppress(TimeoutError):
            async with asyncio.timeout(0.2):
                await client.post("/users", json={"full_name": "Ada Lovelace"})
    (line,) = lines(log)
    assert (line["route"], line["status"], line["cut_off"]) == ("/users", 499, True)


@pytest.mark.only("sqlite")
async def test_every_log_line_of_a_request_has_its_id(url: str) -> None:
    """On a real server; the lines are in the order of the events."""
    with closing(sqlite3.connect(path_of(url))) as database:
        database.execute("CREATE UNIQUE INDEX by_hand ON users (age)")
    port = free_port()
    async with service_process(DATABASE_URL=url, PORT=str(port), LOG_FORMAT="json") as service:
        await listening_event(service)
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client:
            await wait_until_ready(client)
            head = await client.head("/users")
            assert (head.headers["Content-Length"], head.content) == ("24", b"")
            for request_id in ("first", "second"):
                ada = {"full_name": "Ada", "age": 36}
                await client.post("/users", json=ada, headers={"X-Request-ID": request_id})
        service.terminate()
        _, stderr = await service.communicate()
    entries = [json.loads(line) for line in stderr.splitlines()]
    ours = [line for line in entries if line.get("request_id") in ("first", "second")]
    assert [(line["request_id"], line["logger"], line.get("status")) for line in ours] == [
        ("first", "access", 201),
        ("second", "service", None),
        ("second", "access", 409),
    ]
    assert entries[-1]["event"] == "stopped"
