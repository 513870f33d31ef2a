"""Enums: created, set aside, and given other labels while builds of both sides use them."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import asyncpg
import pytest
import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

import safely
from tests.chain import HEAD, later
from tests.commands import run_alembic, run_migrations
from tests.databases import query, run_script, write
from tests.migrated import leftovers, state_of
from tests.operating import operate, run_body
from tests.revisions import Revision, write_revision

OLD, NEW = later(1), later(2)
CREATE = """\
safely.create_enum("mood", "sad", "ok", "dull")
safely.create_enum("size", "small", "big")
safely.create_table(
    "pets",
    sa.Column("id", sa.BigInteger(), primary_key=True, autoincrement=False),
    sa.Column("mood", sa.Enum("sad", "ok", "dull", name="mood"), server_default="ok"),
    sa.Column("size", sa.Enum("small", "big", name="size"), nullable=False),
    sa.Column("moods", sa.ARRAY(sa.Enum("sad", "ok", "dull", name="mood"))),
)"""
DROP = """\
safely.drop_table("pets")
safely.drop_enum("size")
safely.drop_enum("mood")"""
CHANGE = """\
safely.change_enum(
    "mood", "sad", "fine", "happy",
    existing=["sad", "ok", "dull"], columns=[{}],
    renamed={{"ok": "fine", "dull": "sad"}},
)
safely.change_enum(
    "size", "tiny", "small", "big", older_builds_see="small",
    existing=["small", "big"], columns=[("pets", "size")],
)"""
CHANGE_BACK = """\
safely.change_enum(
    "size", "small", "big",
    existing=["tiny", "small", "big"], columns=[("pets", "size")],
)
safely.change_enum(
    "mood", "sad", "ok", "dull",
    existing=["sad", "fine", "happy"], columns=[{}],
    renamed={{"fine": "ok"}},
)"""


class Build:
    """A build of the application: it knows the labels of its revision, and no others."""

    def __init__(self, url: str, revision: str, moods: list[str], sizes: list[str]) -> None:
        self.engine = create_async_engine(
            url.replace("postgresql://", "postgresql+asyncpg://"),
            connect_args={"server_settings": {"search_path": f"at_{revision}, public"}},
            poolclass=sa.NullPool,
        )
        mood = sa.Enum(*moods, name="mood")
        self.pets = sa.Table(
            "pets",
            sa.MetaData(),
            sa.Column("id", sa.Integer(), primary_key=True),
            sa.Column("mood", mood),
            sa.Column("size", sa.Enum(*sizes, name="size")),
            sa.Column("moods", ARRAY(mood)),
        )

    async def write(self, *rows: dict[str, Any]) -> None:
        async with self.engine.begin() as connection:
            for row in rows:
                await connection.execute(sa.insert(self.pets).values(row))

    async def change(self, key: int, **values: Any) -> None:
        async with self.engine.begin() as connection:
            await connection.execute(
                sa.update(self.pets).where(self.pets.c.id == key).values(values)
            )

    async def rows(self) -> dict[int, tuple[Any, ...]]:
        async with self.engine.connect() as connection:
            result = await connection.execute(sa.select(self.pets))
            return {row[0]: tuple(row[1:]) for row in result}

    async def with_mood(self, mood: str) -> list[int]:
        """Return the rows that a query for a label finds, as a parameter of the type."""
        async with self.engine.connect() as connection:
            pets = self.pets.c
            query = sa.select(pets.id).where(pets.mood == mood).order_by(pets.id)
            return list(await connection.scalars(query))


def old_build(url: str) -> Build:
    return Build(url, OLD, ["sad", "ok", "dull"], ["small", "big"])


def new_build(url: str) -> Build:
    return Build(url, NEW, ["sad", "fine", "happy"], ["tiny", "small", "big"])


def write_revisions(clone: Path, *, with_arrays: bool) -> None:
    """Write the two revisions; a script knows no arrays."""
    create, columns = CREATE, '("pets", "mood"), ("pets", "moods")'
    if not with_arrays:
        columns = '("pets", "mood")'
        create = CREATE.replace('sa.ARRAY(sa.Enum("sad", "ok", "dull", name="mood"))', "sa.Text()")
    write_revision(clone, 1, create, DROP)
    write_revision(clone, 2, CHANGE.format(columns), CHANGE_BACK.format(columns))


async def refuses_label(build: Build, label: str) -> None:
    """Check that a label of the other side, which the type has, is refused."""
    with pytest.raises(DBAPIError, match="_labels_"):
        await build.write({"id": 9, "mood": label, "size": "big"})


@pytest.mark.only("postgresql")
@pytest.mark.parametrize("by", ["alembic", "a script"])
async def test_labels_change_while_builds_of_both_sides_read_and_write(
    url: str, engine: AsyncEngine, clone: Path, by: str
) -> None:
    write_revisions(clone, with_arrays=by == "alembic")

    async def go(direction: str, start: str, goal: str) -> dict[str, Any]:
        if by == "alembic":
            run_alembic(url, direction, goal, cwd=clone)
        else:
            for _ in range(2):  # a script can be sent again
                sql = run_alembic(url, direction, f"{start}:{goal}", "--sql", cwd=clone).stdout
                await run_script(engine, sql)
        schema: dict[str, Any] = (await state_of("postgresql", url))["schema"]
        # triggers stay while their columns are kept; and a script withdraws no version
        left = ("sync_retyped", f" at_{OLD}", f" at_{NEW}")
        return {name: schema[name] for name in schema if not any(part in name for part in left)}

    assert run_migrations(url, "lint", cwd=clone).returncode == 0
    at_first = await go("upgrade", HEAD, OLD)
    old, new = old_build(url), new_build(url)

    def arrays(*labels: str | None) -> Any:
        return list(labels) if by == "alembic" else None

    await old.write(
        {"id": 1, "mood": "sad", "size": "big", "moods": arrays("sad", "ok")},
        {"id": 2, "mood": "ok", "size": "small", "moods": None},
        {"id": 3, "mood": "dull", "size": "small", "moods": arrays("dull")},
    )
    changed = await go("upgrade", OLD, NEW)
    assert await new.rows() == {
        1: ("sad", "big", arrays("sad", "fine")),
        2: ("fine", "small", None),
        3: ("sad", "small", arrays("sad")),
    }
    await new.write(
        {"id": 4, "mood": "happy", "size": "tiny", "moods": arrays("happy", "fine")},
        {"id": 5, "size": "tiny"},
    )
    await old.write({"id": 6, "mood": "ok", "size": "big"}, {"id": 7, "size": "small"})
    await old.change(1, mood="dull")
    await new.change(2, mood="happy")
    old_rows = {
        1: ("dull", "big", arrays("sad", "ok")),
        2: (None, "small", None),  # happy
        3: ("dull", "small", arrays("dull")),
        4: (None, "small", arrays(None, "ok")),  # happy, tiny
        5: ("ok", "small", None),
        6: ("ok", "big", None),
        7: ("ok", "small", None),
    }
    new_rows = {
        1: ("sad", "big", arrays("sad", "fine")),
        2: ("happy", "small", None),
        3: ("sad", "small", arrays("sad")),
        4: ("happy", "tiny", arrays("happy", "fine")),
        5: ("fine", "tiny", None),
        6: ("fine", "big", None),
        7: ("fine", "small", None),
    }
    assert (await old.rows(), await new.rows()) == (old_rows, new_rows)
    assert await old.with_mood("ok") == [5, 6, 7]
    assert await new.with_mood("happy") == [2, 4]
    await refuses_label(old, "happy")
    await refuses_label(new, "ok")

    assert await go("downgrade", NEW, OLD) == at_first
    assert await old.rows() == old_rows
    await old.change(3, mood="sad", size="big")
    assert await go("upgrade", OLD, NEW) == changed
    new_rows[3] = ("sad", "big", arrays("sad"))
    assert await new.rows() == new_rows

    await go("downgrade", NEW, OLD)
    before = await go("downgrade", OLD, HEAD)
    assert not any(name.startswith("type ") for name in before)
    assert await go("upgrade", HEAD, OLD) == at_first
    assert {1, 3, 7} < set(await old.rows())
    assert await leftovers("postgresql", url) == []
    if by == "alembic":
        run_alembic(url, "downgrade", HEAD, cwd=clone)
        assert run_migrations(url, "purge", "--undone", "--yes", cwd=clone).returncode == 0
        assert await query(engine, "SELECT typname FROM pg_type WHERE typtype = 'e'") == []
    await old.engine.dispose()
    await new.engine.dispose()


EXISTING = ", existing=[…], columns=[…])"
PLAIN = {
    "ALTER TYPE mood ADD VALUE 'happy'": f'safely.change_enum("mood", …, "happy"{EXISTING}',
    "ALTER TYPE mood RENAME VALUE 'ok' TO 'fine'": (
        f'safely.change_enum("mood", …, renamed={{"ok": "fine"}}{EXISTING}'
    ),
    "DROP TYPE mood": 'safely.drop_enum("mood")',
}


@pytest.mark.only("postgresql")
def test_lint_names_the_safe_spelling_of_plain_sql(
    url: str, clone: Path, revision: Revision
) -> None:
    lines = "\n".join(f"op.execute({statement!r})" for statement in PLAIN)
    revision(f"from alembic import op\n{lines}")
    process = run_migrations(url, "lint", cwd=clone)
    assert process.returncode == 1
    for spelling in PLAIN.values():
        assert spelling in process.stdout


MAKE = (
    "CREATE TYPE mood AS ENUM ('sad', 'ok', 'dull')",
    "CREATE TABLE pets (id bigint PRIMARY KEY, mood mood NOT NULL DEFAULT 'ok', other mood)",
    "INSERT INTO pets VALUES (1, 'sad', 'dull'), (2, 'ok', NULL)",
    "CREATE TYPE tone AS ENUM ('low', 'high')",
    "CREATE DOMAIN loud AS tone",
    "CREATE TYPE rank AS ENUM ('first', 'last')",
    "CREATE TABLE ranks (rank rank PRIMARY KEY)",
    "CREATE TYPE hue AS ENUM ('red', 'blue')",
    "CREATE TABLE cars (id bigint PRIMARY KEY, hue hue CONSTRAINT no_red CHECK (hue <> 'red'))",
    "CREATE TYPE state AS ENUM ('new', 'old')",
    "CREATE TABLE jobs (id bigint PRIMARY KEY, state state)",
    "CREATE INDEX fresh ON jobs (id) WHERE state = 'new'",
    "CREATE TABLE texts (id bigint, state state)",
    "CREATE TYPE side AS ENUM ('left', 'right')",
    "CREATE TABLE pairs (id bigint PRIMARY KEY, one side, two side, "
    "CONSTRAINT differ CHECK (one <> two))",
)
REFUSED = {
    'change_enum("mood", "sad", "ok")': "pets.other can't lose dull: 1 row(s) hold that. Write "
    'renamed={"dull": …}',
    'change_enum("mood", "ok", "sad", "dull")': "in the order sad, ok, dull, and PostgreSQL can't",
    'change_enum("mood", "a", "a")': "mood has the label a twice",
    f'change_enum("mood", "{"x" * 64}")': "longer than 63 bytes",
    'change_enum("mood", "sad", "ok", renamed={"dul": "ok"})': "can't have dul renamed to ok",
    'change_enum("mood", "ok", older_builds_see="happy")': "no old label of mood: write one of sad",
    'change_enum("mood", "ok", existing=["ok", "dull"])': "correct existing=",
    'change_enum("mood", "ok", columns=[("pets", "mood")])': "which differs in pets.other",
    'change_enum("nowhere", "a")': "there is no enum nowhere",
    'change_enum("loud", "a")': "there is no enum loud",
    'change_enum("tone", "low")': "while type loud uses it: create a second type",
    'change_enum("rank", "first")': "it is part of ranks_pkey",
    'change_enum("hue", "rose", "blue", renamed={"red": "rose"})': "the label red, which no_red "
    "names: drop that before",
    'change_enum("state", "old", renamed={"new": "old"})': "the label new, which fresh names",
    'change_enum("state", "new", "old", "odd")': "texts has no primary key",
    'create_enum("mood", "sad")': "with the labels sad, ok, dull, and not sad",
    'create_enum("loud", "low")': "there is a type of that name that is none",
    'change_enum("side", "left", "right", "top")': "differ spans two columns of that type",
    'add_column("pets", sa.Column("x", sa.Enum("a")))': "the Enum of x has no name",
    'drop_enum("mood")': "while pets.mood, pets.other uses it",
    'create_table("more", sa.Column("mood", sa.Enum("sad", "x", name="mood")))': "and not sad, x",
}


async def make_pets(url: str, engine: AsyncEngine) -> None:
    """Make the tables and types of the tests beside the project's, and record them as they are."""
    for statement in MAKE:
        await write(engine, statement)
    run_alembic(url, "-x", "drift=accept", "stamp", HEAD)


