"""`python -m tests.screenshots [DIRECTORY]` takes the screenshots of /evolution.

Without a directory: those of the documentation. With one: every state of the page in every size,
light and dark, for a person to look at. The database is real and everything that is shown has
happened to it; only dates, users and hosts are made up, since the history would take months.
"""

import asyncio
import io
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NamedTuple

import asyncpg
import httpx
from PIL import Image

from safely.scratch import databases as scratch
from tests.browser import Browser, chromium
from tests.commands import run_alembic
from tests.paths import ROOT
from tests.servers import free_port, service_process, wait_until_ready

DOCUMENTATION = ROOT / "docs/evolution"

USERS = """\
INSERT INTO users (name, email, age)
SELECT CASE WHEN n % 40 > 0 THEN 'Person ' || n END, 'person' || n || '@example.org', n % 90
FROM generate_series(1, 4800) AS n"""
IDEMPOTENCY_KEYS = """\
INSERT INTO idempotency_key (key, request, status, headers, body, expires)
SELECT sha256(n::text::bytea), sha256(n::text::bytea), 201, '{}', repeat('x', 180)::bytea, 4e9
FROM generate_series(1, 900) AS n"""
# dates the entries that have no made up user yet $1 days back, in their order; 0 leaves the time
BACKDATE = """\
UPDATE migration_log SET username = $2, host = $3, started = CASE WHEN $1 = 0 THEN started
  ELSE date_trunc('day', now()) - make_interval(days => $1) + interval '9 hours 12 minutes'
       + make_interval(secs => 3 * id) END
WHERE username <> ALL ('{ada,grace,deploy}')"""
WAITING = """\
SELECT count(*) FROM pg_locks JOIN pg_stat_activity USING (pid)
WHERE application_name = 'migrations' AND NOT granted AND waitstart IS NOT NULL"""
HAND_EDITS = (
    "DROP INDEX idx_user_full_name",
    "ALTER TABLE users ADD COLUMN nickname text",
    "ALTER TABLE users ALTER COLUMN age SET DEFAULT 18",
)


class Size(NamedTuple):
    """A screen, in CSS pixels."""

    name: str
    width: int
    height: int
    whole: bool  # the whole page, not only the window


SIZES = (
    Size("phone", 390, 844, whole=True),
    Size("laptop", 1280, 800, whole=True),
    Size("wall", 3840, 2160, whole=False),
)
LAPTOP = SIZES[1]


class Camera:
    """Takes screenshots of the page at a URL, and saves them in a directory."""

    def __init__(self, browser: Browser, url: str, directory: Path, *, everything: bool) -> None:
        self.browser = browser
        self.url = url
        self.directory = directory
        self.everything = everything

    async def take(self, state: str, *, both: bool = False) -> None:
        """Save the page as it is now; `both`: in the documentation light and dark, else light."""
        for size in SIZES if self.everything else (LAPTOP,):
            for dark in (False, True) if self.everything or both else (False,):
                name = f"{state}-{size.name}" if self.everything else state
                page = await self.browser.page(size.width, size.height, dark=dark)
                await page.visit(self.url)
                picture = await page.picture(whole=size.whole)
                content = picture if self.everything else with_palette(picture)
                (self.directory / f"{name}{'-dark' if dark else ''}.png").write_bytes(content)


def with_palette(png: bytes) -> bytes:
    """Return the picture as a PNG of 256 colours: a third of the bytes, and it looks the same."""
    # MAXCOVERAGE keeps rare colours, such as those of the marks; k-means then moves each colour to
    # the mean of its pixels, without which the background is a shade off; without dithering flat
    # areas stay flat, which makes the file small
    picture = Image.open(io.BytesIO(png)).convert("RGB")
    method, dither = Image.Quantize.MAXCOVERAGE, Image.Dither.NONE
    reduced = picture.quantize(method=method, kmeans=1, dither=dither)
    file = io.BytesIO()
    reduced.save(file, "PNG", optimize=True)
    return file.getvalue()


