"""Requests that come at the same time are answered by few statements, and none sees the others."""

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

FEW = 5  # statements, where there are dozens of requests
MISSING = 10**6  # and what comes after: nobody's ids

# ties, in several scripts and cases
NAMES = 3 * ["Alice", "alice", "ALICE", "Émile", "émile", "ÉMILE", "李", "Zed", "_x"]
NAMES += 3 * ["Екатерина", "екатерина", "ЕКАТЕРИНА"]

New = dict[str, Any]


WAITS = text("SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted)")


async def got(client: httpx.AsyncClient, urls: Iterable[str]) -> list[httpx.Response]:
    """What all these answer when they are asked for at the same time."""
    return await asyncio.gather(*(client.get(url) for url in urls))


async def posted(client: httpx.AsyncClient, people: Iterable[New]) -> list[httpx.Response]:
    """What becomes of these when they all come at the same time."""
    return await asyncio.gather(*(client.post("/users", json=new) for new in people))


def people(count: int) -> list[New]:
    """New users, each with a name and an address of its own."""
    return [
        {"full_name": f"User {number}", "email": f"user{number}@example.org"}
        for number in range(count)
    ]


def statuses(responses: Iterable[httpx.Response]) -> dict[int, int]:
    """How many answers have which status."""
    return dict(Counter(response.status_code for response in responses))


def check_created(responses: Iterable[httpx.Response], people: Iterable[New]) -> None:
    """Everybody is told of the user that they sent, and each user has an id of its own."""
    users = [response.json() for response in responses]
    blank = {"email": None, "age": None}
    assert users == [
        {"id": user["id"], **blank, **new} for user, new in zip(users, people, strict=True)
    ]
    assert len({user["id"] for user in users}) == len(users)


async def rows(engine: AsyncEngine) -> int:
    """How many users there are."""
    async with engine.connect() as connection:
        return int((await connection.execute(text("SELECT count(*) FROM users"))).scalar_one())


async def test_everybody_gets_the_user_that_they_asked_for_by_few_statements(
    client: httpx.AsyncClient,
) -> None:
    known = {user.headers["Location"]: user for user in await posted(client, people(20))}
    missing = [f"/users/{MISSING + number}" for number in range(20)]
    urls = [url for urls in zip(known, missing, known, strict=True) for url in urls]
    with recorded_statements() as told:
        responses = await got(client, urls)
    for url, response in zip(urls, responses, strict=True):
        if url in known:
            assert response.content == known[url].content
            assert response.headers["ETag"] == known[url].headers["ETag"]
        else:
            problem(response, HTTPStatus.NOT_FOUND, "user-not-found")
    assert 1 <= len(told) <= FEW


async def test_a_page_that_many_ask_for_is_read_a_few_times(client: httpx.AsyncClient) -> None:
    await posted(client, people(20))
    alone = await client.get("/users?limit=10")
    with recorded_statements() as told:
        responses = await got(client, ["/users?limit=10"] * 40)
    assert {response.content for response in responses} == {alone.content}
    assert {response.headers["Link"] for response in responses} == {alone.headers["Link"]}
    assert 1 <= len(told) <= FEW


LISTS = [
    *(f"sort={sort}" for sort in get_args(Sort)),
    *(f"sort={sort}&name={name}" for sort in ("full_name", "-full_name") for name in "aé李_q"),
    *(f"sort={sort}&email=USER{n}@example.org" for sort in ("id", "-full_name") for n in (7, 99)),
    "name=alice&email=user0@example.org",
    "name=alice&email=user3@example.org&sort=-full_name",
]


async def pages_of(client: httpx.AsyncClient, parameters: str) -> dict[str, httpx.Response]:
    """Every page of a list, each asked for alone, by its URL."""
    pages: dict[str, httpx.Response] = {}
    url: str | None = f"/users?{parameters}"
    while url is not None:
        pages[url] = await client.get(url)
        url = pages[url].links.get("next", {}).get("url")
    return pages


async def test_pages_asked_for_together_are_those_asked_for_alone(
    client: httpx.AsyncClient, engine: AsyncEngine
) -> None:
    """On PostgreSQL pages of one shape are read by one statement; on SQLite each by its own."""
    named = [new | {"full_name": name} for name, new in zip(NAMES, people(36), strict=True)]
    check_created(await posted(client, named), named)
    alone: dict[str, httpx.Response] = {}
    for limit, parameters in product((3, 35, 36), LISTS):
        alone |= await pages_of(client, f"{parameters}&limit={limit}")
    with recorded_statements() as told:
        together = dict(zip(alone, await got(client, alone), strict=True))
    for url, response in together.items():
        assert response.status_code == HTTPStatus.OK, url
        assert response.content == alone[url].content, url
        assert response.headers["Link"] == alone[url].headers["Link"], url
    if engine.dialect.name == "postgresql":
        assert len(told) < len(alone) / 2
        assert any("unnest" in statement.text for statement in told)


