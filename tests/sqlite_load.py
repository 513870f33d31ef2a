"""Clients that write to services on one SQLite file, and know what was acknowledged to them."""

import asyncio
import os
import signal
import sqlite3
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing, suppress
from dataclasses import dataclass, field
from http import HTTPStatus
from itertools import count
from pathlib import Path

import httpx

from tests.paths import ROOT

START_TIMEOUT = 60.0  # seconds
ADDED, CHANGED = HTTPStatus.CREATED, HTTPStatus.OK


@dataclass
class Written:
    """What the clients sent, and what they were answered."""

    acknowledged: dict[str, str] = field(default_factory=dict)  # name by e-mail address
    unanswered: dict[str, set[str]] = field(default_factory=dict)  # possible names by address
    statuses: Counter[int] = field(default_factory=Counter)
    details: Counter[str] = field(default_factory=Counter)  # of the answers that are not 2xx
    longest: float = 0.0  # seconds, of an answer

    def summary(self, seconds: float) -> str:
        """Return the figures in a line."""
        rate = (self.statuses[ADDED] + self.statuses[CHANGED]) / seconds
        return (
            f"{rate:.0f} writes/s, answers {dict(sorted(self.statuses.items()))}, longest "
            f"{self.longest:.2f} s, {dict(self.details)}"
        )


@asynccontextmanager
async def service(url: str, port: int, workers: int) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run the service until it answers; kill it, and its workers, at the end."""
    variables = {
        "DATABASE_URL": url,
        "WORKERS": str(workers),
        "PORT": str(port),
        "ALLOW_ANONYMOUS": "true",
        "LOG_LEVEL": "WARNING",
        "ACCESS_LOG": os.devnull,
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "service"),
        cwd=ROOT,
        env={**os.environ, **variables},
        start_new_session=True,
    )
    try:
        async with asyncio.timeout(START_TIMEOUT), httpx.AsyncClient() as client:
            while not await answers(client, port):
                assert process.returncode is None, "the service has ended"
                await asyncio.sleep(0.02)
        yield process
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()


async def answers(client: httpx.AsyncClient, port: int) -> bool:
    """Return whether the service answers."""
    try:
        response = await client.get(f"http://127.0.0.1:{port}/health/ready")
    except httpx.TransportError:
        return False
    return response.status_code == HTTPStatus.OK


async def write_for(seconds: float, port: int, clients: int, written: Written, run: str) -> None:
    """Let so many clients create and change users, until the time is over or the service gone."""
    numbers, deadline = count(), time.monotonic() + seconds

    async def work() -> None:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=60) as client:
            while time.monotonic() < deadline:
                number = next(numbers)
                email, name = f"{run}-{number}@example.org", f"Name {number}"
                user = {"email": email, "full_name": name}
                if (answer := await send(client, "POST", "/users", user, written)) is None:
                    return
                if answer.status_code != ADDED:
                    continue
                written.acknowledged[email] = name
                changed = {"full_name": f"{name} again"}
                path = f"/users/{answer.json()['id']}"
                if (answer := await send(client, "PATCH", path, changed, written)) is None:
                    written.unanswered[email] = {name, changed["full_name"]}
                    return
                if answer.status_code == CHANGED:
                    written.acknowledged[email] = changed["full_name"]

    await asyncio.gather(*(work() for _ in range(clients)))


async def send(
    client: httpx.AsyncClient, method: str, path: str, body: dict[str, str], written: Written
) -> httpx.Response | None:
    """Send a request and count its answer; return None where there was none."""
    began = time.monotonic()
    try:
        answer = await client.request(method, path, json=body)
    except httpx.TransportError:
        if method == "POST":
            written.unanswered[body["email"]] = {body["full_name"]}
        return None
    written.longest = max(written.longest, time.monotonic() - began)
    written.statuses[answer.status_code] += 1
    if answer.is_error:
        written.details[answer.json()["detail"]] += 1
    return answer


def differences(file: Path, written: Written) -> list[str]:
    """Return what the file has otherwise than was acknowledged, and what damage it has."""
    with closing(sqlite3.connect(file)) as connection:
        (verdict,) = connection.execute("PRAGMA integrity_check").fetchone()
        rows = list(connection.execute("SELECT email, full_name FROM users"))
    found = dict(rows)
    wrong = [] if verdict == "ok" else [f"integrity_check: {verdict}"]
    emails = Counter(email for email, _ in rows)
    wrong += [f"{email} is there twice" for email, times in emails.items() if times > 1]
    for email, name in written.acknowledged.items():
        if found.get(email) not in written.unanswered.get(email, {name}):
            wrong.append(f"{email} is {found.get(email)} instead of {name}")
    for email in found.keys() - written.acknowledged.keys() - written.unanswered.keys():
        wrong.append(f"{email} was refused, and is there")
    return wrong