@pytest.mark.only("postgresql")
async def test_what_can_be_foreseen_is_refused_before_anything_is_changed(
    url: str, engine: AsyncEngine, clone: Path, revision: Revision
) -> None:
    await make_pets(url, engine)
    before = await state_of("postgresql", url)
    labels = await query(engine, LABELS)
    for call, words in REFUSED.items():
        revision(f"safely.{call}")
        process = run_alembic(url, "upgrade", "head", cwd=clone, check=False)
        assert process.returncode != 0, call
        assert words in process.stdout, (call, process.stdout)
        assert "Traceback" not in process.stderr, call
    assert await state_of("postgresql", url) == before
    assert await query(engine, LABELS) == labels


LABELS = "SELECT enumtypid, enumlabel FROM pg_enum ORDER BY 1, enumsortorder"


@pytest.mark.only("postgresql")
async def test_a_column_that_must_not_be_null_says_what_older_builds_see(
    url: str, engine: AsyncEngine, clone: Path, revision: Revision
) -> None:
    """Undone, a label that the old column lacks is refused, unless there is one in its place."""
    await make_pets(url, engine)
    up = 'safely.change_enum("mood", "sad", "ok", "dull", "odd"{})'
    down = 'safely.change_enum("mood", "sad", "ok", "dull")'
    revision(up.format(""), down)
    run_alembic(url, "upgrade", "head", cwd=clone)
    await write(engine, "INSERT INTO pets (id, mood, other) VALUES (3, 'odd', 'odd')")
    process = run_alembic(url, "downgrade", "-1", cwd=clone, check=False)
    assert "pets.mood can't lose odd: 1 row(s) hold that" in process.stdout
    await write(engine, "DELETE FROM pets WHERE id = 3")
    run_alembic(url, "downgrade", "-1", cwd=clone)

    revision(up.format(', "wild"'), down)  # a draft that was undone, and is another one now
    process = run_alembic(url, "upgrade", "head", cwd=clone, check=False)
    assert "was to become sad, ok, dull, odd when this revision began" in process.stdout
    assert run_migrations(url, "purge", "--undone", "--yes", cwd=clone).returncode == 0
    revision(up.format(', older_builds_see="ok"'), down)
    run_alembic(url, "upgrade", "head", cwd=clone)
    await engine.dispose()
    await write(engine, "INSERT INTO pets (id, mood, other) VALUES (3, 'odd', 'odd')")
    run_alembic(url, "downgrade", "-1", cwd=clone)
    await engine.dispose()
    assert await query(engine, "SELECT mood, other FROM pets WHERE id = 3") == [("ok", "ok")]
    run_alembic(url, "upgrade", "head", cwd=clone)
    await engine.dispose()
    assert await query(engine, "SELECT mood, other FROM pets WHERE id = 3") == [("odd", "odd")]