async def test_of_those_who_want_the_same_address_one_gets_it(
    client: httpx.AsyncClient, engine: AsyncEngine
) -> None:
    twice = people(20)
    wanted = [new | {"email": new["email"].upper()} for new in twice] + people(40)
    for number, new in enumerate(wanted):
        new["full_name"] = f"Candidate {number}"
    responses = await posted(client, wanted)
    winners = []
    for new, response in zip(wanted, responses, strict=True):
        if response.status_code == HTTPStatus.CREATED:
            winners.append(new)
        else:
            problem(response, HTTPStatus.CONFLICT, "email-taken")
    addresses = Counter(new["email"].lower() for new in winners)
    assert addresses == Counter(new["email"] for new in people(40))
    assert await rows(engine) == 40


@pytest.mark.only("postgresql")  # SQLite adds one user by a statement
async def test_users_who_come_together_are_added_by_few_statements(
    client: httpx.AsyncClient, engine: AsyncEngine
) -> None:
    with recorded_statements() as told:
        check_created(await posted(client, people(60)), people(60))
    assert 1 <= len(told) <= FEW
    assert await rows(engine) == 60


async def test_everybody_sees_what_they_wrote_last(client: httpx.AsyncClient) -> None:
    async def live(new: New) -> None:
        user = await create_user(client, **new)
        url, listed = user.headers["Location"], f"/users?email={new['email']}"
        assert (await client.get(url)).json() == user.json()
        changed = await client.patch(url, json={"age": 40})
        assert (await client.get(url)).json() == user.json() | {"age": 40} == changed.json()
        assert (await client.get(listed)).json()["items"] == [changed.json()]
        assert (await client.delete(url)).status_code == HTTPStatus.NO_CONTENT
        problem(await client.get(url), HTTPStatus.NOT_FOUND, "user-not-found")
        assert (await client.get(listed)).json()["items"] == []

    await asyncio.gather(*(live(new) for new in people(30)))


@pytest.mark.only("postgresql")  # on SQLite one writes, and all others wait
@pytest.mark.parametrize("ends", ["ROLLBACK", "COMMIT"])
@pytest.mark.parametrize("alone", [True, False])
async def test_who_waits_for_another_transaction_holds_nobody_up(
    client: httpx.AsyncClient, engine: AsyncEngine, ends: str, *, alone: bool
) -> None:
    """Nobody knows yet whether the address is taken: who wants it waits, but nobody else.

    Neither those who come in the same moment, nor those who come while it waits.
    """
    wanted, *others = people(31)
    async with engine.connect() as other:
        await other.execute(
            text("INSERT INTO users (full_name, email) VALUES ('Other', :email)"),
            {"email": wanted["email"]},
        )
        waiting = asyncio.create_task(client.post("/users", json=wanted))
        while alone and not (await other.execute(WAITS)).scalar_one():
            assert not waiting.done()
        check_created(await posted(client, others), others)
        assert not waiting.done()
        await other.execute(text(ends))
        response = await waiting
    if ends == "ROLLBACK":
        check_created([response], [wanted])
    else:
        problem(response, HTTPStatus.CONFLICT, "email-taken")


async def patient(requests: Iterable[Coroutine[Any, Any, httpx.Response]]) -> list[httpx.Response]:
    """What the others get where every fifth, from the first on, is given up midway."""
    tasks = [asyncio.create_task(request) for request in requests]
    impatient = tasks[::5]

    def give_up(*_: object) -> None:
        for task in impatient:
            task.cancel()

    with listening(Pool, "checkout", give_up):  # those who wait for an answer wait for this
        ends = await asyncio.gather(*tasks, return_exceptions=True)
    assert all(task.cancelled() for task in impatient)
    return [end for end in ends if isinstance(end, httpx.Response)]


async def test_a_lookup_that_is_given_up_takes_nothing_away_from_the_others(
    client: httpx.AsyncClient,
) -> None:
    users = await posted(client, people(20))
    responses = await patient(client.get(user.headers["Location"]) for user in users)
    stayed = [user.content for number, user in enumerate(users) if number % 5]
    assert [response.content for response in responses] == stayed


