"""Columns of another type: which values, rules and settings go along, and what is refused."""

import asyncio
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import asyncpg
import pytest
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql
from sqlalchemy.ext.asyncio import AsyncEngine

import safely
from tests.chain import HEAD, NEXT, PREVIOUS
from tests.commands import run_alembic, run_migrations
from tests.databases import query, run_script, write
from tests.migrated import state_of
from tests.operating import operate, run_body, upgrade_beside_tables
from tests.revisions import Revision

pytestmark = pytest.mark.only("postgresql")
ACCEPT_DRIFT = ("-x", "drift=accept")  # the tests make tables of their own
HIDDEN = "SELECT attname FROM pg_attribute WHERE starts_with(attname, '_aside_') ORDER BY 1"
TRIGGERS = "SELECT tgname FROM pg_trigger WHERE starts_with(tgname, 'sync_retyped')"


class Pair(NamedTuple):
    """A change of type, there and back, and what builds before and after it write and read."""

    old: str
    new: str
    old_type: str  # as SQLAlchemy spells it
    new_type: str
    value: str  # of a row that is there, as SQL
    converted: str
    new_value: str  # that a newer build writes
    old_value: str  # that an older one reads of it
    using: str = ""
    back: str = ""


PAIRS = {
    "wider": Pair("integer", "bigint", "sa.Integer()", "sa.BigInteger()", "7", "7", "8", "8"),
    "narrower": Pair("bigint", "integer", "sa.BigInteger()", "sa.Integer()", "7", "7", "8", "8"),
    "longer": Pair(
        "varchar(5)", "varchar(9)", "sa.String(5)", "sa.String(9)", "'a'", "'a'", "'b'", "'b'"
    ),
    "shorter": Pair("text", "varchar(5)", "sa.Text()", "sa.String(5)", "'a'", "'a'", "'b'", "'b'"),
    "precise": Pair(
        "numeric(8,2)", "numeric(10,2)", "sa.Numeric(8, 2)", "sa.Numeric(10, 2)",
        "1.25", "1.25", "2.50", "2.50",
    ),
    "parsed": Pair("text", "uuid", "sa.Text()", "sa.Uuid()", "repeat('12', 16)",
        "repeat('12', 16)",
        "repeat('ab', 16)", "'abababab-abab-abab-abab-abababababab'"),
    "binary": Pair(
        "json", "jsonb", "sa.JSON()", "postgresql.JSONB()",
        """'{"b":1,  "a":2}'""", """'{"a": 2, "b": 1}'""", "'[1]'", "'[1]'",
    ),
    "enum": Pair("text", "size", "sa.Text()", 'sa.Enum("small", "large", name="size")',
        "'small'", "'small'", "'large'", "'large'"),
    "named": Pair("size", "text", 'sa.Enum("small", "large", name="size")', "sa.Text()",
        "'small'", "'small'", "'large'", "'large'"),
    "array": Pair("integer", "text[]", "sa.Integer()", "postgresql.ARRAY(sa.Text())",
        "7", "ARRAY['7']", "ARRAY['8', '9']", "8", "ARRAY[{}::text]", "{}[1]::integer"),
    "arrays": Pair(
        "text[]", "varchar(5)[]", "postgresql.ARRAY(sa.Text())", "postgresql.ARRAY(sa.String(5))",
        "ARRAY['a,b', NULL]", "ARRAY['a,b', NULL]", "ARRAY['\"']", "ARRAY['\"']",
    ),
    "zoned": Pair(
        "timestamp", "timestamptz", "sa.DateTime()", "sa.DateTime(timezone=True)",
        "'2026-07-01 10:00'", "'2026-07-01 10:00Z'", "'2026-01-01 10:00+02'", "'2026-01-01 08:00'",
        "{} AT TIME ZONE 'UTC'",
    ),
    "hour": Pair("date", "timestamp", "sa.Date()", "sa.DateTime()",
        "'2026-07-01'", "'2026-07-01'", "'2026-07-02'", "'2026-07-02'"),
    "emptied": Pair(
        "varchar(9)", "integer", "sa.String(9)", "sa.Integer()",
        "''", "NULL", "7", "'n7'", "nullif(replace({}, 'n', ''), '')::integer", "'n' || {}",
    ),
    "yes": Pair(
        "boolean", "text", "sa.Boolean()", "sa.Text()",
        "true", "'on'", "'off'", "false", "CASE WHEN {} THEN 'on' ELSE 'off' END", "{} = 'on'",
    ),
    "domain": Pair("text", "code", "sa.Text()", 'postgresql.DOMAIN("code", sa.Text())',
        "'a'", "'a'", "'b'", "'b'"),
    "Group %": Pair("real", "double precision", "sa.REAL()", "sa.Double()",
        "0.5", "0.5", "1.5", "1.5"),
}  # fmt: skip


