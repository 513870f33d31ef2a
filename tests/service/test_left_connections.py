"""A model: connections are left in every bad state, and no request notices.

Each step leaves one of the service's own connections in a state that a fault could leave it in, by
the driver or by cancelling a task. After it, requests of all kinds must answer rightly: no 5xx, no
rows that another has not committed, and what they were told is stored must be stored.
"""

import asyncio
import random
import secrets
import sqlite3
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, closing, suppress
from http import HTTPStatus
from itertools import cycle
from typing import Any, NamedTuple, cast

import asyncpg
import httpx
import pytest
from litestar.types import ASGIApp, Receive, Scope, Send
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from service.app import create_app
from service.database import Database
from service.settings import Settings
from service.transfer.sessions import Transfers
from tests.databases import path_of
from tests.lifespan import lifespan
from tests.transfers import import_users

POOL_SIZE = 4
STEPS = 120
STEPS_IN_FULL = 10_000
TIMEOUT = 10.0  # seconds of a step
NEVER = "Never Committed"  # the name of users whom no request may see
SLOW = "Slow To Commit"  # the name of a user whose COMMIT takes a second
PERHAPS = "Perhaps Committed"
SLOW_COMMIT = f"""\
CREATE FUNCTION sleep() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
  IF NEW.full_name = '{SLOW}' THEN PERFORM pg_sleep(1); END IF; RETURN NULL; END $$;
CREATE CONSTRAINT TRIGGER slow AFTER INSERT ON users
  DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION sleep()"""


class LeaveError(Exception):
    """Ends a session as a fault does."""


class Service(NamedTuple):
    """The app's client, and the database and the transfers that the app itself uses."""

    client: httpx.AsyncClient
    database: Database
    transfers: Transfers


@asynccontextmanager
async def service(url: str) -> AsyncIterator[Service]:
    """Yield a service in this process."""
    settings = Settings(
        database_url=url, pool_size=POOL_SIZE, pool_timeout=2, metrics=False, access_log="off"
    )
    app = create_app(settings)
    scopes: list[Scope] = []

    async def keep_scope(scope: Scope, receive: Receive, send: Send) -> None:
        scopes.append(scope)
        await app(scope, receive, send)

    async with lifespan(cast("ASGIApp", keep_scope)):
        transport = httpx.ASGITransport(cast("Any", keep_scope))
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            await client.get("/health/live")
            state = cast("Any", scopes[-1])["litestar_app"].state
            yield Service(client, state.database, state.transfers)


Query = Callable[..., Awaitable[Any]]  # returns the first value of the first row
Sessions = Callable[[], AbstractAsyncContextManager[AsyncSession]]


def kinds_of(running: Service) -> dict[str, Sessions]:
    """Return the service's ways to open a session."""
    return {
        "read": running.database.read,
        "write": running.database.write,
        "export": running.transfers.export_session,
        "import": running.transfers.import_session,
    }


class Left:
    """A connection of the service's, while a step brings it into a bad state."""

    def __init__(self, session: AsyncSession, driver: Any, query: Query) -> None:
        self.session = session
        self.driver = driver
        self.query = query
        self.unfinished: asyncio.Future[Any] | None = None

    @property
    def pid(self) -> int:
        """The process id of the connection's server process (PostgreSQL)."""
        return int(self.driver.get_server_pid())

    async def started(self, *, state: str = "active") -> None:
        """Return when the connection's server process is in the state."""
        statement = (
            "SELECT count(*) FROM pg_stat_activity WHERE pid = $1 AND state = $2"
            " AND wait_event = 'PgSleep'"
        )
        while not await self.query(statement, self.pid, state):
            await asyncio.sleep(0.001)

    async def closed(self) -> None:
        """Return when the driver knows that the server has closed the connection."""
        while not self.driver.is_closed():
            await asyncio.sleep(0.001)

    async def cancel(self, work: Awaitable[Any]) -> None:
        """Cancel the work while the server is busy with it."""
        task = asyncio.ensure_future(work)
        await self.started()
        task.cancel()
        with suppress(asyncio.CancelledError, Exception):
            await task

    async def interrupt(self, work: Awaitable[Any]) -> None:
        """Let the server cancel the work."""
        task = asyncio.ensure_future(work)
        await self.started()
        await self.query("SELECT pg_cancel_backend($1)", self.pid)
        with suppress(Exception):
            await task


