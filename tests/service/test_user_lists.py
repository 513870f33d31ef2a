"""Lists: pages, order, filters."""

from http import HTTPStatus
from typing import Any

import httpx
import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

NAMES = ["bob", "Alice", "alan", "Zed", "BOB", "alice", "bobby", "_x", "Boc", "al"]


@pytest.fixture
async def names(client: httpx.AsyncClient) -> list[str]:
    for number, name in enumerate(NAMES):
        body = {"full_name": name, "email": f"User{number}@example.org"}
        assert (await client.post("/users", json=body)).status_code == HTTPStatus.CREATED
    return NAMES


async def list_users(client: httpx.AsyncClient, **parameters: Any) -> list[dict[str, Any]]:
    """Return all items of a list, by following the Link header from page to page."""
    items: list[dict[str, Any]] = []
    response = await client.get("/users", params=parameters)
    while True:
        assert response.status_code == HTTPStatus.OK, response.text
        page = response.json()
        assert len(page["items"]) <= parameters.get("limit", 50)
        items += page["items"]
        next_link = response.links.get("next")
        assert (next_link is None) == (page["next"] is None)
        if next_link is None:
            return items
        response = await client.get(next_link["url"])


def sorted_by_name(names: list[str]) -> list[str]:
    """Return the names in lower-case order; equal names in the order of their creation."""
    pairs = sorted((name.lower(), number) for number, name in enumerate(names))
    return [names[number] for _, number in pairs]


@pytest.mark.parametrize("limit", [1, 3, 5, 10, 50])
async def test_pages_make_up_the_whole_list_in_every_order(
    client: httpx.AsyncClient, names: list[str], limit: int
) -> None:
    expected = {
        "id": names,
        "-id": names[::-1],
        "full_name": sorted_by_name(names),
        "-full_name": sorted_by_name(names)[::-1],
    }
    for sort, order in expected.items():
        items = await list_users(client, sort=sort, limit=limit)
        assert [item["full_name"] for item in items] == order, sort


@pytest.mark.parametrize("prefix", ["al", "AL", "bob", "_", "z", "", "none", "%", "bob\\"])
async def test_name_filters_by_prefix_in_any_case_and_sorts_by_name(
    client: httpx.AsyncClient, names: list[str], prefix: str
) -> None:
    expected = [name for name in sorted_by_name(names) if name.lower().startswith(prefix.lower())]
    items = await list_users(client, name=prefix, limit=2)
    assert [item["full_name"] for item in items] == expected
    items = await list_users(client, name=prefix, limit=2, sort="-full_name")
    assert [item["full_name"] for item in items] == expected[::-1]


async def test_email_filters_by_the_whole_address_in_any_case(
    client: httpx.AsyncClient, names: list[str]
) -> None:
    items = await list_users(client, email="uSER3@EXAMPLE.org")
    assert [item["full_name"] for item in items] == [names[3]]
    assert await list_users(client, email="user3@example") == []


@pytest.mark.only("postgresql")  # SQLite folds ASCII letters only
async def test_case_folds_in_every_alphabet(client: httpx.AsyncClient) -> None:
    await client.post("/users", json={"full_name": "Émile Zola"})
    await client.post("/users", json={"full_name": "ЕКАТЕРИНА"})
    assert [i["full_name"] for i in await list_users(client, name="éMI")] == ["Émile Zola"]
    assert [i["full_name"] for i in await list_users(client, name="екат")] == ["ЕКАТЕРИНА"]


async def test_a_user_created_between_two_pages_shifts_no_item(
    client: httpx.AsyncClient, names: list[str]
) -> None:
    first = (await client.get("/users", params={"limit": 4, "sort": "full_name"})).json()
    await client.post("/users", json={"full_name": "aaa"})
    rest = await list_users(client, limit=4, sort="full_name", after=first["next"])
    assert [item["full_name"] for item in first["items"] + rest] == sorted_by_name(names)


@pytest.mark.usefixtures("names")
@pytest.mark.parametrize("tamper", ["cut", "flip", "append", "foreign"])
async def test_a_cursor_that_was_tampered_with_is_422(
    client: httpx.AsyncClient, tamper: str
) -> None:
    cursor = (await client.get("/users", params={"limit": 2})).json()["next"]
    changed = {
        "cut": cursor[:-2],
        "flip": cursor[:12] + ("A" if cursor[12] != "A" else "B") + cursor[13:],
        "append": cursor + "AAAA",
        "foreign": "eyJpZCI6MX0",
    }[tamper]
    response = await client.get("/users", params={"limit": 2, "after": changed})
    assert response.status_code == HTTPStatus.UNPROCESSABLE_ENTITY
    assert response.json()["errors"][0]["pointer"] == "/after"


@pytest.mark.usefixtures("names")
async def test_a_cursor_of_another_list_is_422(client: httpx.AsyncClient) -> None:
    cursor = (await client.get("/users", params={"limit": 2})).json()["next"]
    response = await client.get("/users", params={"after": cursor, "sort": "-id"})
    assert response.status_code == HTTPStatus.UNPROCESSABLE_ENTITY
    assert response.json()["errors"][0]["pointer"] == "/after"


PLANS = {
    "first page by name": 'ORDER BY lower(full_name) COLLATE "C", id LIMIT 51',
    "later page by name": (
        "WHERE (lower(full_name) COLLATE \"C\", id) > ('n5', 5) "
        'ORDER BY lower(full_name) COLLATE "C", id LIMIT 51'
    ),
    "later page by name, backwards": (
        "WHERE (lower(full_name) COLLATE \"C\", id) < ('n5', 5) "
        'ORDER BY lower(full_name) COLLATE "C" DESC, id DESC LIMIT 51'
    ),
    "prefix": (
        "WHERE lower(full_name) COLLATE \"C\" >= 'n5' AND lower(full_name) COLLATE \"C\" < 'n6' "
        'ORDER BY lower(full_name) COLLATE "C", id LIMIT 51'
    ),
}


@pytest.mark.parametrize("plan", PLANS)
async def test_pages_by_name_use_the_index_and_sort_nothing(engine: AsyncEngine, plan: str) -> None:
    sqlite = engine.dialect.name == "sqlite"
    statement = f"SELECT id, full_name FROM users {PLANS[plan]}"
    async with engine.begin() as connection:
        await connection.execute(
            text(
                "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 5000) "
                "INSERT INTO users (full_name) SELECT 'N' || i FROM n"
            )
        )
        await connection.execute(text("ANALYZE"))
        if sqlite:
            statement = statement.replace(' COLLATE "C"', "")
        explain = "EXPLAIN QUERY PLAN " if sqlite else "EXPLAIN "
        rows = (await connection.execute(text(explain + statement))).all()
    explanation = "\n".join(str(row) for row in rows)
    assert "idx_user_full_name" in explanation, explanation
    assert "Sort" not in explanation, explanation
    assert "TEMP B-TREE" not in explanation, explanation


async def test_filters_accept_every_spelling_that_creating_accepts(
    client: httpx.AsyncClient,
) -> None:
    """Filters normalise names and addresses as creating a user does."""
    body = {"full_name": "Zoë\U0010ffff Z", "email": "Ida@xn--mnchen-3ya.de"}
    assert (await client.post("/users", json=body)).status_code == HTTPStatus.CREATED
    for name in ("Zoë", "Zoe\u0308", "  Zoë", "Zoë\U0010ffff"):
        assert len(await list_users(client, name=name)) == 1, name
    for email in ("Ida@xn--mnchen-3ya.de", "Ida@münchen.de", "ida@MÜNCHEN.de"):
        assert len(await list_users(client, email=email)) == 1, email
