"""Real people and naughty strings, all of them, by HTTP."""

import csv
import json
import unicodedata
from collections import Counter
from http import HTTPStatus
from pathlib import Path
from typing import Any

import httpx
from sqlalchemy import text

from tests.world import engine_for, run_alembic

DATA = Path(__file__).parent / "data"


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


async def test_the_chain_goes_down_and_up_under_1377_people(url: str) -> None:
    """Down to the first revision, and up again: every name is still there."""
    good = {person["email"]: person for person in people() if (person["age"] or 0) <= 150}
    engine = engine_for(url)
    names = "SELECT {} FROM users ORDER BY id"
    async with engine.begin() as connection:
        await connection.execute(
            text("INSERT INTO users (full_name, email, age) VALUES (:full_name, :email, :age)"),
            list(good.values()),
        )
        before = (await connection.execute(text(names.format("full_name")))).scalars().all()
    assert len(before) == 1377

    run_alembic(url, "downgrade", "0001")
    async with engine.connect() as connection:
        assert (await connection.execute(text(names.format("name")))).scalars().all() == before
    run_alembic(url, "upgrade", "head")
    async with engine.connect() as connection:
        assert (await connection.execute(text(names.format("full_name")))).scalars().all() == before
    await engine.dispose()


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
