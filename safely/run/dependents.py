"""Objects that depend on what is to be dropped, and would make the drop fail (PostgreSQL).

They are named before anything is dropped. No drop here says CASCADE: what somebody else has made
is theirs.
"""

from collections.abc import Sequence
from typing import NamedTuple

from sqlalchemy import Connection

from safely.database import as_literal

# An object is (catalogue, oid, column or 0). What PostgreSQL drops along with it is added to it:
# an index or a default with its column (deptype a), a rule with its view (i), a trigger of a
# partition with that of its table (P, S).
DEPENDENTS = """\
WITH RECURSIVE dropped (item, classid, objid, objsubid) AS (
  {seeds}
  UNION
  SELECT item, dependent.classid, dependent.objid, dependent.objsubid
  FROM dropped JOIN pg_depend AS dependent
    ON refclassid = dropped.classid AND refobjid = dropped.objid
    AND (dropped.objsubid = 0 OR refobjsubid = dropped.objsubid)
  WHERE deptype IN ('a', 'i', 'P', 'S')
)
SELECT DISTINCT item, CASE
    WHEN rulename = '_RETURN' THEN pg_describe_object('pg_class'::regclass, ev_class, 0)
    ELSE pg_describe_object(dependent.classid, dependent.objid, dependent.objsubid) END AS name
FROM dropped JOIN pg_depend AS dependent
  ON refclassid = dropped.classid AND refobjid = dropped.objid
  AND (dropped.objsubid = 0 OR refobjsubid = dropped.objsubid)
LEFT JOIN pg_rewrite ON dependent.classid = 'pg_rewrite'::regclass AND oid = dependent.objid
WHERE deptype = 'n' AND NOT EXISTS (
  SELECT FROM dropped AS other
  WHERE other.classid = dependent.classid AND other.objid = dependent.objid
    AND other.objsubid IN (0, dependent.objsubid))
ORDER BY 1, 2"""

# the views of a published version which it was made with: each shows one table
VERSION_VIEWS = """\
SELECT view.oid, view.relname FROM pg_class AS view
WHERE relnamespace = to_regnamespace({schema}) AND relkind = 'v' AND (
  relname IN ('schema_state', 'migration_log')
  OR (SELECT count(DISTINCT refobjid) = 1 AND bool_and(coalesce(shown.relkind IN ('r', 'p'), false))
      FROM pg_rewrite
      JOIN pg_depend ON classid = 'pg_rewrite'::regclass AND objid = pg_rewrite.oid
      LEFT JOIN pg_class AS shown ON refclassid = 'pg_class'::regclass AND shown.oid = refobjid
      WHERE ev_class = view.oid AND refobjid <> view.oid))"""

VERSION = (
    "SELECT {item}, 'pg_class'::regclass, oid, 0 FROM ("
    + VERSION_VIEWS
    + """) AS views
UNION ALL SELECT {item}, 'pg_proc'::regclass, oid, 0 FROM pg_proc
WHERE pronamespace = to_regnamespace({schema}) AND proname = 'seen_by_owner'
UNION ALL SELECT {item}, 'pg_namespace'::regclass, to_regnamespace({schema}), 0"""
)

# with the column of each partition, and the triggers that keep it in step
COLUMN = """\
SELECT {item}, 'pg_class'::regclass, attrelid, attnum::int FROM pg_attribute
WHERE attname = {column} AND NOT attisdropped AND attrelid IN (
  WITH RECURSIVE tree (oid) AS (
    SELECT to_regclass({table})::oid
    UNION ALL SELECT inhrelid FROM pg_inherits JOIN tree ON inhparent = tree.oid)
  TABLE tree)
UNION ALL SELECT {item}, 'pg_trigger'::regclass, pg_trigger.oid, 0
FROM pg_trigger JOIN pg_attribute ON attrelid = tgrelid AND attnum = ANY (tgattr)
WHERE tgrelid = to_regclass({table}) AND attname = {column}
  AND tgfoid IN (to_regproc('fill_missing'), to_regproc('sync_retyped'))"""

TABLE = "SELECT {item}, 'pg_class'::regclass, to_regclass({table})::oid, 0"

TRIGGER = """\
SELECT {item}, 'pg_trigger'::regclass, oid, 0 FROM pg_trigger
WHERE tgrelid = to_regclass({table}) AND tgname = {trigger}"""


class Seed(NamedTuple):
    """An object that is to be dropped, as a query; the values are names, quoted as in SQL."""

    query: str
    schema: str = ""
    table: str = ""
    column: str = ""
    trigger: str = ""


def dependents(connection: Connection, seeds: Sequence[Seed]) -> list[list[str]]:
    """Return for each object what depends on it and is not dropped with one of them, in words."""
    names: list[list[str]] = [[] for _ in seeds]
    if not seeds:
        return names
    queries = []
    for item, seed in enumerate(seeds):
        values = {name: as_literal(value) for name, value in seed._asdict().items()}
        queries.append(seed.query.format(**values | {"item": item}))
    query = DEPENDENTS.format(seeds="\n  UNION ALL\n  ".join(queries))
    for item, name in connection.exec_driver_sql(query):
        names[item].append(name)
    return names