@pytest.mark.only("sqlite")
async def test_sqlite_gives_rows_their_new_labels_and_makes_the_check_anew(
    url: str, engine: AsyncEngine, clone: Path
) -> None:
    checked = 'sa.Enum("sad", "ok", name="mood", create_constraint=True)'
    create = f"""\
safely.create_enum("mood", "sad", "ok")
safely.create_table(
    "pets",
    sa.Column("id", sa.Integer(), primary_key=True),
    sa.Column("mood", {checked}, index=True, server_default="ok"),
    sa.Column("other", sa.Enum("sad", "ok", name="mood")),
)"""
    write_revision(clone, 1, create, 'safely.drop_table("pets")\nsafely.drop_enum("mood")')
    change = """\
safely.change_enum(
    "mood", {}, existing=[{}], columns=[("pets", "mood"), ("pets", "other")], renamed={{{}}}
)"""
    write_revision(
        clone,
        2,
        change.format('"sad", "fine", "happy"', '"sad", "ok"', '"ok": "fine"'),
        change.format('"sad", "ok"', '"sad", "fine", "happy"', '"fine": "ok"'),
    )
    run_alembic(url, "upgrade", OLD, cwd=clone)
    at_first = (await state_of("sqlite", url))["schema"]
    await write(
        engine, "INSERT INTO pets (id, mood, other) VALUES (1, 'sad', 'ok'), (2, 'ok', NULL)"
    )
    run_alembic(url, "upgrade", NEW, cwd=clone)
    rows = "SELECT mood, other FROM pets ORDER BY id"
    assert await query(engine, rows) == [("sad", "fine"), ("fine", None)]
    with pytest.raises(DBAPIError, match="CHECK constraint failed: ck_pets_mood"):
        await write(engine, "UPDATE pets SET mood = 'ok'")
    await write(engine, "INSERT INTO pets (id) VALUES (3)")
    assert await query(engine, rows) == [("sad", "fine"), ("fine", None), ("fine", None)]
    await write(engine, "DELETE FROM pets WHERE id = 3")
    await write(engine, "UPDATE pets SET mood = 'happy' WHERE id = 1")
    process = run_alembic(url, "downgrade", OLD, cwd=clone, check=False)
    assert "pets.mood can't lose happy: 1 row(s) hold that" in process.stdout
    await write(engine, "UPDATE pets SET mood = 'sad' WHERE id = 1")
    run_alembic(url, "downgrade", OLD, cwd=clone)
    assert await query(engine, rows) == [("sad", "ok"), ("ok", None)]
    assert (await state_of("sqlite", url))["schema"] == at_first
    await write(engine, "CREATE INDEX well ON pets (id) WHERE mood = 'ok'")
    process = run_alembic(url, "-x", "drift=accept", "upgrade", NEW, cwd=clone, check=False)
    assert "pets.mood can't lose the label ok, which well names" in process.stdout
    await write(engine, "DROP INDEX well")
    run_alembic(url, "-x", "drift=accept", "upgrade", NEW, cwd=clone)
    run_alembic(url, "downgrade", HEAD, cwd=clone)
    assert await leftovers("sqlite", url) == []


