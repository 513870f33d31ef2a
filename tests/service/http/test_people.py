"""Realistic people and naughty strings as users, by HTTP."""

import json
import unicodedata
from collections import Counter
from http import HTTPStatus

import httpx

from tests.commands import run_alembic
from tests.people import DATA, people


async def test_of_1535_people_1377_are_created_152_are_too_old_and_6_addresses_are_taken(
    client: httpx.AsyncClient, url: str
) -> None:
    statuses: Counter[int] = Counter()
    for person in people():
        response = await client.post("/users", json=person)
        statuses[response.status_code] += 1
    assert statuses == {201: 1377, 422: 152, 409: 6}

    run_alembic(url, "downgrade", "base")
    run_alembic(url, "upgrade", "head")


async def test_each_naughty_string_is_stored_unchanged_or_refused_with_its_pointer(
    client: httpx.AsyncClient,
) -> None:
    strings = json.loads((DATA / "naughty_strings.json").read_text(encoding="utf-8"))
    assert len(strings) == 515
    statuses: Counter[int] = Counter()
    for string in strings:
        response = await client.post("/users", json={"full_name": string})
        statuses[response.status_code] += 1
        if response.status_code == HTTPStatus.CREATED:
            stored = (await client.get(response.headers["Location"])).json()["full_name"]
            assert stored == response.json()["full_name"]
            assert stored == unicodedata.normalize("NFC", string).strip()
        else:
            assert response.status_code == HTTPStatus.UNPROCESSABLE_ENTITY, (string, response.text)
            assert [error["pointer"] for error in response.json()["errors"]] == ["/full_name"]
    assert statuses[201] > 450