class History:
    """A database, and what happens to it in the course of the screenshots."""

    def __init__(self, url: str) -> None:
        self.url = url

    async def execute(self, *statements: str) -> None:
        """Execute statements, each in a transaction of its own."""
        connection = await asyncpg.connect(self.url)
        for statement in statements:
            await connection.execute(statement)
        await connection.close()

    async def backdate(self, days: int, user: str, host: str) -> None:
        """Date the ledger's new entries so many days back, and give them a user and a host."""
        connection = await asyncpg.connect(self.url)
        await connection.execute(BACKDATE, days, user, host)
        await connection.close()

    async def alembic(self, *arguments: str) -> None:
        """Run an Alembic command on the database."""
        await asyncio.to_thread(run_alembic, self.url, *arguments)

    @asynccontextmanager
    async def client(self, name: str, statement: str | None = None) -> AsyncIterator[None]:
        """Keep a connection open; with a statement, in a transaction that has executed it."""
        connection = await asyncpg.connect(self.url, server_settings={"application_name": name})
        if statement:
            await connection.execute(f"BEGIN ISOLATION LEVEL REPEATABLE READ; {statement}")
        try:
            yield
        finally:
            await connection.close()

    async def delayed_alembic(self, seconds: float, *arguments: str) -> None:
        """Migrate while a report holds locks that the migration has to wait for."""
        async with asyncio.TaskGroup() as tasks, self.waiting_alembic(tasks, *arguments):
            await asyncio.sleep(seconds)  # the wait is what the page shows

    @asynccontextmanager
    async def waiting_alembic(
        self, tasks: asyncio.TaskGroup, *arguments: str
    ) -> AsyncIterator[None]:
        """Migrate; yield while the migration waits for a lock, then let it go on."""
        async with self.client("nightly report", "SELECT count(*) FROM users"):
            tasks.create_task(self.alembic(*arguments))
            observer = await asyncpg.connect(self.url)
            while not await observer.fetchval(WAITING):
                await asyncio.sleep(0.01)
            await observer.close()
            yield


async def take_screenshots(directory: Path, *, everything: bool) -> None:
    """Lead a database through its history, and take the screenshots on the way."""
    port = free_port()
    async with scratch.server() as server, chromium() as browser:
        server.create_database("users")
        history = History(server.url("users"))
        page = f"http://127.0.0.1:{port}/evolution"
        camera = Camera(browser, page, directory, everything=everything)
        async with service_process(DATABASE_URL=history.url, PORT=str(port), ACCESS_LOG="off"):
            async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client:
                await wait_until_ready(client)
            await camera.take("empty")

            await history.alembic("upgrade", "0003")
            await history.backdate(203, "ada", "laptop")
            await history.execute(USERS)
            await history.alembic("upgrade", "0005")
            await history.backdate(118, "deploy", "ci-3")
            await history.delayed_alembic(2.5, "upgrade", "0006")
            await history.delayed_alembic(1.5, "upgrade", "0008")
            await history.alembic("upgrade", "0009")
            await history.backdate(41, "deploy", "ci-7")
            await history.execute(IDEMPOTENCY_KEYS)
            await history.alembic("downgrade", "0008")
            await history.backdate(12, "grace", "bastion")
            await history.alembic("upgrade", "0009")
            await history.backdate(11, "deploy", "ci-7")
            async with (
                history.client("users@0007"),
                history.client("users@0007"),
                history.client("users@0007"),
            ):
                await camera.take("two-builds", both=True)

            await history.alembic("downgrade", "0006")
            await history.backdate(2, "grace", "bastion")
            async with (
                asyncio.TaskGroup() as tasks,
                history.client("users@0006"),
                history.waiting_alembic(tasks, "upgrade", "head"),
            ):
                await history.backdate(0, "deploy", "ci-7")
                await asyncio.sleep(4)  # the wait is what the page shows
                await camera.take("migrating")

            await history.alembic("downgrade", "0008")
            await history.backdate(0, "grace", "bastion")
            await history.execute(*HAND_EDITS)
            await camera.take("drift")


def main() -> None:
    """Take the screenshots that the command line asks for."""
    os.environ.pop("TOKENS_FILE", None)
    directory = Path(sys.argv[1]) if len(sys.argv) > 1 else DOCUMENTATION
    directory.mkdir(parents=True, exist_ok=True)
    asyncio.run(take_screenshots(directory, everything=len(sys.argv) > 1))


if __name__ == "__main__":
    main()