async def test_a_page_that_is_given_up_takes_nothing_away_from_the_others(
    client: httpx.AsyncClient,
) -> None:
    await posted(client, people(20))
    urls = [f"/users?name=user {number}" for number in range(20)]
    alone = [(await client.get(url)).content for url in urls]
    responses = await patient(client.get(url) for url in urls)
    stayed = [page for number, page in enumerate(alone) if number % 5]
    assert [response.content for response in responses] == stayed


async def test_a_create_that_is_given_up_takes_nothing_away_from_the_others(
    client: httpx.AsyncClient,
) -> None:
    responses = await patient(client.post("/users", json=new) for new in people(20))
    check_created(responses, [new for number, new in enumerate(people(20)) if number % 5])


async def test_a_rule_that_this_build_does_not_know_refuses_those_who_break_it(
    client: httpx.AsyncClient, engine: AsyncEngine
) -> None:
    await posted(client, [{"full_name": "First", "age": age} for age in range(0, 25, 5)])
    async with engine.begin() as connection:
        await connection.execute(text("CREATE UNIQUE INDEX surprise ON users (age)"))
    aged = [new | {"age": age} for age, new in enumerate(people(25))]
    responses = await posted(client, aged)
    for response in responses[::5]:
        problem(response, HTTPStatus.CONFLICT, "rule-broken")
    kept = [number for number in range(25) if number % 5]
    check_created([responses[number] for number in kept], [aged[number] for number in kept])


async def on_all_connections(client: httpx.AsyncClient) -> list[str]:
    """The URLs of users, whom all connections were needed to change at the same time."""
    urls = [str(user.headers["Location"]) for user in await posted(client, people(20))]
    await asyncio.gather(*(client.patch(url, json={"age": 40}) for url in urls))
    return urls


@asynccontextmanager
async def gone(databases: Databases, url: str) -> AsyncIterator[None]:
    """All connections are cut, and the database has another name meanwhile."""
    name = name_of(url)
    await databases.execute(
        f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'"
    )
    # renaming waits for them to end
    await databases.execute(f'ALTER DATABASE "{name}" RENAME TO "{name}_gone"')
    try:
        yield
    finally:
        await databases.execute(f'ALTER DATABASE "{name}_gone" RENAME TO "{name}"')


@pytest.mark.only("postgresql")  # a file that was opened stays
async def test_while_the_database_is_gone_everybody_gets_503_and_then_all_works_again(
    client: httpx.AsyncClient, databases: Databases, url: str
) -> None:
    urls = await on_all_connections(client)
    urls += [f"/users?limit={limit}" for limit in range(1, 21)]
    fresh = [new | {"email": f"new.{new['email']}"} for new in people(20)]

    async def everything() -> list[httpx.Response]:
        reading, writing = await asyncio.gather(got(client, urls), posted(client, fresh))
        return reading + writing

    async with gone(databases, url):
        for _ in range(2):  # connections that were cut, and then none
            for response in await everything():
                problem(response, HTTPStatus.SERVICE_UNAVAILABLE, "unavailable")
    responses = await everything()
    assert statuses(responses) == {HTTPStatus.OK: 40, HTTPStatus.CREATED: 20}
    check_created(responses[40:], fresh)


@pytest.mark.only("postgresql")  # a file is not cut off
async def test_when_all_connections_were_cut_one_request_gets_503_at_most_and_not_one_for_each(
    client: httpx.AsyncClient, databases: Databases, url: str
) -> None:
    urls = await on_all_connections(client)
    async with gone(databases, url):
        pass
    assert statuses(await got(client, urls))[HTTPStatus.OK] >= len(urls) - 1
    for _ in urls:
        assert statuses(await got(client, urls)) == {HTTPStatus.OK: len(urls)}


@pytest.mark.only("postgresql")  # on SQLite nobody can lock readers out
async def test_lookups_that_wait_too_long_for_a_lock_get_503_and_work_when_it_is_gone(
    url: str, engine: AsyncEngine
) -> None:
    async with serving(database_url=url, statement_timeout=0.5) as client:
        users = await posted(client, people(20))
        urls = [user.headers["Location"] for user in users]
        async with engine.connect() as other:
            await other.execute(text("LOCK TABLE users IN ACCESS EXCLUSIVE MODE"))
            for response in await got(client, urls):
                problem(response, HTTPStatus.SERVICE_UNAVAILABLE, "unavailable")
        assert [user.content for user in users] == [
            response.content for response in await got(client, urls)
        ]
