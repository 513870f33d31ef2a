"""Real people and naughty strings, all of them, by HTTP."""

import json
import unicodedata
from collections import Counter
from http import HTTPStatus

import httpx

from tests.commands import run_alembic
from tests.people import DATA, people


async def test_of_1535_people_1377_are_kept_152_too_old_and_6_taken(
    client: httpx.AsyncClient, url: str
) -> None:
    answers: Counter[int] = Counter()
    kept = []
    for person in people():
        response = await client.post("/users", json=person)
        answers[response.status_code] += 1
        if response.status_code == HTTPStatus.CREATED:
            kept.append(person)
    assert answers == {201: 1377, 422: 152, 409: 6}

    run_alembic(url, "downgrade", "base")
    run_alembic(url, "upgrade", "head")


async def test_each_naughty_string_is_kept_as_it_is_or_refused_by_its_pointer(
    client: httpx.AsyncClient,
) -> None:
    strings = json.loads((DATA / "naughty_strings.json").read_text(encoding="utf-8"))
    assert len(strings) == 515
    answers: Counter[int] = Counter()
    for string in strings:
        response = await client.post("/users", json={"full_name": string})
        answers[response.status_code] += 1
        if response.status_code == HTTPStatus.CREATED:
            kept = (await client.get(response.headers["Location"])).json()["full_name"]
            assert kept == response.json()["full_name"]
            assert kept == unicodedata.normalize("NFC", string).strip()
        else:
            assert response.status_code == HTTPStatus.UNPROCESSABLE_ENTITY, (string, response.text)
            assert [error["pointer"] for error in response.json()["errors"]] == ["/full_name"]
    assert answers[201] > 450
