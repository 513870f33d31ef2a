"""/evolution and /evolution.json: what is told, to whom, and how it is shown."""

import asyncio
import base64
import json
import math
import re
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from html.parser import HTMLParser
from http import HTTPStatus
from itertools import pairwise
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from migrations import snapshot
from migrations.report.files import revision_files
from service.auth import tokens
from service.evolution.words import duration, ordinal, size
from tests.app import serving
from tests.browser import CHROMIUM, Page, chromium
from tests.chain import HEAD, NEXT, NUMBERS, PREVIOUS
from tests.commands import run_alembic, start_alembic
from tests.databases import UNREACHABLE_URL, Databases, name_of, query, write
from tests.paths import ROOT
from tests.problems import problem
from tests.revisions import Revision
from tests.servers import free_port, service_process, wait_until_ready

Told = dict[str, Any]

INDEX = "0007"  # the revision that builds an index concurrently, which waits for transactions
SET_BACK = f"UPDATE alembic_version SET version_num = '{PREVIOUS}'"


async def told(client: httpx.AsyncClient) -> Told:
    """What machines are told."""
    response = await client.get("/evolution.json")
    assert response.status_code == HTTPStatus.OK, response.text
    assert response.headers["Cache-Control"] == "no-store"
    return dict(response.json())


async def told_by(url: str) -> Told:
    """The same, by a service that looks at this database."""
    async with serving(database_url=url) as client:
        return await told(client)


async def seen(client: httpx.AsyncClient, parameters: str = "") -> str:
    """What people see: the page's text, without its style."""
    response = await client.get(f"/evolution{parameters}")
    assert response.status_code == HTTPStatus.OK, response.text
    return Reader(response.text).words


async def seen_by(url: str) -> str:
    async with serving(database_url=url) as client:
        return await seen(client)


