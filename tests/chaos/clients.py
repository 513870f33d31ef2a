"""Clients of the service: each writes users of its own, and so knows how they must be."""

import asyncio
import json
import random
import time
from http import HTTPStatus
from itertools import count

from tests.chaos.acknowledged import Fields, Owned, State
from tests.chaos.connection import Connection, CutOffError, Response
from tests.chaos.request_log import CUT_OFF, UNANSWERED, Entry, RequestLog

PAUSE = 0.01  # seconds between two requests of a client
PAUSE_AFTER_FAILURE = 0.1  # seconds
PATIENCE = 30.0  # seconds until a client gives up a request
IMPORT_LINES = 4
UNKNOWN_OUTCOMES = {"outcome-unknown", "timed-out"}  # problems that leave open what was stored
JSON = "application/json"
NDJSON = "application/x-ndjson"


class Client:
    """A client that creates, reads, lists, changes, deletes, imports and exports users."""

    def __init__(self, number: int, port: int, log: RequestLog) -> None:
        self.number = number
        # one half keeps its connection, one half makes a new one for each request
        self.connection = Connection(port, keep_alive=number % 2 == 0)
        self.log = log
        self.owned: dict[str, Owned] = {}
        self.imports: list[list[Owned]] = []
        self.read_wrong: list[str] = []  # sentences about responses
        self.stopping = False
        self.numbers = count(1)
        self.chance = random.Random(number)  # noqa: S311  # not a secret
        self.weights = {  # how often each is done, beside the others
            self.create: 4,
            self.create_once: 4,
            self.read: 10,
            self.change: 8,
            self.delete: 1,
            self.list_users: 3,
            self.import_lines: 0.6,
            self.export: 0.4,
        }

    async def work(self) -> None:
        """Send requests until `stopping` is set and the last is answered."""
        actions, weights = list(self.weights), list(self.weights.values())
        try:
            while not self.stopping:
                [action] = self.chance.choices(actions, weights)
                await action()
                await asyncio.sleep(PAUSE)
        finally:
            self.connection.close()

    async def ask(
        self, method: str, path: str, body: bytes = b"", writes: str = "", **headers: str
    ) -> tuple[int, str, bytes]:
        """Send a request and log it; return its status, its problem, and the body.

        A success acknowledges what `writes` names.
        """
        start, response = time.monotonic(), None
        status, problem = UNANSWERED, ""
        try:
            async with asyncio.timeout(PATIENCE):
                response = await self.connection.request(method, path, body, **headers)
            status, problem = response.status, problem_of(response)
        except CutOffError:
            status = CUT_OFF
        except OSError as error:  # TimeoutError too
            self.connection.close()
            problem = type(error).__name__
        entry = Entry(
            self.number, start, time.monotonic(), f"{method} {path}", status, problem, writes
        )
        self.log.entries.append(entry if entry.is_success else entry._replace(acknowledged=""))
        if not entry.is_success and status != HTTPStatus.NOT_FOUND:
            await asyncio.sleep(PAUSE_AFTER_FAILURE)
        return status, problem, response.body if response else b""

    def new_user(self) -> tuple[Owned, Fields]:
        """Return a user of a new marker, and fields for it."""
        number = next(self.numbers)
        user = Owned(f"c{self.number:02}-{number:06}")
        self.owned[user.marker] = user
        return user, self.fields(user.marker, 0)

    def fields(self, marker: str, version: int) -> Fields:
        """Return fields for a user; some have no e-mail address, which would be unique."""
        email = f"{marker}.{version}@chaos.example" if self.chance.random() < 0.5 else None
        age = self.chance.randrange(151) if self.chance.random() < 0.7 else None
        return Fields(f"{marker} {version}", email, age)

    async def create(self) -> None:
        """Create a user without a key; nothing is repeated."""
        user, fields = self.new_user()
        await self.write(user, fields, "POST", "/users", encoded(fields), Content_Type=JSON)

    async def create_once(self) -> None:
        """Create a user with a key, and repeat the request until it succeeds."""
        user, fields = self.new_user()
        await self.until_acknowledged(
            user, fields, "POST", "/users", encoded(fields),
            Content_Type=JSON, Idempotency_Key=user.marker,
        )  # fmt: skip

    async def change(self) -> None:
        """Change fields of a user."""
        user = self.any_user(settled=True)
        if user is None or user.state is None:
            return
        before = user.state
        version = int(before.full_name.rpartition(" ")[2]) + 1
        new = self.fields(user.marker, version)._asdict()
        changed = {name: new[name] for name in self.chance.sample(sorted(new), 2)}
        changed["full_name"] = new["full_name"]  # no state comes twice
        await self.until_acknowledged(
            user, before._replace(**changed), "PATCH", f"/users/{user.identity}",
            json.dumps(changed).encode(), Content_Type="application/merge-patch+json",
        )  # fmt: skip

    async def delete(self) -> None:
        """Delete a user."""
        user = self.any_user(settled=True)
        if user is not None:
            await self.until_acknowledged(user, None, "DELETE", f"/users/{user.identity}")

    async def until_acknowledged(
        self, user: Owned, state: State, method: str, path: str, body: bytes = b"", **headers: str
    ) -> None:
        """Send a write again and again, until it succeeds or the run ends; read in between."""
        while not await self.write(user, state, method, path, body, **headers):
            if self.stopping:
                return
            await self.read()

    async def write(
        self, user: Owned, state: State, method: str, path: str, body: bytes = b"", **headers: str
    ) -> bool:
        """Send a write, and note what is known of it; return whether it is certainly stored."""
        what = f"{user.marker} = {state}"
        status, problem, content = await self.ask(method, path, body, what, **headers)
        if status in {HTTPStatus.OK, HTTPStatus.CREATED, HTTPStatus.NO_CONTENT}:
            if state is not None:
                user.identity, answered = decoded(json.loads(content))
                self.check(user, answered, {state}, "the answer to a write")
            user.acknowledge(state)
            return True
        if status == HTTPStatus.NOT_FOUND:  # a repeated DELETE finds that the first was done
            self.check(user, None, user.possible | {state}, method)
            user.acknowledge(None)
            return True
        note_failure(user, state, status, problem)
        return False

    async def read(self) -> None:
        """Read a user by its id."""
        user = self.any_user()
        if user is None:
            return
        status, _, body = await self.ask("GET", f"/users/{user.identity}")
        if status == HTTPStatus.OK:
            identity, fields = decoded(json.loads(body))
            self.check(user, fields, user.possible, "GET")
            if identity != user.identity:
                self.read_wrong.append(f"GET {user.identity} answered with {identity}")
        elif status == HTTPStatus.NOT_FOUND:
            self.check(user, None, user.possible, "GET")

    async def list_users(self) -> None:
        """List some users by the beginning of their names."""
        prefix = f"c{self.number:02}-{self.chance.randrange(10):05}"
        status, _, body = await self.ask("GET", f"/users?name={prefix}&limit=100")
        if status == HTTPStatus.OK:
            self.check_all(prefix, json.loads(body)["items"], "a list")

    async def export(self) -> None:
        """Export this client's users."""
        prefix = f"c{self.number:02}-"
        status, _, body = await self.ask("GET", f"/users/export?name={prefix}")
        if status == HTTPStatus.OK:
            self.check_all(prefix, [json.loads(line) for line in body.splitlines()], "an export")

    async def import_lines(self) -> None:
        """Import a few users; every other import has a key, and is repeated until it succeeds."""
        lines = [self.new_user() for _ in range(IMPORT_LINES)]
        users = [user for user, _ in lines]
        body = b"\n".join(encoded(fields) for _, fields in lines)
        headers = {"Content_Type": NDJSON}
        if keyed := len(self.imports) % 2 == 0:
            headers["Idempotency_Key"] = f"import-{users[0].marker}"
        self.imports.append(users)
        while True:
            status, problem, _ = await self.ask(
                "POST", "/users/import", body, f"import of {users[0].marker}", **headers
            )
            for user, fields in lines:
                if status == HTTPStatus.OK:
                    user.acknowledge(fields)
                else:
                    note_failure(user, fields, status, problem)
            if status == HTTPStatus.OK or not keyed or self.stopping:
                return
            await self.read()

    def any_user(self, *, settled: bool = False) -> Owned | None:
        """Return a user whose id is known; a `settled` one is there, and no write is on its way."""
        users = [
            user
            for user in list(self.owned.values())[-200:]
            if user.identity is not None
            and (not settled or (user.settled and user.possible != {None}))
        ]
        return self.chance.choice(users) if users else None

    def check(self, user: Owned, state: State, possible: set[State], where: str) -> None:
        """Note a state that was answered and is none of the possible ones."""
        if state not in possible:
            sentence = f"{where} shows {user.marker} as {state} instead of {possible}"
            self.read_wrong.append(sentence)

    def check_all(self, prefix: str, items: list[dict[str, object]], where: str) -> None:
        """Check a response that has all users whose marker begins with the prefix."""
        shown: dict[str, State] = {}
        for item in items:
            _, fields = decoded(item)
            if fields.marker in shown:
                self.read_wrong.append(f"{where} shows {fields.marker} twice")
            shown[fields.marker] = fields
            if fields.marker not in self.owned:
                self.read_wrong.append(f"{where} shows {fields}: nobody wrote it")
        for marker, user in self.owned.items():
            if marker.startswith(prefix):
                self.check(user, shown.get(marker), user.possible, where)


def note_failure(user: Owned, state: State, status: int, problem: str) -> None:
    """Note what a failed write says about the state."""
    if status == HTTPStatus.SERVICE_UNAVAILABLE and problem not in UNKNOWN_OUTCOMES:
        user.deny(state)
    elif status in {UNANSWERED, CUT_OFF} or status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        user.doubt(state)


def encoded(fields: Fields) -> bytes:
    """Return the fields as JSON."""
    return json.dumps(fields._asdict()).encode()


def decoded(item: dict[str, object]) -> tuple[int, Fields]:
    """Return the id and the fields of a user in a response."""
    fields = {name: item[name] for name in Fields._fields}
    return int(str(item["id"])), Fields(**fields)  # type: ignore[arg-type]  # compared as they are


def problem_of(response: Response) -> str:
    """Return the type of the problem that a response tells; empty without one."""
    if "problem+json" not in response.headers.get("content-type", ""):
        return ""
    return str(json.loads(response.body)["type"]).removeprefix("urn:problem:")
