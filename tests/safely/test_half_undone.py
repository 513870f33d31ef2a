"""An operation that is killed or refused halfway is finished by the next run, or undone by it.

Each operation of safely, in both directions, killed before each of its statements, and within those
that build an index; and twice, in all pairs. A build of the revision before writes between runs.
"""

import inspect
import random
import re
import secrets
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple

import asyncpg
import psycopg
import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine

import safely
from safely.operations.halves import Half
from tests import opposites
from tests.chain import HEAD
from tests.commands import run_alembic
from tests.databases import query, write
from tests.migrated import leftovers
from tests.operating import (
    KILLED,
    Statement,
    killing_before,
    let_go,
    run_watched,
    statements_of,
)
from tests.opposites import CATALOGUE, CHANGES, TABLES, WRITE, Change
from tests.revising import Database
from tests.revisions import Revision

AT_RANDOM = "at random"  # in the suite; all with --full
CHANGES_IN_SUITE = 2
CUTS_IN_SUITE = 1
FILE = Path(opposites.__file__)  # of the revision: it names what it creates
CONCURRENTLY = re.compile(
    r"(CREATE|DROP) (?:UNIQUE )?INDEX CONCURRENTLY (?:IF (?:NOT )?EXISTS )?(\S+)"
)
READS = re.compile(r"\s*(SELECT|SET|SHOW)\b")
INVALIDATE = "UPDATE pg_index SET indisvalid = false WHERE indexrelid = to_regclass($1)"
CLEAN = "DROP SCHEMA IF EXISTS at_0041, aside_0042, public CASCADE"
ROWS = """\
SELECT jsonb_agg(shown ORDER BY shown), jsonb_agg(hidden ORDER BY hidden)
FROM (SELECT jsonb_object_agg(key, value) FILTER (WHERE NOT is_hidden) AS shown,
             jsonb_object_agg(key, value) FILTER (WHERE is_hidden) AS hidden
      FROM {} AS t, LATERAL (SELECT key, value, starts_with(key, '_aside_') AS is_hidden
                             FROM jsonb_each(to_jsonb(t))) AS cells
      GROUP BY t) AS rows"""
PLACES = """\
SELECT nspname || '.' || relname FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace
WHERE relkind IN ('r', 'p') AND (nspname = 'public' OR starts_with(nspname, 'aside_')) ORDER BY 1"""


class Cut(NamedTuple):
    """A run of one direction, killed before a statement; to its end where that is 0."""

    up: bool
    kill_before: int = 0
    in_half: bool = False
    """Whether the server has begun that statement: an index is INVALID then."""


UP, DOWN = Cut(up=True), Cut(up=False)