ADD = f"INSERT INTO users (full_name) VALUES ('{NEVER}')"  # our own constant
ADD_SLOW = f"INSERT INTO users (full_name) VALUES ('{SLOW}')"  # the same
ADD_PERHAPS = f"INSERT INTO users (full_name) VALUES ('{PERHAPS}')"  # the same
RAIN = "SELECT count(pg_cancel_backend($1)) FROM generate_series(1, 5000)"
ROWS = "SELECT n, repeat('x', 1000) FROM generate_series(1, 20000) AS n"
SLEEP = "SELECT pg_sleep(5)"


async def open_transaction(left: Left) -> None:
    await left.driver.execute(f"ROLLBACK; BEGIN; {ADD}")


async def open_snapshot(left: Left) -> None:
    await left.driver.execute("ROLLBACK; BEGIN ISOLATION LEVEL REPEATABLE READ; TABLE users")


async def read_only_transaction(left: Left) -> None:
    await left.driver.execute("ROLLBACK; BEGIN READ ONLY")


async def transaction_object(left: Left) -> None:
    with suppress(asyncpg.InterfaceError):  # there is one already
        await left.driver.transaction().start()
    await left.driver.execute(ADD)


async def failed_transaction(left: Left) -> None:
    await left.driver.execute(f"ROLLBACK; BEGIN; {ADD}")
    with suppress(asyncpg.DivisionByZeroError):
        await left.driver.execute("SELECT 1 / 0")


async def savepoint(left: Left) -> None:
    await left.driver.execute(f"ROLLBACK; BEGIN; {ADD}; SAVEPOINT one; {ADD}")


async def cancelled_query(left: Left) -> None:
    await left.cancel(left.session.execute(text(SLEEP)))


async def cancelled_query_of_the_driver(left: Left) -> None:
    await left.driver.execute(f"ROLLBACK; BEGIN; {ADD}")
    await left.cancel(left.driver.fetch(SLEEP))


async def running_query(left: Left) -> None:
    """The query goes on while the connection is returned."""
    left.unfinished = asyncio.ensure_future(left.driver.fetch("SELECT pg_sleep(0.3)"))
    await left.started()


async def interrupted_query(left: Left) -> None:
    await left.interrupt(left.session.execute(text(SLEEP)))


async def cancelled_commit(left: Left) -> None:
    await left.driver.execute(f"ROLLBACK; BEGIN; {ADD_SLOW}")
    await left.cancel(left.driver.execute("COMMIT"))


async def interrupted_commit(left: Left) -> None:
    await left.driver.execute(f"ROLLBACK; BEGIN; {ADD}; {ADD_SLOW}")
    await left.interrupt(left.driver.execute("COMMIT"))


async def idle_for_too_long(left: Left) -> None:
    """The server closes the connection."""
    await left.session.execute(text(ADD))
    await left.session.execute(text("SET LOCAL idle_in_transaction_session_timeout = '10ms'"))
    await left.closed()


async def interrupted_commit_of_the_session(left: Left) -> None:
    await left.session.execute(text(ADD))
    await left.session.execute(text(ADD_SLOW))
    await left.interrupt(left.session.commit())


async def cancelled_commit_of_the_session(left: Left) -> None:
    await left.session.execute(text(ADD_SLOW))
    await left.cancel(left.session.commit())


async def rain_of_cancels(left: Left) -> None:
    """One that hits COMMIT before it commits leaves a failed transaction behind."""
    await left.session.execute(text(ADD_PERHAPS))
    rain = asyncio.ensure_future(left.query(RAIN, left.pid))
    await asyncio.sleep(0.001)
    try:
        await left.session.commit()
    finally:
        await rain