def change_types(*, up: bool) -> str:
    """Return the body of a revision that changes all types, or of its downgrade."""
    lines = ["from sqlalchemy.dialects import postgresql"]
    for name, pair in PAIRS.items():
        expressions = {"using": pair.using, "back": pair.back}
        if not up:
            expressions = {"using": pair.back or pair.using}
        type_, column = pair.new_type if up else pair.old_type, f'"{name}"'
        options = "".join(
            f", {option}={expression.format(column)!r}"
            for option, expression in expressions.items()
            if expression
        )
        lines.append(f'safely.change_type("Things", "{name}", {type_}{options})')
    return "\n".join(lines)


async def values(engine: AsyncEngine, schema: str, key: int) -> dict[str, Any]:
    """Return a row as one version shows it."""
    await engine.dispose()  # its prepared statements are of other types
    [(row,)] = await query(
        engine,
        f"SELECT to_jsonb(t) - 'id' FROM {schema}.\"Things\" AS t "
        f"WHERE id = md5('{key}')\\:\\:uuid",
    )
    return {name: value for name, value in row.items() if not name.startswith("_aside_")}


async def expected(engine: AsyncEngine, *, new: bool, attribute: str) -> dict[str, Any]:
    """Return a row as the pairs tell it."""
    columns = ", ".join(
        f'({getattr(pair, attribute)})::{pair.new if new else pair.old} AS "{name}"'
        for name, pair in PAIRS.items()
    )
    [(row,)] = await query(
        engine, f"SELECT to_jsonb(t) FROM (SELECT {columns}) AS t".replace(":", r"\:")
    )
    return dict(row)


def insert(schema: str, key: int, attribute: str) -> str:
    """Return the INSERT of a row with values of the pairs."""
    new = attribute == "new_value"
    columns = ", ".join(f'"{name}"' for name in PAIRS)
    row = ", ".join(
        f"({getattr(pair, attribute)})::{pair.new if new else pair.old}" for pair in PAIRS.values()
    )
    sql = f"INSERT INTO {schema}.\"Things\" (id, {columns}) VALUES (md5('{key}')::uuid, {row})"
    return sql.replace(":", r"\:")


async def make_things(engine: AsyncEngine) -> None:
    """Create a table of the old types, whose key is a UUID, with a row."""
    await write(engine, "CREATE TYPE size AS ENUM ('small', 'large')")
    await write(engine, "CREATE DOMAIN code AS text")
    columns = ", ".join(f'"{name}" {pair.old}' for name, pair in PAIRS.items())
    await write(engine, f'CREATE TABLE "Things" (id uuid PRIMARY KEY, {columns})')
    await write(engine, insert("public", 1, "value"))


