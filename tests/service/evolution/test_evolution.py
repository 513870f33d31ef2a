"""/evolution and /evolution.json: their content, who may see them, and the page in a browser."""

import asyncio
import base64
import json
import math
import re
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import datetime
from html.parser import HTMLParser
from http import HTTPStatus
from itertools import pairwise
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import pytest
from msgspec import convert, structs, to_builtins
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from safely.ledger import snapshot
from safely.ledger.checksum import short
from safely.report.files import revision_files
from service.auth import tokens
from service.evolution import page
from service.evolution.formatting import duration, ordinal, size
from service.evolution.schemas import EXAMPLE, Evolution, Running
from tests.app import serving
from tests.browser import CHROMIUM, Page, chromium
from tests.chain import HEAD, NEXT, NUMBERS, PREVIOUS
from tests.commands import run_alembic, start_alembic
from tests.databases import UNREACHABLE_URL, Databases, name_of, query, write
from tests.paths import ROOT
from tests.problems import problem
from tests.revisions import Revision
from tests.servers import free_port, service_process, wait_until_ready

Json = dict[str, Any]

VERSIONS = ROOT / "migrations/versions"

INDEX = "0007"  # the revision that builds an index concurrently, which waits for transactions
SET_BACK = f"UPDATE alembic_version SET version_num = '{PREVIOUS}'"


async def fetch_evolution(client: httpx.AsyncClient) -> Json:
    """Return the content of /evolution.json."""
    response = await client.get("/evolution.json")
    assert response.status_code == HTTPStatus.OK, response.text
    assert response.headers["Cache-Control"] == "no-store"
    return dict(response.json())


async def evolution_of(url: str) -> Json:
    """Return the content of /evolution.json from a service that uses this database."""
    async with serving(database_url=url) as client:
        return await fetch_evolution(client)


async def fetch_page_text(client: httpx.AsyncClient) -> str:
    """Return the text of the page /evolution, without its title and style sheet."""
    response = await client.get("/evolution")
    assert response.status_code == HTTPStatus.OK, response.text
    return Reader(response.text).words


async def page_text_of(url: str) -> str:
    """Return the page's text from a service that uses this database."""
    async with serving(database_url=url) as client:
        return await fetch_page_text(client)


class Reader(HTMLParser):
    """A page's elements and texts; fails where an element is not closed, or closed twice."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.pieces: list[str] = []
        self.feed(html)
        self.close()
        assert self.open == []

    @property
    def words(self) -> str:
        return " ".join("".join(self.pieces).split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in {"meta", "link"}:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag
        self.pieces.append(" " if tag in {"p", "li", "dt", "dd", "td", "th", "h1", "h2"} else "")

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] not in {"style", "title"}:
            self.pieces.append(data)


def link(evolution: Json, number: str) -> Json:
    """Return the chain's link of a revision."""
    (one,) = [one for one in evolution["chain"] if one["revision"] == number]
    return dict(one)


# --- the content, on both databases


async def test_each_revision_is_listed_with_when_and_how_it_was_applied(
    client: httpx.AsyncClient,
) -> None:
    evolution = await fetch_evolution(client)
    assert evolution["database"]["revision"] == evolution["build"] == HEAD
    assert evolution["database"]["standing"] == "current"
    assert [one["revision"] for one in evolution["chain"]] == NUMBERS
    for one in evolution["chain"]:
        last = one["last"]
        assert (one["state"], one["known"], one["times"]) == ("applied", True, 1)
        assert (last["direction"], last["state"], last["attempts"]) == ("upgrade", "done", 1)
        assert last["message"] == one["message"]
        assert 0 < last["seconds"] < 60
        assert last["longest_lock_wait"] >= 0
        assert last["started"].endswith("Z")
        assert last["username"]
        assert [part["heading"] for part in one["about"]][:2] == ["What", "Why"]
    assert evolution["drift"]["found"] is False
    assert (evolution["advice"], evolution["running"], evolution["aside"]) == ([], None, [])
    assert evolution["log_length"] == len(evolution["log"]) == len(NUMBERS)
    assert evolution["log"][0]["revision"] == HEAD

    page_text = await fetch_page_text(client)
    assert f"The database is at {HEAD}" in page_text
    assert "Drift No since upgrade" in page_text
    assert f"{HEAD} remember idempotency keys the database is here" in page_text
    assert "What the table idempotency_key: what a request with an" in page_text
    assert "What to do" not in page_text