async def half_read_copy(left: Left) -> None:
    read, never = asyncio.Event(), asyncio.Event()

    async def stall(_: bytes) -> None:
        read.set()
        await never.wait()

    task = asyncio.ensure_future(left.driver.copy_from_query(ROWS, output=stall))
    await read.wait()
    task.cancel()
    with suppress(asyncio.CancelledError, Exception):
        await task


async def half_written_copy(left: Left) -> None:
    sent, never = asyncio.Event(), asyncio.Event()

    async def records() -> AsyncIterator[bytes]:
        yield f"{NEVER}\n".encode() * 1000
        sent.set()
        await never.wait()

    task = asyncio.ensure_future(
        left.driver.copy_to_table("users", source=records(), columns=["full_name"])
    )
    await sent.wait()
    task.cancel()
    with suppress(asyncio.CancelledError, Exception):
        await task


async def copy_that_fails(left: Left) -> None:
    async def records() -> AsyncIterator[bytes]:
        yield f"{NEVER}\n".encode() * 1000
        raise LeaveError

    with suppress(LeaveError):
        await left.driver.copy_to_table("users", source=records(), columns=["full_name"])


async def half_read_portal(left: Left) -> None:
    await left.driver.execute("ROLLBACK")
    with suppress(asyncpg.InterfaceError):
        await left.driver.transaction().start()
        cursor = await left.driver.cursor(ROWS)
        await cursor.fetch(10)


async def half_read_stream(left: Left) -> None:
    result = await left.session.stream(text(ROWS))
    await result.fetchmany(10)


async def cancelled_stream(left: Left) -> None:
    result = await left.session.stream(text("SELECT pg_sleep(0.002) FROM generate_series(1, 9999)"))
    await left.cancel(result.all())


async def two_at_once(left: Left) -> None:
    """The driver refuses the second, and what it then thinks of the first is its own affair."""
    await asyncio.gather(
        left.driver.fetch(ROWS), left.session.execute(text(ROWS)), return_exceptions=True
    )


async def advisory_lock(left: Left) -> None:
    await left.driver.execute("ROLLBACK; BEGIN; SELECT pg_advisory_xact_lock(1)")


async def others_settings(left: Left) -> None:
    await left.driver.execute(
        "ROLLBACK; SET ROLE pg_monitor; SET default_transaction_read_only = on;"
        " SET statement_timeout = '1ms'; SET lock_timeout = '1ms'"
    )


async def closed_by_the_server(left: Left) -> None:
    await left.query("SELECT pg_terminate_backend($1)", left.pid)
    await left.closed()


async def closed_by_the_server_in_a_query(left: Left) -> None:
    task = asyncio.ensure_future(left.session.execute(text(SLEEP)))
    await left.started()
    await left.query("SELECT pg_terminate_backend($1)", left.pid)
    with suppress(Exception):
        await task


async def closed_here(left: Left) -> None:
    left.driver.terminate()


async def closed_here_politely(left: Left) -> None:
    await left.driver.close()


async def nothing(_: Left) -> None:
    """Leave it as a session left it, by an exception or not."""


State = Callable[[Left], Awaitable[None]]

ADDING: list[State] = [  # these add a user: in a session that writes, only an exception undoes that
    open_transaction,
    transaction_object,
    savepoint,
    cancelled_query_of_the_driver,
]
COMMITTING: list[State] = [  # these need a session that writes
    idle_for_too_long,
    interrupted_commit_of_the_session,
    cancelled_commit_of_the_session,
    rain_of_cancels,
]
OTHERS: list[State] = [
    open_snapshot,
    read_only_transaction,
    failed_transaction,
    cancelled_query,
    running_query,
    interrupted_query,
    cancelled_commit,
    interrupted_commit,
    half_read_copy,
    half_written_copy,
    copy_that_fails,
    half_read_portal,
    half_read_stream,
    cancelled_stream,
    two_at_once,
    advisory_lock,
    others_settings,
    closed_by_the_server,
    closed_by_the_server_in_a_query,
    closed_here,
    closed_here_politely,
    nothing,
]