KILLED = (
    "DROP TABLE IF EXISTS pets",
    "DROP TYPE IF EXISTS mood",
    "CREATE TYPE mood AS ENUM ('sad', 'ok', 'dull')",
    "CREATE TABLE pets (id uuid PRIMARY KEY DEFAULT gen_random_uuid(), "
    "mood mood NOT NULL DEFAULT 'ok', other mood)",
    "CREATE INDEX by_mood ON pets (mood, id)",
    "INSERT INTO pets (mood, other) VALUES ('sad', 'dull'), ('ok', NULL)",
)
END = """\
SELECT format('%s %s %s %s', attnum, attname, attnotnull, pg_get_expr(adbin, adrelid))
FROM pg_attribute LEFT JOIN pg_attrdef ON adrelid = attrelid AND adnum = attnum
WHERE attrelid = 'pets'::regclass AND attnum > 0
UNION ALL
SELECT concat_ws(' ', conname, pg_get_constraintdef(oid)) FROM pg_constraint
WHERE conrelid = 'pets'::regclass
UNION ALL
SELECT pg_get_indexdef(indexrelid) FROM pg_index WHERE indrelid = 'pets'::regclass AND indisvalid
UNION ALL
SELECT enumlabel FROM pg_enum WHERE enumtypid = 'mood'::regtype
UNION ALL
SELECT obj_description('mood'::regtype, 'pg_type')
UNION ALL
SELECT (to_jsonb(t) - 'id')::text FROM pets AS t ORDER BY 1"""


