"""The service does what its document says: schemathesis, all checks on, against a live one."""

import asyncio
import json
import sys
from collections.abc import Iterator, Sequence
from functools import cache
from http import HTTPStatus
from pathlib import Path
from typing import NamedTuple

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from service.auth import tokens
from service.auth.tokens import SCOPES, Scope
from tests import forkserver
from tests.openapi import SNAPSHOT, operations
from tests.paths import ROOT
from tests.servers import free_port, wait_until_ready

# beside what the check takes for granted: 412, since a version that was made up is never the
# current one, and 422 for what no schema can say; tests/contract.py knows which refusals those are
CONFIG = f"""\
hooks = {json.dumps(str(ROOT / "tests/contract.py"))}
cache.enabled = false
generation.database = "none"

[checks]
positive_data_acceptance.expected-statuses = ["2xx", 304, 401, 403, 404, 409, 412, 422, 429]
"""
QUIET = {"ACCESS_LOG": "off", "LOG_LEVEL": "ERROR"}


@cache
def needed() -> dict[tuple[str, ...], str]:
    """The scope that each operation needs, by method and route."""
    return {
        tuple(name.split(" ")): operation["security"][0]["bearer"][0]
        for name, operation in operations(json.loads(SNAPSHOT.read_text(encoding="utf-8"))).items()
        if "security" in operation
    }


class Answer(NamedTuple):
    """What the service counted, whatever the client made of it."""

    method: str
    route: str
    status: int


async def examined(
    url: str, place: Path, scopes: Sequence[Scope], *options: str, at_least: int = 1
) -> set[Answer]:
    """Let schemathesis ask all that it can think of: it must have no complaint."""
    file = str(place / "tokens.json")
    watcher = tokens.create(file, "watcher", ["operate"])
    if scopes:
        token = tokens.create(file, "schemathesis", scopes)
        options += ("--header", f"Authorization: Bearer {token}")
    port = str(free_port())
    base = f"http://127.0.0.1:{port}"
    async with (
        forkserver.service(DATABASE_URL=url, PORT=port, TOKENS_FILE=file, **QUIET) as service,
        httpx.AsyncClient(base_url=base) as client,
    ):
        await wait_until_ready(client)
        cases = 0
        while cases < at_least:  # it ends early where answers differ from those of before
            cases += await asked(base, place, *options)
        found = await client.get("/metrics", headers={"Authorization": f"Bearer {watcher}"})
        service.terminate()
        _, errors = await service.communicate()
    told = [json.loads(line) for line in errors.splitlines()]
    assert not [line for line in told if line["logger"] == "service"]  # granian may say it stops
    answers = set(answers_in(found.text))
    assert not {answer for answer in answers if answer.status >= HTTPStatus.INTERNAL_SERVER_ERROR}
    return answers


async def asked(base: str, place: Path, *options: str) -> int:
    """Run schemathesis; return how many cases it tried."""
    (place / "schemathesis.toml").write_text(CONFIG, encoding="utf-8")
    command = ["-m", "schemathesis.cli", "run", f"{base}/openapi.json", "--checks", "all"]
    command += ["--continue-on-failure", "--no-color", "--report-json-path", "report.json"]
    run = await asyncio.create_subprocess_exec(
        sys.executable,
        *command,
        *options,
        cwd=place,  # where it finds its settings, and leaves a .hypothesis
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    said, _ = await run.communicate()
    assert run.returncode == 0, said.decode()
    cases = json.loads((place / "report.json").read_text(encoding="utf-8"))["test_cases"]
    print(f"{cases['generated']} cases")
    return int(cases["generated"])


def answers_in(text: str) -> Iterator[Answer]:
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if sample.name == "http_request_duration_seconds_count":
                labels = sample.labels
                yield Answer(labels["method"], labels["route"], int(labels["status"]))


def statuses(answers: set[Answer], *scopes: Scope) -> dict[str, set[int]]:
    """With what the operations that need one of these scopes answered."""
    by_operation: dict[str, set[int]] = {}
    for method, route, status in answers:
        if needed().get((method, route)) in scopes:
            by_operation.setdefault(f"{method} {route}", set()).add(status)
    return by_operation


LITTLE = ("--max-examples=5", "--generation-deterministic")


async def test_whoever_may_all_gets_no_answer_that_is_not_in_the_document(
    url: str, tmp_path: Path, *, full: bool
) -> None:
    options, cases = (["--max-examples=400"], 5000) if full else (LITTLE, 1)
    answers = await examined(url, tmp_path, SCOPES, *options, at_least=cases)
    answered = statuses(answers, *SCOPES)
    assert len(answered) == len(needed())
    for operation, status in answered.items():  # everything was reached
        assert status & {HTTPStatus.OK, HTTPStatus.CREATED, HTTPStatus.NO_CONTENT}, operation


@pytest.fixture
def options(full: bool) -> Sequence[str]:  # noqa: FBT001  # pytest hands fixtures over
    """How much those ask who are refused most of it."""
    return ["--max-examples=200"] if full else [*LITTLE, "--phases=examples,fuzzing"]


@pytest.mark.only("sqlite")  # nobody gets as far as to the database
async def test_whoever_has_no_token_is_told_nothing_but_that(
    url: str, tmp_path: Path, options: list[str]
) -> None:
    answered = statuses(await examined(url, tmp_path, (), *options), *SCOPES)
    assert len(answered) == len(needed())
    assert set.union(*answered.values()) == {HTTPStatus.UNAUTHORIZED}


@pytest.mark.only("sqlite")  # who may do what is decided before the database is asked
async def test_whoever_may_read_does_nothing_else(
    url: str, tmp_path: Path, options: list[str]
) -> None:
    answers = await examined(url, tmp_path, ["read"], *options)
    assert HTTPStatus.OK in set.union(*statuses(answers, "read").values())
    others = set.union(*statuses(answers, "write", "operate").values())
    assert HTTPStatus.FORBIDDEN in others
    assert others <= {HTTPStatus.FORBIDDEN, HTTPStatus.UNAUTHORIZED}