async def file_transaction(left: Left) -> None:
    if not left.driver.in_transaction:
        await left.driver.execute("BEGIN IMMEDIATE")
    await left.driver.execute(ADD)


async def file_transaction_after_commit(left: Left) -> None:
    await left.driver.execute("ROLLBACK")
    await left.driver.execute("BEGIN IMMEDIATE")
    await left.driver.execute(ADD)


async def file_snapshot(left: Left) -> None:
    await left.driver.execute("ROLLBACK")
    await left.driver.execute("BEGIN")
    await left.driver.execute("SELECT count(*) FROM users")


async def file_cancelled_query(left: Left) -> None:
    task = asyncio.ensure_future(left.session.execute(text(COUNTING)))
    await asyncio.sleep(0.002)
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


async def file_interrupted_query(left: Left) -> None:
    task = asyncio.ensure_future(left.session.execute(text(COUNTING)))
    await asyncio.sleep(0.002)
    await left.driver.interrupt()
    await task


async def file_half_read_stream(left: Left) -> None:
    result = await left.session.stream(text("SELECT * FROM users, users AS u, users AS v"))
    await result.fetchmany(1)


async def file_cancelled_commit(left: Left) -> None:
    await left.session.execute(text(ADD_PERHAPS))
    task = asyncio.ensure_future(left.session.commit())
    await asyncio.sleep(0)
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


async def file_closed(left: Left) -> None:
    await left.driver.close()


COUNTING = """\
WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 200000)
SELECT count(*) FROM n"""
FILE_STATES: list[State] = [
    file_snapshot,
    file_cancelled_query,
    file_interrupted_query,
    file_half_read_stream,
    file_closed,
    nothing,
]


class Case(NamedTuple):
    """A state in which a session of a kind is left, by an exception or not."""

    kind: str
    state: State
    raising: bool

    def __str__(self) -> str:
        return f"{self.kind}, {self.state.__name__}, {'raising' if self.raising else 'leaving'}"


CASES = [
    *(
        Case(kind, state, raising)
        for kind in ("read", "export")
        for state in (*ADDING, *OTHERS)
        for raising in (True, False)
    ),
    *(
        Case(kind, state, raising)
        for kind in ("write", "import")
        for state in (*ADDING, *COMMITTING, *OTHERS)
        for raising in (True, False)
        if raising or state not in ADDING
    ),
]


FILE_CASES = [
    *(
        Case(kind, state, raising)
        for kind in ("read", "write", "export", "import")
        for state in FILE_STATES
        for raising in (True, False)
    ),
    *(Case(kind, file_transaction, raising=True) for kind in ("read", "write", "import")),
    *(Case(kind, file_transaction_after_commit, raising=False) for kind in ("read", "export")),
    *(Case(kind, file_cancelled_commit, raising=False) for kind in ("write", "import")),
]


async def leave(
    sessions: Sessions,
    state: State,
    query: Query,
    *,
    raising: bool,
) -> None:
    """Bring a connection into the state, and leave its session, raising or not."""
    left = None
    with suppress(Exception):
        async with sessions() as session:
            await session.execute(text("SELECT 1"))
            connection = await session.connection()
            driver = (await connection.get_raw_connection()).driver_connection
            left = Left(session, driver, query)
            await state(left)
            if raising:
                raise LeaveError
    if left is not None and left.unfinished is not None:
        left.unfinished.add_done_callback(lambda task: task.cancelled() or task.exception())


