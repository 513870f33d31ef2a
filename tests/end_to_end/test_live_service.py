"""A service keeps working while revisions newer than its own are applied and undone."""

import asyncio
import json
import random
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from http import HTTPStatus
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import pytest

from safely.ledger.snapshot import POSTGRESQL, differences
from tests import forkserver
from tests.chain import HEAD, later
from tests.latency import LatencyMonitor, Step, Timing, run_migration, steps_since
from tests.paths import ROOT
from tests.servers import free_port, wait_until_ready

pytestmark = pytest.mark.only("postgresql")

User = dict[str, Any]

CLIENTS = 6
SCRATCH = sorted((ROOT / "tests/scratch").glob("[1-9]_*.py"))  # how many after the head
WITH_AGE, TOP = f"at_{later(3)}", f"at_{later(len(SCRATCH))}"
LOAD = """\
INSERT INTO users (full_name, email, age)
SELECT 'Name ' || n, CASE WHEN n % 10 > 0 THEN n || '@loaded.example' END,
       CASE WHEN n % 7 > 0 THEN n % 151 END
FROM generate_series(1, $1::int) AS n"""
AFTER_UPGRADE = f"""\
SELECT id, display_name AS full_name, users.email, old.age FROM {TOP}.users
JOIN (SELECT id, age FROM {WITH_AGE}.users) AS old USING (id)"""
AFTER_DOWNGRADE = "SELECT id, full_name, email, age FROM users"
WITHOUT_NICKNAME = f"SELECT count(*) FROM {TOP}.users WHERE nickname IS NULL AND id <= $1"

chance = random.Random(1)  # noqa: S311  # not a secret


class Users:
    """The users as clients know them from the responses."""

    def __init__(self, loaded: int) -> None:
        self.loaded = loaded
        self.changed: dict[int, User | None] = {}  # None: deleted
        self.highest = loaded

    def expected(self, identity: int) -> User | None:
        if identity in self.changed:
            return self.changed[identity]
        return {
            "id": identity,
            "full_name": f"Name {identity}",
            "email": f"{identity}@loaded.example" if identity % 10 else None,
            "age": identity % 151 if identity % 7 else None,
        }


def is_as_written(expected: User | None, user: User) -> bool:
    """Return whether a user is as written; a required e-mail address may have been filled in."""
    if expected is None:
        return False
    filled_in = f"unknown-{expected['id']}@example.invalid"
    mail = {expected["email"], expected["email"] or filled_in}
    return user in [expected | {"email": email} for email in mail]


class Client:
    """A client that creates, reads, lists, changes and deletes users of its own."""

    def __init__(self, number: int, place: str, users: Users, monitor: LatencyMonitor) -> None:
        self.number = number
        self.users = users
        self.monitor = monitor
        self.http = httpx.AsyncClient(base_url=place, timeout=60)
        self.wrong: list[str] = []
        self.mine: list[int] = []  # ids of users that it has created
        self.times = 0
        self.answers: dict[int, int] = {}  # status: how often

    async def work(self, finished: asyncio.Event) -> None:
        async with self.http:
            while not finished.is_set():
                await self.once()

    async def once(self) -> None:
        created = await self.create()
        await self.read(created)
        await self.find(created)
        loaded = chance.randrange(self.number, self.users.loaded, CLIENTS) or CLIENTS
        for identity in (created, loaded, chance.choice(self.mine)):
            await self.read(identity)
            await self.change(identity)
            await self.read(identity)
        await self.page(loaded)
        if self.times % 5 == 0:
            await self.delete(created)
        self.times += 1

    async def ask(
        self, method: str, path: str, status: HTTPStatus, **options: Any
    ) -> httpx.Response:
        began = time.time()
        response = await self.http.request(method, path, **options)
        self.monitor.record(began, f"{method} {path} {options or ''}")
        self.answers[response.status_code] = self.answers.get(response.status_code, 0) + 1
        if response.status_code != status:
            self.wrong.append(f"{method} {path}: {response.status_code} {response.text}")
        return response

    def check(self, what: str, identity: int, user: User) -> None:
        expected = self.users.expected(identity)
        if not is_as_written(expected, user):
            self.wrong.append(f"{what}: {user} instead of {expected}")

    def value(self, field: str) -> Any:
        number = chance.randrange(10**12)
        if field == "full_name":
            return f"{self.number} {number:012}"
        if number % 4 == 0:
            return None
        return number % 151 if field == "age" else f"{number}@client-{self.number}.example"

    async def create(self) -> int:
        user = {field: self.value(field) for field in ("full_name", "email", "age")}
        response = await self.ask("POST", "/users", HTTPStatus.CREATED, json=user)
        identity = int(response.json()["id"])
        self.users.changed[identity] = {"id": identity, **user}
        self.mine.append(identity)
        self.check("created", identity, response.json())
        return identity

    async def read(self, identity: int) -> None:
        if self.users.expected(identity) is None:
            await self.ask("GET", f"/users/{identity}", HTTPStatus.NOT_FOUND)
            return
        response = await self.ask("GET", f"/users/{identity}", HTTPStatus.OK)
        self.check("read", identity, response.json())

    async def change(self, identity: int) -> None:
        if (user := self.users.expected(identity)) is None:
            return
        field = chance.choice(("full_name", "email", "age"))
        change = {field: self.value(field)}
        response = await self.ask("PATCH", f"/users/{identity}", HTTPStatus.OK, json=change)
        self.users.changed[identity] = user | change
        self.check("changed", identity, response.json())

    async def find(self, identity: int) -> None:
        """Search for the whole name, which is unique."""
        user = self.users.expected(identity)
        assert user is not None
        parameters = {"name": user["full_name"]}
        response = await self.ask("GET", "/users", HTTPStatus.OK, params=parameters)
        items = response.json()["items"]
        if [item["id"] for item in items] != [identity]:
            self.wrong.append(f"{parameters}: {items}")

    async def page(self, identity: int) -> None:
        """List a page by name; check those of its users that this client writes."""
        parameters = {"name": f"Name {identity // 10}", "limit": 20}
        response = await self.ask("GET", "/users", HTTPStatus.OK, params=parameters)
        for item in response.json()["items"]:
            if item["id"] % CLIENTS == self.number and item["id"] <= self.users.loaded:
                self.check("listed", item["id"], item)

    async def delete(self, identity: int) -> None:
        await self.ask("DELETE", f"/users/{identity}", HTTPStatus.NO_CONTENT)
        self.users.changed[identity] = None
        self.mine.remove(identity)
        await self.ask("DELETE", f"/users/{identity}", HTTPStatus.NOT_FOUND)


