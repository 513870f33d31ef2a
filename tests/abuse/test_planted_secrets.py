"""Secrets that are planted wherever there are any come out nowhere.

Passwords, tokens, keys, and what is stored of people: not in logs, in responses to others, in
traces, in metrics, in the command lines of processes, nor in files that are left behind.
"""

import asyncio
import os
import socketserver
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from http import HTTPStatus
from pathlib import Path
from typing import Any

import httpx
import pytest

from service.auth import tokens
from service.auth.tokens import SCOPES
from tests import forkserver
from tests.collector import Collector, collecting
from tests.databases import Databases, engine_for, write
from tests.paths import ROOT
from tests.servers import free_port, wait_until_ready

PASSWORD = "planted-password"  # noqa: S105  # it is no password of anything
NAME, EMAIL, KEY = "Planted Name", "planted-address@example.org", "planted-idempotency-key"
SECRETS = {PASSWORD, NAME, "planted-address", KEY}
# a build that came later forbids what this one stores, and the database repeats the row
LATER_RULE = "ALTER TABLE users ADD CONSTRAINT later CHECK (age < 100)"
UNFORESEEN = """\
CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN RAISE EXCEPTION 'no % <%>', NEW.full_name, NEW.email USING DETAIL = NEW.email; END $$"""
ON_INSERT = """\
CREATE TRIGGER fail BEFORE INSERT ON users FOR EACH ROW WHEN (NEW.age = 99) EXECUTE FUNCTION fail()
"""
BAD_PASSWORD = b'password authentication failed for user "postgres"'


class RefusingPostgres(socketserver.StreamRequestHandler):
    """A server that asks for a password in clear, and refuses it (PostgreSQL's protocol, 54.2)."""

    def handle(self) -> None:
        while True:
            startup = self.rfile.read(8)
            if startup[4:] != b"\x04\xd2\x16\x2f":  # anything but the question for TLS
                break
            self.wfile.write(b"N")
        self.rfile.read(int.from_bytes(startup[:4]) - 8)
        self.wfile.write(b"R\x00\x00\x00\x08\x00\x00\x00\x03")
        head = self.rfile.read(5)
        self.rfile.read(int.from_bytes(head[1:]) - 4)
        fields = b"SFATAL\0VFATAL\0C28P01\0M" + BAD_PASSWORD + b"\0\0"
        self.wfile.write(b"E" + (len(fields) + 4).to_bytes(4) + fields)


@contextmanager
def refusing_server() -> Iterator[int]:
    """Yield the port of a server that refuses every password."""
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), RefusingPostgres) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture
def collector() -> Iterator[Collector]:
    with collecting() as server:
        yield server


def with_password(url: str) -> str:
    """Return the address with a password; the suite's server asks for none."""
    return url.replace("postgres@", f"postgres:{PASSWORD}@")


class CommandLines:
    """Collects the command lines of all processes, while programs run."""

    def __init__(self) -> None:
        self.seen: set[str] = set()

    @asynccontextmanager
    async def watch(self) -> AsyncIterator[None]:
        watching = asyncio.create_task(self.collect())
        try:
            yield
        finally:
            watching.cancel()

    async def collect(self) -> None:
        while True:
            self.seen |= await asyncio.to_thread(command_lines_now)
            await asyncio.sleep(0.02)


def command_lines_now() -> set[str]:
    lines = set()
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):  # it has ended
            lines.add(file.read_text(errors="replace"))
    return lines


def files_in(directory: Path) -> str:
    """Return the names and contents of all files that were left in a directory."""
    return "".join(
        f"{path}\n{path.read_text(errors='replace')}"
        for path in directory.rglob("*")
        if path.is_file()
    )


def secrets_in(text: str, secrets: set[str]) -> set[str]:
    return {secret for secret in secrets if secret in text}


REQUESTS: list[tuple[str, str, dict[str, Any]]] = [
    ("POST", "/users", {"json": {"full_name": NAME, "email": EMAIL, "age": 36}}),
    ("POST", "/users", {"json": {"full_name": NAME, "email": EMAIL}}),  # taken
    ("POST", "/users", {"json": {"full_name": NAME, "age": 100}}),  # LATER_RULE
    ("POST", "/users", {"json": {"full_name": NAME, "email": EMAIL, "age": 99}}),  # UNFORESEEN
    ("POST", "/users", {"content": f'{{"full_name": "{NAME}", '}),
    ("POST", "/users", {"json": {"full_name": NAME, "email": "planted-address@", "age": -1}}),
    ("PATCH", "/users/1", {"json": {"full_name": NAME, "age": 100}}),
    ("GET", "/users", {"params": {"name": NAME}}),
    ("GET", "/users", {"params": {"email": EMAIL, "after": NAME}}),
    ("GET", f"/users/{NAME}", {}),
    ("GET", f"/{PASSWORD}", {}),
    ("GET", "/users/export", {"params": {"format": "csv", "name": NAME}}),
    ("GET", "/users", {"headers": {"Authorization": f"Bearer usr_{PASSWORD}"}}),
    ("GET", "/users", {"headers": {"Host": f"{PASSWORD}:x", "Cookie": PASSWORD}}),
    *(
        ("POST", "/users/import", {"content": content, "headers": {"Content-Type": media_type}})
        for media_type, content in (
            ("text/csv", f"full_name,email,age\n{NAME},{EMAIL},36\n{NAME},{EMAIL},x\n"),
            ("text/csv", f"full_name,email,age\n{NAME},{EMAIL},99\n"),
            ("text/csv", f'full_name\n"{NAME}"x\n'),
            ("application/x-ndjson", f'{{"full_name": "{NAME}", "age": 100}}\n{{"full_name"'),
        )
    ),
]


