"""Purging: really dropping what was set aside, and what only older builds need.

The only destructive act of the project, and therefore one of its own: it lists what will go,
refuses while an older build is connected, and asks.
"""

import re
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import sqlalchemy as sa
from alembic.operations import Operations
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import Connection, text
from sqlalchemy.ext.asyncio import AsyncEngine

from safely.database import LOCK_TIMEOUT, read
from safely.ledger import drift, ledger
from safely.operations.aside import PREFIX
from safely.operations.connection import postgresql, quoted, regclass, run
from safely.operations.rebuild import rebuilt
from safely.run import published
from safely.run.migration_lock import turn
from safely.run.retry import attempt

PATIENCE = 60.0  # seconds that one thing is tried, and that the turn is waited for

# what the application's tables hold aside, and the triggers that help older builds
COLUMNS = text("""\
SELECT relname, attname FROM pg_attribute JOIN pg_class ON pg_class.oid = attrelid
WHERE relnamespace = current_schema::regnamespace AND relkind IN ('r', 'p')
  AND NOT attisdropped AND attname ~ '^_aside_[0-9]+_' ORDER BY 1, 2""")
TABLES = text("""\
SELECT nspname, relname FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace
WHERE nspname ~ '^aside_[0-9]+$' AND relkind IN ('r', 'p') ORDER BY 1, 2""")
TRIGGERS = text("""\
SELECT relname, tgname, split_part(encode(tgargs, 'escape'), '\\000', 2) AS revision
FROM pg_trigger JOIN pg_class ON pg_class.oid = tgrelid
JOIN pg_attribute ON attrelid = tgrelid AND attnum = tgattr[0]
  AND NOT starts_with(attname, '_aside_')  -- newer builds rely on it; it goes with its column
WHERE relnamespace = current_schema::regnamespace AND tgfoid = to_regproc('fill_missing')
ORDER BY 1, 2""")

DROP_COLUMN = """\
DO $drop$
DECLARE
  helper record;
BEGIN
  FOR helper IN
    SELECT tgname FROM pg_trigger JOIN pg_attribute
      ON attrelid = tgrelid AND attnum = ANY (tgattr)
    WHERE tgrelid = {oid} AND attname = '{name}'
      AND tgfoid IN (to_regproc('fill_missing'), to_regproc('sync_retyped'))
  LOOP
    EXECUTE format('DROP TRIGGER %I ON {table}', helper.tgname);
  END LOOP;
  ALTER TABLE {table} DROP COLUMN {column};
END $drop$"""

DROP_HELPERS = """\
DO $helpers$ BEGIN
  IF NOT EXISTS (SELECT FROM pg_trigger WHERE tgfoid = to_regproc('fill_missing')) THEN
    DROP FUNCTION IF EXISTS fill_missing();
  END IF;
  IF NOT EXISTS (SELECT FROM pg_trigger WHERE tgfoid = to_regproc('sync_retyped')) THEN
    DROP FUNCTION IF EXISTS sync_retyped();
  END IF;
END $helpers$"""


class Doomed(NamedTuple):
    """Something that purging drops."""

    kind: str  # version, column, table, trigger
    revision: str  # that published it, set it aside, or made it
    name: str
    table: str | None = None  # that it belongs to

    def __str__(self) -> str:
        if self.kind == "version":
            return f"published version {self.revision}"
        if self.kind == "table":
            return f"table {original(self.name)} with its rows, set aside by {self.revision}"
        if self.kind == "column":
            return f"column {self.table}.{original(self.name)} with its values, set aside by " + (
                self.revision
            )
        return f"trigger {self.name} on {self.table}, which fills in for builds before " + (
            self.revision
        )


def original(name: str) -> str:
    """What it was called before it was set aside."""
    return re.sub(rf"^{PREFIX}\d+_", "", name)


def doomed(
    connection: Connection, current: str, *, before: str | None, undone: bool
) -> list[Doomed]:
    """What builds since `before` don't need, and what revisions that are `undone` set aside."""
    return [
        item
        for item in found(connection)
        if (before is not None and is_old(item, current, before))
        or (undone and item.kind in ("column", "table") and item.revision > current)
    ]


def is_old(item: Doomed, current: str, before: str) -> bool:
    """Whether only builds before a revision need it."""
    if item.kind == "version":
        return item.revision < before
    return item.revision <= min(before, current)


def found(connection: Connection) -> Iterator[Doomed]:
    """All that could be purged; versions first, since they hold on to columns."""
    if connection.dialect.name == "sqlite":
        yield from found_on_sqlite(connection)
        return
    for revision in published.revisions(connection):
        yield Doomed("version", revision, published.schema_of(revision))
    for table, trigger, revision in connection.execute(TRIGGERS):
        yield Doomed("trigger", revision, trigger, table)
    for table, column in connection.execute(COLUMNS):
        yield Doomed("column", column.removeprefix(PREFIX).partition("_")[0], column, table)
    for schema, table in connection.execute(TABLES):
        yield Doomed("table", schema.removeprefix("aside_"), table)


