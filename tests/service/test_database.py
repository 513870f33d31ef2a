"""One request, one transaction; and what clients see when the database fails."""

import asyncio
import gc
import itertools
import logging
import re
from contextlib import suppress
from http import HTTPStatus
from typing import Any

import httpx
import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from safely.scratch.embedded import Server
from service.database import Database
from service.settings import Settings
from tests.app import serving
from tests.chain import HEAD
from tests.databases import name_of
from tests.dying_databases import Fault, wire
from tests.problems import problem

WAITS = text("SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted)")
DEFERRED = {  # a constraint that is checked at COMMIT, after the response was built
    "postgresql": (
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
        "RAISE unique_violation USING CONSTRAINT = 'idx_user_email'; END $$",
        "CREATE CONSTRAINT TRIGGER late AFTER INSERT OR UPDATE OR DELETE ON users "
        "DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION refuse()",
    ),
    "sqlite": (
        "CREATE TABLE late (user_id INTEGER REFERENCES users (id) DEFERRABLE INITIALLY DEFERRED)",
        *(
            f"CREATE TRIGGER refuse_{verb} AFTER {verb} ON users BEGIN "
            "INSERT INTO late VALUES (-1); END"
            for verb in ("INSERT", "UPDATE", "DELETE")
        ),
    ),
}
JSON = {"Content-Type": "application/json"}
WRITES: dict[str, tuple[str, str, dict[str, str], str]] = {  # method, URL, headers, body
    "create": ("POST", "/users", JSON, '{"full_name": "New"}'),
    "keyed create": ("POST", "/users", JSON | {"Idempotency-Key": "k"}, '{"full_name": "New"}'),
    "change": ("PATCH", "/users/1", JSON, '{"full_name": "Changed"}'),
    "conditional change": ("PATCH", "/users/1", JSON | {"If-Match": "*"}, '{"age": 5}'),
    "delete": ("DELETE", "/users/1", {}, ""),
    "conditional delete": ("DELETE", "/users/1", {"If-Match": "*"}, ""),
    "import": ("POST", "/users/import", {"Content-Type": "text/csv"}, "full_name\nNew\n"),
    "keyed import": (
        *("POST", "/users/import?on_conflict=skip"),
        {"Content-Type": "text/csv", "Idempotency-Key": "k"},
        "full_name\nNew\n",
    ),
}


@pytest.mark.parametrize("write", WRITES)
async def test_a_commit_that_fails_reaches_the_client(
    client: httpx.AsyncClient, engine: AsyncEngine, write: str
) -> None:
    created = await client.post("/users", json={"full_name": "Ada"})
    async with engine.begin() as connection:
        for statement in DEFERRED[engine.dialect.name]:
            await connection.execute(text(statement))
    method, url, headers, body = WRITES[write]
    response = await client.request(method, url, headers=headers, content=body)
    assert response.status_code == HTTPStatus.CONFLICT
    assert (await client.get("/users")).json()["items"] == [created.json()]
    async with engine.connect() as connection:
        keys = await connection.execute(text("SELECT count(*) FROM idempotency_key"))
        assert keys.scalar_one() == 0


async def test_several_creates_whose_commit_fails_all_get_the_refusal(
    client: httpx.AsyncClient, engine: AsyncEngine
) -> None:
    async with engine.begin() as connection:
        for statement in DEFERRED[engine.dialect.name]:
            await connection.execute(text(statement))
    people = [{"full_name": f"User {number}"} for number in range(10)]
    responses = await asyncio.gather(*(client.post("/users", json=new) for new in people))
    assert {response.status_code for response in responses} == {HTTPStatus.CONFLICT}
    assert (await client.get("/users")).json()["items"] == []


@pytest.mark.only("postgresql")  # on SQLite a cancelled request waits for the lock all the same
@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", "/users/1", None),
        ("GET", "/users", None),
        ("POST", "/users", {"full_name": "New"}),
        ("PATCH", "/users/1", {"age": 5}),
        ("DELETE", "/users/1", None),
    ],
)
async def test_a_cancelled_request_returns_its_connection(
    url: str, engine: AsyncEngine, method: str, path: str, body: Any
) -> None:
    """With a pool of one, the next request would else wait for it in vain."""
    async with serving(database_url=url, pool_size=1, pool_timeout=5.0) as client:
        await client.post("/users", json={"full_name": "Ada"})
        async with engine.connect() as blocker:
            await blocker.execute(text("LOCK TABLE users IN ACCESS EXCLUSIVE MODE"))
            request = asyncio.create_task(client.request(method, path, json=body))
            while not (await blocker.execute(WAITS)).scalar_one():
                await asyncio.sleep(0)  # the request must have its turn between two of ours
            request.cancel()
            with pytest.raises(asyncio.CancelledError):
                await request
        assert (await client.get("/users")).status_code == HTTPStatus.OK
        assert (await client.get("/health/ready")).status_code == HTTPStatus.OK


async def test_a_broken_constraint_that_this_build_does_not_know_is_409_and_logged(
    client: httpx.AsyncClient, engine: AsyncEngine, caplog: pytest.LogCaptureFixture
) -> None:
    async with engine.begin() as connection:
        await connection.execute(text("CREATE UNIQUE INDEX surprise ON users (age)"))
    assert (await client.post("/users", json={"full_name": "A", "age": 5})).is_success
    with caplog.at_level(logging.ERROR, "service"):
        response = await client.post("/users", json={"full_name": "B", "age": 5})
    problem(response, HTTPStatus.CONFLICT, "rule-broken")
    assert "surprise" not in response.text
    assert "UNIQUE" not in response.text.upper()
    (record,) = [record for record in caplog.records if record.name == "service"]
    constraint = "surprise" if engine.dialect.name == "postgresql" else "users.age"
    assert constraint in record.getMessage()
    assert re.search(rf"INSERT INTO (at_{HEAD}\.)?users", record.getMessage())