def add_labels() -> None:
    safely.change_enum("mood", "sad", "fine", "happy", renamed={"ok": "fine", "dull": "sad"})


def take_back() -> None:
    safely.change_enum("mood", "sad", "ok", "dull", renamed={"fine": "ok"})


@pytest.mark.only("postgresql")
@pytest.mark.parametrize("undone", [False, True])
async def test_a_change_that_was_killed_anywhere_ends_as_an_undisturbed_one(
    engine: AsyncEngine, *, full: bool, undone: bool
) -> None:
    """After an odd number of statements it is first taken back."""

    async def end_after(kill_before: int | None) -> list[Any] | None:
        for statement in KILLED:
            await write(engine, statement)
        bodies = [add_labels, take_back] if undone else [add_labels]
        for body in bodies[:-1]:
            assert await run_body(engine, body, up=body is add_labels)
        if kill_before is not None:
            if await run_body(
                engine, bodies[-1], up=bodies[-1] is add_labels, kill_before=kill_before
            ):
                return None
            await write(engine, "INSERT INTO pets (mood) VALUES ('sad')")
            if kill_before % 2:
                assert await run_body(engine, add_labels if undone else take_back, up=undone)
        else:
            await write(engine, "INSERT INTO pets (mood) VALUES ('sad')")
        assert await run_body(engine, bodies[-1], up=bodies[-1] is add_labels)
        return await query(engine, END.replace(":", r"\:"))

    undisturbed = await end_after(None)
    kill_before = 1
    while (end := await end_after(kill_before)) is not None:
        assert end == undisturbed, kill_before
        kill_before += 1 if full else 23  # an odd number: every second one is taken back
    assert kill_before > 50