@dataclass
class Trial:
    """A change in a database of its own, which begins anew as often as is needed."""

    url: str
    engine: AsyncEngine
    observer: asyncpg.Connection
    change: Change
    seed: int
    writes: int = 0
    ends: dict[tuple[Cut, ...], dict[str, str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.chance = random.Random(self.seed)  # noqa: S311  # not a secret

    async def repeat(self, *cuts: Cut) -> list[Statement]:
        """Begin anew, and run so; an older build writes before, and after each run.

        Return the statements of the last run.
        """
        await self.observer.execute(f"{CLEAN}; {TABLES}")
        self.writes, statements = 0, list[Statement]()
        begun: Cut | None = None  # as the ledger has it
        for cut in cuts:
            await self.write()
            half: Half = "finished" if begun and begun.up == cut.up else "undone"
            statements = await self.run(cut, half if begun else None)
            begun = (begun or cut) if cut.kill_before else None
        await self.write()
        return statements

    async def run(self, cut: Cut, half: Half | None) -> list[Statement]:
        """Run one direction, to its end or to the cut; return its statements."""
        body = self.change.up if cut.up else self.change.down
        watch = killing_before(cut.kill_before) if cut.kill_before else let_go
        run = await run_watched(self.engine, body, up=cut.up, watch=watch, file=FILE, half=half)
        assert run.is_done == (cut.kill_before == 0)
        if cut.in_half:
            await self.begin(run.statements[-1].text)
        return run.statements

    async def write_bad_row(self, number: int) -> str:
        """Run the change, which meets a bad row that is written before a statement.

        Delete the row again. Return the refusal; empty where the row was, or the run went on.
        """
        refusal = ""

        def watch(sent: int, _: Statement) -> None:
            if sent == number:
                write_at_once(self.url, self.change.bad)

        await self.repeat()
        try:
            await run_watched(self.engine, self.change.up, up=True, watch=watch, file=FILE)
        except safely.Refused as error:
            refusal = str(error)
        await self.observer.execute("DELETE FROM at_0041.pets WHERE id = 900")
        return refusal

    async def begin(self, statement: str) -> None:
        """Leave the index of a statement as a server does that is stopped within it."""
        kind, index = concurrently(statement) or ("", "")
        exists = await self.observer.fetchval("SELECT to_regclass($1) IS NOT NULL", index)
        if kind == "CREATE" and not exists:
            await self.observer.execute(statement)
        if kind == "DROP" or not exists:
            await self.observer.execute(INVALIDATE, index)

    async def write(self) -> None:
        """Write as a build of the revision before does."""
        self.writes += 1
        await self.observer.execute(WRITE.replace("%s", str(10 * self.writes)))

    async def cuts(self, *before: Cut, up: bool, number: int) -> list[Cut]:
        """Return so many cuts of a run after those, chosen at random; 0: one for each end state."""
        cuts, is_changed = list[Cut](), True
        for place, statement in enumerate(await self.repeat(*before, Cut(up)), 1):
            if statement.follows_commit and is_changed:  # a kill elsewhere is rolled back to there
                cuts.append(Cut(up, place))
                is_changed = False
            if concurrently(statement.text):
                cuts.append(Cut(up, place, in_half=True))
            is_changed = is_changed or READS.match(statement.text) is None
        if number:
            return self.chance.sample(cuts, min(number, len(cuts)))
        states: list[tuple[Cut, dict[str, str]]] = []
        for cut in cuts:
            await self.repeat(*before, cut)
            state = await self.state()
            if state not in (other for _, other in states):
                states.append((cut, state))
        return [cut for cut, _ in states]

    async def state(self) -> dict[str, Any]:
        """Return the catalogue and the rows."""
        state = dict(await self.observer.fetch(CATALOGUE))
        for (place,) in await self.observer.fetch(PLACES):
            rows = await self.observer.fetch(ROWS.format(place))
            state[f"rows of {place}"], state[f"hidden rows of {place}"] = map(str, rows[0])
        return state

    async def end(self, *runs: Cut) -> dict[str, str]:
        """Return the state after these runs."""
        if runs not in self.ends:
            await self.repeat(*runs)
            self.ends[runs] = await self.state()
        return self.ends[runs]


def write_at_once(url: str, statement: str) -> None:
    """Write by a connection of its own, unless a lock or a rule is in the way."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("SET lock_timeout = '5ms'")
        with suppress(psycopg.errors.LockNotAvailable, psycopg.IntegrityError):
            connection.execute(statement)


def concurrently(statement: str) -> tuple[str, str] | None:
    """Return whether a statement creates or drops an index concurrently, and which."""
    match = CONCURRENTLY.match(statement.strip())
    return (match[1], match[2]) if match else None


def lasting(state: dict[str, str]) -> dict[str, str]:
    """Return the catalogue without what is set aside, and without the triggers that fill it."""
    return {
        name: definition
        for name, definition in state.items()
        if not re.search("aside_|sync_retyped|rows of", name) or "INVALID" in definition
    }


def differences(state: dict[str, str], expected: dict[str, str]) -> list[tuple[str, Any, Any]]:
    """Return what differs between two states, with its definition in both."""
    names = sorted({*state, *expected})
    pairs = [(name, state.get(name), expected.get(name)) for name in names]
    return [(name, one, other) for name, one, other in pairs if one != other]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Give a test each change with --full, and else some at random."""
    if "change" in metafunc.fixturenames:
        full = metafunc.config.getoption("--full")
        # all workers of pytest-xdist must collect the same tests
        names = list(CHANGES) if full else [AT_RANDOM] * CHANGES_IN_SUITE
        metafunc.parametrize("change", names)


@pytest.fixture
async def trial(empty: AsyncEngine, empty_url: str, change: str) -> AsyncIterator[Trial]:
    """Yield a trial of the change."""
    seed = secrets.randbelow(10**6)
    if change == AT_RANDOM:
        change = random.Random(seed).choice(list(CHANGES))  # noqa: S311  # not a secret
    print(f"{change}, seed {seed}")
    observer = await asyncpg.connect(empty_url)
    yield Trial(empty_url, empty, observer, CHANGES[change], seed)
    await observer.close()


def test_each_operation_has_a_change() -> None:
    operations = {name for name in safely.__all__ if inspect.isfunction(getattr(safely, name))}
    used = re.findall(r"safely\.(\w+)\(", FILE.read_text(encoding="utf-8"))
    assert operations - {"f"} == set(used)


@pytest.mark.only("postgresql")
async def test_a_change_that_is_killed_anywhere_ends_as_an_undisturbed_one(
    trial: Trial, *, full: bool
) -> None:
    """By the next run of the direction that was killed, and by one of the other direction."""
    number = 0 if full else CUTS_IN_SUITE
    before, up, back = await trial.end(), await trial.end(UP), await trial.end(UP, DOWN)
    for cut in await trial.cuts(up=True, number=number):
        await ends_alike(trial, [cut])
        await ends_at(trial, [cut, DOWN], before, back)
        await ends_at(trial, [cut, DOWN, UP], up)
    for cut in await trial.cuts(UP, up=False, number=number):
        await ends_alike(trial, [UP, cut])
        await ends_at(trial, [UP, cut, UP], up)


async def ends_alike(trial: Trial, runs: list[Cut]) -> None:
    """Assert that a last run ends as if each run before had been killed at its beginning."""
    last = Cut(runs[-1].up)
    begun = [run._replace(kill_before=min(run.kill_before, 1), in_half=False) for run in runs]
    differing = differences(await trial.end(*runs, last), await trial.end(*begun, last))
    if not last.up:  # its first commit may drop the trigger that fills in what it sets aside
        differing = [entry for entry in differing if not entry[0].startswith("hidden rows of")]
    assert differing == [], runs


async def ends_at(trial: Trial, runs: list[Cut], *expected: dict[str, str]) -> None:
    """Assert that these runs lead to one of the states, but for what is set aside."""
    state = lasting(await trial.end(*runs))
    differing = [differences(state, lasting(one)) for one in expected]
    assert [] in differing, (runs, min(differing, key=len))
    if not runs[-1].up and trial.change.bad:
        await trial.observer.execute(trial.change.bad)  # its rule has gone with it


@pytest.mark.only("postgresql")
async def test_a_change_that_is_killed_twice_ends_as_an_undisturbed_one(
    trial: Trial, *, full: bool
) -> None:
    number = 0 if full else CUTS_IN_SUITE
    before, up, back = await trial.end(), await trial.end(UP), await trial.end(UP, DOWN)
    for begun in ([], [UP]):
        direction = not begun
        for first in await trial.cuts(*begun, up=direction, number=number):
            for second in await trial.cuts(*begun, first, up=direction, number=number):
                await ends_alike(trial, [*begun, first, second])
            for second in await trial.cuts(*begun, first, up=not direction, number=number):
                await ends_at(trial, [*begun, first, second, UP], up)
                await ends_at(trial, [*begun, first, second, DOWN], before, back)


@pytest.mark.only("postgresql")
async def test_a_change_that_is_refused_anywhere_ends_as_an_undisturbed_one(
    empty: AsyncEngine, empty_url: str, *, full: bool
) -> None:
    """An older build writes a bad row at any moment; it is deleted, and the change run again."""
    seed = secrets.randbelow(10**6)
    names = [name for name, change in CHANGES.items() if change.bad]
    observer = await asyncpg.connect(empty_url)
    for name in names if full else random.Random(seed).sample(names, 1):  # noqa: S311  # not a secret
        trial = Trial(empty_url, empty, observer, CHANGES[name], seed)
        undisturbed = await trial.end(Cut(up=True, kill_before=1), UP)
        numbers = range(1, len(await trial.repeat(UP)) + 1)
        for number in numbers if full else trial.chance.sample(numbers, CUTS_IN_SUITE):
            refusal = await trial.write_bad_row(number)
            at = f"{name}, seed {seed}, before statement {number}: {refusal}"
            assert "\n" not in refusal, at
            await trial.write()
            await trial.run(UP, "finished" if refusal else None)
            await trial.write()
            assert differences(await trial.state(), undisturbed) == [], at
    await observer.close()


SQLITE_TABLES = (
    "CREATE TABLE pets (id INTEGER PRIMARY KEY, name TEXT, age INTEGER DEFAULT 1, kind TEXT)",
    "CREATE UNIQUE INDEX ix_name ON pets (lower(name))",
    "INSERT INTO pets (name, age) VALUES ('Tom', 1), (NULL, 2)",
)
SQLITE_CHANGES = (
    lambda: safely.require_column("pets", "name", fill="Unknown"),
    lambda: safely.change_type("pets", "age", sa.Text()),
    lambda: safely.create_check_constraint("ck_age", "pets", "age > 0"),
    lambda: safely.drop_column("pets", "kind"),
    lambda: safely.create_table("owners", sa.Column("id", sa.Integer(), primary_key=True)),
)


def test_on_sqlite_a_change_that_is_killed_anywhere_leaves_nothing(tmp_path: Path) -> None:
    """It is one transaction."""
    database = Database(f"sqlite:///{tmp_path}/pets.sqlite")
    database.execute(*SQLITE_TABLES)
    state = "SELECT name, sql FROM sqlite_master UNION ALL SELECT id, name || age FROM pets"
    before = database.rows(state)
    for number in count(1):
        with statements_of(database.engine, killing_before(number)), suppress(*KILLED):
            database.revise(*SQLITE_CHANGES)
            break
        database.engine.dispose()
        assert database.rows(state) == before, number
    assert number > len(SQLITE_CHANGES)


@pytest.mark.only("postgresql")
async def test_alembic_undoes_a_half_that_has_not_come_to_what_is_undone_first(
    url: str, engine: AsyncEngine, clone: Path, revision: Revision
) -> None:
    """Its refusal says so, and then shows the rows by a query that can be copied."""
    await write(engine, "INSERT INTO users (full_name, age) VALUES ('Kid', 5)")
    revision(
        'safely.create_index("idx_age", "users", ["age"])\n'
        'safely.create_check_constraint("ck_adult", "users", "age >= 18")\n'
        'safely.add_column("users", sa.Column("phone", sa.Text()))',
        'safely.drop_column("users", "phone")\n'
        'safely.drop_constraint("ck_adult", "users", "check")\n'
        'safely.drop_index("idx_age", "users")',
    )
    process = run_alembic(url, "upgrade", "head", cwd=clone, check=False)
    assert process.returncode != 0
    assert f"undo the half of it: `alembic upgrade {HEAD}`. See them with: " in process.stdout
    shown = process.stdout.partition("See them with: ")[2].strip()
    assert len(await query(engine, shown)) == 1
    run_alembic(url, "upgrade", HEAD, cwd=clone)
    assert await query(engine, "SELECT to_regclass('idx_age')") == [(None,)]
    assert await leftovers("postgresql", url) == []