@pytest.mark.parametrize("by", ["alembic", "a script"])
async def test_a_type_becomes_another_and_builds_of_both_go_on(
    url: str, engine: AsyncEngine, clone: Path, revision: Revision, by: str
) -> None:
    await make_things(engine)
    run_alembic(url, *ACCEPT_DRIFT, "stamp", HEAD)
    revision('safely.nothing_to_undo("publish the table")')
    run_alembic(url, "upgrade", "head", cwd=clone)
    run_alembic(url, "downgrade", "-1", cwd=clone)
    # publish the old version of the table: the head was published without it
    await write(engine, f'CREATE VIEW at_{HEAD}."Things" AS SELECT * FROM "Things"')
    revision(change_types(up=True), change_types(up=False))

    async def go(direction: str, start: str, goal: str) -> dict[str, Any]:
        await engine.dispose()
        if by == "alembic":
            run_alembic(url, *ACCEPT_DRIFT, direction, goal, cwd=clone)
        else:
            span = f"{start}:{goal}"
            for _ in range(2):  # a script can be sent again
                sql = run_alembic(url, direction, span, "--sql", cwd=clone).stdout
                await run_script(engine, sql)
        state: dict[str, Any] = (await state_of("postgresql", url))["schema"]
        return state

    after = await go("upgrade", HEAD, NEXT)
    new, old = f"at_{NEXT}", f"at_{HEAD}"
    assert await values(engine, new, 1) == await expected(engine, new=True, attribute="converted")
    assert await values(engine, old, 1) == await expected(engine, new=False, attribute="value")

    await write(engine, insert(new, 2, "new_value"))
    await write(engine, insert(old, 3, "value"))
    converted = await expected(engine, new=True, attribute="converted")
    assert await values(engine, new, 3) == converted
    old_values = await expected(engine, new=False, attribute="old_value")
    assert await values(engine, old, 2) == old_values

    await go("downgrade", NEXT, HEAD)
    assert await values(engine, "public", 1) == await expected(engine, new=False, attribute="value")
    assert await values(engine, "public", 2) == old_values
    assert await go("upgrade", HEAD, NEXT) == after
    new_values = await expected(engine, new=True, attribute="new_value")
    assert await values(engine, "public", 2) == new_values
    assert await values(engine, "public", 3) == converted


RULES = (
    "CREATE TABLE things (id uuid PRIMARY KEY DEFAULT gen_random_uuid(), low integer NOT NULL, "
    "high bigint, place serial, CONSTRAINT ordered CHECK (low < high), "
    "CONSTRAINT once UNIQUE NULLS NOT DISTINCT (low, high) DEFERRABLE INITIALLY DEFERRED)",
    "CREATE INDEX partial ON things (high) INCLUDE (low) WITH (fillfactor = 70) WHERE low > 0",
    "CREATE UNIQUE INDEX expression ON things ((low + 1) DESC NULLS LAST, id)",
    "COMMENT ON COLUMN things.low IS 'it''s low'",
    "COMMENT ON CONSTRAINT ordered ON things IS 'a rule'",
    "COMMENT ON INDEX partial IS 'an index'",
    "ALTER TABLE things ALTER low SET STATISTICS 7, ALTER low SET (n_distinct = 9)",
    "ALTER TABLE things ADD code varchar(9) DEFAULT 'a', ALTER code SET STORAGE external, "
    "ALTER code SET COMPRESSION pglz",
    "CREATE ROLE reader_of_things",
    "GRANT SELECT (low), UPDATE (low) ON things TO reader_of_things",
    "INSERT INTO things (low, high) SELECT n, n + 1 FROM generate_series(1, 9) AS n",
)
SETTINGS = """\
SELECT attname, format_type(atttypid, atttypmod), attnotnull, attstattarget, attoptions, attstorage,
       attcompression, pg_get_expr(adbin, adrelid), col_description(attrelid, attnum),
       (SELECT array_agg(privilege_type ORDER BY 1) FROM aclexplode(attacl)),
       pg_get_serial_sequence('things', attname)
FROM pg_attribute LEFT JOIN pg_attrdef ON adrelid = attrelid AND adnum = attnum
WHERE attrelid = 'things'::regclass AND attnum > 0 AND NOT starts_with(attname, '_aside_')
ORDER BY 1"""
ATTACHED = """\
SELECT conname, pg_get_constraintdef(oid), obj_description(oid), convalidated
FROM pg_constraint WHERE conrelid = 'things'::regclass AND NOT starts_with(conname, '_aside_')
UNION ALL
SELECT relname, pg_get_indexdef(oid), obj_description(oid), true
FROM pg_class JOIN pg_index ON indexrelid = oid
WHERE indrelid = 'things'::regclass AND NOT starts_with(relname, '_aside_') ORDER BY 1, 2"""