@pytest.mark.only("postgresql")
async def test_a_read_session_begins_no_transaction_and_needs_one_round_trip(
    url: str, engine: AsyncEngine
) -> None:
    """After a statement the server shows it idle, and that statement, not COMMIT, as its last."""
    database = Database(Settings(database_url=url), HEAD)
    activity = text(
        f"SELECT state, query FROM pg_stat_activity WHERE application_name = 'users@{HEAD}'"
    )
    async with engine.connect() as observer:
        async with database.read() as session:
            await session.execute(text("SELECT 42"))
            assert (await observer.execute(activity)).one() == ("idle", "SELECT 42")
        await observer.rollback()
        assert (await observer.execute(activity)).one() == ("idle", "SELECT 42")
        async with database.write() as session:
            await session.execute(text("SELECT 43"))
            await observer.rollback()
            states = (await observer.execute(activity)).all()
            assert ("idle in transaction", "SELECT 43") in states
    await database.close()


async def test_when_all_connections_are_busy_the_response_is_503_with_retry_after(
    url: str, engine: AsyncEngine
) -> None:
    """Reads are answered all the same: they have connections of their own."""
    async with serving(database_url=url, pool_size=2, pool_timeout=0.1) as client:
        created = await client.post("/users", json={"full_name": "Ada"})
        async with engine.connect() as blocker:
            await blocker.execute(text("UPDATE users SET age = 1"))
            waiting = asyncio.create_task(
                client.patch(created.headers["Location"], json={"age": 2})
            )
            await asyncio.sleep(0)  # the other takes the connection first
            response = await client.delete(created.headers["Location"])
            problem(response, HTTPStatus.SERVICE_UNAVAILABLE, "unavailable")
            assert response.headers["Retry-After"] == "1"
            assert "all connections are busy" in response.json()["detail"]
            assert (await client.get("/users")).json()["items"] == [created.json()]
            await blocker.commit()
        assert (await waiting).json()["age"] == 2


@pytest.mark.only("postgresql")
async def test_a_query_that_takes_too_long_is_503(url: str, engine: AsyncEngine) -> None:
    async with serving(database_url=url, statement_timeout=0.1) as client:
        created = await client.post("/users", json={"full_name": "Ada"})
        async with engine.connect() as blocker:
            await blocker.execute(text("UPDATE users SET age = 1"))
            response = await client.patch(created.headers["Location"], json={"age": 2})
        problem(response, HTTPStatus.SERVICE_UNAVAILABLE, "unavailable")


@pytest.mark.only("postgresql")
async def test_cut_connections_are_replaced_unseen(
    client: httpx.AsyncClient, engine: AsyncEngine
) -> None:
    await client.get("/users")
    async with engine.begin() as connection:
        await connection.execute(
            text(
                "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity "
                "WHERE application_name LIKE 'users@%' AND datname = current_database()"
            )
        )
    assert (await client.get("/users")).status_code == HTTPStatus.OK
    assert (await client.post("/users", json={"full_name": "Ada"})).is_success


@pytest.mark.only("postgresql")
async def test_the_service_tells_the_database_its_build(
    client: httpx.AsyncClient, engine: AsyncEngine
) -> None:
    await client.get("/users")
    async with engine.connect() as connection:
        names = await connection.execute(
            text(
                "SELECT application_name FROM pg_stat_activity "
                "WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
        )
        assert f"users@{HEAD}" in names.scalars().all()


@pytest.mark.only("postgresql")
@pytest.mark.parametrize("if_match", [{}, {"If-Match": "*"}])
async def test_a_connection_that_is_cut_while_it_waits_for_a_lock_is_503(
    client: httpx.AsyncClient, engine: AsyncEngine, if_match: dict[str, str]
) -> None:
    """The session can then be neither committed nor rolled back."""
    created = await client.post("/users", json={"full_name": "Ada"})
    url = created.headers["Location"]
    async with engine.connect() as blocker:
        await blocker.execute(text("UPDATE users SET age = 1"))
        change = asyncio.create_task(client.patch(url, json={"age": 2}, headers=if_match))
        while not (await blocker.execute(WAITS)).scalar_one():
            await asyncio.sleep(0)  # the request must have its turn between two of ours
        await blocker.execute(
            text(
                "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity "
                "WHERE application_name LIKE 'users@%' AND datname = current_database()"
            )
        )
        problem(await change, HTTPStatus.SERVICE_UNAVAILABLE, "unavailable")
    assert (await client.get(url)).json() == created.json()


@pytest.mark.only("postgresql")
async def test_whatever_request_fails_the_connection_is_back_in_the_pool(
    url: str, server: Server
) -> None:
    """A cancelled ROLLBACK among them, after which SQLAlchemy's session has forgotten it."""
    gc.disable()  # it would clean up, and hide what is missing
    try:
        failed = 0
        for number in itertools.count(1):
            async with wire(server, name_of(url), Fault(number, state="57014")) as proxy:
                database = Database(Settings(database_url=proxy.url, pool_size=2), HEAD)
                with suppress(Exception):
                    async with database.write() as session:
                        await session.execute(text("SELECT 1"))
                        raise LookupError
                assert [pool.checkedout() for pool in database.pools] == [0, 0], number
                if proxy.requests >= number:
                    failed = number
                    async with database.write() as session:
                        assert await session.scalar(text("SELECT 1")) == 1
                await database.close()
                if failed < number:
                    break
        assert failed > 5
    finally:
        gc.enable()
