"""The README's tour: every request gets the response that the README shows."""

import shlex
from typing import NamedTuple

import httpx

from tests.paths import ROOT


class Step(NamedTuple):
    """A command and the lines that the README shows below it."""

    arguments: list[str]
    shown: list[str]


def tour() -> list[Step]:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    section = readme.split("## Two minutes with it")[1].split("\n## ")[0]
    steps: list[Step] = []
    for line in section.replace("\\\n", " ").splitlines():
        if line.startswith("    $ "):
            steps.append(Step(shlex.split(line)[1:], []))
        elif line.startswith("    "):
            steps[-1].shown.append(line.strip())
    return steps


async def send(client: httpx.AsyncClient, arguments: list[str]) -> httpx.Response:
    """Send the request that curl would send with these arguments."""
    method, url, body, headers = "", "", None, {}
    words = iter(arguments[1:])
    for word in words:
        if word == "-X":
            method = next(words)
        elif word == "-H":
            name, _, value = next(words).partition(": ")
            headers[name] = value
        elif word == "-d":
            body = next(words)
        elif word != "-i":
            url = word.removeprefix("localhost:8000")
    return await client.request(
        method or ("GET" if body is None else "POST"), url, content=body, headers=headers
    )


async def test_every_request_of_the_tour_gets_the_response_it_shows(
    client: httpx.AsyncClient,
) -> None:
    steps = tour()
    assert len(steps) == 5
    for step in steps:
        response = await send(client, step.arguments)
        for line in step.shown:
            if line.startswith("HTTP/1.1 "):
                assert line == f"HTTP/1.1 {response.status_code} {response.reason_phrase}"
            elif line.startswith("{"):
                assert line == response.text
            else:
                name, _, value = line.partition(": ")
                assert response.headers[name] == value
