"""Changing many rows in batches: nobody waits for long, and a killed run can be resumed."""

import logging
import math
import time

from alembic import op

from safely.operations.connection import (
    analyze,
    literal,
    offline,
    outside_transaction,
    postgresql,
    quoted,
    refuse_hidden_rows,
    regclass,
    rows,
    run,
    scalar,
    wait_for_standbys,
)
from safely.operations.halves import is_left_out
from safely.operations.keys import KEY, no_key, refuse_without_key
from safely.progress import progress

log = logging.getLogger("safely")

LARGEST_BATCH = 2_000  # rows that one statement reads, and at most locks
FIRST_BATCH = 100  # rows
LONGEST_BATCH = 0.05  # seconds; clients that want a row of the batch wait as long
FEW = 50  # rows; PostgreSQL, too, leaves the statistics as they are while no more have changed

# $1 is the number of rows, $2 the key of the last row of the batch before, as text: every type
# can be written as text and read again. The keys go through arrays because the planner expects few
# elements in one, and so looks each row up; with the subquery alone it might read the whole table.
ONE_BATCH = """\
WITH safely_batch AS MATERIALIZED (
  SELECT %1$s FROM {table} {beyond} ORDER BY %1$s LIMIT $1
), safely_changed AS (
  UPDATE {table} SET {assignments}
  WHERE (%1$s) IN (SELECT %2$s FROM unnest(%3$s) AS safely_key (%4$s)) AND ({where}) RETURNING 1
)
SELECT ARRAY[%5$s], (SELECT count(*) FROM safely_batch), (SELECT count(*) FROM safely_changed)
FROM safely_batch ORDER BY %6$s LIMIT 1"""
BEYOND = "WHERE (%1$s) > (%7$s)"

# the first batch and the following ones; NULL for a table without a key
STATEMENTS = """\
SELECT format({first}, columns, elements, arrays, names, texts, backwards, above),
       format({following}, columns, elements, arrays, names, texts, backwards, above)
FROM (
  SELECT string_agg(format('%I', attname), ', ' ORDER BY place) AS columns,
         string_agg(format('safely_key.k%s::%s', place, type), ', ' ORDER BY place) AS elements,
         string_agg(format('ARRAY(SELECT %I::text FROM safely_batch)', attname), ', '
                    ORDER BY place) AS arrays,
         string_agg(format('k%s', place), ', ' ORDER BY place) AS names,
         string_agg(format('%I::text', attname), ', ' ORDER BY place) AS texts,
         string_agg(format('%I DESC', attname), ', ' ORDER BY place) AS backwards,
         string_agg(format('($2::text[])[%s]::%s', place, type), ', ' ORDER BY place) AS above
  FROM ({key}) AS key
  HAVING count(*) > 0
) AS parts"""

SCRIPT = """\
DO $backfill$
DECLARE
  first text; following text; reached text[]; last text[]; began timestamptz;
  size bigint := {smallest}; walked bigint; done bigint; changed bigint; before bigint;
BEGIN
  IF {is_done} THEN
    RETURN;
  END IF;
  SELECT * INTO first, following FROM ({statements}) AS statements;
  IF first IS NULL THEN
    RAISE EXCEPTION '%', {no_key};
  END IF;
  LOOP
    reached := NULL; changed := 0;
    LOOP
      began := clock_timestamp();
      EXECUTE CASE WHEN reached IS NULL THEN first ELSE following END
        INTO last, walked, done USING size, reached;
      EXIT WHEN last IS NULL;
      reached := last; changed := changed + done;
      size := greatest(1, least({largest}, floor(size * least(2,
        {longest} / greatest(extract(epoch FROM clock_timestamp() - began), 0.001)))));
      COMMIT;
    END LOOP;
    EXIT WHEN changed = 0 OR changed >= before;
    before := changed;
  END LOOP;
END $backfill$"""