class Model:
    """The users that must be there, and the requests that look for them."""

    def __init__(self, client: httpx.AsyncClient, query: Query, seed: int) -> None:
        self.client = client
        self.query = query
        self.chance = random.Random(seed)  # noqa: S311  # not a secret
        self.users: dict[int, str] = {}
        self.number = 0

    def name(self) -> str:
        self.number += 1
        return f"User {self.number}"

    async def ask(
        self, method: str, path: str, status: HTTPStatus, **options: Any
    ) -> httpx.Response:
        response = await self.client.request(method, path, **options)
        assert response.status_code == status, f"{method} {path}: {response.text}"
        return response

    async def must_be_stored(self, identity: int) -> None:
        statement = "SELECT full_name FROM users WHERE id = $1"
        assert await self.query(statement, identity) == self.users.get(identity)

    async def create(self, **headers: str) -> None:
        name = self.name()
        response = await self.ask(
            "POST", "/users", HTTPStatus.CREATED, json={"full_name": name}, headers=headers
        )
        identity = response.json()["id"]
        self.users[identity] = name
        await self.must_be_stored(identity)

    async def create_by_key(self) -> None:
        await self.create(**{"Idempotency-Key": str(self.number)})

    async def create_several(self) -> None:
        names = [self.name() for _ in range(3)]
        bodies = [{"full_name": name} for name in names]
        responses = await asyncio.gather(
            *(self.ask("POST", "/users", HTTPStatus.CREATED, json=body) for body in bodies)
        )
        for name, response in zip(names, responses, strict=True):
            self.users[response.json()["id"]] = name
            await self.must_be_stored(response.json()["id"])

    async def read(self) -> None:
        identity = self.chance.choice(list(self.users))
        response = await self.ask("GET", f"/users/{identity}", HTTPStatus.OK)
        assert response.json()["full_name"] == self.users[identity]

    async def read_several(self) -> None:
        await asyncio.gather(*(self.read() for _ in range(2 * POOL_SIZE)))

    async def list_all(self) -> None:
        response = await self.ask("GET", "/users?limit=1000&name=user", HTTPStatus.OK)
        items = response.json()["items"]
        assert {item["id"]: item["full_name"] for item in items} == self.users
        response = await self.ask("GET", f"/users?name={NEVER}", HTTPStatus.OK)
        assert response.json()["items"] == []

    async def change(self) -> None:
        identity, name = self.chance.choice(list(self.users)), self.name()
        body = {"full_name": name}
        response = await self.ask("PATCH", f"/users/{identity}", HTTPStatus.OK, json=body)
        assert response.json()["full_name"] == name
        self.users[identity] = name
        await self.must_be_stored(identity)

    async def delete(self) -> None:
        while len(self.users) > 9:
            identity = self.chance.choice(list(self.users))
            await self.ask("DELETE", f"/users/{identity}", HTTPStatus.NO_CONTENT)
            del self.users[identity]
            await self.must_be_stored(identity)

    async def import_one(self) -> None:
        name = self.name()
        response = await import_users(self.client, f"full_name\n{name}\n")
        assert response.status_code == HTTPStatus.OK, response.text
        statement = "SELECT id FROM users WHERE full_name = $1"
        self.users[await self.query(statement, name)] = name

    async def export_all(self) -> None:
        response = await self.ask("GET", "/users/export?format=csv&name=user", HTTPStatus.OK)
        assert len(response.text.splitlines()) == 1 + len(self.users)

    async def is_ready(self) -> None:
        await self.ask("GET", "/health/ready", HTTPStatus.OK)

    @property
    def requests(self) -> list[Callable[[], Awaitable[None]]]:
        reads = [self.read, self.read_several, self.list_all, self.export_all, self.is_ready]
        writes = [self.create, self.create_by_key, self.create_several, self.change, self.delete]
        return [*reads, *writes, self.import_one]


async def hold_all(sessions: Sessions, size: int) -> None:
    """Hold `size` sessions at once, each on a connection of its own; fail where that can't be."""
    pids: set[int] = set()
    together = asyncio.Barrier(size)

    async def hold() -> None:
        async with sessions() as session:
            pids.add((await session.execute(text("SELECT pg_backend_pid()"))).scalar_one())
            await together.wait()

    async with asyncio.timeout(TIMEOUT), asyncio.TaskGroup() as tasks:
        for _ in range(size):
            tasks.create_task(hold())
    assert len(pids) == size