async def control(place: str, monitor: LatencyMonitor, finished: asyncio.Event) -> None:
    """Send requests that use no database."""
    async with httpx.AsyncClient(base_url=place) as client:
        while not finished.is_set():
            began = time.time()
            await client.get("/health/live")
            monitor.unrelated.append(Timing(began, time.time() - began, "/health/live"))


@asynccontextmanager
async def clients_at_work(
    place: str, users: Users, monitor: LatencyMonitor
) -> AsyncIterator[list[Client]]:
    """Run clients without pause."""
    clients = [Client(number, place, users, monitor) for number in range(CLIENTS)]
    finished = asyncio.Event()
    async with asyncio.TaskGroup() as tasks:
        for client in clients:
            tasks.create_task(client.work(finished))
        tasks.create_task(control(place, monitor, finished))
        try:
            yield clients
        finally:
            finished.set()


async def wrong_rows(url: str, users: Users, query: str) -> list[str]:
    """Return the rows that differ from what clients know."""
    connection = await asyncpg.connect(url)
    missing, wrong = set(range(1, users.loaded + 1)) | set(users.changed), []
    async with connection.transaction():
        async for row in connection.cursor(query, prefetch=10_000):
            missing.discard(row["id"])
            if not is_as_written(users.expected(row["id"]), dict(row)):
                wrong.append(f"{row} instead of {users.expected(row['id'])}")
    await connection.close()
    return wrong + [f"{number} is gone" for number in missing if users.expected(number)]


async def schema(url: str) -> dict[str, str]:
    connection = await asyncpg.connect(url)
    snapshot = json.loads(await connection.fetchval(POSTGRESQL))
    await connection.close()
    return dict(snapshot)


def add_the_scratch_revisions(clone: Path) -> None:
    """Add the revisions of tests/scratch to a clone, numbered after the head."""
    for steps, path in enumerate(SCRATCH, start=1):
        number, before = later(steps), later(steps - 1)
        numbered = f'{path.read_text("utf-8")}\nrevision = "{number}"\ndown_revision = "{before}"\n'
        name = f"{number}{path.name[1:]}"
        (clone / "migrations/versions" / name).write_text(numbered, "utf-8")


@pytest.mark.usefixtures("no_pauses")
async def test_a_service_is_unharmed_by_the_revisions_after_its_own(
    url: str, clone: Path, *, full: bool
) -> None:
    users, undisturbed = (Users(1_000_000), 20.0) if full else (Users(5_000), 1.0)
    connection = await asyncpg.connect(url)
    await connection.execute(LOAD, users.loaded)
    before = await schema(url)
    add_the_scratch_revisions(clone)

    monitor, port = LatencyMonitor(), free_port()
    place = f"http://127.0.0.1:{port}"
    # its output is read at the end only: a line for each request would fill the pipe
    quiet = {"ACCESS_LOG": "off", "LOG_LEVEL": "WARNING"}
    async with forkserver.service(DATABASE_URL=url, PORT=str(port), **quiet):
        async with httpx.AsyncClient(base_url=place) as client:
            await wait_until_ready(client)
        async with monitor.watching(url):
            async with clients_at_work(place, users, monitor) as clients:
                await asyncio.sleep(undisturbed)
                steps = [Step("no migration", 0, time.time(), undisturbed)]
                await run_migration(url, "alembic", "upgrade", "head", cwd=clone)
            wrong = [line for client in clients for line in client.wrong]
            assert await wrong_rows(url, users, AFTER_UPGRADE) == []
            assert await connection.fetchval(WITHOUT_NICKNAME, users.loaded) == 0

            async with clients_at_work(place, users, monitor) as clients:
                await run_migration(url, "alembic", "downgrade", HEAD, cwd=clone)
                steps += await steps_since(url, steps[0].ended)
                began = time.time()
                # otherwise the schema would keep what the revisions set aside
                await run_migration(url, "migrations", "purge", "--undone", "--yes", cwd=clone)
                steps.append(Step("purge", began, time.time(), None))
            wrong += [line for client in clients for line in client.wrong]
    await connection.close()

    print(f"\n{users.loaded} rows\n{monitor.table(steps)}\n{monitor.explanation()}")
    assert wrong == []
    assert await wrong_rows(url, users, AFTER_DOWNGRADE) == []
    assert differences(before, await schema(url)) == []
    assert monitor.slowed_by_migration() == []
