"""Tools from the npm registry on docs/openapi.json: linters, and generators of clients.

`make clients` installs them into .cache/clients, by the lock in this directory.
"""

import json
import os
import shutil
import subprocess
from pathlib import Path

import httpx
import pytest

from service.auth import tokens
from tests.openapi import SNAPSHOT
from tests.paths import ROOT
from tests.servers import free_port, service_process, wait_until_ready

PLACE = ROOT / ".cache/clients"
GENERATORS = {  # by the program that uses it: the command that writes the client
    "openapi_fetch": "openapi-typescript openapi.json -o generated/openapi_typescript.ts",
    "hey_api": "openapi-ts -i openapi.json -o generated/hey_api",
    "swagger_typescript_api": "swagger-typescript-api generate -p openapi.json "
    "-o generated/swagger_typescript_api -n Api.ts",
}


def run(command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a tool that is installed in PLACE, or node itself."""
    name, *arguments = command.split()
    return subprocess.run(
        [name if name == "node" else PLACE / "node_modules/.bin" / name, *arguments],
        check=False,
        capture_output=True,
        text=True,
        cwd=PLACE,
        env={**os.environ, "REDOCLY_TELEMETRY": "off", **environment},
    )


@pytest.fixture(scope="module", autouse=True)
def place() -> None:
    """Copy the document and the programs to where the tools are installed."""
    shutil.rmtree(PLACE / "generated", ignore_errors=True)
    shutil.rmtree(PLACE / "out", ignore_errors=True)
    for file in [*Path(__file__).parent.iterdir(), SNAPSHOT]:
        if file.suffix in (".ts", ".json", ".yaml"):
            shutil.copy(file, PLACE)


def test_redocly_finds_nothing() -> None:
    process = run("redocly lint openapi.json --format=json")
    totals = json.loads(process.stdout)["totals"]
    assert (process.returncode, totals["errors"], totals["warnings"]) == (0, 0, 0), process.stdout


def test_spectral_finds_nothing() -> None:
    process = run("spectral lint openapi.json --ruleset=spectral.yaml --fail-severity=hint")
    assert process.returncode == 0, process.stdout + process.stderr


@pytest.fixture(scope="module")
def compiled(place: None) -> None:  # noqa: ARG001  # it must have run
    """Generate the clients, and compile the programs that use them."""
    for command in GENERATORS.values():
        process = run(command)
        assert process.returncode == 0, process.stdout + process.stderr
    process = run("tsc")
    assert process.returncode == 0, process.stdout


@pytest.mark.only("postgresql")
@pytest.mark.parametrize("program", GENERATORS)
async def test_a_generated_client_works_on_the_live_service(
    compiled: None,  # noqa: ARG001  # it must have run
    url: str,
    tmp_path: Path,
    program: str,
) -> None:
    file, port = str(tmp_path / "tokens.json"), free_port()
    token = tokens.create(file, "client", ["read", "write"])
    address = f"http://127.0.0.1:{port}"
    async with (
        service_process(DATABASE_URL=url, PORT=str(port), TOKENS_FILE=file),
        httpx.AsyncClient(base_url=address) as client,
    ):
        await wait_until_ready(client)
        process = run(f"node out/{program}.js", ADDRESS=address, TOKEN=token)
    assert process.stdout == "done\n", process.stderr