CHANGES = [  # of a session, which outlast its transaction
    "SET lock_timeout = '1ms'",
    "SET SESSION statement_timeout = '1ms'",
    "SET default_transaction_read_only = on",
    "SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY",
    "SET ROLE pg_monitor",
    "SET SESSION AUTHORIZATION pg_monitor",
    "SET search_path = pg_temp",
    "SET TIME ZONE 'Asia/Kathmandu'",
    "RESET ALL",
    "DISCARD ALL",
    "/* a comment */ SET lock_timeout = '1ms'",
    "-- a comment\n  set lock_timeout = '1ms'",
    "SELECT set_config('lock_timeout', '1ms', false)",
    "SELECT set_config('lock_timeout', $$1ms$$, 1 > 2)",
    "DO $$ BEGIN SET lock_timeout = '1ms'; END $$",
    "DO $$ BEGIN PERFORM set_config('lock_timeout', '1ms', 1 > 2); END $$",
    "UPDATE pg_settings SET setting = '1' WHERE name = 'lock_timeout'",
    "SELECT pg_advisory_lock(15)",
    "SELECT pg_try_advisory_lock_shared(15)",
    "LISTEN fifteen",
    "PREPARE fifteen AS SELECT 1",
    "DECLARE fifteen CURSOR WITH HOLD FOR SELECT 1",
    "CREATE TEMPORARY TABLE users (id bigint)",
    "CREATE TABLE pg_temp.users (id bigint)",
    "SELECT 1 AS id INTO TEMPORARY users",
]
SEEN = """\
SELECT
  ARRAY(SELECT concat_ws('=', name, setting) FROM pg_settings
        WHERE source IN ('session', 'client') AND name <> 'jit' ORDER BY name),
  ARRAY[session_user, current_user],
  ARRAY(SELECT concat_ws(' ', mode, objid) FROM pg_locks
        WHERE locktype = 'advisory' AND pid = pg_backend_pid()),
  ARRAY(SELECT pg_listening_channels()),
  ARRAY(SELECT name FROM pg_prepared_statements WHERE name NOT LIKE 'users\\_%'),
  ARRAY(SELECT name FROM pg_cursors WHERE is_holdable),
  ARRAY(SELECT relname::text FROM pg_class WHERE relnamespace = pg_my_temp_schema()),
  to_regclass('users')::text"""


@pytest.mark.only("postgresql")
@pytest.mark.parametrize("by", ["session", "driver", "driver's fetch"])
async def test_no_session_begins_with_what_another_changed(
    url: str, by: str, *, full: bool
) -> None:
    """What PostgreSQL says of a session's state is the judge of what was left."""
    async with service(url) as running:
        kinds = cycle(kinds_of(running).items())
        before = await seen_by_all(running.database)
        for change in CHANGES * (4 if full else 1):
            kind, sessions = next(kinds)
            async with sessions() as session:
                await session.execute(text("SELECT 1"))
                await change_session(session, change, by)
            assert await seen_by_all(running.database) == before, f"{kind}: {change}"


@pytest.mark.only("postgresql")
async def test_requests_of_all_kinds_keep_their_connections(
    url: str, driver: asyncpg.Connection
) -> None:
    async with service(url) as running:
        model = Model(running.client, driver.fetchval, seed=15)
        await until_noticed(running.database)
        before = await driver.fetch(BACKENDS)
        await model.create()
        for _ in range(5):
            for request in model.requests:
                await request()
        assert await driver.fetch(BACKENDS) == before
        assert len(before) == POOL_SIZE


async def change_session(session: AsyncSession, change: str, by: str) -> None:
    """Change a session, and commit the change."""
    if by == "session":
        if change == "DISCARD ALL":  # refused within a transaction
            return
        # nothing in it is a parameter
        await session.execute(text(change.replace(":", r"\:")))
        await session.commit()
        return
    connection = await session.connection()
    driver = (await connection.get_raw_connection()).driver_connection
    assert driver is not None
    if by == "driver":
        await driver.execute("ROLLBACK")
        await driver.execute(change)
    else:
        await driver.fetch("ROLLBACK")
        await driver.fetch(change)


