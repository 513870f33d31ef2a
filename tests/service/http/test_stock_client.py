"""A client that openapi-python-client makes of the document, as it comes, uses the service."""

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
# the generator knows no media types of lines by itself: here it learns that those are files
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


async def generate(url: str, place: Path) -> None:
    """Make the client; what the generator can't use of the document is a failure."""
    (place / "config.json").write_text(json.dumps(CONFIG), encoding="utf-8")
    command = f"generate --url {url} --meta none --output-path {NAME} --config config.json"
    run = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "openapi_python_client", *command.split(), "--fail-on-warning"),
        cwd=place,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    said, _ = await run.communicate()
    assert run.returncode == 0, said.decode()
    assert b"warning" not in said.lower(), said.decode()


@contextmanager
def importing(place: Path) -> Iterator[None]:
    """Imports are looked for there, and forgotten afterwards."""
    sys.path.insert(0, str(place))
    try:
        yield
    finally:
        sys.path.remove(str(place))
        for name in [name for name in sys.modules if name.split(".")[0] == NAME]:
            del sys.modules[name]


def part(name: str) -> Any:
    return importlib.import_module(f"{NAME}.{name}")


@pytest.mark.only("sqlite")  # the databases differ in nothing that a client could see
async def test_it_creates_lists_patches_deletes_imports_and_understands_refusals(
    url: str, tmp_path: Path
) -> None:
    file = str(tmp_path / "tokens.json")
    token = tokens.create(file, "stock", ["read", "write"])
    port = str(free_port())
    place = f"http://127.0.0.1:{port}"
    async with forkserver.service(DATABASE_URL=url, PORT=port, TOKENS_FILE=file, **QUIET):
        async with httpx.AsyncClient(base_url=place) as plain:
            await wait_until_ready(plain)
        await generate(f"{place}/openapi.json", tmp_path)
        with importing(tmp_path):
            await asyncio.to_thread(use, place, token)


def use(place: str, token: str) -> None:
    """What a program does that has the client: without `async`, which can't send files."""
    models = part("models")
    sent: list[httpx.Request] = []
    create, listed, read, change, delete, bring = (
        part(f"api.{name}")
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
    with part("client").AuthenticatedClient(place, token, httpx_args=hooks) as client:
        ada = models.NewUser(full_name="Ada Lovelace", email="ada@example.org", age=36)
        created = create.sync_detailed(client=client, body=ada)
        assert created.status_code == HTTPStatus.CREATED
        user = created.parsed
        assert user.full_name == "Ada Lovelace"

        page = listed.sync(client=client, name="ada", limit=10)
        assert (page.items, page.next_) == ([user], None)

        older = {"body": models.UserChanges(age=37), "if_match": created.headers["ETag"]}
        assert change.sync(user.id, client=client, **older).age == 37
        assert sent[-1].headers["Content-Type"] == "application/merge-patch+json"
        refused = change.sync(user.id, client=client, **older)
        assert isinstance(refused, models.Problem)
        assert refused.type_ == "urn:problem:precondition-failed"

        ada.age = 200
        refused = create.sync(client=client, body=ada)
        assert [flaw.pointer for flaw in refused.errors] == ["/age"]

        lines = part("types").File(io.BytesIO(b"full_name,email\nAda King,ADA@example.org\n"))
        update = models.ImportUsersOnConflict.UPDATE
        report = bring.sync(client=client, body=lines, on_conflict=update)
        assert (report.created, report.updated) == (0, 1)

        deleted = delete.sync_detailed(user.id, client=client)
        assert deleted.status_code == HTTPStatus.NO_CONTENT
        refused = read.sync(user.id, client=client)
        assert refused.type_ == "urn:problem:user-not-found"