async def test_the_rules_and_settings_of_a_column_go_with_its_name(
    url: str, engine: AsyncEngine, clone: Path, revision: Revision
) -> None:
    for statement in RULES:
        await write(engine, statement.replace(":", r"\:"))
    try:
        before = [await query(engine, sql.replace(":", r"\:")) for sql in (SETTINGS, ATTACHED)]
        revision(
            'safely.change_type("things", "low", sa.BigInteger())\n'
            'safely.change_type("things", "place", sa.BigInteger())\n'
            'safely.change_type("things", "code", sa.Text())',
            'safely.change_type("things", "code", sa.String(9))\n'
            'safely.change_type("things", "place", sa.Integer())\n'
            'safely.change_type("things", "low", sa.Integer())',
        )
        run_alembic(url, *ACCEPT_DRIFT, "upgrade", "head", cwd=clone)
        await engine.dispose()
        settings, attached = [
            await query(engine, sql.replace(":", r"\:")) for sql in (SETTINGS, ATTACHED)
        ]
        changed = {row[0]: row[2:] for row in settings}
        unchanged = {row[0]: row[2:] for row in before[0]}
        assert changed == unchanged
        assert [row[1] for row in settings if row[0] == "low"] == ["bigint"]
        assert attached == before[1]

        run_alembic(url, "downgrade", "-1", cwd=clone)
        await engine.dispose()
        after = [await query(engine, sql.replace(":", r"\:")) for sql in (SETTINGS, ATTACHED)]
        assert after == before
    finally:
        await write(engine, "DROP OWNED BY reader_of_things")
        await write(engine, "DROP ROLE reader_of_things")


TABLE = (
    "CREATE TABLE things (id uuid PRIMARY KEY DEFAULT gen_random_uuid(), n integer UNIQUE, "
    "other integer, name varchar(200) DEFAULT 'none', made timestamp, "
    "number integer GENERATED BY DEFAULT AS IDENTITY, "
    "twice integer GENERATED ALWAYS AS (other * 2) STORED, "
    'coded text COLLATE "C", span int4range, period int4range, '
    "EXCLUDE USING gist (span WITH &&), "
    "big integer CONSTRAINT a_rule_with_a_name_that_is_nearly_as_long_as_it_may_be CHECK (big > 0))"
)
ROWS = (
    "INSERT INTO things (n, name) SELECT 7 * n, repeat('x', 99 + n) FROM generate_series(1, 2) AS n"
)
change = partial(safely.change_type, "things")
REFUSED: dict[str, tuple[Callable[[], None], str]] = {
    "in a primary key": (lambda: change("id", sa.Text()), "it is part of things_pkey"),
    "an identity": (lambda: change("number", sa.BigInteger()), "it is an identity column"),
    "computed": (lambda: change("twice", sa.BigInteger()), "it is computed from other columns"),
    "used by a computed one": (
        lambda: change("other", sa.BigInteger()),
        "twice of table things depends on it",
    ),
    "in an exclusion": (lambda: change("span", sa.Text()), "it is part of things_span_excl"),
    "a name that is too long": (
        lambda: change("big", sa.BigInteger()),
        "which is too long: the database keeps",
    ),
    "no such cast": (
        lambda: change("n", sa.Date()),
        "cannot cast type integer to date. Write using=",
    ),
    "no such cast back": (
        lambda: change("n", sa.Date(), using="date '2026-01-01' + n"),
        "cannot cast type date to integer. Write back=",
    ),
    "no such type": (lambda: change("n", sa.Enum("a", name="nowhere")), "Create the type first"),
    "another column": (
        lambda: change("n", sa.BigInteger(), using="n + number"),
        'column "number" does not exist',
    ),
    "a value that is too long": (
        lambda: change("name", sa.String(100)),
        "1 row(s) would hold another value",
    ),
    "a value that is none": (lambda: change("name", sa.Integer()), "its default is 'none'"),
    "a default that is another": (
        lambda: change("name", sa.Text(), using="upper(name)"),
        "its default is 'none'",
    ),
    "a zone": (
        lambda: change("made", sa.DateTime(timezone=True)),
        "by the TimeZone of whichever client",
    ),
    "a zone on the way back": (
        lambda: change("made", sa.DateTime(timezone=True), using="timezone('UTC', made)"),
        "for a timestamp with back=",
    ),
    "a collation": (lambda: change("coded", sa.String(5)), 'it would lose its collation, "C"'),
    "a domain with rules": (
        lambda: change("n", postgresql.DOMAIN("filled", sa.Integer())),
        "Use the type under the domain",
    ),
    "a value that is repeated": (
        lambda: change("n", sa.BigInteger(), using="least(n, 5)"),
        "1 row(s) would repeat a value of things_n_key",
    ),
    "a CHECK that is broken": (
        lambda: change("n", sa.BigInteger(), using="-n"),
        "2 row(s) would break positive",
    ),
}


