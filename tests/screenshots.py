"""`python -m tests.screenshots [DIRECTORY]` makes the pictures of /evolution anew.

Without a directory: those of the documentation. With one: every state in every size, light and
dark, to be looked at by a person. The database is real and has been through all that is shown;
only when it happened, and who did it, is made up, since nobody waits for months.
"""

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NamedTuple

import asyncpg
import httpx

from migrations import scratch
from service.embedded import DATABASE
from tests.browser import Browser, chromium
from tests.paths import ROOT
from tests.servers import free_port, service_process, wait_until_ready
from tests.smaller import smaller

PICTURES = ROOT / "docs/evolution"

USERS = """\
INSERT INTO users (name, email, age)
SELECT CASE WHEN n % 40 > 0 THEN 'Person ' || n END, 'person' || n || '@example.org', n % 90
FROM generate_series(1, 4800) AS n"""
ANSWERS = """\
INSERT INTO idempotency_key (key, request, status, headers, body, expires)
SELECT sha256(n::text::bytea), sha256(n::text::bytea), 201, '{}', repeat('x', 180)::bytea, 4e9
FROM generate_series(1, 900) AS n"""
# what happened on one day keeps its order, and the last day is today
AGED = """\
UPDATE migration_log SET username = $2, host = $3, started = CASE WHEN $1 = 0 THEN started
  ELSE date_trunc('day', now()) - make_interval(days => $1) + interval '9 hours 12 minutes'
       + make_interval(secs => 3 * id) END
WHERE username <> ALL ('{ada,grace,deploy}')"""
WAITING = """\
SELECT count(*) FROM pg_locks JOIN pg_stat_activity USING (pid)
WHERE application_name = 'migrations' AND NOT granted AND waitstart IS NOT NULL"""
BY_HAND = (
    "DROP INDEX idx_user_full_name",
    "ALTER TABLE users ADD COLUMN nickname text",
    "ALTER TABLE users ALTER COLUMN age SET DEFAULT 18",
)


class Size(NamedTuple):
    """A screen."""

    name: str
    width: int
    height: int
    whole: bool  # the page, however long it is


SIZES = (
    Size("phone", 390, 844, whole=True),
    Size("laptop", 1280, 800, whole=True),
    Size("wall", 3840, 2160, whole=False),
)
LAPTOP = SIZES[1]


class Photographer:
    """Takes the pictures that are asked for."""

    def __init__(self, browser: Browser, url: str, place: Path, *, everything: bool) -> None:
        self.browser = browser
        self.url = url
        self.place = place
        self.everything = everything

    async def take(self, state: str, *, both: bool = False) -> None:
        """A picture of the page as it is now; `both`: the documentation has it dark, too."""
        for size in SIZES if self.everything else (LAPTOP,):
            for dark in (False, True) if self.everything or both else (False,):
                name = f"{state}-{size.name}" if self.everything else state
                page = await self.browser.page(size.width, size.height, dark=dark)
                await page.visit(self.url)
                picture = await page.picture(whole=size.whole)
                kept = picture if self.everything else smaller(picture)
                (self.place / f"{name}{'-dark' if dark else ''}.png").write_bytes(kept)


class Story:
    """A database, and what happens to it."""

    def __init__(self, url: str) -> None:
        self.url = url

    async def tell(self, *statements: str) -> None:
        connection = await asyncpg.connect(self.url)
        for statement in statements:
            await connection.execute(statement)
        await connection.close()

    async def aged(self, days: int, who: str, host: str) -> None:
        """What was done since the last time was done so many days ago, by somebody."""
        connection = await asyncpg.connect(self.url)
        await connection.execute(AGED, days, who, host)
        await connection.close()

    async def migrated(self, *arguments: str) -> None:
        await scratch.alembic(self.url, *arguments)

    @asynccontextmanager
    async def somebody(self, name: str, statement: str | None = None) -> AsyncIterator[None]:
        """Somebody is connected, in a transaction that has said something."""
        connection = await asyncpg.connect(self.url, server_settings={"application_name": name})
        if statement:
            await connection.execute(f"BEGIN ISOLATION LEVEL REPEATABLE READ; {statement}")
        try:
            yield
        finally:
            await connection.close()

    async def held_up(self, seconds: float, *arguments: str) -> None:
        """Migrate while a report holds its locks for some time."""
        async with asyncio.TaskGroup() as tasks, self.migrating(tasks, *arguments):
            await asyncio.sleep(seconds)  # how long it takes is the point

    @asynccontextmanager
    async def migrating(self, tasks: asyncio.TaskGroup, *arguments: str) -> AsyncIterator[None]:
        """A migration waits for a lock, and goes on afterwards."""
        async with self.somebody("nightly report", "SELECT count(*) FROM users"):
            tasks.create_task(self.migrated(*arguments))
            watching = await asyncpg.connect(self.url)
            while not await watching.fetchval(WAITING):
                await asyncio.sleep(0.01)
            await watching.close()
            yield


async def pictures(place: Path, *, everything: bool) -> None:
    """All of them."""
    port = free_port()
    async with scratch.server() as server, chromium() as browser:
        story = Story(server.url(DATABASE))
        page = f"http://127.0.0.1:{port}/evolution"
        camera = Photographer(browser, page, place, everything=everything)
        async with service_process(DATABASE_URL=story.url, PORT=str(port), ACCESS_LOG="off"):
            async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client:
                await wait_until_ready(client)
            await camera.take("empty")

            await story.migrated("upgrade", "0003")
            await story.aged(203, "ada", "laptop")
            await story.tell(USERS)
            await story.migrated("upgrade", "0005")
            await story.aged(118, "deploy", "ci-3")
            await story.held_up(2.5, "upgrade", "0006")
            await story.held_up(1.5, "upgrade", "0008")
            await story.migrated("upgrade", "0009")
            await story.aged(41, "deploy", "ci-7")
            await story.tell(ANSWERS)
            await story.migrated("downgrade", "0008")
            await story.aged(12, "grace", "bastion")
            await story.migrated("upgrade", "0009")
            await story.aged(11, "deploy", "ci-7")
            async with (
                story.somebody("users@0007"),
                story.somebody("users@0007"),
                story.somebody("users@0007"),
            ):
                await camera.take("two-builds", both=True)

            await story.migrated("downgrade", "0006")
            await story.aged(2, "grace", "bastion")
            async with (
                asyncio.TaskGroup() as tasks,
                story.somebody("users@0006"),
                story.migrating(tasks, "upgrade", "head"),
            ):
                await story.aged(0, "deploy", "ci-7")
                await asyncio.sleep(4)  # what is shown takes its time
                await camera.take("migrating")

            await story.migrated("downgrade", "0008")
            await story.aged(0, "grace", "bastion")
            await story.tell(*BY_HAND)
            await camera.take("drift")


def main() -> None:
    """Make them."""
    os.environ.pop("TOKENS_FILE", None)
    place = Path(sys.argv[1]) if len(sys.argv) > 1 else PICTURES
    place.mkdir(parents=True, exist_ok=True)
    asyncio.run(pictures(place, everything=len(sys.argv) > 1))


if __name__ == "__main__":
    main()
