"""Concurrent requests share statements; each gets the response that it would get alone."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Coroutine, Iterable
from contextlib import asynccontextmanager
from http import HTTPStatus
from itertools import product
from typing import Any, get_args

import httpx
import pytest
from sqlalchemy import Pool, text
from sqlalchemy.ext.asyncio import AsyncEngine

from service.schemas import Sort
from tests.app import serving
from tests.databases import Databases, name_of
from tests.problems import problem
from tests.statements import listening, recorded_statements
from tests.users import create_user

FEW = 5  # statements, for dozens of requests
MISSING = 10**6  # no user has this id or a higher one

# equal names, in several alphabets and cases
NAMES = 3 * ["Alice", "alice", "ALICE", "Émile", "émile", "ÉMILE", "李", "Zed", "_x"]
NAMES += 3 * ["Екатерина", "екатерина", "ЕКАТЕРИНА"]

NewUser = dict[str, Any]


IS_ANY_LOCK_AWAITED = text("SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted)")


async def get_all(client: httpx.AsyncClient, urls: Iterable[str]) -> list[httpx.Response]:
    """Send GET requests for all URLs at the same time; return the responses in their order."""
    return await asyncio.gather(*(client.get(url) for url in urls))


async def create_all(client: httpx.AsyncClient, users: Iterable[NewUser]) -> list[httpx.Response]:
    """Send requests to create all users at the same time; return the responses in their order."""
    return await asyncio.gather(*(client.post("/users", json=new) for new in users))


def new_users(count: int) -> list[NewUser]:
    """Return new users, each with a name and an e-mail address of its own."""
    return [
        {"full_name": f"User {number}", "email": f"user{number}@example.org"}
        for number in range(count)
    ]


def statuses(responses: Iterable[httpx.Response]) -> dict[int, int]:
    """Return the number of responses by status."""
    return dict(Counter(response.status_code for response in responses))


def check_created(responses: Iterable[httpx.Response], sent: Iterable[NewUser]) -> None:
    """Check that each response has the user that its request sent, and an id of its own."""
    users = [response.json() for response in responses]
    blank = {"email": None, "age": None}
    assert users == [
        {"id": user["id"], **blank, **new} for user, new in zip(users, sent, strict=True)
    ]
    assert len({user["id"] for user in users}) == len(users)


async def count_users(engine: AsyncEngine) -> int:
    """Return the number of users in the database."""
    async with engine.connect() as connection:
        return int((await connection.execute(text("SELECT count(*) FROM users"))).scalar_one())


async def test_concurrent_lookups_each_get_their_user_by_few_statements(
    client: httpx.AsyncClient,
) -> None:
    known = {user.headers["Location"]: user for user in await create_all(client, new_users(20))}
    missing = [f"/users/{MISSING + number}" for number in range(20)]
    urls = [url for urls in zip(known, missing, known, strict=True) for url in urls]
    with recorded_statements() as statements:
        responses = await get_all(client, urls)
    for url, response in zip(urls, responses, strict=True):
        if url in known:
            assert response.content == known[url].content
            assert response.headers["ETag"] == known[url].headers["ETag"]
        else:
            problem(response, HTTPStatus.NOT_FOUND, "user-not-found")
    assert 1 <= len(statements) <= FEW


async def test_concurrent_requests_for_the_same_page_share_a_few_statements(
    client: httpx.AsyncClient,
) -> None:
    await create_all(client, new_users(20))
    alone = await client.get("/users?limit=10")
    with recorded_statements() as statements:
        responses = await get_all(client, ["/users?limit=10"] * 40)
    assert {response.content for response in responses} == {alone.content}
    assert {response.headers["Link"] for response in responses} == {alone.headers["Link"]}
    assert 1 <= len(statements) <= FEW


LISTS = [
    *(f"sort={sort}" for sort in get_args(Sort)),
    *(f"sort={sort}&name={name}" for sort in ("full_name", "-full_name") for name in "aé李_q"),
    *(f"sort={sort}&email=USER{n}@example.org" for sort in ("id", "-full_name") for n in (7, 99)),
    "name=alice&email=user0@example.org",
    "name=alice&email=user3@example.org&sort=-full_name",
]


async def pages_of(client: httpx.AsyncClient, parameters: str) -> dict[str, httpx.Response]:
    """Return every page of a list by its URL, requested one after the other."""
    pages: dict[str, httpx.Response] = {}
    url: str | None = f"/users?{parameters}"
    while url is not None:
        pages[url] = await client.get(url)
        url = pages[url].links.get("next", {}).get("url")
    return pages


async def test_pages_requested_at_the_same_time_are_those_requested_one_by_one(
    client: httpx.AsyncClient, engine: AsyncEngine
) -> None:
    """On PostgreSQL one statement reads all pages of a shape; on SQLite each needs its own."""
    named = [new | {"full_name": name} for name, new in zip(NAMES, new_users(36), strict=True)]
    check_created(await create_all(client, named), named)
    alone: dict[str, httpx.Response] = {}
    for limit, parameters in product((3, 35, 36), LISTS):
        alone |= await pages_of(client, f"{parameters}&limit={limit}")
    with recorded_statements() as statements:
        together = dict(zip(alone, await get_all(client, alone), strict=True))
    for url, response in together.items():
        assert response.status_code == HTTPStatus.OK, url
        assert response.content == alone[url].content, url
        assert response.headers["Link"] == alone[url].headers["Link"], url
    if engine.dialect.name == "postgresql":
        assert len(statements) < len(alone) / 2
        assert any("unnest" in statement.text for statement in statements)


async def test_of_concurrent_creates_with_the_same_address_one_succeeds(
    client: httpx.AsyncClient, engine: AsyncEngine
) -> None:
    originals = new_users(20)
    candidates = [new | {"email": new["email"].upper()} for new in originals] + new_users(40)
    for number, new in enumerate(candidates):
        new["full_name"] = f"Candidate {number}"
    responses = await create_all(client, candidates)
    winners = []
    for new, response in zip(candidates, responses, strict=True):
        if response.status_code == HTTPStatus.CREATED:
            winners.append(new)
        else:
            problem(response, HTTPStatus.CONFLICT, "email-taken")
    addresses = Counter(new["email"].lower() for new in winners)
    assert addresses == Counter(new["email"] for new in new_users(40))
    assert await count_users(engine) == 40


@pytest.mark.only("postgresql")  # on SQLite a statement creates one user
async def test_concurrent_creates_share_a_few_statements(
    client: httpx.AsyncClient, engine: AsyncEngine
) -> None:
    with recorded_statements() as statements:
        check_created(await create_all(client, new_users(60)), new_users(60))
    assert 1 <= len(statements) <= FEW
    assert await count_users(engine) == 60


async def test_each_client_reads_what_it_wrote_last(client: httpx.AsyncClient) -> None:
    async def create_change_and_delete(new: NewUser) -> None:
        user = await create_user(client, **new)
        url, listed = user.headers["Location"], f"/users?email={new['email']}"
        assert (await client.get(url)).json() == user.json()
        changed = await client.patch(url, json={"age": 40})
        assert (await client.get(url)).json() == user.json() | {"age": 40} == changed.json()
        assert (await client.get(listed)).json()["items"] == [changed.json()]
        assert (await client.delete(url)).status_code == HTTPStatus.NO_CONTENT
        problem(await client.get(url), HTTPStatus.NOT_FOUND, "user-not-found")
        assert (await client.get(listed)).json()["items"] == []

    await asyncio.gather(*(create_change_and_delete(new) for new in new_users(30)))


@pytest.mark.only("postgresql")  # on SQLite a writer blocks all others
@pytest.mark.parametrize("ending", ["ROLLBACK", "COMMIT"])
@pytest.mark.parametrize("alone", [True, False])
async def test_a_create_that_waits_for_another_transaction_delays_no_other(
    client: httpx.AsyncClient, engine: AsyncEngine, ending: str, *, alone: bool
) -> None:
    """Whether an address is taken stays open until a transaction ends: one create waits for it.

    Neither the creates in the same batch (not `alone`) nor those after it wait.
    """
    blocked, *others = new_users(31)
    async with engine.connect() as other:
        await other.execute(
            text("INSERT INTO users (full_name, email) VALUES ('Other', :email)"),
            {"email": blocked["email"]},
        )
        waiting = asyncio.create_task(client.post("/users", json=blocked))
        while alone and not (await other.execute(IS_ANY_LOCK_AWAITED)).scalar_one():
            assert not waiting.done()
        check_created(await create_all(client, others), others)
        assert not waiting.done()
        await other.execute(text(ending))
        response = await waiting
    if ending == "ROLLBACK":
        check_created([response], [blocked])
    else:
        problem(response, HTTPStatus.CONFLICT, "email-taken")


async def cancel_every_fifth(
    requests: Iterable[Coroutine[Any, Any, httpx.Response]],
) -> list[httpx.Response]:
    """Send the requests, cancel each fifth midway, the first too; return the other responses."""
    tasks = [asyncio.create_task(request) for request in requests]
    cancelled = tasks[::5]

    def cancel(*_: object) -> None:
        for task in cancelled:
            task.cancel()

    with listening(Pool, "checkout", cancel):  # all requests of a batch wait for it
        ends = await asyncio.gather(*tasks, return_exceptions=True)
    assert all(task.cancelled() for task in cancelled)
    return [end for end in ends if isinstance(end, httpx.Response)]


async def test_a_cancelled_lookup_takes_nothing_from_the_others(
    client: httpx.AsyncClient,
) -> None:
    users = await create_all(client, new_users(20))
    responses = await cancel_every_fifth(client.get(user.headers["Location"]) for user in users)
    expected = [user.content for number, user in enumerate(users) if number % 5]
    assert [response.content for response in responses] == expected


async def test_a_cancelled_page_takes_nothing_from_the_others(
    client: httpx.AsyncClient,
) -> None:
    await create_all(client, new_users(20))
    urls = [f"/users?name=user {number}" for number in range(20)]
    alone = [(await client.get(url)).content for url in urls]
    responses = await cancel_every_fifth(client.get(url) for url in urls)
    expected = [page for number, page in enumerate(alone) if number % 5]
    assert [response.content for response in responses] == expected


async def test_a_cancelled_create_takes_nothing_from_the_others(
    client: httpx.AsyncClient,
) -> None:
    responses = await cancel_every_fifth(client.post("/users", json=new) for new in new_users(20))
    check_created(responses, [new for number, new in enumerate(new_users(20)) if number % 5])


async def test_a_constraint_that_this_build_does_not_know_refuses_only_requests_that_break_it(
    client: httpx.AsyncClient, engine: AsyncEngine
) -> None:
    await create_all(client, [{"full_name": "First", "age": age} for age in range(0, 25, 5)])
    async with engine.begin() as connection:
        await connection.execute(text("CREATE UNIQUE INDEX surprise ON users (age)"))
    aged = [new | {"age": age} for age, new in enumerate(new_users(25))]
    responses = await create_all(client, aged)
    for response in responses[::5]:
        problem(response, HTTPStatus.CONFLICT, "rule-broken")
    accepted = [number for number in range(25) if number % 5]
    check_created([responses[number] for number in accepted], [aged[number] for number in accepted])


async def open_all_connections(client: httpx.AsyncClient) -> list[str]:
    """Create users and change them all at the same time; return their URLs."""
    urls = [str(user.headers["Location"]) for user in await create_all(client, new_users(20))]
    await asyncio.gather(*(client.patch(url, json={"age": 40}) for url in urls))
    return urls


@asynccontextmanager
async def database_gone(databases: Databases, url: str) -> AsyncIterator[None]:
    """Cut all connections; the database has another name inside the block."""
    name = name_of(url)
    await databases.execute(
        f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'"
    )
    # RENAME waits for the connections to end
    await databases.execute(f'ALTER DATABASE "{name}" RENAME TO "{name}_gone"')
    try:
        yield
    finally:
        await databases.execute(f'ALTER DATABASE "{name}_gone" RENAME TO "{name}"')


@pytest.mark.only("postgresql")  # an open file stays readable
async def test_while_the_database_is_gone_all_requests_get_503_and_then_all_work_again(
    client: httpx.AsyncClient, databases: Databases, url: str
) -> None:
    urls = await open_all_connections(client)
    urls += [f"/users?limit={limit}" for limit in range(1, 21)]
    fresh = [new | {"email": f"new.{new['email']}"} for new in new_users(20)]

    async def send_all() -> list[httpx.Response]:
        reading, writing = await asyncio.gather(get_all(client, urls), create_all(client, fresh))
        return reading + writing

    async with database_gone(databases, url):
        for _ in range(2):  # first with cut connections, then without any
            for response in await send_all():
                problem(response, HTTPStatus.SERVICE_UNAVAILABLE, "unavailable")
    responses = await send_all()
    assert statuses(responses) == {HTTPStatus.OK: 40, HTTPStatus.CREATED: 20}
    check_created(responses[40:], fresh)


@pytest.mark.only("postgresql")  # SQLite has no connections to cut
async def test_after_all_connections_were_cut_at_most_one_request_gets_503(
    client: httpx.AsyncClient, databases: Databases, url: str
) -> None:
    urls = await open_all_connections(client)
    async with database_gone(databases, url):
        pass
    assert statuses(await get_all(client, urls))[HTTPStatus.OK] >= len(urls) - 1
    for _ in urls:
        assert statuses(await get_all(client, urls)) == {HTTPStatus.OK: len(urls)}


@pytest.mark.only("postgresql")  # SQLite has no lock that blocks readers
async def test_lookups_that_wait_too_long_for_a_lock_get_503_and_work_after_its_release(
    url: str, engine: AsyncEngine
) -> None:
    async with serving(database_url=url, statement_timeout=0.5) as client:
        users = await create_all(client, new_users(20))
        urls = [user.headers["Location"] for user in users]
        async with engine.connect() as other:
            await other.execute(text("LOCK TABLE users IN ACCESS EXCLUSIVE MODE"))
            for response in await get_all(client, urls):
                problem(response, HTTPStatus.SERVICE_UNAVAILABLE, "unavailable")
        assert [user.content for user in users] == [
            response.content for response in await get_all(client, urls)
        ]


@pytest.mark.parametrize("turns", range(12))
async def test_a_taken_address_is_refused_while_another_create_runs(
    client: httpx.AsyncClient, turns: int
) -> None:
    """Whenever it arrives: it may be the only one of its batch."""
    taken, other = new_users(2)
    await client.post("/users", json=taken)
    running = asyncio.create_task(client.post("/users", json=other))
    for _ in range(turns):
        await asyncio.sleep(0)  # let the other create get a little further
    problem(await client.post("/users", json=taken), HTTPStatus.CONFLICT, "email-taken")
    assert (await running).status_code == HTTPStatus.CREATED
