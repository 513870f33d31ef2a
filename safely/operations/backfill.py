"""Changing many rows in batches: nobody waits for long, and a killed run can be resumed."""

import logging
import time

from alembic import op

from safely.operations.connection import (
    Refused,
    column_type,
    in_schema,
    offline,
    outside_transaction,
    postgresql,
    quoted,
    refuse_hidden_rows,
    regclass,
    run,
    scalar,
)
from safely.progress import progress

log = logging.getLogger("safely")

LARGEST_BATCH = 2_000  # rows that one statement reads, and at most locks
FIRST_BATCH = 100  # rows
LONGEST_BATCH = 0.05  # seconds; clients that want a row of the batch wait as long
BEFORE_ALL = -(2**63)  # below every id

ONE_BATCH = """\
WITH batch AS MATERIALIZED (
  SELECT id AS batch_id FROM {table} WHERE id > {reached} ORDER BY id LIMIT {size}
), changed AS (
  UPDATE {table} SET {assignments}
  WHERE id = ANY (ARRAY(SELECT batch_id FROM batch)) AND ({where}) RETURNING 1
)
SELECT max(batch_id), count(*), (SELECT count(*) FROM changed)"""

SCRIPT = """\
DO $backfill$
DECLARE
  reached bigint; last bigint; walked bigint; done bigint; changed bigint; before bigint;
BEGIN
  LOOP
    reached := {before_all}; changed := 0;
    LOOP
      {batch} INTO last, walked, done FROM batch;
      EXIT WHEN last IS NULL;
      reached := last; changed := changed + done;
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
    """UPDATE the rows that match `where`, in batches along the column `id`, a number.

    `assignments` and `where` are SQL, as in UPDATE … SET … WHERE …. An assignment must make
    `where` false: that is how a second run, after a kill, finds the rows that are left.
    `batch` is the largest number of rows in one batch.

    PostgreSQL: each batch is a transaction of its own, and locks its rows for some milliseconds.
    Older builds may still write rows that match, behind the walk along the table: it is walked
    again as long as a walk changes fewer rows than the one before.
    SQLite: one statement in the revision's transaction. `--sql`: a DO block.

    A backfill has no opposite: a downgrade says `safely.nothing_to_undo(…)`, or brings back what
    was set aside. Raise Refused for a table without such an `id`.

    Example: `safely.backfill("customers", "name = 'Unknown'", where="name IS NULL")`
    """
    with in_schema(schema, table_name):
        refuse_hidden_rows(table_name)
        refuse_without_id(table_name)
        table = quoted(table_name)
        if not postgresql():
            run(f"UPDATE {table} SET {assignments} WHERE {where}")
            return

        def one_batch(reached: str, size: str) -> str:
            return ONE_BATCH.format(
                table=table, assignments=assignments, where=where, reached=reached, size=size
            )

        with outside_transaction():
            if offline():
                run(SCRIPT.format(before_all=BEFORE_ALL, batch=one_batch("reached", str(batch))))
                return
            # the type is named: beside an integer id, $1 could not hold BEFORE_ALL
            statement = one_batch("$1::bigint", "$2") + " FROM batch"
            changed = walk(table_name, statement, batch)
            before = changed + 1
            while 0 < changed < before:
                before, changed = changed, walk(table_name, statement, batch)


def refuse_without_id(table_name: str) -> None:
    """Raise Refused for a table that has no number `id` to walk along."""
    if offline() or not postgresql():
        return
    if column_type(table_name, "id") not in ("smallint", "integer", "bigint"):
        raise Refused(
            f"{table_name} has no column `id` that is a number, and batches are made by that: "
            "change its rows in a revision of your own, some at a time"
        )


def walk(table_name: str, statement: str, largest: int) -> int:
    """Walk along the table once, from the first id to the last; return how many rows changed."""
    changed, walked, reached, size = 0, 0, BEFORE_ALL, min(FIRST_BATCH, largest)
    with progress(f"backfill of {table_name}", estimated_rows(table_name)) as advance:
        while True:
            began = time.monotonic()
            last, in_batch, changed_in_batch = (
                op.get_bind().exec_driver_sql(statement, (reached, size)).one()
            )
            if last is None:
                break
            # at most doubled, since one fast batch promises little about the next
            factor = min(LONGEST_BATCH / (time.monotonic() - began), 2)
            size = max(1, min(largest, int(size * factor)))
            reached, changed, walked = last, changed + changed_in_batch, walked + in_batch
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
