"""Changing many rows in small bites, so that nobody waits and a killed run goes on."""

import logging
import time

from alembic import op

from safely.operations.connection import (
    Refused,
    ask,
    offline,
    outside_transaction,
    postgresql,
    quoted,
    regclass,
    run,
    type_of,
)
from safely.progress import progress

log = logging.getLogger("safely")

BATCH = 2_000  # rows that one statement walks over, and at most locks
FIRST_BATCH = 100
LONGEST_BATCH = 0.05  # seconds; the next one is smaller, since clients wait for its rows
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


def backfill(table_name: str, assignments: str, *, where: str, batch: int = BATCH) -> None:
    """UPDATE the rows that match `where`, in batches by `id`.

    `where` must stop being true of a row that was changed: that is what lets a killed run be
    resumed. On PostgreSQL each batch is a transaction, and older builds may write such rows
    behind the walk: the table is walked again as long as that finds fewer than the time before.
    On SQLite it is one statement of the revision's transaction. Offline, a DO block does it all.
    """
    refuse_other_key(table_name)
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
        statement = one_batch("$1", "$2") + " FROM batch"
        changed = walk(table_name, statement, batch)
        before = changed + 1
        while 0 < changed < before:
            before, changed = changed, walk(table_name, statement, batch)


def refuse_other_key(table_name: str) -> None:
    """Raise Refused for a table that can't be walked over by a number."""
    if offline() or not postgresql():
        return
    if type_of(table_name, "id") not in ("smallint", "integer", "bigint"):
        raise Refused(
            f"{table_name} has no `id` that is a number, and rows are filled in by that, batch "
            "after batch: change them in a revision of your own, some at a time"
        )


def walk(table_name: str, statement: str, largest: int) -> int:
    """Walk over the table once, from the first id to the last; return how many rows changed."""
    changed, seen, reached, size = 0, 0, BEFORE_ALL, min(FIRST_BATCH, largest)
    with progress(f"backfill of {table_name}", estimated_rows(table_name)) as advance:
        while True:
            began = time.monotonic()
            last, walked, done = op.get_bind().exec_driver_sql(statement, (reached, size)).one()
            if last is None:
                log.info("backfill of %s: %d rows walked", table_name, seen)
                return changed
            fits = LONGEST_BATCH / (time.monotonic() - began)  # as many times as many rows
            size = max(1, min(largest, int(size * min(fits, 2))))
            reached, changed, seen = last, changed + done, seen + walked
            op.get_context().opts["work"].rows += walked
            advance(walked)


def estimated_rows(table_name: str) -> int:
    """What the statistics say, corrected where there are none yet."""
    estimate = int(ask(f"SELECT reltuples FROM pg_class WHERE oid = {regclass(table_name)}"))
    if estimate >= 0:
        return estimate
    return int(ask(f"SELECT count(*) FROM {quoted(table_name)}"))
