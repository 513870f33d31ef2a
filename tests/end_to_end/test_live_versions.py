"""All published versions work at once while the chain is upgraded, downgraded and upgraded."""

import asyncio
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import asyncpg
import pytest

from tests.chain import NUMBERS
from tests.commands import run_alembic
from tests.latency import LatencyMonitor, Step, run_migration, steps_since

pytestmark = pytest.mark.only("postgresql")

Row = dict[str, Any]
Client = Callable[[str, asyncpg.Connection], Awaitable[None]]

POLL = 0.05  # seconds; a version that is published has clients by then
PAGE = 20
UNKNOWN = "Unknown"
PUBLISHED = "SELECT substr(nspname, 4) FROM pg_namespace WHERE nspname ~ '^at_[0-9]+$' ORDER BY 1"
LOAD = """\
INSERT INTO users (name) SELECT CASE WHEN n % 10 > 0 THEN 'Name ' || n END
FROM generate_series(1, $1::int) AS n"""

COLUMNS = {  # from this version on
    "0001": ("name",),
    "0002": ("name", "email"),
    "0003": ("name", "email", "age"),
    "0006": ("full_name", "email", "age"),
}
REQUIRED = "0005"  # from this version on every user is written with a name


def columns_of(version: str) -> tuple[str, ...]:
    return COLUMNS[max(since for since in COLUMNS if since <= version)]


chance = random.Random(1)  # noqa: S311  # not a secret


class Users:
    """The users as clients know them; `name` is the name, whatever a version calls its column."""

    def __init__(self, loaded: int) -> None:
        self.loaded = loaded
        self.rows: dict[int, Row] = {}
        self.ids: list[int] = []  # of those that clients have created
        self.busy: set[int] = set()  # ids that are being written: their values are uncertain
        self.written: dict[int, int] = {}  # id: how often
        self.numbers = iter(range(1, 10**9))

    def expected(self, identity: int) -> Row:
        """Return the values that were acknowledged last; a name of None may have been filled in."""
        name = f"Name {identity}" if identity % 10 else None
        return self.rows.get(identity) or {"name": name, "email": None, "age": None}

    def any_id(self) -> int:
        if self.ids and chance.random() < 0.7:
            return chance.choice(self.ids)
        return chance.randint(1, self.loaded)

    def value(self, column: str, version: str) -> Any:
        number = next(self.numbers)
        if column == "email":
            return f"{number}@at-{version}.example"
        if column == "age":
            return number % 151
        return None if version < REQUIRED and number % 5 == 0 else f"{version} {number}"

    @contextmanager
    def writing(self, identity: int) -> Iterator[Row]:
        """Yield a dict for new values; they are acknowledged unless the block raises."""
        values: Row = {}
        self.busy.add(identity)
        try:
            yield values
            self.rows[identity] = self.expected(identity) | values
            self.written[identity] = self.written.get(identity, 0) + 1
        finally:
            self.busy.remove(identity)

    def record_created(self, identity: int, values: Row) -> None:
        self.rows[identity] = {"name": None, "email": None, "age": None} | values
        self.ids.append(identity)


def is_as_written(column: str, expected: object, value: object) -> bool:
    filled_in = column == "name" and expected is None and value == UNKNOWN
    return value == expected or filled_in