async def test_what_can_be_foreseen_is_refused_before_anything_is_changed(
    url: str, engine: AsyncEngine
) -> None:
    await write(engine, TABLE)
    await write(engine, "ALTER TABLE things ADD CONSTRAINT positive CHECK (n > 0)")
    await write(engine, "CREATE DOMAIN filled AS integer NOT NULL")
    await write(engine, ROWS)
    before = (await state_of("postgresql", url))["schema"]
    for case, (body, words) in REFUSED.items():
        async with engine.connect() as connection:
            with pytest.raises(safely.Refused, match=re.escape(words)) as refusal:
                await connection.run_sync(operate, "0010", body)
        assert "\n" not in str(refusal.value), case
        assert await query(engine, HIDDEN) == [], case
        assert await query(engine, TRIGGERS) == [], case
    assert (await state_of("postgresql", url))["schema"] == before


REFUSED_BY_SCRIPTS = {  # the arguments after the column
    "sa.Date()": "cannot cast type integer to date. Write using=",
    "sa.Date(), using=\"date '2026-01-01' + age\"": "cannot cast type date to integer. Write back=",
    'sa.BigInteger(), using="age + id"': 'column "id" does not exist',
}


async def test_a_script_refuses_what_has_no_cast_before_it_changes_anything(
    url: str, engine: AsyncEngine, clone: Path, revision: Revision
) -> None:
    before = (await state_of("postgresql", url))["schema"]
    for arguments, words in REFUSED_BY_SCRIPTS.items():
        revision(f'safely.change_type("users", "age", {arguments})')
        sql = run_alembic(url, "upgrade", f"{HEAD}:{NEXT}", "--sql", cwd=clone).stdout
        with pytest.raises(asyncpg.PostgresError, match=re.escape(words)):
            await run_script(engine, sql)
    assert (await state_of("postgresql", url))["schema"] == before