async def seen_by_all(database: Database) -> list[Any]:
    """Return what sessions see of their own state, without repetitions, on each connection."""
    states: list[Any] = []
    for sessions, pool in zip((database.read, database.write), database.pools, strict=True):
        together = asyncio.Barrier(pool.size())

        async def look(sessions: Sessions = sessions, together: asyncio.Barrier = together) -> Any:
            async with sessions() as session:
                row = (await session.execute(text(SEEN))).one()
                await together.wait()
                return tuple(row)

        async with asyncio.timeout(TIMEOUT), asyncio.TaskGroup() as tasks:
            looks = [tasks.create_task(look()) for _ in range(pool.size())]
        states += sorted({str(task.result()) for task in looks})
    return states


CSV = {"Content-Type": "text/csv"}
KEY = {"Idempotency-Key": "perhaps"}
PERHAPS_BODY = {"json": {"full_name": PERHAPS}}
PERHAPS_LINES = {"content": f"full_name\n{PERHAPS}\n"}
REQUESTS: list[tuple[str, str, dict[str, Any]]] = [  # nobody minds if they are done
    ("GET", "/users/1", {}),
    ("GET", "/users?limit=1000", {}),
    ("GET", "/users/export", {}),
    ("GET", "/health/ready", {}),
    ("POST", "/users", PERHAPS_BODY),
    ("POST", "/users", PERHAPS_BODY | {"headers": KEY}),
    ("PATCH", "/users/1", {"json": {"age": 5}}),
    ("DELETE", "/users/1000000", {}),
    ("POST", "/users/import", PERHAPS_LINES | {"headers": CSV}),
    ("POST", "/users/import", PERHAPS_LINES | {"headers": CSV | KEY}),
]
BACKENDS = """\
SELECT pid FROM pg_stat_activity
WHERE application_name LIKE 'users@%' AND datname = current_database() ORDER BY pid"""
ALL_BACKENDS = """\
SELECT count({}(pid)) FROM pg_stat_activity, generate_series(1, {})
WHERE application_name LIKE 'users@%' AND datname = current_database()"""
FAULTS = {
    "requests cancelled": "",
    "queries cancelled": ALL_BACKENDS.format("pg_cancel_backend", 500),
    "connections closed": ALL_BACKENDS.format("pg_terminate_backend", 1),
}


async def disturb(
    running: Service, query: Query, chance: random.Random, faults: Sequence[str]
) -> str:
    """Cancel a few requests at any moment, or their queries, or close their connections.

    Return which of it. What is answered is never 500.
    """
    fault = chance.choice(faults)
    tasks = [
        asyncio.create_task(running.client.request(method, path, **options))
        for method, path, options in chance.choices(REQUESTS, k=3)
    ]
    await asyncio.sleep(chance.random() * 0.01)
    if FAULTS[fault]:
        await query(FAULTS[fault])
    else:
        for task in tasks:
            task.cancel()
    for response in await asyncio.gather(*tasks, return_exceptions=True):
        if isinstance(response, httpx.Response):
            assert response.status_code != HTTPStatus.INTERNAL_SERVER_ERROR, response.text
    if "terminate" in FAULTS[fault]:
        await until_noticed(running.database)
    return fault


async def until_noticed(database: Database) -> None:
    """Return when the service knows which connections the server has closed, or is closing."""
    while True:
        with suppress(ExceptionGroup):
            for sessions, pool in zip((database.read, database.write), database.pools, strict=True):
                await hold_all(sessions, pool.size())
            return


