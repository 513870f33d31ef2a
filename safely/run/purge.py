"""Purge: drop for good what was set aside, and what only older builds need.

Nothing else that `safely` does loses data. So it lists what will go, refuses while an older build
is connected or something depends on an object, and asks. Each object is dropped in a transaction of
its own, which also writes it into the ledger.
"""

from collections.abc import Callable, Collection, Iterator
from functools import partial
from typing import NamedTuple

import sqlalchemy as sa
from alembic.util import CommandError
from sqlalchemy import Connection, text

from safely.alembic_internals import MigrationContext
from safely.environment import Environment
from safely.ledger import drift, ledger
from safely.operations.aside import PREFIX
from safely.operations.connection import literal, postgresql, quoted, regclass, run
from safely.operations.rebuild import rebuilt
from safely.revisions import in_order, known, older_than, refuse_unknown, with_ancestors
from safely.run import dependents, published, steps
from safely.run.dependents import Seed
from safely.run.migration_lock import migration_lock
from safely.run.retry import attempt
from safely.run.set_aside import set_aside_by

PATIENCE = 60.0  # seconds until one object, or the wait for the migration lock, is given up

# columns of the application's tables that are set aside, and triggers that serve older builds
COLUMNS = text("""\
SELECT relname, attname FROM pg_attribute JOIN pg_class ON pg_class.oid = attrelid
WHERE relnamespace = to_regnamespace(quote_ident(current_schema)) AND relkind IN ('r', 'p')
  AND NOT attisdropped AND attinhcount = 0 AND starts_with(attname, '_aside_') ORDER BY 1, 2""")
TABLES = text("""\
SELECT nspname, relname FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace
WHERE starts_with(nspname, 'aside_') AND relkind IN ('r', 'p') AND NOT relispartition
ORDER BY 1, 2""")
TRIGGERS = text("""\
SELECT relname, tgname, split_part(encode(tgargs, 'escape'), '\\000', 2) AS revision
FROM pg_trigger JOIN pg_class ON pg_class.oid = tgrelid
JOIN pg_attribute ON attrelid = tgrelid AND attnum = tgattr[0]
  AND NOT starts_with(attname, '_aside_')  -- newer builds rely on it; it goes with its column
WHERE relnamespace = to_regnamespace(quote_ident(current_schema))
  AND tgfoid = to_regproc('fill_missing') AND tgparentid = 0  -- a partition's goes with its table's
ORDER BY 1, 2""")

# enum types that are set aside, and what would have to go with them
TYPES = text("""\
SELECT typname, note ->> 'set aside by', ARRAY(
  SELECT DISTINCT CASE
    WHEN starts_with(relation.nspname, 'at_') THEN relation.nspname
    WHEN starts_with(relation.nspname, 'aside_') THEN relation.nspname || '.' || relname
    WHEN relname IS NOT NULL THEN relname || '.' || attname
    ELSE pg_describe_object(classid, objid, objsubid) END
  FROM pg_depend
  LEFT JOIN (SELECT pg_class.oid, relname, relkind, relispartition, nspname FROM pg_class
             JOIN pg_namespace ON pg_namespace.oid = relnamespace) AS relation
    ON classid = 'pg_class'\\:\\:regclass AND relation.oid = objid
  LEFT JOIN pg_attribute ON attrelid = relation.oid AND attnum = objsubid
  WHERE refclassid = 'pg_type'\\:\\:regclass AND refobjid IN (enum.oid, typarray) AND deptype = 'n'
    AND classid NOT IN ('pg_attrdef'\\:\\:regclass, 'pg_constraint'\\:\\:regclass)
    AND (relkind NOT IN ('i', 'I') AND NOT relispartition) IS NOT FALSE)
FROM (SELECT *, (regexp_match(obj_description(oid, 'pg_type'),
                              'safely: ([^\\n]*)$'))[1]\\:\\:jsonb AS note
      FROM pg_type WHERE typtype = 'e') AS enum
WHERE typnamespace = to_regnamespace(quote_ident(current_schema)) AND note ? 'set aside by'
ORDER BY 1""")