async def test_a_draft_that_was_undone_is_not_run_again_with_another_expression(
    url: str, engine: AsyncEngine, clone: Path, revision: Revision
) -> None:
    await write(engine, "INSERT INTO users (full_name, age) VALUES ('A', 5)")
    up = 'safely.change_type("users", "age", sa.BigInteger(), using="age * {0}", back="age / {0}")'
    down = 'safely.change_type("users", "age", sa.Integer(), using="age / 2")'
    revision(up.format(2), down)
    run_alembic(url, "upgrade", "head", cwd=clone)
    assert await query(engine, "SELECT age FROM users") == [(10,)]
    run_alembic(url, "downgrade", "-1", cwd=clone)
    revision(up.format(3), down)
    process = run_alembic(url, "upgrade", "head", cwd=clone, check=False)
    assert "users.age was to become bigint by age * 2 when" in process.stdout
    assert "purge --undone" in process.stdout
    assert run_migrations(url, "purge", "--undone", "--yes", cwd=clone).returncode == 0
    run_alembic(url, "upgrade", "head", cwd=clone)
    await engine.dispose()
    assert await query(engine, "SELECT age FROM users") == [(15,)]


CATALOGUE = """\
SELECT format('%s %s %s %s', attnum, attname, format_type(atttypid, atttypmod), attnotnull),
       pg_get_expr(adbin, adrelid), col_description(attrelid, attnum)
FROM pg_attribute LEFT JOIN pg_attrdef ON adrelid = attrelid AND adnum = attnum
WHERE attrelid = 'things'::regclass AND attnum > 0
UNION ALL
SELECT conname, pg_get_constraintdef(oid), obj_description(oid)
FROM pg_constraint WHERE conrelid = 'things'::regclass
UNION ALL
SELECT relname, pg_get_indexdef(oid), obj_description(oid)
FROM pg_class JOIN pg_index ON indexrelid = oid WHERE indrelid = 'things'::regclass
UNION ALL
SELECT tgname, pg_get_triggerdef(oid), NULL FROM pg_trigger
WHERE tgrelid = 'things'::regclass AND NOT tgisinternal
UNION ALL
SELECT to_jsonb(t)::text, NULL, NULL FROM things AS t ORDER BY 1, 2"""
KILLED_TABLE = (
    "DROP TABLE IF EXISTS things",
    "CREATE TABLE things (id text PRIMARY KEY, low integer NOT NULL DEFAULT 0, high integer, "
    "CONSTRAINT ordered CHECK (low < high), CONSTRAINT once UNIQUE (low, high) DEFERRABLE)",
    "CREATE INDEX by_low ON things ((low % 7)) WHERE high > 0",
    "COMMENT ON COLUMN things.low IS 'low'",
    "INSERT INTO things SELECT 'k' || n, n, 2 * n + 1 FROM generate_series(1, 5) AS n",
)
MEANWHILE = (
    "INSERT INTO things VALUES ('new', 50, 90)",
    "UPDATE things SET low = -2 WHERE id = 'k2'",
    "DELETE FROM things WHERE id = 'k3'",
)


def up() -> None:
    safely.change_type(
        "things", "low", sa.Numeric(9, 2), using="low * 1.5", back="round(low / 1.5)::integer"
    )


def down() -> None:
    safely.change_type("things", "low", sa.Integer(), using="round(low / 1.5)::integer")


async def catalogue_after(
    engine: AsyncEngine, directions: list[Callable[[], None]], kill_before: int | None
) -> list[Any] | None:
    """Return the table after these bodies; None if the last one came to its end unkilled.

    The last one is killed before a statement, rows are written, and it is run again; after an odd
    number, the other way first.
    """
    for statement in KILLED_TABLE:
        await write(engine, statement)
    *before, last = directions
    for body in before:
        assert await run_body(engine, body, up=body is up)
    if kill_before is not None and await run_body(
        engine, last, up=last is up, kill_before=kill_before
    ):
        return None
    for statement in MEANWHILE:
        await write(engine, statement)
    if kill_before is not None and kill_before % 2:
        assert await run_body(engine, down if last is up else up, up=last is not up)
    assert await run_body(engine, last, up=last is up)
    return await query(engine, CATALOGUE.replace(":", r"\:"))


