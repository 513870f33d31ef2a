"""A client that openapi-python-client generates from the document can use the service."""

import asyncio
import importlib
import io
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from pathlib import Path
from typing import Any

import httpx
import pytest

from service.auth import tokens
from tests import forkserver
from tests.servers import free_port, wait_until_ready

NAME = "users_client_of_the_test"
# the generator does not know these media types: treat bodies of lines as files
CONFIG = {
    "package_name_override": NAME,
    "post_hooks": [],
    "content_type_overrides": {
        "application/x-ndjson": "application/octet-stream",
        "text/csv": "application/octet-stream",
        "application/openmetrics-text": "text/plain",
    },
}
QUIET = {"ACCESS_LOG": "off", "LOG_LEVEL": "ERROR"}


async def generate(url: str, directory: Path) -> None:
    """Generate the client; check that the generator has no warning about the document."""
    (directory / "config.json").write_text(json.dumps(CONFIG), encoding="utf-8")
    command = f"generate --url {url} --meta none --output-path {NAME} --config config.json"
    run = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "openapi_python_client", *command.split(), "--fail-on-warning"),
        cwd=directory,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await run.communicate()
    assert run.returncode == 0, output.decode()
    assert b"warning" not in output.lower(), output.decode()


@contextmanager
def import_path(directory: Path) -> Iterator[None]:
    """Import from the directory inside the block; forget the client's modules afterwards."""
    sys.path.insert(0, str(directory))
    try:
        yield
    finally:
        sys.path.remove(str(directory))
        for name in [name for name in sys.modules if name.split(".")[0] == NAME]:
            del sys.modules[name]


def client_module(name: str) -> Any:
    """Return a module of the generated client."""
    return importlib.import_module(f"{NAME}.{name}")


@pytest.mark.only("sqlite")  # no difference between the databases is visible to a client
async def test_the_generated_client_creates_lists_patches_deletes_imports_and_parses_errors(
    url: str, tmp_path: Path
) -> None:
    file = str(tmp_path / "tokens.json")
    token = tokens.create(file, "stock", ["read", "write"])
    port = str(free_port())
    base_url = f"http://127.0.0.1:{port}"
    async with forkserver.service(DATABASE_URL=url, PORT=port, TOKENS_FILE=file, **QUIET):
        async with httpx.AsyncClient(base_url=base_url) as plain:
            await wait_until_ready(plain)
        await generate(f"{base_url}/openapi.json", tmp_path)
        with import_path(tmp_path):
            await asyncio.to_thread(use_client, base_url, token)


def use_client(base_url: str, token: str) -> None:
    """Use the client's synchronous functions: the asynchronous ones can't send files."""
    models = client_module("models")
    sent: list[httpx.Request] = []
    create, list_users, read, change, delete, import_users = (
        client_module(f"api.{name}")
        for name in (
            "users.create_user",
            "users.list_users",
            "users.get_user",
            "users.change_user",
            "users.delete_user",
            "transfer.import_users",
        )
    )
    hooks = {"event_hooks": {"request": [sent.append]}}
    with client_module("client").AuthenticatedClient(base_url, token, httpx_args=hooks) as client:
        ada = models.NewUser(full_name="Ada Lovelace", email="ada@example.org", age=36)
        created = create.sync_detailed(client=client, body=ada)
        assert created.status_code == HTTPStatus.CREATED
        user = created.parsed
        assert user.full_name == "Ada Lovelace"

        page = list_users.sync(client=client, name="ada", limit=10)
        assert (page.items, page.next_) == ([user], None)

        arguments = {"body": models.UserChanges(age=37), "if_match": created.headers["ETag"]}
        assert change.sync(user.id, client=client, **arguments).age == 37
        assert sent[-1].headers["Content-Type"] == "application/merge-patch+json"
        refused = change.sync(user.id, client=client, **arguments)
        assert isinstance(refused, models.Problem)
        assert refused.type_ == "urn:problem:precondition-failed"

        ada.age = 200
        refused = create.sync(client=client, body=ada)
        assert [flaw.pointer for flaw in refused.errors] == ["/age"]

        lines = client_module("types").File(
            io.BytesIO(b"full_name,email\nAda King,ADA@example.org\n")
        )
        update = models.ImportUsersOnConflict.UPDATE
        report = import_users.sync(client=client, body=lines, on_conflict=update)
        assert (report.created, report.updated) == (0, 1)

        deleted = delete.sync_detailed(user.id, client=client)
        assert deleted.status_code == HTTPStatus.NO_CONTENT
        refused = read.sync(user.id, client=client)
        assert refused.type_ == "urn:problem:user-not-found"
