"""The state in which a migration leaves a database, to be compared with that after another."""

import asyncio
import json
import re
from typing import Any

from safely.ledger.ledger import SNAPSHOT
from tests.databases import engine_for, query

# every column, those that are set aside too
ROWS = {
    "postgresql": "SELECT md5(string_agg(row::text, ' ' ORDER BY row)) "
    "FROM (SELECT to_jsonb(t) AS row FROM {} AS t) AS rows",
    "sqlite": "SELECT * FROM {} ORDER BY 1",
}
OTHERS = "('alembic_version', 'migration_log', 'sqlite_sequence')"  # not ours
PLACES = {
    "postgresql": "SELECT relid::regclass::text FROM pg_stat_user_tables "
    f"WHERE relname NOT IN {OTHERS} ORDER BY 1",
    "sqlite": "SELECT name FROM sqlite_master "
    f"WHERE type = 'table' AND name NOT IN {OTHERS} ORDER BY 1",
}
# SQLite writes the name of a table that was renamed in quotes
RENAMED = re.compile(r'^CREATE TABLE "(\w+)"')
LEFT_BEHIND = {
    "postgresql": "SELECT 'index ' || indexrelid::regclass FROM pg_index WHERE NOT indisvalid "
    "UNION ALL SELECT 'lock ' || locktype FROM pg_locks JOIN pg_stat_activity USING (pid) "
    "WHERE application_name = 'migrations' AND datname = current_database() "
    "UNION ALL SELECT 'lock ' || locktype FROM pg_locks JOIN pg_database ON oid = database "
    "WHERE locktype = 'advisory' AND datname = current_database()",
    "sqlite": "SELECT integrity_check FROM pragma_integrity_check WHERE integrity_check <> 'ok'",
}
UNFINISHED = "SELECT direction, revision FROM migration_log WHERE state = 'started'"
STILL_THERE = """\
SELECT count(*) FROM pg_stat_activity
WHERE application_name = 'migrations' AND datname = current_database()"""


async def state_of(kind: str, url: str) -> dict[str, Any]:
    """Return the database's revision, its schema, and the rows of every table."""
    engine = engine_for(url)
    revision = await query(engine, "SELECT version_num FROM alembic_version")
    ((snapshot,),) = await query(engine, SNAPSHOT[kind].replace(":", r"\:"))
    schema = {
        name: RENAMED.sub(r"CREATE TABLE \1", definition)
        for name, definition in json.loads(snapshot).items()
    }
    places = await query(engine, PLACES[kind])
    rows = [(place, await query(engine, ROWS[kind].format(place))) for (place,) in places]
    await engine.dispose()
    return {"revision": revision, "schema": schema, "rows": rows}


async def leftovers(kind: str, url: str) -> list[Any]:
    """Return invalid indexes, locks and unfinished ledger rows: a run must leave none."""
    engine = engine_for(url)
    if kind == "postgresql":  # sessions end a moment later than their process
        async with asyncio.timeout(10):
            while await query(engine, STILL_THERE) != [(0,)]:
                await asyncio.sleep(0.01)
    rows = await query(engine, LEFT_BEHIND[kind]) + await query(engine, UNFINISHED)
    await engine.dispose()
    return rows