async def test_an_empty_database_has_a_page_that_says_what_to_type(empty_url: str) -> None:
    async with serving(database_url=empty_url) as client:
        evolution, page_text = await fetch_evolution(client), await fetch_page_text(client)
    assert evolution["database"]["standing"] == "empty"
    assert {one["state"] for one in evolution["chain"]} == {"pending"}
    assert "The database is empty" in page_text
    assert "Make the schema: alembic upgrade head" in page_text
    assert "The ledger is empty" in page_text


async def test_an_undone_revision_is_pending_and_its_table_is_set_aside(
    url: str, engine: AsyncEngine, databases: Databases
) -> None:
    run_alembic(url, "downgrade", "-1")
    async with serving(database_url=url) as client:
        evolution, page_text = await fetch_evolution(client), await fetch_page_text(client)
    undone = link(evolution, HEAD)
    assert (undone["state"], undone["last"]["direction"]) == ("pending", "downgrade")
    assert f"This build, users@{HEAD}, waits for {HEAD}: 1 revision is pending" in page_text
    assert f"{HEAD} is pending: alembic upgrade head" in page_text
    (aside,) = evolution["aside"]
    assert (aside["kind"], aside["revision"], aside["name"]) == ("table", HEAD, "idempotency_key")
    if databases.kind == "sqlite":
        assert aside["bytes"] is None
        return
    size = f"SELECT pg_total_relation_size('aside_{HEAD}.idempotency_key')"
    assert await query(engine, size) == [(aside["bytes"],)]
    assert "table idempotency_key" in page_text


async def test_a_column_that_is_set_aside_is_listed_with_the_space_it_holds(
    url: str, engine: AsyncEngine, clone: Path, revision: Revision, databases: Databases
) -> None:
    """The space is an estimate: the table is not scanned."""
    revision('safely.drop_column("users", "email")')
    people = "('Ada', 'ada@example.org'), ('Bob', 'bob@example.org'), ('Eve', NULL)"
    await write(engine, f"INSERT INTO users (full_name, email) VALUES {people}")
    run_alembic(url, "upgrade", "head", cwd=clone)
    await write(engine, "ANALYZE")
    async with serving(database_url=url) as client:
        evolution, page_text = await fetch_evolution(client), await fetch_page_text(client)
    assert evolution["database"]["standing"] == "ahead"
    assert (link(evolution, NEXT)["known"], link(evolution, NEXT)["state"]) == (False, "applied")
    assert "this build has no file of it" in page_text
    expected = 2 * len("Ada@example.org+") if databases.kind == "postgresql" else None
    assert evolution["aside"] == [
        {"kind": "column", "revision": NEXT, "name": "users.email", "bytes": expected}
    ]


async def test_drift_is_described_in_sentences(url: str, engine: AsyncEngine) -> None:
    await write(engine, "CREATE INDEX surprise ON users (age)")
    await write(engine, "UPDATE migration_log SET checksum = 'ast:abc' WHERE revision = '0003'")
    async with serving(database_url=url) as client:
        evolution, page_text = await fetch_evolution(client), await fetch_page_text(client)
    drift = evolution["drift"]
    assert drift["found"]
    assert re.match(r"index surprise.*: was added", drift["differences"][0])
    checksum = revision_files(VERSIONS)[2].checksum
    assert drift["edited"] == [
        f"0003_add_age.py: applied with checksum abc, is now {short(checksum)}"
    ]
    assert "Drift Yes 1 difference, 1 edited file" in page_text
    assert f"Not as upgrade {HEAD} left it: 0003_add_age.py" in page_text
    assert "index surprise" in page_text
    assert "alembic -x drift=accept upgrade head" in page_text


async def test_a_snapshot_by_another_server_version_is_not_compared(
    url: str, engine: AsyncEngine
) -> None:
    await write(engine, "UPDATE migration_log SET server = '14', snapshot = '{}'")
    evolution = await evolution_of(url)
    assert evolution["drift"]["found"] is None
    assert "recorded by PostgreSQL 14" in evolution["drift"]["unknown"]