async def test_a_service_gives_no_secret_away(
    databases: Databases, url: str, tmp_path: Path, collector: Collector
) -> None:
    if databases.kind == "postgresql":
        engine = engine_for(url)
        for statement in (LATER_RULE, UNFORESEEN, ON_INSERT):
            await write(engine, statement)
        await engine.dispose()
    file = str(tmp_path / "tokens.json")
    token = tokens.create(file, "me", SCOPES)
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    port = free_port()
    environment = {
        "DATABASE_URL": with_password(url),
        "PORT": str(port),
        "TOKENS_FILE": file,
        "LOG_LEVEL": "DEBUG",
        "TMPDIR": str(temporary),
        "OTEL_EXPORTER_OTLP_ENDPOINT": collector.endpoint,
    }
    headers = {"Authorization": f"Bearer {token}", "Idempotency-Key": KEY}
    statuses = []
    command_lines = CommandLines()
    async with (
        forkserver.service(**environment) as service,
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", headers=headers) as client,
        command_lines.watch(),
    ):
        await wait_until_ready(client)
        reading = asyncio.create_task(service.stderr.read())
        for number, (method, path, options) in enumerate(REQUESTS):
            own = {"Idempotency-Key": f"{KEY}-{number}", **options.pop("headers", {})}
            response = await client.request(method, path, headers=own, **options)
            statuses.append(response.status_code)
            others = {token, f"usr_{PASSWORD}", PASSWORD} - {path.removeprefix("/")}
            assert not secrets_in(f"{response.headers}{response.text}", others)
        shown = ""
        for path in ("/metrics", "/evolution", "/evolution.json", "/health/ready"):
            shown += (await client.get(path)).text
        service.terminate()
        logged = (await reading).decode()
    assert HTTPStatus.CREATED in statuses
    assert databases.kind == "sqlite" or HTTPStatus.INTERNAL_SERVER_ERROR in statuses
    traced = b"".join(request.SerializeToString() for request in collector.received)
    assert b"INSERT" in traced
    secrets = {*SECRETS, token}
    places = {
        "the log": logged,
        "the pages": shown,
        "the traces": traced.decode(errors="replace"),
        "the command lines": "\n".join(command_lines.seen),
        "the temporary files": files_in(temporary),
    }
    assert {place: secrets_in(text, secrets) for place, text in places.items()} == {
        place: set() for place in places
    }


COMMANDS = [
    "alembic upgrade head",
    "migrations backup {directory}/backups",
    "service import {directory}/people.csv",
    f"psql {LATER_RULE}",  # what begins so is a statement
    "service import {directory}/later.csv",
]
MORE_COMMANDS = [  # with --full
    "alembic check", "alembic current", "alembic -x trace={directory}/trace upgrade head",
    "migrations log", "migrations drift", "migrations drift --against-replay", "migrations lint",
    "migrations backup --verify {directory}/verified", "migrations purge --undone --yes",
    "psql ALTER TABLE users DROP CONSTRAINT later", "alembic downgrade 0007",
    "psql INSERT INTO users (full_name, email) SELECT full_name, email FROM users",
    "alembic upgrade head",  # which finds that two users have one address
    "service serve --nonsense",
]  # fmt: skip


@pytest.mark.only("postgresql")
@pytest.mark.parametrize("is_refused", [False, True])
async def test_commands_give_no_secret_away(
    url: str, tmp_path: Path, *, is_refused: bool, full: bool
) -> None:
    (tmp_path / "people.csv").write_text(f"full_name,email,age\n{NAME},{EMAIL},36\n{NAME},x,1\n")
    (tmp_path / "later.csv").write_text(f"full_name,email,age\n{NAME},later-{EMAIL},100\n")
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    engine = engine_for(url)
    command_lines = CommandLines()
    printed = ""
    with refusing_server() as port:
        refused = f"postgresql://postgres:{PASSWORD}@127.0.0.1:{port}/users"
        environment = {
            **os.environ,
            "DATABASE_URL": refused if is_refused else with_password(url),
            "TMPDIR": str(temporary),
        }
        async with command_lines.watch():
            for command in [*COMMANDS, *(MORE_COMMANDS if full else ())]:
                if command.startswith("psql "):
                    if not is_refused:
                        await write(engine, command.removeprefix("psql "))
                    continue
                name, *arguments = command.format(directory=tmp_path).split()
                program = await forkserver.start(
                    name, *arguments, cwd=ROOT, environment=environment, merged=True
                )
                output = (await program.communicate())[0].decode()
                assert output
                printed += output
    await engine.dispose()
    assert ("the password is wrong" in printed) is is_refused
    for text in (printed, "\n".join(command_lines.seen), files_in(temporary)):
        assert not secrets_in(text, SECRETS)