def test_a_rehearsal_goes_up_and_down_and_says_what_a_revision_leaves(
    tmp_path: Path, clone: Path, *, full: bool
) -> None:
    if not full:
        pytest.skip("needs --full")
    write_revision(
        clone,
        1,
        'safely.create_enum("role", "reader", "writer")\n'
        'safely.add_column("users", sa.Column("role", sa.Enum("reader", "writer", name="role"), '
        'server_default="reader"))',
        'safely.drop_column("users", "role")\nsafely.drop_enum("role")',
    )
    more = 'existing=[{}], columns=[("users", "role")], renamed={}'
    write_revision(
        clone,
        2,
        'safely.change_enum("role", "admin", "reader", "editor", '
        + more.format('"reader", "writer"', '{"writer": "editor"}')
        + ")",
        'safely.change_enum("role", "reader", "writer", '
        + more.format('"admin", "reader", "editor"', '{"editor": "writer"}')
        + ")",
    )
    write_revision(
        clone,
        3,
        "from alembic import op\nop.execute(\"ALTER TYPE role ADD VALUE IF NOT EXISTS 'guest'\")",
        'safely.nothing_to_undo("PostgreSQL can\'t remove a label")',
    )
    empty = f"sqlite:///{tmp_path}/none.sqlite"
    arguments = ("--rows", "300", "--from", HEAD, "--json")
    process = run_migrations(empty, "rehearse", *arguments, cwd=clone)
    report = json.loads(process.stdout)
    assert report["problems"] == []
    assert process.returncode == 0
    *_, last = report["revisions"]
    assert last["leaves"] == (
        "PostgreSQL can't remove a label; type role: was \"ENUM ('admin', 'reader', 'editor')\", "
        "is now \"ENUM ('admin', 'reader', 'editor', 'guest')\""
    )


@pytest.mark.only("postgresql")
async def test_labels_can_change_again_once_the_older_builds_are_purged(
    engine: AsyncEngine,
) -> None:
    for statement in KILLED:
        await write(engine, statement)
    await write(engine, "CREATE VIEW of_owner AS SELECT other FROM pets")  # uses the old column

    def change(
        revision: str, values: list[str], renamed: dict[str, str], *, up: bool = True
    ) -> Callable[..., None]:
        def body() -> None:
            safely.change_enum("mood", *values, renamed=renamed)

        return lambda connection: operate(connection, revision, body, up=up)

    async def run(work: Callable[..., None]) -> None:
        async with engine.connect() as connection:
            await connection.run_sync(work)
            await connection.commit()

    first = ["sad", "fine", "happy"]
    second = change("0043", ["fine", "merry", "happy"], {"sad": "fine"})
    await run(change("0042", first, {"ok": "fine", "dull": "sad"}))
    with pytest.raises(safely.Refused, match="purge those builds first"):
        await run(second)
    for column in ("mood", "other"):  # as purge does
        await write(engine, f"ALTER TABLE pets DROP COLUMN _aside_0042_{column} CASCADE")
    await run(second)
    await write(engine, "INSERT INTO pets (mood, other) VALUES ('merry', 'happy')")
    moods = "SELECT mood::text, other::text FROM pets ORDER BY 1, 2".replace(":", r"\:")
    await engine.dispose()
    assert await query(engine, moods) == [("fine", "fine"), ("fine", None), ("merry", "happy")]

    await run(change("0043", first, {"merry": "happy"}, up=False))
    back = change("0042", ["sad", "ok", "dull"], {"fine": "ok", "happy": "dull"}, up=False)
    with pytest.raises(safely.Refused, match="purge those builds first"):
        await run(back)
    for column in ("mood", "other"):
        await write(engine, f"ALTER TABLE pets DROP COLUMN _aside_0043_{column} CASCADE")
    await run(back)
    await engine.dispose()
    assert await query(engine, moods) == [("dull", "dull"), ("ok", None), ("sad", "sad")]
    with pytest.raises(DBAPIError, match="_labels_"):
        await write(engine, "INSERT INTO pets (mood) VALUES ('merry')")


