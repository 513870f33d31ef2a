"""A running service conforms to its OpenAPI document: schemathesis with all checks."""

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

# The statuses that the check accepts by default, plus 412, since an invented version is never the
# current one, and 422 for rules that no schema can express; tests/contract.py knows those rules.
CONFIG = f"""\
hooks = {json.dumps(str(ROOT / "tests/contract.py"))}
cache.enabled = false
generation.database = "none"

[checks]
positive_data_acceptance.expected-statuses = ["2xx", 304, 401, 403, 404, 409, 412, 422, 429]
"""
QUIET = {"ACCESS_LOG": "off", "LOG_LEVEL": "ERROR"}


@cache
def required_scopes() -> dict[tuple[str, ...], str]:
    """Return the scope that each operation requires, by method and route."""
    return {
        tuple(name.split(" ")): operation["security"][0]["bearer"][0]
        for name, operation in operations(json.loads(SNAPSHOT.read_text(encoding="utf-8"))).items()
        if operation["security"]
    }


class Outcome(NamedTuple):
    """A kind of response that the service counted in its metrics."""

    method: str
    route: str
    status: int


async def run_against_service(
    url: str, directory: Path, scopes: Sequence[Scope], *options: str, at_least: int = 1
) -> set[Outcome]:
    """Run schemathesis against a service, check that it has no complaint; return the outcomes.

    Its token has the scopes; without scopes it sends no token.
    """
    file = str(directory / "tokens.json")
    operator = tokens.create(file, "operator", ["operate"])
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
        while cases < at_least:  # a run ends early when responses differ between its repetitions
            cases += await run_schemathesis(base, directory, *options)
        metrics = await client.get("/metrics", headers={"Authorization": f"Bearer {operator}"})
        service.terminate()
        _, errors = await service.communicate()
    records = [json.loads(line) for line in errors.splitlines()]
    # other loggers may write: granian logs that it stops
    assert not [record for record in records if record["logger"] == "service"]
    outcomes = set(outcomes_in(metrics.text))
    assert not {
        outcome for outcome in outcomes if outcome.status >= HTTPStatus.INTERNAL_SERVER_ERROR
    }
    return outcomes


async def run_schemathesis(base: str, directory: Path, *options: str) -> int:
    """Run schemathesis, check that it succeeds; return the number of its cases."""
    (directory / "schemathesis.toml").write_text(CONFIG, encoding="utf-8")
    command = ["-m", "schemathesis.cli", "run", f"{base}/openapi.json", "--checks", "all"]
    command += ["--continue-on-failure", "--no-color", "--report-json-path", "report.json"]
    run = await asyncio.create_subprocess_exec(
        sys.executable,
        *command,
        *options,
        cwd=directory,  # it reads its settings there, and writes .hypothesis
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await run.communicate()
    assert run.returncode == 0, output.decode()
    cases = json.loads((directory / "report.json").read_text(encoding="utf-8"))["test_cases"]
    print(f"{cases['generated']} cases")
    return int(cases["generated"])


def outcomes_in(text: str) -> Iterator[Outcome]:
    """Yield the outcomes from metrics in Prometheus' text format."""
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if sample.name == "http_request_duration_seconds_count":
                labels = sample.labels
                yield Outcome(labels["method"], labels["route"], int(labels["status"]))


def statuses(outcomes: set[Outcome], *scopes: Scope) -> dict[str, set[int]]:
    """Return the statuses of the operations that require one of these scopes, by operation."""
    by_operation: dict[str, set[int]] = {}
    for method, route, status in outcomes:
        if required_scopes().get((method, route)) in scopes:
            by_operation.setdefault(f"{method} {route}", set()).add(status)
    return by_operation


SMALL_RUN = ("--max-examples=5", "--generation-deterministic")


async def test_a_token_with_all_scopes_gets_only_responses_of_the_document(
    url: str, tmp_path: Path, *, full: bool
) -> None:
    options, cases = (["--max-examples=400"], 5000) if full else (SMALL_RUN, 1)
    outcomes = await run_against_service(url, tmp_path, SCOPES, *options, at_least=cases)
    by_operation = statuses(outcomes, *SCOPES)
    assert len(by_operation) == len(required_scopes())
    for operation, status in by_operation.items():  # each succeeded at least once
        assert status & {HTTPStatus.OK, HTTPStatus.CREATED, HTTPStatus.NO_CONTENT}, operation


@pytest.fixture
def options(full: bool) -> Sequence[str]:  # noqa: FBT001  # pytest passes fixtures by name
    """Return the options of runs in which most requests are refused."""
    return ["--max-examples=200"] if full else [*SMALL_RUN, "--phases=examples,fuzzing"]


@pytest.mark.only("sqlite")  # no request reaches the database
async def test_a_client_without_a_token_gets_only_401(
    url: str, tmp_path: Path, options: list[str]
) -> None:
    by_operation = statuses(await run_against_service(url, tmp_path, (), *options), *SCOPES)
    assert len(by_operation) == len(required_scopes())
    assert set.union(*by_operation.values()) == {HTTPStatus.UNAUTHORIZED}


@pytest.mark.only("sqlite")  # tokens are checked before the database is used
async def test_a_token_that_may_read_can_do_nothing_else(
    url: str, tmp_path: Path, options: list[str]
) -> None:
    outcomes = await run_against_service(url, tmp_path, ["read"], *options)
    assert HTTPStatus.OK in set.union(*statuses(outcomes, "read").values())
    others = set.union(*statuses(outcomes, "write", "operate").values())
    assert HTTPStatus.FORBIDDEN in others
    assert others <= {HTTPStatus.FORBIDDEN, HTTPStatus.UNAUTHORIZED}