def backfill(
    table_name: str,
    assignments: str,
    *,
    where: str,
    batch: int = LARGEST_BATCH,
    schema: str | None = None,
) -> None:
    """UPDATE the rows that match `where`, in batches along the primary key, of whatever type.

    `assignments` and `where` are SQL, as in UPDATE … SET … WHERE …. An assignment must make
    `where` false: that is how a second run, after a kill, finds the rows that are left.
    `batch` is the largest number of rows in one batch.
    A table without a primary key is walked along a unique index of NOT NULL columns.

    PostgreSQL: each batch is a transaction of its own, and locks its rows for some milliseconds.
    Between two batches it waits while a standby is further behind than `-x max_lag`.
    Older builds may still write rows that match, behind the walk along the table: it is walked
    again as long as a walk changes fewer rows than the one before. Where more than a few rows
    have changed, ANALYZE follows, which blocks nobody.
    SQLite: one statement in the revision's transaction. `--sql`: a DO block, which waits for no
    standby.

    A backfill has no opposite: a downgrade says `safely.nothing_to_undo(…)`, or brings back what
    was set aside. Raise Refused for a table without such a key.

    Example: `safely.backfill("customers", "name = 'Unknown'", where="name IS NULL")`
    """
    if is_left_out(schema, table_name):
        return
    refuse_hidden_rows(table_name)
    if change_rows(table_name, assignments, where, batch) > FEW:
        with outside_transaction(patient=True):
            analyze(table_name)


def change_rows(
    table_name: str,
    assignments: str,
    where: str,
    batch: int = LARGEST_BATCH,
    is_done: str = "false",
) -> float:
    """Change the rows that match, as `backfill` does; return how many were changed.

    Infinite where that is not known. A script of `--sql` changes none where `is_done`, which is a
    condition in SQL, holds already.
    """
    refuse_without_key(table_name)
    if not postgresql():
        run(f"UPDATE {quoted(table_name)} SET {assignments} WHERE {where}")
        return 0
    statements = both_statements(table_name, assignments, where)
    with outside_transaction():
        if offline():
            run(
                SCRIPT.format(
                    is_done=is_done,
                    statements=statements,
                    no_key=literal(no_key(table_name)),
                    smallest=min(FIRST_BATCH, batch),
                    largest=batch,
                    longest=LONGEST_BATCH,
                )
            )
            return math.inf
        [(first, following)] = rows(statements)
        last = changed = walk(table_name, first, following, batch)
        before = last + 1
        while 0 < last < before:
            before, last = last, walk(table_name, first, following, batch)
            changed += last
    return changed


def both_statements(table_name: str, assignments: str, where: str) -> str:
    """Return the query for the two statements that change a batch of rows (PostgreSQL)."""
    parts = {
        name: sql.replace("%", "%%")
        for name, sql in (
            ("table", quoted(table_name)),
            ("assignments", assignments),
            ("where", where),
        )
    }
    first, following = (
        literal(ONE_BATCH.format(**parts, beyond=beyond)) for beyond in ("", BEYOND)
    )
    return STATEMENTS.format(
        first=first, following=following, key=KEY.format(oid=regclass(table_name))
    )


def walk(table_name: str, first: str, following: str, largest: int) -> int:
    """Walk along the table once, from the first key to the last; return how many rows changed."""
    changed, walked, size = 0, 0, min(FIRST_BATCH, largest)
    reached: list[str] | None = None
    with progress(f"backfill of {table_name}", estimated_rows(table_name)) as advance:
        while True:
            wait_for_standbys()
            began = time.monotonic()
            batch = rows(first, size) if reached is None else rows(following, size, reached)
            if not batch:
                break
            [(reached, in_batch, changed_in_batch)] = batch
            # at most doubled, since one fast batch promises little about the next
            factor = min(LONGEST_BATCH / (time.monotonic() - began), 2)
            size = max(1, min(largest, int(size * factor)))
            changed, walked = changed + changed_in_batch, walked + in_batch
            op.get_context().opts["work"].rows += in_batch
            advance(in_batch)
    log.info("backfill of %s: %d rows walked", table_name, walked)
    return changed


def estimated_rows(table_name: str) -> int:
    """Return the number of rows by PostgreSQL's statistics, or counted where it has none yet."""
    estimate = int(scalar(f"SELECT reltuples FROM pg_class WHERE oid = {regclass(table_name)}"))
    if estimate >= 0:
        return estimate
    return int(scalar(f"SELECT count(*) FROM {quoted(table_name)}"))