async def test_the_log_is_long_and_the_page_is_not(url: str, engine: AsyncEngine) -> None:
    columns = "revision, direction, state, message, started, build"
    again = f"INSERT INTO migration_log ({columns}) SELECT {columns} FROM migration_log"
    for _ in range(4):
        await write(engine, again)
    async with serving(database_url=url) as client:
        evolution, page_text = await fetch_evolution(client), await fetch_page_text(client)
    rows = 16 * len(NUMBERS)
    assert (evolution["log_length"], len(evolution["log"])) == (rows, 20)
    assert link(evolution, HEAD)["times"] == 16
    assert f"{rows - 20} older entries not shown: python -m migrations log" in page_text


async def test_a_database_at_base_keeps_its_history(url: str) -> None:
    run_alembic(url, "downgrade", "base")
    async with serving(database_url=url) as client:
        evolution, page_text = await fetch_evolution(client), await fetch_page_text(client)
    assert (evolution["database"]["revision"], evolution["database"]["standing"]) == (None, "empty")
    assert {one["last"]["direction"] for one in evolution["chain"]} == {"downgrade"}
    assert evolution["log_length"] == 2 * len(NUMBERS)
    assert "The database is at base" in page_text


async def test_a_database_ahead_of_the_build_is_shown_as_far_as_it_is_known(
    url: str, engine: AsyncEngine
) -> None:
    await write(engine, "UPDATE alembic_version SET version_num = '0042'")
    async with serving(database_url=url) as client:
        evolution, page_text = await fetch_evolution(client), await fetch_page_text(client)
    assert evolution["database"]["standing"] == "ahead"
    later = link(evolution, "0042")
    assert (later["known"], later["state"], later["last"]) == (False, "applied", None)
    assert "Applied; the ledger does not know when; this build has no file of it" in page_text


async def test_without_a_ledger_the_page_says_how_to_get_one(url: str, engine: AsyncEngine) -> None:
    cascade = " CASCADE" if engine.dialect.name == "postgresql" else ""
    await write(engine, f"DROP TABLE migration_log{cascade}")
    async with serving(database_url=url) as client:
        evolution, page_text = await fetch_evolution(client), await fetch_page_text(client)
    assert evolution["database"]["revision"] == HEAD
    assert evolution["drift"]["found"] is None
    assert "The database has no ledger" in page_text
    assert "alembic stamp" in page_text


async def test_without_a_database_the_response_is_503_as_everywhere() -> None:
    async with serving(database_url=UNREACHABLE_URL) as client:
        for path in ("/evolution", "/evolution.json"):
            problem(await client.get(path), HTTPStatus.SERVICE_UNAVAILABLE, "unavailable")


# --- the page


HOSTILE = "<script>alert('&quot;')</script>"


async def test_no_text_of_the_database_becomes_markup(url: str, engine: AsyncEngine) -> None:
    async with engine.begin() as connection:
        change = "UPDATE migration_log SET message = :markup, username = :markup, host = :markup"
        await connection.execute(text(change), {"markup": HOSTILE})
        await connection.execute(text('CREATE INDEX "<b>bold</b>" ON users (age)'))
    async with serving(database_url=url) as client:
        response = await client.get("/evolution")
    reader = Reader(response.text)
    assert not {"script", "i", "img"} & {tag for tag, _ in reader.tags}
    assert "<b>bold" not in response.text
    assert reader.words.count(HOSTILE) >= 3 * len(NUMBERS)
    assert "<b>bold</b>" in reader.words


NOT_SHOWN = {  # of the ledger's entries; the first link is applied, the second is unfinished
    ".chain[0].last.revision",
    ".chain[0].last.direction",
    ".chain[0].last.message",
    ".chain[0].last.build",
    ".chain[1].last.build",
    ".log[0].build",
}


def hostile(path: str) -> str:
    """Return markup that would run if it were not escaped, and names the field it stands in."""
    return f"<script title='{path}\">&amp;</script>"


def with_hostile_texts(value: Any, path: str = "") -> Any:
    """Return the same structure with hostile markup in place of every free text."""
    if isinstance(value, dict):
        return {key: with_hostile_texts(item, f"{path}.{key}") for key, item in value.items()}
    if isinstance(value, list):
        return [with_hostile_texts(item, f"{path}[{i}]") for i, item in enumerate(value)]
    is_free = isinstance(value, str) and not path.endswith((".kind", ".standing", ".state"))
    return hostile(path) if is_free else value