@pytest.mark.parametrize("runs", [1, 2, 3])
async def test_a_change_that_was_killed_anywhere_ends_as_an_undisturbed_one(
    engine: AsyncEngine, *, full: bool, runs: int
) -> None:
    """The last of up, down and up is killed; then it is run to its end."""
    directions = [up, down, up][:runs]
    undisturbed = await catalogue_after(engine, directions, None)
    kill_before = 1
    while (end := await catalogue_after(engine, directions, kill_before)) is not None:
        assert end == undisturbed, kill_before
        kill_before += 1 if full else 45
    assert kill_before > (50 if full else 45)


WIDER = {
    "longer": ("varchar(5)", "sa.String(5)", "sa.String(9)"),
    "endless": ("varchar(5)", "sa.String(5)", "sa.Text()"),
    "varying": ("text", "sa.Text()", "sa.String()"),
    "exact": ("numeric(8,2)", "sa.Numeric(8, 2)", "sa.Numeric(12, 2)"),
    "free": ("numeric(8,2)", "sa.Numeric(8, 2)", "sa.Numeric()"),
    "fine": ("timestamptz(3)", "postgresql.TIMESTAMP(True, 3)", "sa.DateTime(True)"),
    "bits": ("varbit(4)", "postgresql.BIT(4, varying=True)", "postgresql.BIT(8, varying=True)"),
}
SHOWN = """\
SELECT relnamespace\\:\\:regnamespace\\:\\:text, pg_get_viewdef(oid), relacl\\:\\:text, reloptions,
       relowner, obj_description(oid)
FROM pg_class WHERE relname = 'wide' AND relkind = 'v' ORDER BY 1"""


FILES = """\
SELECT relname, pg_relation_filenode(oid) FROM pg_class
WHERE relname ~ 'wide|longest' AND relkind IN ('r', 'i') ORDER BY 1"""


def widening(*, up: bool) -> str:
    """Return the body of a revision that widens the columns, or of its downgrade."""
    lines = ["from sqlalchemy.dialects import postgresql"]
    for name, (_, old, new) in WIDER.items():
        lines.append(f'safely.change_type("wide", "{name}", {new if up else old})')
    return "\n".join(lines)


async def make_wide(engine: AsyncEngine) -> None:
    """Create a table with columns to widen, which two versions show."""
    columns = ", ".join(f"{name} {old}" for name, (old, _, _) in WIDER.items())
    await write(engine, f"CREATE TABLE wide (id text PRIMARY KEY, {columns})")
    await write(engine, "CREATE UNIQUE INDEX longest ON wide (longer)")
    await write(engine, "ALTER TABLE wide ALTER longer SET DEFAULT 'a', ALTER longer SET NOT NULL")
    await write(engine, "INSERT INTO wide (id, longer) VALUES ('a', 'b')")
    for number in (HEAD, PREVIOUS):
        await write(engine, f"CREATE VIEW at_{number}.wide AS SELECT * FROM wide")
        await write(engine, f"GRANT SELECT ON at_{number}.wide TO PUBLIC")
        await write(engine, f"COMMENT ON VIEW at_{number}.wide IS 'as it was'")
    await write(engine, f"ALTER VIEW at_{HEAD}.wide SET (security_barrier = true)")


@asynccontextmanager
async def clients_of_wide(url: str) -> AsyncIterator[None]:
    """Read and write through both versions, without an error, until the block ends."""
    ended = asyncio.Event()

    async def use(number: str) -> int:
        client, times = await asyncpg.connect(url), 0
        while not ended.is_set():
            # asyncpg asks once more where a column's size has changed since it prepared the query;
            # the next column may have changed by then
            with suppress(asyncpg.InvalidCachedStatementError):
                await client.fetch(f"SELECT * FROM at_{number}.wide WHERE id = $1", "a")
            await client.execute(f"UPDATE at_{number}.wide SET longer = $1", f"{times % 999}")
            times += 1
        await client.close()
        return times

    clients = [asyncio.create_task(use(number)) for number in (HEAD, PREVIOUS)]
    try:
        yield
    finally:
        ended.set()
        assert min(await asyncio.gather(*clients)) > 10