def found_on_sqlite(connection: Connection) -> Iterator[Doomed]:
    """The same there, where tables are renamed and nothing is published."""
    inspector = sa.inspect(connection)
    for table in inspector.get_table_names():
        if table.startswith(PREFIX):
            yield Doomed("table", table.removeprefix(PREFIX).partition("_")[0], table)
            continue
        for column in inspector.get_columns(table):
            name = column["name"]
            if name.startswith(PREFIX):
                yield Doomed("column", name.removeprefix(PREFIX).partition("_")[0], name, table)


def connected_builds(connection: Connection, before: str) -> dict[str, int]:
    """The builds before a revision that are connected now, with how many connections."""
    if connection.dialect.name != "postgresql":
        return {}
    builds = connection.execute(text(published.BUILDS))
    return {name: number for name, number in builds if name.removeprefix(published.BUILD) < before}


def drop(item: Doomed, connection: Connection, _: dict[str, Any]) -> None:
    """Drop one thing for good, in a transaction of its own."""
    with connection.begin():
        migration = MigrationContext.configure(connection)
        with Operations.context(migration):
            if item.kind == "version":
                published.withdraw(item.revision)
            elif item.kind == "trigger":
                run(f"DROP TRIGGER {quoted(item.name)} ON {quoted(str(item.table))}")
            elif item.kind == "column":
                drop_column(str(item.table), item.name)
            else:
                drop_table(item)
            if postgresql():
                run(DROP_HELPERS)
        ledger.look_again(migration)


def drop_column(table: str, column: str) -> None:
    """Drop a column that is aside, with the triggers that keep it in step."""
    if not postgresql():
        with rebuilt(table, dropping=column) as batch:
            batch.drop_column(column)
        return
    run(
        DROP_COLUMN.format(
            oid=regclass(table), table=quoted(table), column=quoted(column), name=column
        )
    )


def drop_table(item: Doomed) -> None:
    """Drop a table that is aside, and its schema with the last one."""
    if not postgresql():
        run(f"DROP TABLE {quoted(item.name)}")
        return
    schema = f"aside_{item.revision}"
    run(f"DROP TABLE {schema}.{quoted(item.name)}")
    run(
        f"DO $last$ BEGIN IF NOT EXISTS (SELECT FROM pg_class WHERE relnamespace = "
        f"'{schema}'::regnamespace) THEN DROP SCHEMA {schema}; END IF; END $last$"
    )


def note(items: list[Doomed], current: str, connection: Connection, _: dict[str, Any]) -> None:
    """Note in the ledger what was dropped."""
    entry = ledger.Entry("purge", current, "; ".join(map(str, items)))
    with connection.begin():
        ledger.record(MigrationContext.configure(connection), entry, ledger.Work())


class Purge(NamedTuple):
    """What a purge would do, or has done."""

    items: list[Doomed]
    builds: dict[str, int]  # those that forbid it: connected, and older
    backup: str | None  # the last verified one, in words
    done: bool = False


async def purge(
    engine: AsyncEngine,
    script: ScriptDirectory,
    *,
    before: str | None,
    undone: bool,
    agreed: Callable[[Purge], bool],
) -> Purge:
    """Drop it all, one thing after the other, if no older build is connected and it is `agreed`.

    It can be run again after it was killed: what is left then goes.
    """

    def look(connection: Connection) -> tuple[str, Purge]:
        heads = MigrationContext.configure(connection).get_current_heads()
        current = heads[0] if heads else ""
        refuse_unknown(before, current, script)
        items = doomed(connection, current, before=before, undone=undone)
        builds = connected_builds(connection, before) if before else {}
        return current, Purge(items, builds, ledger.last_verified(connection))

    await read(engine, drift.refuse_missing)
    async with turn(engine, PATIENCE, LOCK_TIMEOUT) as (connection, beside):

        async def attempted(action: Callable[[Connection, dict[str, Any]], None]) -> None:
            await attempt(connection, beside, action, {}, PATIENCE)

        await attempted(partial(drift.examine, script=script, accept=False))
        current, seen = await read(engine, look)
        if seen.builds or not seen.items or not agreed(seen):
            return seen
        for item in seen.items:
            await attempted(partial(drop, item))
        await attempted(partial(note, seen.items, current))
    return seen._replace(done=True)


def refuse_unknown(before: str | None, current: str, script: ScriptDirectory) -> None:
    """Raise CommandError for a revision that doesn't exist, or that the database is not at yet."""
    if before is None:
        return
    if before not in {revision.revision for revision in script.walk_revisions()}:
        raise CommandError(f"there is no revision {before}")
    if before > current:
        raise CommandError(
            f"the database is at {current or 'base'}: giving up all builds before {before} would "
            "leave none that works"
        )