class Reader(HTMLParser):
    """Reads a page as it stands; complains of what is not closed, or closed twice."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.said: list[str] = []
        self.feed(page)
        self.close()
        assert self.open == []

    @property
    def words(self) -> str:
        return " ".join("".join(self.said).split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in {"meta", "link"}:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag
        self.said.append(" " if tag in {"p", "li", "dt", "dd", "td", "th", "h1", "h2"} else "")

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] not in {"style", "title"}:
            self.said.append(data)


def link(found: Told, number: str) -> Told:
    """A revision of the chain."""
    (one,) = [one for one in found["chain"] if one["revision"] == number]
    return dict(one)


# --- what is told, on both databases


async def test_it_tells_when_and_how_each_revision_was_applied(client: httpx.AsyncClient) -> None:
    found = await told(client)
    assert found["database"]["revision"] == found["build"] == HEAD
    assert found["database"]["standing"] == "current"
    assert [one["revision"] for one in found["chain"]] == NUMBERS
    for one in found["chain"]:
        last = one["last"]
        assert (one["state"], one["known"], one["times"]) == ("applied", True, 1)
        assert (last["direction"], last["state"], last["attempts"]) == ("upgrade", "done", 1)
        assert last["message"] == one["message"]
        assert 0 < last["seconds"] < 60
        assert last["longest_lock_wait"] >= 0
        assert last["started"].endswith("Z")
        assert last["username"]
        assert [part["heading"] for part in one["about"]][:2] == ["What", "Why"]
    assert found["drift"]["found"] is False
    assert (found["advice"], found["running"], found["aside"]) == ([], None, [])
    assert found["log_length"] == len(found["log"]) == len(NUMBERS)
    assert found["log"][0]["revision"] == HEAD

    page = await seen(client)
    assert f"The database is at {HEAD}" in page
    assert "Drift No since upgrade" in page
    assert f"{HEAD} remember idempotency keys the database is here" in page
    assert "What the table idempotency_key: what a request with an" in page
    assert "What to do" not in page


async def test_an_empty_database_has_a_page_that_says_what_to_type(empty_url: str) -> None:
    async with serving(database_url=empty_url) as client:
        found, page = await told(client), await seen(client)
    assert found["database"]["standing"] == "empty"
    assert {one["state"] for one in found["chain"]} == {"pending"}
    assert "The database is empty" in page
    assert "Make the schema: alembic upgrade head" in page
    assert "Nothing was done yet" in page


async def test_what_was_undone_is_pending_and_set_aside(
    url: str, engine: AsyncEngine, databases: Databases
) -> None:
    run_alembic(url, "downgrade", "-1")
    async with serving(database_url=url) as client:
        found, page = await told(client), await seen(client)
    undone = link(found, HEAD)
    assert (undone["state"], undone["last"]["direction"]) == ("pending", "downgrade")
    assert f"This build, users@{HEAD}, waits for {HEAD}: 1 revision is pending" in page
    assert f"{HEAD} is pending: alembic upgrade head" in page
    (aside,) = found["aside"]
    assert (aside["kind"], aside["revision"], aside["name"]) == ("table", HEAD, "idempotency_key")
    if databases.kind == "sqlite":
        assert aside["bytes"] is None
        return
    size = f"SELECT pg_total_relation_size('aside_{HEAD}.idempotency_key')"
    assert await query(engine, size) == [(aside["bytes"],)]
    assert "table idempotency_key" in page


async def test_a_column_that_is_set_aside_is_told_with_the_space_it_holds(
    url: str, engine: AsyncEngine, clone: Path, revision: Revision, databases: Databases
) -> None:
    """By an estimate: nothing is read through."""
    revision('safely.drop_column("users", "email")')
    people = "('Ada', 'ada@example.org'), ('Bob', 'bob@example.org'), ('Eve', NULL)"
    await write(engine, f"INSERT INTO users (full_name, email) VALUES {people}")
    run_alembic(url, "upgrade", "head", cwd=clone)
    await write(engine, "ANALYZE")
    async with serving(database_url=url) as client:
        found, page = await told(client), await seen(client)
    assert found["database"]["standing"] == "ahead"
    assert (link(found, NEXT)["known"], link(found, NEXT)["state"]) == (False, "applied")
    assert "this build has no file of it" in page
    expected = 2 * len("Ada@example.org+") if databases.kind == "postgresql" else None
    assert found["aside"] == [
        {"kind": "column", "revision": NEXT, "name": "users.email", "bytes": expected}
    ]


async def test_drift_is_told_in_sentences(url: str, engine: AsyncEngine) -> None:
    await write(engine, "CREATE INDEX surprise ON users (age)")
    await write(engine, "UPDATE migration_log SET checksum = 'abc' WHERE revision = '0003'")
    async with serving(database_url=url) as client:
        found, page = await told(client), await seen(client)
    drift = found["drift"]
    assert drift["found"]
    assert re.match(r"index surprise.*: was added", drift["differences"][0])
    assert drift["edited"] == [
        f"0003_add_age.py: applied with checksum abc, is now {revision_files()[2].checksum[:12]}"
    ]
    assert "Drift Yes 1 difference, 1 edited file" in page
    assert f"Not as upgrade {HEAD} left it: 0003_add_age.py" in page
    assert "index surprise" in page
    assert "alembic -x drift=accept upgrade head" in page


async def test_what_was_recorded_by_another_server_is_not_compared(
    url: str, engine: AsyncEngine
) -> None:
    await write(engine, "UPDATE migration_log SET server = '14', snapshot = '{}'")
    found = await told_by(url)
    assert found["drift"]["found"] is None
    assert "recorded by PostgreSQL 14" in found["drift"]["unknown"]


async def test_the_log_is_long_and_the_page_is_not(url: str, engine: AsyncEngine) -> None:
    columns = "revision, direction, state, message, started, build"
    again = f"INSERT INTO migration_log ({columns}) SELECT {columns} FROM migration_log"
    for _ in range(4):
        await write(engine, again)
    async with serving(database_url=url) as client:
        found, page = await told(client), await seen(client)
    rows = 16 * len(NUMBERS)
    assert (found["log_length"], len(found["log"])) == (rows, 20)
    assert link(found, HEAD)["times"] == 16
    assert f"{rows - 20} older entries not shown: python -m migrations log" in page


async def test_a_database_at_base_keeps_its_history(url: str) -> None:
    run_alembic(url, "downgrade", "base")
    async with serving(database_url=url) as client:
        found, page = await told(client), await seen(client)
    assert (found["database"]["revision"], found["database"]["standing"]) == (None, "empty")
    assert {one["last"]["direction"] for one in found["chain"]} == {"downgrade"}
    assert found["log_length"] == 2 * len(NUMBERS)
    assert "The database is at base" in page


async def test_a_database_of_later_times_is_shown_as_far_as_it_is_known(
    url: str, engine: AsyncEngine
) -> None:
    await write(engine, "UPDATE alembic_version SET version_num = '0042'")
    async with serving(database_url=url) as client:
        found, page = await told(client), await seen(client)
    assert found["database"]["standing"] == "ahead"
    later = link(found, "0042")
    assert (later["known"], later["state"], later["last"]) == (False, "applied", None)
    assert "Applied; the ledger does not know when; this build has no file of it" in page


async def test_a_database_without_a_ledger_is_told_how_to_get_one(
    url: str, engine: AsyncEngine
) -> None:
    cascade = " CASCADE" if engine.dialect.name == "postgresql" else ""
    await write(engine, f"DROP TABLE migration_log{cascade}")
    async with serving(database_url=url) as client:
        found, page = await told(client), await seen(client)
    assert found["database"]["revision"] == HEAD
    assert found["drift"]["found"] is None
    assert "The database has no ledger" in page
    assert "alembic stamp" in page


async def test_without_a_database_it_is_the_same_refusal_as_anywhere() -> None:
    async with serving(database_url=UNREACHABLE_URL) as client:
        for path in ("/evolution", "/evolution.json"):
            problem(await client.get(path), HTTPStatus.SERVICE_UNAVAILABLE, "unavailable")


# --- the page


HOSTILE = "<script>alert('&quot;')</script>"


async def test_whatever_the_database_says_is_text(url: str, engine: AsyncEngine) -> None:
    async with engine.begin() as connection:
        change = "UPDATE migration_log SET message = :said, username = :said, host = :said"
        await connection.execute(text(change), {"said": HOSTILE})
        await connection.execute(text('CREATE INDEX "<b>bold</b>" ON users (age)'))
    async with serving(database_url=url) as client:
        response = await client.get("/evolution")
    reader = Reader(response.text)
    assert not {"script", "i", "img"} & {tag for tag, _ in reader.tags}
    assert "<b>bold" not in response.text
    assert reader.words.count(HOSTILE) >= 3 * len(NUMBERS)
    assert "<b>bold</b>" in reader.words


async def test_it_is_a_page_that_needs_nothing_and_is_allowed_nothing(
    client: httpx.AsyncClient,
) -> None:
    response = await client.get("/evolution")
    assert response.headers["Content-Type"] == "text/html; charset=utf-8"
    assert response.headers["Cache-Control"] == "no-store"
    assert response.headers["X-Content-Type-Options"] == "nosniff"
    assert response.headers["Referrer-Policy"] == "no-referrer"
    policy = response.headers["Content-Security-Policy"]
    assert re.fullmatch(
        r"default-src 'none'; style-src 'sha256-[A-Za-z0-9+/=]+'; base-uri 'none'; "
        "form-action 'none'; frame-ancestors 'none'",
        policy,
    )
    assert response.text.startswith('<!doctype html>\n<html lang="en">')
    tags = Reader(response.text).tags
    names = [name for name, _ in tags]
    assert not {"script", "link", "img", "iframe", "form"} & set(names)
    assert not [name for name, given in tags if "style" in given or "src" in given]
    assert {given["href"] for name, given in tags if name == "a"} == {
        "evolution", "evolution?refresh=5", "evolution?refresh=30", "evolution.json"
    }  # fmt: skip
    levels = [int(name[1]) for name in names if re.fullmatch("h[1-6]", name)]
    assert levels[0] == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))
    ids = [given["id"] for _, given in tags if "id" in given]
    assert len(ids) == len(set(ids))
    assert set(ids) == {given["aria-labelledby"] for _, given in tags if "aria-labelledby" in given}


async def test_it_looks_again_by_itself_when_it_is_asked_to(client: httpx.AsyncClient) -> None:
    response = await client.get("/evolution?refresh=5")
    assert '<meta http-equiv="refresh" content="5">' in response.text
    assert "http-equiv" not in (await client.get("/evolution")).text
    for asked in ("0", "3601", "soon", "null", "", "5&refresh=5", "5&reload=5"):
        response = await client.get(f"/evolution?refresh={asked}")
        problem(response, HTTPStatus.UNPROCESSABLE_ENTITY, "invalid-input")


def luminance(colour: str) -> float:
    """Of #rrggbb or #rgb (WCAG 2.2)."""
    digits = colour.lstrip("#")
    digits = digits if len(digits) == 6 else "".join(2 * digit for digit in digits)
    parts = [int(digits[place : place + 2], 16) / 255 for place in (0, 2, 4)]
    red, green, blue = (math.pow((part + 0.055) / 1.055, 2.4) for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def test_every_ink_can_be_read_on_every_ground() -> None:
    style = (ROOT / "service/evolution/evolution.css").read_text("utf-8")
    themes = [dict(re.findall(r"--([a-z]+): (#\w+);", part)) for part in style.split(":root")[1:3]]
    for theme in themes:
        for ground in ("ground", "raised"):
            for ink in ("ink", "soft", "well", "attention", "moving"):
                dark, light = sorted(luminance(theme[name]) for name in (ground, ink))
                assert (light + 0.05) / (dark + 0.05) >= 4.5, (theme, ground, ink)


def spaced(words: str) -> str:
    """With spaces where a line may not be broken."""
    return words.replace("\N{NO-BREAK SPACE}", " ")


def test_numbers_are_told_as_people_say_them() -> None:
    told = [spaced(duration(seconds)) for seconds in (0.0214, 0.9996, 2.25, 75.4, 3725, 200_000)]
    assert told == ["21 ms", "1.0 s", "2.2 s", "1 min 15 s", "1 h 2 min", "2 days"]
    told = [spaced(size(count)) for count in (7, 999, 1234, 401_408, 12_300_000, 10**16)]
    assert told == ["7 bytes", "999 bytes", "1.23 kB", "401 kB", "12.3 MB", "10000 TB"]
    told = [ordinal(number) for number in (2, 3, 4, 11, 12, 21, 113)]
    assert told == ["2nd", "3rd", "4th", "11th", "12th", "21st", "113th"]


# --- what only PostgreSQL tells


@asynccontextmanager
async def connected(url: str, name: str, times: int) -> AsyncIterator[None]:
    """So many connections of an application."""
    async with AsyncExitStack() as stack:
        for _ in range(times):
            settings = {"application_name": name}
            connection = await asyncpg.connect(url, server_settings=settings)
            stack.push_async_callback(connection.close)
        yield


@pytest.mark.only("postgresql")
async def test_builds_are_told_with_the_versions_they_read_through(
    url: str, engine: AsyncEngine
) -> None:
    await write(engine, "DROP SCHEMA at_0005 CASCADE")
    async with (
        connected(url, "users@0005", 1),
        connected(url, "users@0007", 3),
        connected(url, "psql", 2),
        serving(database_url=url) as client,
    ):
        found, page = await told(client), await seen(client)
    assert found["builds"] == [
        {"revision": "0005", "connections": 1, "published": False},
        {"revision": "0007", "connections": 3, "published": True},
        {"revision": HEAD, "connections": 1, "published": True},
    ]
    assert found["published"] == [number for number in NUMBERS if number != "0005"]
    assert f"Connected 3 builds users@0005, users@0007, users@{HEAD}" in page
    assert "users@0007 3 at_0007, published" in page
    assert f"users@{HEAD} (this one) 1 at_{HEAD}, published" in page
    assert "users@0005 is connected, and its version is not published" in page


@pytest.mark.only("sqlite")
async def test_sqlite_does_not_tell_who_is_connected_and_the_page_says_so(url: str) -> None:
    async with serving(database_url=url) as client:
        found, page = await told(client), await seen(client)
    assert (found["builds"], found["published"], found["running"]) == (None, [], None)
    assert "Migration Not told SQLite does not tell" in page
    assert "SQLite does not tell who is connected" in page


@pytest.fixture
async def app_url(databases: Databases, url: str, engine: AsyncEngine) -> AsyncIterator[str]:
    """The database as a role sees it that may use what is published, and nothing else."""
    async with stranger(databases, url, engine) as (role, theirs):
        run_alembic(url, "-x", "drift=accept", "upgrade", "head", APP_ROLE=role)
        yield theirs


@asynccontextmanager
async def stranger(
    databases: Databases, url: str, engine: AsyncEngine
) -> AsyncIterator[tuple[str, str]]:
    """A role that may use nothing yet, and the database's address for it."""
    role = f"app_of_{name_of(url)}"
    await databases.execute(f"CREATE ROLE {role} LOGIN")
    await write(engine, "REVOKE ALL ON SCHEMA public FROM PUBLIC")
    yield role, url.replace("postgres@", f"{role}@")
    await write(engine, f"DROP OWNED BY {role}")
    await databases.execute(f"DROP ROLE {role}")


@pytest.mark.only("postgresql")
async def test_the_services_role_is_told_what_the_owner_is_told(url: str, app_url: str) -> None:
    ours, theirs = await told_by(url), await told_by(app_url)
    assert theirs["drift"]["found"] is False
    for changing in ("looked", "builds"):
        del ours[changing], theirs[changing]
    assert theirs == ours


@pytest.mark.only("postgresql")
async def test_the_services_role_sees_the_schema_as_the_owner_sees_it(
    engine: AsyncEngine, app_url: str
) -> None:
    owner = await query(engine, "SELECT current_schema")
    assert owner == [("public",)]
    driver = await asyncpg.connect(app_url)
    assert await driver.fetchval("SELECT current_schema") is None
    mine = json.loads(await driver.fetchval(snapshot.postgresql("'public'::name")))
    await driver.close()
    async with engine.connect() as connection:
        raw = (await connection.get_raw_connection()).driver_connection
        assert raw
        theirs = json.loads(await raw.fetchval(snapshot.POSTGRESQL))
    assert mine == theirs
    assert f"view at_{HEAD}.migration_log" in mine


@pytest.mark.only("postgresql")
async def test_the_services_role_sees_drift_and_the_space_of_what_is_aside(
    app_url: str, engine: AsyncEngine
) -> None:
    await write(engine, "ALTER TABLE users ADD COLUMN _aside_0042_note text DEFAULT 'twelve bytes'")
    await write(
        engine, "INSERT INTO users (full_name) SELECT 'N' || n FROM generate_series(1, 9) n"
    )
    await write(engine, "ANALYZE users")
    await write(engine, "CREATE INDEX surprise ON users (age)")
    found = await told_by(app_url)
    assert [sentence.partition(":")[0] for sentence in found["drift"]["differences"]] == [
        "index surprise"
    ]
    assert found["aside"] == [
        {"kind": "column", "revision": "0042", "name": "users.note", "bytes": 9 * 13}
    ]


@pytest.mark.only("postgresql")
async def test_the_ledger_can_be_read_through_a_version_and_not_written(
    url: str, engine: AsyncEngine, app_url: str
) -> None:
    before = await query(engine, "SELECT * FROM migration_log ORDER BY id")
    for place in (app_url, url):
        driver = await asyncpg.connect(place)
        for change in (
            "UPDATE {} SET revision = '0001'",
            "DELETE FROM {}",
            "INSERT INTO {} (revision) VALUES ('0001')",
        ):
            with pytest.raises(asyncpg.ObjectNotInPrerequisiteStateError):
                await driver.execute(change.format(f"at_{HEAD}.migration_log"))
        await driver.close()
    assert await query(engine, "SELECT * FROM migration_log ORDER BY id") == before


# an earlier release published no more than that
AS_IT_WAS = (
    f"DROP VIEW at_{HEAD}.migration_log",
    f"DROP FUNCTION at_{HEAD}.seen_by_owner()",
    "UPDATE migration_log SET snapshot = ({}) "
    "WHERE id = (SELECT max(id) FROM migration_log WHERE snapshot IS NOT NULL)".format(
        snapshot.POSTGRESQL.replace(":", r"\:")
    ),
)
LAST = "SELECT id, snapshot FROM migration_log ORDER BY id DESC LIMIT 1"


@pytest.mark.only("postgresql")
async def test_a_version_of_an_earlier_release_is_completed_by_one_upgrade(
    url: str, engine: AsyncEngine, app_url: str
) -> None:
    for statement in AS_IT_WAS:
        await write(engine, statement)
    for number in NUMBERS[:-1]:
        await write(engine, f"DROP SCHEMA at_{number} CASCADE")
    await write(engine, AS_IT_WAS[-1])
    role = app_url.partition("//")[2].partition("@")[0]
    async with serving(database_url=app_url) as client:
        found, page = await told(client), await seen(client)
        assert (found["database"]["revision"], found["log"]) == (HEAD, [])
        assert found["drift"]["unknown"] == "the ledger can't be read"
        assert "Run alembic upgrade head once, as the owner and with APP_ROLE set" in page

        ((entry, before),) = await query(engine, LAST)
        said = run_alembic(url, "upgrade", "head", APP_ROLE=role).stderr
        assert f"completed the published version {HEAD}" in said
        found = await told(client)
        assert found["advice"] == []
        assert found["drift"]["found"] is False
        assert found["log"]

    completed = await query(engine, LAST)
    assert completed[0][0] == entry
    assert completed[0][1] != before
    said = run_alembic(url, "upgrade", "head", APP_ROLE=role).stderr
    assert "completed" not in said
    assert "nothing to do" in said
    assert await query(engine, LAST) == completed


@pytest.mark.only("postgresql")
async def test_a_role_that_is_named_later_is_let_in_by_one_upgrade(
    databases: Databases, url: str, engine: AsyncEngine
) -> None:
    async with stranger(databases, url, engine) as (role, theirs):
        found, page = await told_by(theirs), await seen_by(theirs)
        assert (found["database"]["revision"], found["database"]["standing"]) == (None, "unknown")
        assert "Where the database is can't be told" in page
        assert "with APP_ROLE set to that role" in page
        run_alembic(url, "-x", "drift=accept", "upgrade", "head", APP_ROLE=role)
        async with serving(database_url=theirs) as client:
            assert (await told(client))["database"]["standing"] == "current"
            assert (await client.post("/users", json={"full_name": "Ada"})).is_success


@pytest.mark.only("postgresql")
async def test_a_migration_is_seen_while_it_waits(
    url: str, engine: AsyncEngine, app_url: str, driver: Any
) -> None:
    before = NUMBERS[NUMBERS.index(INDEX) - 1]
    role = app_url.partition("//")[2].partition("@")[0]
    run_alembic(url, "downgrade", before, APP_ROLE=role)
    await driver.execute("SET application_name = 'a long <report>'")
    report = driver.transaction(isolation="repeatable_read")
    await report.start()
    await driver.execute("SELECT * FROM users")
    upgrade = await start_alembic(url, "upgrade", "head")
    waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted AND locktype = 'virtualxid'"
    async with asyncio.timeout(60):
        while await query(engine, waiting) != [(1,)]:
            await asyncio.sleep(0.01)

    async with serving(database_url=app_url) as client:
        found, page = await told(client), await seen(client)
    assert found["database"]["revision"] == before
    assert found["running"]["since"] <= found["looked"]
    assert found["running"]["waiting"] >= 0
    pid = driver.get_server_pid()
    assert found["running"]["blockers"] == [f"pid {pid}, a long <report>"]
    half = link(found, INDEX)
    assert (half["state"], half["last"]["state"]) == ("unfinished", "started")
    assert found["drift"]["found"] is None
    assert f"upgrade {INDEX} is not finished" in found["drift"]["unknown"]
    assert re.search(r"Migration At work for \S+ \w+ waiting", page)
    assert "Under way: upgrade begun" in page
    assert f"In its way: pid {pid}, a long <report>" in page

    await report.commit()
    assert await upgrade.wait() == 0
    found = await told_by(url)
    assert (found["database"]["standing"], found["running"]) == ("current", None)


@pytest.mark.only("postgresql")
async def test_a_step_that_was_left_half_done_is_told_with_the_way_on(
    url: str, engine: AsyncEngine
) -> None:
    await write(engine, SET_BACK)
    await write(engine, f"UPDATE migration_log SET state = 'started' WHERE revision = '{HEAD}'")
    async with serving(database_url=url) as client:
        found, page = await told(client), await seen(client)
    assert link(found, HEAD)["state"] == "unfinished"
    assert f"upgrade {HEAD} was begun and not finished, and nobody is at work on it" in page


@pytest.mark.only("postgresql")
async def test_a_table_that_somebody_has_locked_does_not_hold_the_page_up(
    url: str, driver: Any
) -> None:
    async with driver.transaction():
        await driver.execute("LOCK TABLE users")
        found = await told_by(url)
    assert found["drift"]["unknown"] == "somebody has locked what would have to be looked at"
    assert found["database"]["standing"] == "current"


# --- who may see it


@pytest.fixture
def file(tmp_path: Path) -> str:
    return str(tmp_path / "tokens.json")


def basic(password: str, name: str = "me") -> dict[str, str]:
    credentials = base64.b64encode(f"{name}:{password}".encode()).decode()
    return {"Authorization": f"Basic {credentials}"}


CHALLENGES = ['Bearer realm="users"', 'Basic realm="users", charset="UTF-8"']


@pytest.mark.only("sqlite")
@pytest.mark.parametrize("path", ["/evolution", "/evolution.json"])
async def test_who_operates_is_let_in_by_either_method(url: str, file: str, path: str) -> None:
    operator = tokens.create(file, "watch", ["operate"])
    reader = tokens.create(file, "shop", ["read"])
    async with serving(database_url=url, tokens_file=file) as client:
        for headers in (
            {"Authorization": f"Bearer {operator}"},
            basic(operator),
            basic(operator, name=""),
            {"Authorization": basic(operator)["Authorization"].replace("Basic", "basic")},
        ):
            assert (await client.get(path, headers=headers)).status_code == HTTPStatus.OK
        for headers in ({"Authorization": f"Bearer {reader}"}, basic(reader)):
            response = await client.get(path, headers=headers)
            problem(response, HTTPStatus.FORBIDDEN, "forbidden")
        for headers in ({}, {"Authorization": "Digest x"}):
            response = await client.get(path, headers=headers)
            problem(response, HTTPStatus.UNAUTHORIZED, "unauthorized")
            assert response.headers.get_list("WWW-Authenticate") == CHALLENGES
        for wrong in (basic(operator[:-1]), basic(""), {"Authorization": "Basic ?"}, basic("ü")):
            response = await client.get(path, headers=[*wrong.items()])
            problem(response, HTTPStatus.UNAUTHORIZED, "unauthorized")
            invalid, ask = response.headers.get_list("WWW-Authenticate")
            assert 'error_description="the token is not known"' in invalid
            assert ask == CHALLENGES[1]


@pytest.mark.only("sqlite")
async def test_nothing_else_is_opened_by_what_browsers_send_by_themselves(
    url: str, file: str
) -> None:
    everything = tokens.create(file, "me", ["read", "write", "operate"])
    async with serving(database_url=url, tokens_file=file) as client:
        for path in ("/users", "/metrics"):
            response = await client.get(path, headers=basic(everything))
            problem(response, HTTPStatus.UNAUTHORIZED, "unauthorized")
            assert response.headers.get_list("WWW-Authenticate") == CHALLENGES[:1]


async def test_who_is_not_asked_does_not_load_alembic() -> None:
    code = "import sys, service.app; print([name for name in sys.modules if 'alembic' in name])"
    run = await asyncio.create_subprocess_exec(
        sys.executable, "-c", code, cwd=ROOT, stdout=asyncio.subprocess.PIPE
    )
    output, _ = await run.communicate()
    assert output == b"[]\n"


def test_a_draft_that_is_not_python_yet_is_told_as_such(tmp_path: Path) -> None:
    (tmp_path / "0010_add_phone.py").write_text('"""add phone', "utf-8")
    (draft,) = revision_files(tmp_path)
    assert (draft.revision, draft.message) == ("0010", "add phone")
    assert draft.about[0].heading == "Its file is not Python"
    assert draft.about[0].text.startswith("unterminated triple-quoted string")


# --- in a real browser


LONG = "w" * 120


@asynccontextmanager
async def live(url: str, file: str) -> AsyncIterator[str]:
    """A service of its own, and where its page is."""
    port = free_port()
    place = f"http://127.0.0.1:{port}"
    async with service_process(
        DATABASE_URL=url, PORT=str(port), TOKENS_FILE=file, ACCESS_LOG="off"
    ):
        async with httpx.AsyncClient(base_url=place) as client:
            await wait_until_ready(client)
        yield f"{place}/evolution"


async def fits(page: Page, width: int) -> None:
    """Nothing is wider than the window, and all that matters is there."""
    assert (await page.size())[0] == width
    texts = await page.texts()
    for words, (left, _, across, _) in texts:
        assert left >= 0, words
        assert left + across <= width + 1, words
    everything = " ".join(words for words, _ in texts)
    for wanted in ("The database is at", "The chain", "Pending", "Set aside", "The log"):
        assert wanted in everything


@pytest.mark.only("postgresql")  # which tells more
@pytest.mark.skipif(CHROMIUM is None, reason="no chromium: .ci/run installs it if it can")
async def test_a_browser_shows_it_at_every_size_without_scripts(
    url: str, engine: AsyncEngine, file: str
) -> None:
    change = f"UPDATE migration_log SET message = '{LONG}', username = '{LONG}', host = '{LONG}'"
    await write(engine, change)
    token = tokens.create(file, "me", ["operate"])
    async with live(url, file) as address, chromium() as browser:
        phone = await browser.page(360, 740)
        assert await phone.visit(address, password=token) == [address]
        await fits(phone, 360)
        pictures = {}
        for width, height in ((1280, 800), (3840, 2160)):
            await phone.resize(width, height)
            await fits(phone, width)
        for scheme in ("light", "dark"):
            await phone.scheme(scheme)
            pictures[scheme] = await phone.picture(whole=False)
        assert pictures["light"] != pictures["dark"]

        assert "<details open" not in await phone.html()
        await phone.press("Tab")  # to the first thing that can be reached
        await phone.press("Enter")
        assert "<details open" in await phone.html()
        assert "what a request with an Idempotency-Key was answered" in str(await phone.texts())