@pytest.mark.only("postgresql")
async def test_a_script_refuses_arrays_and_indexes_before_it_changes_anything(
    url: str, engine: AsyncEngine, clone: Path
) -> None:
    """It can't know of them; and labels that change twice want a purge in between."""
    write_revision(clone, 1, CREATE, DROP)
    run_alembic(url, "upgrade", OLD, cwd=clone)
    before = (await state_of("postgresql", url))["schema"]

    async def refused(columns: str, words: str) -> None:
        write_revision(clone, 2, CHANGE.format(columns), CHANGE_BACK.format(columns))
        sql = run_alembic(url, "upgrade", f"{OLD}:{NEW}", "--sql", cwd=clone).stdout
        with pytest.raises(asyncpg.RaiseError, match=f"{words}, and a script was printed"):
            await run_script(engine, sql)
        assert (await state_of("postgresql", url))["schema"] == before

    await refused('("pets", "mood"), ("pets", "moods")', "pets.moods is an array of the type")
    await write(engine, "CREATE INDEX ix ON pets (mood)")
    before = (await state_of("postgresql", url))["schema"]
    await refused('("pets", "mood")', "pets.mood has indexes")

    await write(engine, "DROP INDEX ix")
    columns = '("pets", "mood"), ("pets", "moods")'
    write_revision(clone, 2, CHANGE.format(columns), CHANGE_BACK.format(columns))
    again = 'safely.change_enum("size", "tiny", "small", "big", "huge", older_builds_see="big")'
    write_revision(clone, 3, again, "pass")
    process = run_alembic(url, "upgrade", "head", cwd=clone, check=False)
    assert f"for builds before {NEW}, and a second one would undo its work" in process.stdout
    assert f"python -m safely purge --before {NEW})" in process.stdout
    assert run_migrations(url, "purge", "--before", NEW, "--yes", cwd=clone).returncode == 0
    run_alembic(url, "upgrade", "head", cwd=clone)


PARTITIONED = """\
safely.create_enum("mood", "sad", "ok")
safely.create_table(
    "m",
    sa.Column("id", sa.BigInteger(), sa.Identity(), primary_key=True),
    sa.Column("day", sa.Date(), primary_key=True),
    sa.Column("mood", sa.Enum("sad", "ok", name="mood"), nullable=False, server_default="ok"),
    sa.Column("moods", sa.ARRAY(sa.Enum("sad", "ok", name="mood"))),
    sa.Index("ix_m_mood", "mood"),
    postgresql_partition_by="RANGE (day)",
)"""
LABELS_OF_PARTITIONED = """\
safely.change_enum(
    "mood", "low", "ok", "high", existing=["sad", "ok"], columns=[("m", "mood"), ("m", "moods")],
    renamed={"sad": "low"}, older_builds_see="ok",
)"""
LABELS_BACK = """\
safely.change_enum(
    "mood", "sad", "ok", existing=["low", "ok", "high"],
    columns=[("m", "mood"), ("m", "moods")], renamed={"low": "sad", "high": "ok"},
)"""
WITHOUT_ENUM = """\
safely.drop_column("m", "moods")
safely.drop_column("m", "mood")
safely.drop_enum("mood")"""
WITH_ENUM = """\
safely.create_enum("mood", "low", "ok", "high")
mood = sa.Enum("low", "ok", "high", name="mood")
safely.add_column("m", sa.Column("mood", mood, nullable=False, server_default="ok"))
safely.add_column("m", sa.Column("moods", sa.ARRAY(mood)))"""
ROWS_OF_M = "SELECT id, mood::text, moods::text[] FROM at_{}.m ORDER BY id"