class Traffic:
    """A reader and a writer of every published version, without pause."""

    def __init__(self, url: str, users: Users, monitor: LatencyMonitor) -> None:
        self.url = url
        self.users = users
        self.monitor = monitor
        self.finished = asyncio.Event()
        self.withdrawn = 0  # clients whose version was withdrawn
        self.wrong: list[str] = []

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self.start_clients(tasks))
            try:
                yield
            finally:
                self.finished.set()

    async def start_clients(self, tasks: asyncio.TaskGroup) -> None:
        """Start clients as soon as their version is published."""
        connection = await asyncpg.connect(self.url)
        clients: dict[str, list[asyncio.Task[None]]] = {}
        while not self.finished.is_set():
            for (version,) in await connection.fetch(PUBLISHED):
                if all(task.done() for task in clients.get(version, ())):
                    clients[version] = [
                        tasks.create_task(self.client(version, kind))
                        for kind in (self.read, self.write)
                    ]
            await asyncio.sleep(POLL)
        await connection.close()

    async def client(self, version: str, does: Client) -> None:
        connection = await asyncpg.connect(
            self.url, server_settings={"application_name": f"users@{version}"}
        )
        try:
            while not self.finished.is_set():
                await does(version, connection)
        except (asyncpg.UndefinedTableError, asyncpg.InvalidSchemaNameError) as error:
            if await connection.fetchval("SELECT to_regnamespace($1)", f"at_{version}"):
                self.wrong.append(f"{version}: {error!r}, and it is published")
            self.withdrawn += 1
        except (asyncpg.PostgresError, asyncpg.InterfaceError) as error:
            self.wrong.append(f"{version}: {error!r}")
        finally:
            await connection.close()

    async def read(self, version: str, connection: asyncpg.Connection) -> None:
        """Read a user by id, then a page of users."""
        columns, users = columns_of(version), self.users
        place = f"at_{version}.users"
        identity = users.any_id()
        before = (identity in users.busy, users.written.get(identity))
        query = f"SELECT id, {', '.join(columns)} FROM {place} WHERE id = $1"
        (row,) = await self.ask(connection, query, identity)
        if before == (False, users.written.get(identity)) and identity not in users.busy:
            self.check(version, identity, dict(row))

        query = f"SELECT * FROM {place} WHERE id > $1 ORDER BY id LIMIT {PAGE}"
        page = await self.ask(connection, query, chance.randint(0, users.loaded - PAGE))
        ids = [row["id"] for row in page]
        if len(page) != PAGE or ids != sorted(ids) or tuple(page[0].keys()) != ("id", *columns):
            self.wrong.append(f"{version}: {page!r}")

    def check(self, version: str, identity: int, row: Row) -> None:
        expected = self.users.expected(identity)
        for column in columns_of(version):
            known = column.removeprefix("full_")
            if not is_as_written(known, expected[known], row[column]):
                self.wrong.append(f"{version}: {column} of {row}, expected {expected}")

    async def write(self, version: str, connection: asyncpg.Connection) -> None:
        """Create a user, then change a value of any user."""
        columns, users = columns_of(version), self.users
        place = f"at_{version}.users"
        known = [column.removeprefix("full_") for column in columns]
        values = {column: users.value(column, version) for column in known}
        query = (
            f"INSERT INTO {place} ({', '.join(columns)}) "
            f"VALUES ({', '.join(f'${n}' for n in range(1, len(columns) + 1))}) RETURNING id"
        )
        ((identity,),) = await self.ask(connection, query, *values.values())
        users.record_created(identity, values)

        identity, column = users.any_id(), chance.choice(columns)
        if identity in users.busy:
            return
        with users.writing(identity) as change:
            known_as = column.removeprefix("full_")
            change[known_as] = users.value(known_as, version)
            query = f"UPDATE {place} SET {column} = $2 WHERE id = $1 RETURNING id"
            rows = await self.ask(connection, query, identity, change[known_as])
            if [row["id"] for row in rows] != [identity]:
                self.wrong.append(f"{version}: {identity} was not there to be updated")

    async def ask(self, connection: asyncpg.Connection, query: str, *values: object) -> Any:
        began = time.time()
        rows = await connection.fetch(query, *values)
        self.monitor.record(began, query, connection.get_server_pid())
        return rows


async def lost_users(url: str, users: Users) -> list[str]:
    """Return the users whose last acknowledged values are missing."""
    connection = await asyncpg.connect(url)
    missing, wrong = set(users.rows) | set(range(1, users.loaded + 1)), []
    async with connection.transaction():
        query = "SELECT id, full_name AS name, email, age FROM users"
        async for row in connection.cursor(query, prefetch=10_000):
            missing.discard(row["id"])
            expected = users.expected(row["id"])
            expected = expected | {"name": expected["name"] or UNKNOWN}
            if dict(row) != {"id": row["id"], **expected}:
                wrong.append(f"{row} instead of {expected}")
    await connection.close()
    return [f"{identity} is gone" for identity in missing] + wrong


@pytest.mark.usefixtures("no_pauses")
async def test_clients_of_all_versions_are_served_while_the_chain_goes_up_and_down(
    empty_url: str, *, full: bool
) -> None:
    loaded, undisturbed = (1_000_000, 20.0) if full else (20_000, 2.0)
    run_alembic(empty_url, "upgrade", "0001")
    connection = await asyncpg.connect(empty_url)
    await connection.execute(LOAD, loaded)
    await connection.close()

    users, monitor, began = Users(loaded), LatencyMonitor(), time.time()
    up = Traffic(empty_url, users, monitor)
    async with monitor.watching(empty_url), up.running():
        await run_migration(empty_url, "alembic", "upgrade", "head")
        steps = await steps_since(empty_url, began)
        baseline = time.time()
        await asyncio.sleep(undisturbed)
        steps.append(Step("no migration", baseline, time.time(), None))
    assert up.wrong == []
    assert up.withdrawn == 0
    assert await lost_users(empty_url, users) == []

    began = time.time()
    down = Traffic(empty_url, users, monitor)
    async with monitor.watching(empty_url), down.running():
        await run_migration(empty_url, "alembic", "downgrade", "base")
        await run_migration(empty_url, "alembic", "upgrade", "head")
        steps += await steps_since(empty_url, began)
    assert down.wrong == []
    assert down.withdrawn == 2 * len(NUMBERS)  # one reader, one writer each
    assert await lost_users(empty_url, users) == []

    print(f"\n{loaded} rows\n{monitor.table(steps)}\n{monitor.explanation()}")
    print(f"{len(users.rows)} users written, {down.withdrawn} clients of withdrawn versions")
    assert monitor.slowed_by_migration() == []