@pytest.mark.parametrize("by", ["alembic", "a script"])
async def test_a_type_that_holds_the_values_as_they_are_is_changed_in_place(
    url: str, engine: AsyncEngine, clone: Path, revision: Revision, by: str
) -> None:
    """Under a reader and a writer of two versions, whose views stay as they were."""
    await make_wide(engine)
    before = await query(engine, SHOWN), await query(engine, FILES)
    revision(widening(up=True), widening(up=False))
    async with clients_of_wide(url):
        await upgrade_beside_tables(url, engine, clone, by)
    assert await query(engine, HIDDEN) == []
    assert await query(engine, TRIGGERS) == []
    shown = [row for row in await query(engine, SHOWN) if row[0] != f"at_{NEXT}"]
    assert (shown, await query(engine, FILES)) == before
    await engine.dispose()
    await write(engine, f"UPDATE at_{HEAD}.wide SET longer = '123456789', exact = 1234567890.12")


async def test_a_type_that_was_widened_is_narrowed_again_if_the_values_allow_it(
    url: str, engine: AsyncEngine, clone: Path, revision: Revision
) -> None:
    await make_wide(engine)
    revision(widening(up=True), widening(up=False))
    run_alembic(url, *ACCEPT_DRIFT, "upgrade", "head", cwd=clone)
    await write(engine, "UPDATE wide SET longer = '123456789'")
    process = run_alembic(url, "downgrade", "-1", cwd=clone, check=False)
    assert "wide.longer can't become VARCHAR(5): 1 row(s) would hold another" in process.stdout
    assert await query(engine, HIDDEN) == []
    await write(engine, "UPDATE wide SET longer = '12345'")
    run_alembic(url, "downgrade", "-1", cwd=clone)
    run_alembic(url, "upgrade", "head", cwd=clone)
    await engine.dispose()
    assert await query(engine, "SELECT longer FROM wide") == [("12345",)]


MODEL = """

from sqlalchemy import Column, DateTime, Table

Table(
    "moments", Base.metadata, Column("id", BigInteger, primary_key=True),
    Column("Made", DateTime(timezone=True)),
)
"""


async def test_autogenerate_names_the_zone_of_a_timestamp(
    url: str, engine: AsyncEngine, clone: Path
) -> None:
    await write(engine, 'CREATE TABLE moments (id bigint PRIMARY KEY, "Made" timestamp)')
    await write(engine, "INSERT INTO moments VALUES (1, '2026-07-01 10:00')")
    with (clone / "service/models.py").open("a", encoding="utf-8") as file:
        file.write(MODEL)
    run_alembic(url, *ACCEPT_DRIFT, "upgrade", "head")
    run_alembic(url, "revision", "--autogenerate", "-m", "name zones", cwd=clone)
    run_alembic(url, *ACCEPT_DRIFT, "upgrade", "head", cwd=clone)
    await engine.dispose()
    made = "SELECT \"Made\" AT TIME ZONE 'UTC' = '2026-07-01 10:00' FROM moments"
    assert await query(engine, made) == [(True,)]
    run_alembic(url, "check", cwd=clone)
    run_alembic(url, *ACCEPT_DRIFT, "downgrade", "-1", cwd=clone)
    await engine.dispose()
    assert await query(engine, "SELECT \"Made\" = '2026-07-01 10:00' FROM moments") == [(True,)]


async def test_a_second_column_of_one_rule_needs_a_revision_of_its_own(
    engine: AsyncEngine,
) -> None:
    await write(engine, KILLED_TABLE[1])

    def both() -> None:
        safely.change_type("things", "low", sa.BigInteger())
        safely.change_type("things", "high", sa.BigInteger())

    with pytest.raises(safely.Refused, match=r"has retyped another column of (ordered|once)"):
        await run_body(engine, both, up=True)