@pytest.mark.only("postgresql")
async def test_an_enum_of_a_partitioned_table_changes_and_goes_with_its_columns(
    url: str, engine: AsyncEngine, clone: Path
) -> None:
    steps = (
        (PARTITIONED, 'safely.drop_table("m")\nsafely.drop_enum("mood")'),
        (LABELS_OF_PARTITIONED, LABELS_BACK),
        (WITHOUT_ENUM, WITH_ENUM),
    )
    for number, (up, down) in enumerate(steps, start=1):
        write_revision(clone, number, up, down)
    first, second, third = map(later, (1, 2, 3))

    async def rows_at(revision: str) -> list[Any]:
        await engine.dispose()
        return await query(engine, ROWS_OF_M.format(revision))

    run_alembic(url, "upgrade", first, cwd=clone)
    for statement in (
        "CREATE TABLE m_old PARTITION OF m FOR VALUES FROM (MINVALUE) TO ('2026-01-01')",
        "CREATE TABLE m_new PARTITION OF m DEFAULT",
        "INSERT INTO m (day, mood, moods) VALUES ('2025-01-01', 'sad', '{sad,ok}'), "
        "('2026-01-01', 'ok', NULL)",
    ):
        await write(engine, statement)
    old = await rows_at(first)
    run_alembic(url, "upgrade", third, cwd=clone)
    new = [(1, "low", ["low", "ok"]), (2, "ok", None)]
    assert await rows_at(second) == new
    await write(engine, f"INSERT INTO at_{first}.m (day, mood) VALUES ('2026-02-01', 'sad')")
    await write(engine, f"INSERT INTO at_{second}.m (day, mood) VALUES ('2026-02-01', 'high')")
    await write(engine, f"INSERT INTO at_{third}.m (day) VALUES ('2025-02-01')")
    old += [(3, "sad", None), (4, "ok", None), (5, "ok", None)]
    new += [(3, "low", None), (4, "high", None), (5, "ok", None)]
    assert (await rows_at(first), await rows_at(second)) == (old, new)
    run_alembic(url, "downgrade", second, cwd=clone)
    assert (await rows_at(first), await rows_at(second)) == (old, new)
    changed = await state_of("postgresql", url)
    run_alembic(url, "downgrade", first, cwd=clone)
    assert await rows_at(first) == old
    run_alembic(url, "upgrade", second, cwd=clone)
    assert await state_of("postgresql", url) == changed
    run_alembic(url, "upgrade", third, cwd=clone)
    assert run_migrations(url, "purge", "--before", third, "--yes", cwd=clone).returncode == 0
    await engine.dispose()
    assert await query(engine, "SELECT typname FROM pg_type WHERE typtype = 'e'") == []
    assert await query(engine, f"SELECT count(*) FROM at_{third}.m") == [(5,)]


@pytest.mark.only("postgresql")
async def test_a_column_with_hidden_labels_comes_back_beside_one_that_is_retyped(
    url: str, engine: AsyncEngine, clone: Path
) -> None:
    """Its CHECK, and the index of the other column, are none that a draft has left."""
    create = (
        'safely.create_enum("mood", "sad", "ok")\n'
        'safely.create_table("pets", sa.Column("id", sa.BigInteger(), primary_key=True), '
        'sa.Column("n", sa.Integer(), index=True), '
        'sa.Column("mood", sa.Enum("sad", "ok", name="mood")))'
    )
    write_revision(clone, 1, create, 'safely.drop_table("pets")\nsafely.drop_enum("mood")')
    change = 'safely.change_enum("mood", {}, existing=[{}], columns=[("pets", "mood")]{})'
    up = change.format('"ok"', '"sad", "ok"', ', renamed={"sad": "ok"}')
    write_revision(clone, 2, up, change.format('"sad", "ok"', '"ok"', ""))
    up = 'safely.add_column("pets", sa.Column("other", sa.Enum("ok", name="mood"), index=False))\n'
    up += 'safely.change_type("pets", "n", sa.BigInteger())'
    down = 'safely.change_type("pets", "n", sa.Integer())\nsafely.drop_column("pets", "other")'
    write_revision(clone, 3, up, down)
    run_alembic(url, "upgrade", "head", cwd=clone)
    before = await state_of("postgresql", url)
    run_alembic(url, "downgrade", "-1", cwd=clone)
    run_alembic(url, "upgrade", "head", cwd=clone)
    assert await state_of("postgresql", url) == before
    with pytest.raises(DBAPIError, match="_labels_"):
        await write(engine, "INSERT INTO pets (id, other) VALUES (1, 'sad')")