DROP_COLUMN = """\
DO $drop$
DECLARE
  helper record;
BEGIN
  FOR helper IN
    SELECT tgname FROM pg_trigger JOIN pg_attribute
      ON attrelid = tgrelid AND attnum = ANY (tgattr)
    WHERE tgrelid = {oid} AND attname = {name}
      AND tgfoid IN (to_regproc('fill_missing'), to_regproc('sync_retyped'))
  LOOP
    EXECUTE format('DROP TRIGGER %I ON %s', helper.tgname, {oid});
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


class Item(NamedTuple):
    """An object that a purge drops."""

    kind: str  # version, column, table, trigger, type
    revision: str  # that published it, set it aside, or made it
    name: str  # in the database
    original: str  # before it was set aside
    table: str | None = None  # that it belongs to

    def __str__(self) -> str:
        if self.kind == "version":
            return f"published version {self.revision}"
        if self.kind == "table":
            return f"table {self.original} with its rows, set aside by {self.revision}"
        if self.kind == "type":
            return f"type {self.name}, set aside by {self.revision}"
        if self.kind == "column":
            column = f"{self.table}.{self.original}"
            return f"column {column} with its values, set aside by {self.revision}"
        return f"trigger {self.name} on {self.table}, which fills in for builds before " + (
            self.revision
        )


def set_aside(
    kind: str, name: str, revisions: Collection[str], table: str | None = None
) -> Iterator[Item]:
    """Yield the item for a name that says which revision set it aside.

    Raise CommandError where that can be read in two ways.
    """
    rest = name.removeprefix(PREFIX)
    if len(fitting := [one for one in revisions if rest.startswith(f"{one}_")]) > 1:
        raise CommandError(
            f"{name} may have been set aside by {' or by '.join(sorted(fitting))}: drop it by hand "
            "if nobody needs it"
        )
    if parts := set_aside_by(name, revisions):
        revision, original = parts
        yield Item(kind, revision, name, original, table)


def items_to_drop(
    connection: Connection,
    environment: Environment,
    current: str,
    *,
    before: str | None,
    undone: bool,
) -> list[Item]:
    """Return what builds since `before` don't need, and what `undone` revisions have set aside."""
    script = environment.script
    revisions = in_order(script)
    applied = with_ancestors(script, current)
    old = older_than(script, before) if before else set()
    finished = with_ancestors(script, before) & applied if before else set()

    def goes(item: Item) -> bool:
        if item.kind == "version":
            return item.revision in old
        if item.revision in finished:
            return True
        return undone and item.kind in ("column", "table", "type") and item.revision not in applied

    # what other programs have put under such a name is not ours to drop
    ours = {*revisions, *ledger.revisions(connection)}
    going = [item for item in items(connection, ours) if item.revision in ours and goes(item)]
    return [*going, *(type_ for type_ in types(connection, going) if goes(type_))]


def types(connection: Connection, going: list[Item]) -> Iterator[Item]:
    """Yield the enum types that are set aside, and that nothing uses once other items are gone."""
    if connection.dialect.name == "sqlite":
        return
    names = {item.name if item.table is None else f"{item.table}.{item.name}" for item in going}
    names |= {f"aside_{item.revision}.{item.name}" for item in going if item.kind == "table"}
    for name, revision, needed_by in connection.execute(TYPES):
        if names.issuperset(needed_by):
            yield Item("type", revision, name, name)


def items(connection: Connection, revisions: Collection[str]) -> Iterator[Item]:
    """Yield all that could be purged; versions first, since their views depend on columns."""
    if connection.dialect.name == "sqlite":
        yield from items_on_sqlite(connection, revisions)
        return
    for revision in published.revisions(connection):
        schema = published.schema_of(revision)
        yield Item("version", revision, schema, schema)
    for table, trigger, revision in connection.execute(TRIGGERS):
        yield Item("trigger", revision, trigger, trigger, table)
    for table, column in connection.execute(COLUMNS):
        yield from set_aside("column", column, revisions, table)
    for schema, table in connection.execute(TABLES):
        yield Item("table", schema.removeprefix("aside_"), table, table)


def items_on_sqlite(connection: Connection, revisions: Collection[str]) -> Iterator[Item]:
    """Yield what could be purged on SQLite, where tables are renamed and nothing is published."""
    inspector = sa.inspect(connection)
    for table in inspector.get_table_names():
        if table.startswith(PREFIX):
            yield from set_aside("table", table, revisions)
            continue
        for column in inspector.get_columns(table):
            name = column["name"]
            if name.startswith(PREFIX):
                yield from set_aside("column", name, revisions, table)


def needed_by(connection: Connection, items: Collection[Item]) -> dict[str, list[str]]:
    """Return what depends on each object and would make its drop fail, in words by object.

    What is dropped with one of the objects is left out, and so is each that nothing depends on.
    """
    if connection.dialect.name == "sqlite":
        names = [needed_by_on_sqlite(connection, item) for item in items]
    else:
        names = dependents.dependents(connection, [seed(connection, item) for item in items])
    return {str(item): needing for item, needing in zip(items, names, strict=True) if needing}


def seed(connection: Connection, item: Item) -> Seed:
    """Return an object as `dependents` takes it (PostgreSQL)."""
    quote = connection.dialect.identifier_preparer.quote
    if item.kind == "version":
        return Seed(dependents.VERSION, schema=quote(item.name))
    if item.kind == "table":
        schema = quote(f"aside_{item.revision}")
        return Seed(dependents.TABLE, table=f"{schema}.{quote(item.name)}")
    table = quote(str(item.table))
    if item.kind == "column":
        return Seed(dependents.COLUMN, table=table, column=item.name)
    return Seed(dependents.TRIGGER, table=table, trigger=item.name)


