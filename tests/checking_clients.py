"""Clients at work on users of their own, which check each field of each response."""

import asyncio
import json
import random
import time
from collections import Counter
from collections.abc import Sequence
from http import HTTPStatus
from typing import Any

import httpx

from tests.transfers import CSV

User = dict[str, Any]

FIELDS = ("full_name", "email", "age")
MOST = 12  # users that a client keeps; it deletes one before it adds another
WEIGHTS = {  # how often a client does what
    "create": 4,
    "create_by_key": 2,
    "read": 8,
    "change": 6,
    "list_mine": 3,
    "delete": 2,
    "import_some": 1,
    "export_mine": 1,
}


class Load:
    """The responses that all clients got together."""

    def __init__(self) -> None:
        self.statuses: Counter[int] = Counter()
        self.wrong: list[str] = []  # responses other than the client expected
        self.seconds = 0.0

    @property
    def count(self) -> int:
        """How many responses there were."""
        return sum(self.statuses.values())

    def __str__(self) -> str:
        rate = self.count / self.seconds
        return (
            f"{self.count} requests, {rate:.0f}/s, {dict(self.statuses)}, {len(self.wrong)} wrong"
        )


async def load(services: Sequence[httpx.AsyncClient], *, clients: int, seconds: float) -> Load:
    """Let clients work for so many seconds, each on all services in turn; return what came of it.

    The database must be empty: a client finds its users by their names.
    """
    result, began = Load(), time.monotonic()
    async with asyncio.TaskGroup() as tasks:
        for number in range(clients):
            client = Client(number, services, result)
            tasks.create_task(client.work(began + seconds))
    result.seconds = time.monotonic() - began
    return result


class Client:
    """A client that knows which users it has, with their fields."""

    def __init__(self, number: int, services: Sequence[httpx.AsyncClient], load: Load) -> None:
        self.chance = random.Random(number)  # noqa: S311  # not a secret
        self.name = f"client-{number:03}"
        self.services = services
        self.load = load
        self.users: dict[int, User] = {}

    async def work(self, end: float) -> None:
        while time.monotonic() < end:
            [name] = self.chance.choices(list(WEIGHTS), list(WEIGHTS.values()))
            await getattr(self, name)()

    async def ask(
        self, method: str, path: str, status: HTTPStatus, **options: Any
    ) -> httpx.Response | None:
        """Send a request to one of the services; return its response if it has the status."""
        service = self.chance.choice(self.services)
        response = await service.request(method, path, **options)
        self.load.statuses[response.status_code] += 1
        if response.status_code == status:
            return response
        self.load.wrong.append(f"{method} {path} {options}: {response.status_code} {response.text}")
        return None

    def check(self, what: str, expected: Any, actual: Any) -> None:
        if actual != expected:
            self.load.wrong.append(f"{self.name} {what}: {actual} instead of {expected}")

    def value(self, field: str) -> Any:
        number = self.chance.randrange(10**9)
        if field == "full_name":
            return f"{self.name} {number}"
        if number % 4 == 0:
            return None
        return number % 151 if field == "age" else f"{number}@{self.name}.example"

    def new_user(self) -> User:
        return {field: self.value(field) for field in FIELDS}

    async def create(self, **headers: str) -> None:
        if len(self.users) >= MOST:
            await self.delete()
        user = self.new_user()
        for _ in range(2 if headers else 1):  # a repetition gets the first response
            response = await self.ask(
                "POST", "/users", HTTPStatus.CREATED, json=user, headers=headers
            )
            if response is not None:
                created = response.json()
                self.check("created", {"id": created["id"], **user}, created)
                self.users[created["id"]] = created

    async def create_by_key(self) -> None:
        await self.create(**{"Idempotency-Key": f"{self.name} {self.chance.random()}"})

    async def read(self) -> None:
        if not self.users:
            return
        user = self.chance.choice(list(self.users.values()))
        response = await self.ask("GET", f"/users/{user['id']}", HTTPStatus.OK)
        if response is not None:
            self.check("read", user, response.json())

    async def change(self) -> None:
        if not self.users:
            return
        user = self.chance.choice(list(self.users.values()))
        fields = self.chance.sample(FIELDS, self.chance.randint(1, 3))  # each choice is a statement
        changes = {field: self.value(field) for field in fields}
        response = await self.ask("PATCH", f"/users/{user['id']}", HTTPStatus.OK, json=changes)
        if response is not None:
            user.update(changes)
            self.check("changed", user, response.json())

    async def delete(self) -> None:
        if not self.users:
            return
        identity = self.chance.choice(list(self.users))
        if await self.ask("DELETE", f"/users/{identity}", HTTPStatus.NO_CONTENT) is not None:
            del self.users[identity]

    async def list_mine(self) -> None:
        path = f"/users?limit=1000&name={self.name}"
        response = await self.ask("GET", path, HTTPStatus.OK)
        if response is not None:
            self.check("listed", self.mine(), by_id(response.json()["items"]))

    async def import_some(self) -> None:
        for _ in range(len(self.users) + 3 - MOST):
            await self.delete()
        new = [self.new_user() for _ in range(3)]
        content = "full_name,email,age\n" + "".join(
            ",".join(str("" if value is None else value) for value in user.values()) + "\n"
            for user in new
        )
        response = await self.ask(
            *("POST", "/users/import", HTTPStatus.OK),
            content=content,
            headers={"Content-Type": CSV},
        )
        if response is None:
            return
        response = await self.ask("GET", f"/users?limit=1000&name={self.name}", HTTPStatus.OK)
        if response is None:
            return
        items = by_id(response.json()["items"])
        imported = {key: user for key, user in items.items() if key not in self.users}
        fields = [{field: user[field] for field in FIELDS} for user in imported.values()]
        self.check("imported", new, fields)
        self.users |= imported

    async def export_mine(self) -> None:
        path = f"/users/export?format=ndjson&name={self.name}"
        response = await self.ask("GET", path, HTTPStatus.OK)
        if response is not None:
            users = [json.loads(line) for line in response.text.splitlines()]
            self.check("exported", self.mine(), by_id(users))

    def mine(self) -> dict[int, User]:
        return dict(sorted(self.users.items()))


def by_id(users: list[User]) -> dict[int, User]:
    return {user["id"]: user for user in sorted(users, key=lambda user: int(user["id"]))}