def text_paths(value: Any, path: str = "") -> Iterator[str]:
    """Yield the path of every hostile text."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield from text_paths(item, f"{path}.{key}")
    elif isinstance(value, list):
        for i, item in enumerate(value):
            yield from text_paths(item, f"{path}[{i}]")
    elif value == hostile(path):
        yield path


def test_no_text_of_the_evolution_becomes_markup() -> None:
    evolution = structs.replace(
        EXAMPLE,
        advice=["upgrade"],
        running=Running(
            since=EXAMPLE.looked, waiting=1.0, blockers=["pid 7"], waits_for_standby=True
        ),
        chain=[structs.replace(EXAMPLE.chain[0], state=name) for name in ("applied", "unfinished")],
    )
    drift = structs.replace(EXAMPLE.drift, found=True, differences=["age"], edited=["0001"])
    unknown = structs.replace(EXAMPLE.drift, found=None, since=None, unknown="nobody knows")
    paths, shown = set(), set()
    for case in (drift, unknown):
        plain = to_builtins(structs.replace(evolution, drift=case), builtin_types=(datetime,))
        texts = with_hostile_texts(plain)
        html = page.page(convert(texts, Evolution), refresh=None).decode()
        assert "<script" not in html
        words = Reader(html).words
        paths |= set(text_paths(texts))
        shown |= {path for path in paths if hostile(path) in words}
    assert paths - shown == NOT_SHOWN


async def test_the_page_loads_nothing_and_its_policy_allows_nothing(
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
    assert not [name for name, attributes in tags if {"style", "src"} & set(attributes)]
    assert {attributes["href"] for name, attributes in tags if name == "a"} == {
        "evolution", "evolution?refresh=5", "evolution?refresh=30", "evolution.json"
    }  # fmt: skip
    levels = [int(name[1]) for name in names if re.fullmatch("h[1-6]", name)]
    assert levels[0] == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))
    ids = [attributes["id"] for _, attributes in tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    labels = {attributes.get("aria-labelledby") for _, attributes in tags}
    assert set(ids) == labels - {None}


async def test_the_page_reloads_itself_when_the_url_says_so(client: httpx.AsyncClient) -> None:
    response = await client.get("/evolution?refresh=5")
    assert '<meta http-equiv="refresh" content="5">' in response.text
    assert "http-equiv" not in (await client.get("/evolution")).text
    for refresh in ("0", "3601", "soon", "null", "", "5&refresh=5", "5&reload=5"):
        response = await client.get(f"/evolution?refresh={refresh}")
        problem(response, HTTPStatus.UNPROCESSABLE_ENTITY, "invalid-input")


def luminance(colour: str) -> float:
    """Return the relative luminance of #rrggbb or #rgb (WCAG 2.2)."""
    digits = colour.lstrip("#")
    digits = digits if len(digits) == 6 else "".join(2 * digit for digit in digits)
    parts = [int(digits[place : place + 2], 16) / 255 for place in (0, 2, 4)]
    red, green, blue = (math.pow((part + 0.055) / 1.055, 2.4) for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def test_every_text_colour_has_contrast_on_every_background() -> None:
    style = (ROOT / "service/evolution/evolution.css").read_text("utf-8")
    themes = [dict(re.findall(r"--([a-z]+): (#\w+);", part)) for part in style.split(":root")[1:3]]
    for theme in themes:
        for ground in ("ground", "raised"):
            for ink in ("ink", "soft", "well", "attention", "moving"):
                dark, light = sorted(luminance(theme[name]) for name in (ground, ink))
                assert (light + 0.05) / (dark + 0.05) >= 4.5, (theme, ground, ink)


def spaced(text: str) -> str:
    """Return the text with ordinary spaces instead of no-break spaces."""
    return text.replace("\N{NO-BREAK SPACE}", " ")


def test_durations_sizes_and_ordinals_read_well() -> None:
    durations = [
        spaced(duration(seconds)) for seconds in (0.0214, 0.9996, 2.25, 75.4, 3725, 200_000)
    ]
    assert durations == ["21 ms", "1.0 s", "2.2 s", "1 min 15 s", "1 h 2 min", "2 days"]
    sizes = [spaced(size(count)) for count in (7, 999, 1234, 401_408, 12_300_000, 10**16)]
    assert sizes == ["7 bytes", "999 bytes", "1.23 kB", "401 kB", "12.3 MB", "10000 TB"]
    ordinals = [ordinal(number) for number in (2, 3, 4, 11, 12, 21, 113)]
    assert ordinals == ["2nd", "3rd", "4th", "11th", "12th", "21st", "113th"]


# --- the content that only one of the two databases has


@asynccontextmanager
async def connected(url: str, name: str, times: int) -> AsyncIterator[None]:
    """Keep connections open under an application's name."""
    async with AsyncExitStack() as stack:
        for _ in range(times):
            settings = {"application_name": name}
            connection = await asyncpg.connect(url, server_settings=settings)
            stack.push_async_callback(connection.close)
        yield


@pytest.mark.only("postgresql")
async def test_connected_builds_are_listed_with_their_published_versions(
    url: str, engine: AsyncEngine
) -> None:
    await write(engine, "DROP SCHEMA at_0005 CASCADE")
    async with (
        connected(url, "users@0005", 1),
        connected(url, "users@0007", 3),
        connected(url, "psql", 2),
        serving(database_url=url) as client,
    ):
        evolution, page_text = await fetch_evolution(client), await fetch_page_text(client)
    assert evolution["builds"] == [
        {"revision": "0005", "connections": 1, "published": False},
        {"revision": "0007", "connections": 3, "published": True},
        {"revision": HEAD, "connections": 1, "published": True},
    ]
    assert evolution["published"] == [number for number in NUMBERS if number != "0005"]
    assert f"Connected 3 builds users@0005, users@0007, users@{HEAD}" in page_text
    assert "users@0007 3 at_0007, published" in page_text
    assert f"users@{HEAD} (this one) 1 at_{HEAD}, published" in page_text
    assert "users@0005 is connected, and its version is not published" in page_text


@pytest.mark.only("sqlite")
async def test_on_sqlite_the_page_says_that_connections_are_not_known(url: str) -> None:
    async with serving(database_url=url) as client:
        evolution, page_text = await fetch_evolution(client), await fetch_page_text(client)
    assert (evolution["builds"], evolution["published"], evolution["running"]) == (None, [], None)
    assert "Migration Not told SQLite does not tell" in page_text
    assert "SQLite does not tell which builds are connected" in page_text


@pytest.fixture
async def app_url(databases: Databases, url: str, engine: AsyncEngine) -> AsyncIterator[str]:
    """Return the database's URL for a role that may use the published versions and no more."""
    async with role_without_rights(databases, url, engine) as (role, theirs):
        run_alembic(url, "-x", "drift=accept", "upgrade", "head", APP_ROLE=role)
        yield theirs


@asynccontextmanager
async def role_without_rights(
    databases: Databases, url: str, engine: AsyncEngine
) -> AsyncIterator[tuple[str, str]]:
    """Yield a new role without any rights, and the database's URL for it."""
    role = f"app_of_{name_of(url)}"
    await databases.execute(f"CREATE ROLE {role} LOGIN")
    await write(engine, "REVOKE ALL ON SCHEMA public FROM PUBLIC")
    yield role, url.replace("postgres@", f"{role}@")
    await write(engine, f"DROP OWNED BY {role}")
    await databases.execute(f"DROP ROLE {role}")


@pytest.mark.only("postgresql")
async def test_the_services_role_gets_the_same_report_as_the_owner(url: str, app_url: str) -> None:
    ours, theirs = await evolution_of(url), await evolution_of(app_url)
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
async def test_the_services_role_sees_drift_and_the_space_set_aside(
    app_url: str, engine: AsyncEngine
) -> None:
    await write(engine, "ALTER TABLE users ADD COLUMN _aside_0042_note text DEFAULT 'twelve bytes'")
    await write(
        engine, "INSERT INTO users (full_name) SELECT 'N' || n FROM generate_series(1, 9) n"
    )
    await write(engine, "ANALYZE users")
    await write(engine, "CREATE INDEX surprise ON users (age)")
    evolution = await evolution_of(app_url)
    assert [sentence.partition(":")[0] for sentence in evolution["drift"]["differences"]] == [
        "index surprise"
    ]
    assert evolution["aside"] == [
        {"kind": "column", "revision": "0042", "name": "users.note", "bytes": 9 * 13}
    ]


@pytest.mark.only("postgresql")
async def test_the_ledger_is_read_only_through_a_published_version(
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


# brings a version into the state in which an earlier release published it
EARLIER_RELEASE = (
    f"DROP VIEW at_{HEAD}.migration_log",
    f"DROP FUNCTION at_{HEAD}.seen_by_owner()",
    "UPDATE migration_log SET snapshot = ({}) "
    "WHERE id = (SELECT max(id) FROM migration_log WHERE snapshot IS NOT NULL)".format(
        snapshot.POSTGRESQL.replace(":", r"\:")
    ),
)
LAST = "SELECT id, snapshot FROM migration_log ORDER BY id DESC LIMIT 1"


@pytest.mark.only("postgresql")
async def test_one_upgrade_completes_a_version_that_an_earlier_release_published(
    url: str, engine: AsyncEngine, app_url: str
) -> None:
    for statement in EARLIER_RELEASE:
        await write(engine, statement)
    for number in NUMBERS[:-1]:
        await write(engine, f"DROP SCHEMA at_{number} CASCADE")
    await write(engine, EARLIER_RELEASE[-1])
    role = app_url.partition("//")[2].partition("@")[0]
    async with serving(database_url=app_url) as client:
        evolution, page_text = await fetch_evolution(client), await fetch_page_text(client)
        assert (evolution["database"]["revision"], evolution["log"]) == (HEAD, [])
        assert evolution["drift"]["unknown"] == "the ledger can't be read"
        assert (
            "Run alembic upgrade head once, as the owner of the tables and with that role as the"
            in page_text
        )

        ((entry, before),) = await query(engine, LAST)
        log = run_alembic(url, "upgrade", "head", APP_ROLE=role).stderr
        assert f"completed the published version {HEAD}" in log
        evolution = await fetch_evolution(client)
        assert evolution["advice"] == []
        assert evolution["drift"]["found"] is False
        assert evolution["log"]

    completed = await query(engine, LAST)
    assert completed[0][0] == entry
    assert completed[0][1] != before
    log = run_alembic(url, "upgrade", "head", APP_ROLE=role).stderr
    assert "completed" not in log
    assert "nothing to do" in log
    assert await query(engine, LAST) == completed


@pytest.mark.only("postgresql")
async def test_one_upgrade_gives_a_role_that_is_set_later_its_rights(
    databases: Databases, url: str, engine: AsyncEngine
) -> None:
    async with role_without_rights(databases, url, engine) as (role, theirs):
        evolution, page_text = await evolution_of(theirs), await page_text_of(theirs)
        database = evolution["database"]
        assert (database["revision"], database["standing"]) == (None, "unknown")
        assert "Where the database is can't be told" in page_text
        assert "with that role as the app_role of the Project" in page_text
        run_alembic(url, "-x", "drift=accept", "upgrade", "head", APP_ROLE=role)
        async with serving(database_url=theirs) as client:
            assert (await fetch_evolution(client))["database"]["standing"] == "current"
            assert (await client.post("/users", json={"full_name": "Ada"})).is_success


@pytest.mark.only("postgresql")
async def test_a_migration_is_shown_while_it_waits(
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
        evolution, page_text = await fetch_evolution(client), await fetch_page_text(client)
    assert evolution["database"]["revision"] == before
    assert evolution["running"]["since"] <= evolution["looked"]
    assert evolution["running"]["waiting"] >= 0
    pid = driver.get_server_pid()
    assert evolution["running"]["blockers"] == [f"pid {pid}, a long <report>"]
    half = link(evolution, INDEX)
    assert (half["state"], half["last"]["state"]) == ("unfinished", "started")
    assert evolution["drift"]["found"] is None
    assert f"upgrade {INDEX} is not finished" in evolution["drift"]["unknown"]
    assert re.search(r"Migration Running for \S+ \w+ waiting", page_text)
    assert "Under way: upgrade begun" in page_text
    assert f"Blocked by: pid {pid}, a long <report>" in page_text
    (blocker,) = (await evolution_of(url))["running"]["blockers"]
    assert re.fullmatch(
        rf"pid {pid}, a long <report>, in a transaction for [\d.]+ s: SELECT \* FROM users", blocker
    )

    await report.commit()
    assert await upgrade.wait() == 0
    evolution = await evolution_of(url)
    assert (evolution["database"]["standing"], evolution["running"]) == ("current", None)


@pytest.mark.only("postgresql")
async def test_an_unfinished_step_is_shown_with_the_way_on(url: str, engine: AsyncEngine) -> None:
    await write(engine, SET_BACK)
    await write(engine, f"UPDATE migration_log SET state = 'started' WHERE revision = '{HEAD}'")
    async with serving(database_url=url) as client:
        evolution, page_text = await fetch_evolution(client), await fetch_page_text(client)
    assert link(evolution, HEAD)["state"] == "unfinished"
    assert f"upgrade {HEAD} was begun and not finished, and no migration is running" in page_text


@pytest.mark.only("postgresql")
async def test_a_locked_table_does_not_hold_the_page_up(url: str, driver: Any) -> None:
    async with driver.transaction():
        await driver.execute("LOCK TABLE users")
        evolution = await evolution_of(url)
    assert (
        evolution["drift"]["unknown"]
        == "a table is locked, and reading its definition would have to wait"
    )
    assert evolution["database"]["standing"] == "current"


# --- authorization


@pytest.fixture
def file(tmp_path: Path) -> str:
    return str(tmp_path / "tokens.json")


def basic(password: str, name: str = "me") -> dict[str, str]:
    credentials = base64.b64encode(f"{name}:{password}".encode()).decode()
    return {"Authorization": f"Basic {credentials}"}


CHALLENGES = ['Bearer realm="users"', 'Basic realm="users", charset="UTF-8"']


@pytest.mark.only("sqlite")
@pytest.mark.parametrize("path", ["/evolution", "/evolution.json"])
async def test_the_operate_scope_is_required_by_bearer_or_basic(
    url: str, file: str, path: str
) -> None:
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
async def test_basic_is_accepted_for_no_other_url(url: str, file: str) -> None:
    everything = tokens.create(file, "me", ["read", "write", "operate"])
    async with serving(database_url=url, tokens_file=file) as client:
        for path in ("/users", "/metrics"):
            response = await client.get(path, headers=basic(everything))
            problem(response, HTTPStatus.UNAUTHORIZED, "unauthorized")
            assert response.headers.get_list("WWW-Authenticate") == CHALLENGES[:1]


async def test_starting_the_service_loads_neither_alembic_nor_jinja2() -> None:
    code = "import sys, service.app; print(sorted({'alembic', 'jinja2'} & set(sys.modules)))"
    run = await asyncio.create_subprocess_exec(
        sys.executable, "-c", code, cwd=ROOT, stdout=asyncio.subprocess.PIPE
    )
    output, _ = await run.communicate()
    assert output == b"[]\n"


def test_a_revision_file_that_is_not_python_is_shown_with_the_reason(tmp_path: Path) -> None:
    (tmp_path / "0010_add_phone.py").write_text('"""add phone', "utf-8")
    (draft,) = revision_files(tmp_path)
    assert (draft.revision, draft.message) == ("0010", "add phone")
    assert draft.paragraphs[0].heading == "Its file is not Python"
    assert draft.paragraphs[0].text.startswith("unterminated triple-quoted string")


# --- in a real browser


LONG = "w" * 120


@asynccontextmanager
async def live(url: str, file: str) -> AsyncIterator[str]:
    """Run a service in a process of its own; yield the URL of its page."""
    port = free_port()
    place = f"http://127.0.0.1:{port}"
    async with service_process(
        DATABASE_URL=url, PORT=str(port), TOKENS_FILE=file, ACCESS_LOG="off"
    ):
        async with httpx.AsyncClient(base_url=place) as client:
            await wait_until_ready(client)
        yield f"{place}/evolution"


async def fits(page: Page, width: int) -> None:
    """Assert that no text leaves the window sideways, and that each part of the page is there."""
    assert (await page.size())[0] == width
    texts = await page.texts()
    for words, (left, _, across, _) in texts:
        assert left >= 0, words
        assert left + across <= width + 1, words
    everything = " ".join(words for words, _ in texts)
    for wanted in ("The database is at", "The chain", "Pending", "Set aside", "The log"):
        assert wanted in everything


@pytest.mark.only("postgresql")  # where the page has more parts
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
        await phone.press("Tab")  # moves to the first element that takes the focus
        await phone.press("Enter")
        assert "<details open" in await phone.html()
        assert "what a request with an Idempotency-Key was answered" in str(await phone.texts())
