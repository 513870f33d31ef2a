"""Real people and naughty strings, all of them, by HTTP."""

import csv
import json
import unicodedata
from collections import Counter
from http import HTTPStatus
from typing import Any

import httpx

from tests.world import ROOT, run_alembic

DATA = ROOT / "tests/data"


def people() -> list[dict[str, Any]]:
    with (DATA / "people.csv").open(encoding="utf-8", newline="") as file:
        return [
            {
                "full_name": row["full_name"],
                "email": row["email"] or None,
                "age": int(row["age"]) if row["age"] else None,
            }
            for row in csv.DictReader(file)
        ]


def accepted() -> list[dict[str, Any]]:
    """Those whose age is possible, one for each e-mail address."""
    return list({p["email"]: p for p in people() if (p["age"] or 0) <= 150}.values())


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