@pytest.mark.parametrize("stale", [False, True], ids=["as they are", "to be replaced"])
@pytest.mark.parametrize(
    ("method", "path", "options"), REQUESTS, ids=[f"{r[0]} {r[1]} {len(r[2])}" for r in REQUESTS]
)
async def test_a_request_cancelled_at_any_moment_returns_its_connections(  # noqa: PLR0913  # pytest's arguments
    url: str, method: str, path: str, options: dict[str, Any], *, stale: bool, full: bool
) -> None:
    """Also one that finds connections that must not be lent, and gets new ones."""
    async with service(url) as running:
        moment, is_over = 0, False
        while not is_over:
            if stale:
                await let_replace(running.database)
            request = asyncio.create_task(running.client.request(method, path, **options))
            for _ in range(moment):
                await asyncio.sleep(0)
            is_over = not request.cancel()
            await asyncio.gather(request, return_exceptions=True)
            async with asyncio.timeout(TIMEOUT):
                while any(pool.checkedout() for pool in running.database.pools):
                    await asyncio.sleep(0)
            moment += 1 if full or moment < 10 else 25


async def let_replace(database: Database) -> None:
    """Connect to read and to write, and let these connections be replaced when wanted next."""
    for sessions in (database.read, database.write):
        async with sessions() as session:
            driver = (await (await session.connection()).get_raw_connection()).driver_connection
            assert driver is not None
        if database.connector is None:
            await driver.close()
    if database.connector is not None:
        database.connector.generation += 1


async def run_model(
    running: Service, query: Query, cases: Sequence[Case], steps: int, seed: int
) -> None:
    """Leave connections in the states of the cases, and disturb requests; none may notice."""
    model, done = Model(running.client, query, seed), Counter[str]()
    database, kinds = running.database, kinds_of(running)
    faults = list(FAULTS) if database.is_postgresql else list(FAULTS)[:1]
    await model.create()
    cases = list(cases)
    for step in range(steps):
        if step % len(cases) == 0:
            model.chance.shuffle(cases)
            await query(f"DELETE FROM users WHERE full_name IN ('{PERHAPS}', '{SLOW}')")
        case, fault = cases[step % len(cases)], ""
        try:
            async with asyncio.timeout(TIMEOUT):
                if step % 3 == 2:
                    fault = await disturb(running, query, model.chance, faults)
                    done[fault] += 1
                else:
                    await leave(kinds[case.kind], case.state, query, raising=case.raising)
                    done[case.state.__name__] += 1
                for request in model.chance.sample(model.requests, 4):
                    await request()
        except BaseException as error:
            error.add_note(f"seed {seed}, step {step}: {fault or case}")
            raise
    for request in model.requests:
        await request()
    print(f"\nseed {seed}, {sum(done.values())} steps: {dict(done)}")


def steps_and_seed(steps: int, *, full: bool) -> tuple[int, int]:
    """Return how many steps a model takes, and its seed: a new one each time that it runs in full.

    The seed is printed at the end, and noted in a failure.
    """
    return (STEPS_IN_FULL, secrets.randbelow(10**6)) if full else (steps, 15)


@pytest.mark.only("postgresql")
async def test_no_request_notices_how_connections_were_left(
    url: str, driver: asyncpg.Connection, *, full: bool
) -> None:
    await driver.execute(SLOW_COMMIT)
    async with service(url) as running:
        await run_model(running, driver.fetchval, CASES, *steps_and_seed(STEPS, full=full))
        database = running.database
        await hold_all(database.read, database.pools[0].size())
        await hold_all(database.write, database.pools[1].size())
    never = f"SELECT count(*) FROM users WHERE full_name = '{NEVER}'"
    assert await driver.fetchval(never) == 0


@pytest.mark.only("sqlite")
async def test_no_request_notices_how_connections_to_a_file_were_left(
    url: str, *, full: bool
) -> None:
    with closing(sqlite3.connect(path_of(url), isolation_level=None)) as observer:

        async def query(statement: str, *values: Any) -> Any:
            """Return the first value of the first row; None without one."""
            row = observer.execute(statement.replace("$1", "?"), values).fetchone()
            return None if row is None else row[0]

        async with service(url) as running:
            await run_model(running, query, FILE_CASES, *steps_and_seed(STEPS // 2, full=full))
        assert await query("SELECT count(*) FROM users WHERE full_name = $1", NEVER) == 0