def needed_by_on_sqlite(connection: Connection, item: Item) -> list[str]:
    """Return the views and triggers that name the object, which is hidden but for them."""
    mention = text(
        "SELECT type || ' ' || name FROM sqlite_master WHERE type IN ('view', 'trigger') "
        "AND instr(sql, :name) > 0 AND NOT (type = 'trigger' AND tbl_name = :name) ORDER BY 1"
    )
    return list(connection.scalars(mention, {"name": item.name}))


def drop(item: Item) -> None:
    """Drop one object for good."""
    if item.kind == "version":
        published.withdraw(item.revision)
    elif item.kind == "trigger":
        run(f"DROP TRIGGER {quoted(item.name)} ON {quoted(str(item.table))}")
    elif item.kind == "type":
        run(f"DROP TYPE {quoted(item.name)}")
    elif item.kind == "column":
        drop_column(str(item.table), item.name)
    else:
        drop_table(item)
    if postgresql():
        run(DROP_HELPERS)


def drop_column(table: str, column: str) -> None:
    """Drop a column that is set aside, with the triggers that keep it in step."""
    if not postgresql():
        with rebuilt(table, dropping=column):
            pass
        return
    run(
        DROP_COLUMN.format(
            oid=regclass(table), table=quoted(table), column=quoted(column), name=literal(column)
        )
    )


def drop_table(item: Item) -> None:
    """Drop a table that is set aside, and its schema with the last one."""
    if not postgresql():
        run(f"DROP TABLE {quoted(item.name)}")
        return
    schema = f"aside_{item.revision}"
    run(f"DROP TABLE {quoted(schema)}.{quoted(item.name)}")
    run(
        f"DO $last$ BEGIN IF NOT EXISTS (SELECT FROM pg_class WHERE relnamespace = "
        f"to_regnamespace({literal(quoted(schema))})) THEN DROP SCHEMA {quoted(schema)}; "
        "END IF; END $last$"
    )


def drop_and_note(
    items: list[Item], current: str, work: ledger.Work, migration: MigrationContext
) -> None:
    """Drop the last of the objects, and write all of them into this purge's row of the ledger.

    So the row tells what was dropped, wherever the purge stops.
    """
    drop(items[-1])
    message = "; ".join(map(str, items))
    if len(items) == 1:
        ledger.record(migration, ledger.Entry("purge", current, message), work)
    else:
        ledger.extend(migration, message, work)


class Purge(NamedTuple):
    """The plan of a purge, or its result."""

    items: list[Item]
    builds: dict[str, int]  # older ones that are connected and so forbid it: their connections
    needed_by: dict[str, list[str]]  # what forbids it, since it depends on an item: see `needed_by`
    backup: str | None  # the last verified one, in words
    done: bool = False


async def purge(
    environment: Environment,
    *,
    before: str | None,
    undone: bool,
    agreed: Callable[[Purge], bool],
) -> Purge:
    """Drop it all, one object after the other, if no older build is connected and it is `agreed`.

    Nothing is dropped while something else depends on one of the objects. It can be run again
    after it was killed, and drops what is left then.
    """
    project = environment.project
    before = before and known(environment.script, before)

    def look(connection: Connection) -> tuple[str, Purge]:
        current = environment.revision(connection) or ""
        refuse_unknown([current] if current else [], environment.script)
        refuse_before(environment, before, current)
        items = items_to_drop(connection, environment, current, before=before, undone=undone)
        old = older_than(environment.script, before) if before else set()
        builds = {
            f"{project.name}@{revision}": number
            for revision, number in published.connected_builds(connection, project.name).items()
            if revision in old
        }
        backup = ledger.last_verified(connection)
        return current, Purge(items, builds, needed_by(connection, items), backup)

    await environment.read(drift.refuse_missing)
    key, lock_timeout = project.lock_key, environment.lock_timeout
    lock = migration_lock(environment.engine, key, PATIENCE, lock_timeout)
    async with lock as (connection, monitor):

        async def work(action: Callable[[MigrationContext], None]) -> None:
            options = {"lock_timeout": lock_timeout, "build": environment.build}
            acting = partial(environment.work, action)
            await attempt(connection, monitor, acting, options, PATIENCE)

        await work(partial(drift.refuse_drift, environment, accept=False))
        for revision in await environment.read(published.undone):
            await work(partial(steps.withdraw, revision))
        current, seen = await environment.read(look)
        if seen.builds or seen.needed_by or not seen.items or not agreed(seen):
            return seen
        row = ledger.Work()
        for number in range(1, len(seen.items) + 1):
            await work(partial(drop_and_note, seen.items[:number], current, row))
    return seen._replace(done=True)


def refuse_before(environment: Environment, before: str | None, current: str) -> None:
    """Raise CommandError for a revision that the database is not at yet."""
    if before is not None and before not in with_ancestors(environment.script, current):
        raise CommandError(
            f"the database is at {current or 'base'}: giving up all builds before {before} would "
            "leave none that works"
        )
