"""Log lines: their format, and what they may not contain."""

import asyncio
import json
import logging
import os
import re
import sys
from http import HTTPStatus

import httpx
import pytest

from service.observability.logs import logging_config
from service.observability.request_context import RequestContext, current_request
from service.settings import Settings
from tests.paths import ROOT
from tests.servers import free_port, wait_until_ready

COLOURS = re.compile(r"\x1b\[[0-9;]*m")


def formatter(log_format: str) -> logging.Formatter:
    config = logging_config(Settings(log_format=log_format))  # type: ignore[arg-type]  # both are its values
    settings = config["formatters"]["structured"]
    made: logging.Formatter = settings.pop("()")(**settings)
    return made


@pytest.mark.parametrize("log_format", ["json", "console"])
def test_a_traceback_is_logged_without_the_variables_of_its_frames(log_format: str) -> None:
    logger = logging.getLogger("a test of logs")
    password = "hunter2"  # noqa: S105  # what must not be logged
    try:
        [][len(password)]
    except IndexError as error:
        record = logger.makeRecord(
            logger.name, logging.ERROR, __file__, 1, "it failed", (),
            (type(error), error, error.__traceback__),
        )  # fmt: skip
    line = formatter(log_format).format(record)
    assert "it failed" in line
    assert "IndexError: list index out of range" in line
    assert password not in line.replace('password = "hunter2"', "")
    if log_format == "json":
        assert json.loads(line)["level"] == "error"


@pytest.mark.parametrize(
    ("log_format", "expected"),
    [
        ("json", '"request_id": "mine", "trace_id": "4bf9"'),
        ("console", "request_id=mine trace_id=4bf9"),
    ],
)
def test_a_log_line_has_the_ids_of_its_request_and_trace(log_format: str, expected: str) -> None:
    record = logging.LogRecord("service", logging.INFO, __file__, 1, "it happened", (), None)
    request = RequestContext({"method": "GET", "headers": [(b"x-request-id", b"mine")]})
    request.trace_id = "4bf9"
    before = current_request.set(request)
    line = formatter(log_format).format(record)
    current_request.reset(before)
    assert expected in COLOURS.sub("", line)
    assert "request_id" not in formatter(log_format).format(record)


@pytest.mark.parametrize("closed", ["2>&-", "2> >(exec true)"])
async def test_the_service_runs_without_standard_error(closed: str) -> None:
    port = free_port()
    environment = {"DATABASE_URL": "sqlite:////no/such/file", "PORT": str(port)}
    service = await asyncio.create_subprocess_exec(
        "bash",
        "-c",
        f'exec "{sys.executable}" -m service {closed}',
        cwd=ROOT,
        env={**os.environ, **environment},
    )
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client:
        await wait_until_ready(client)
        for _ in range(3):
            assert (await client.get("/users")).status_code == HTTPStatus.SERVICE_UNAVAILABLE
    service.terminate()
    await asyncio.wait_for(service.wait(), 10)
