"""Measure bytes for each user in the table and its indexes, and the work that touches all rows."""

import os
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from benchmarks.growth import fill
from benchmarks.load import Load
from benchmarks.people import written
from benchmarks.world import MIB, Database, must
from safely.scratch.embedded import Server
from tests.replication import standby_of
from tests.revisions import copy_repository, write_revision

# by the name of its index or table
BYTES = {
    "users": "table, bytes a user",
    "pk_users": "primary key, bytes a user",
    "idx_user_full_name": "index of names, bytes a user",
    "idx_user_email": "index of addresses, bytes a user",
}
ALL = "table and indexes, bytes a user"
IMPORT, INDEXES = "import, rows/s", "all three indexes, rows/s"
BACKFILL, BACKFILL_WAL = "backfill, rows/s", "backfill, bytes of WAL a row"
BACKFILL_TRANSACTIONS = "backfill, rows a transaction"
CREATE_WAL = "create, bytes of WAL"
BACKUP, BACKUP_BYTES, RESTORE = "backup, rows/s", "backup, bytes a user", "restore, rows/s"
FREEZE, COPY = "VACUUM (FREEZE), rows/s", "base backup, MB/s"
ORDER = (
    *BYTES.values(), ALL, IMPORT, INDEXES, BACKFILL, BACKFILL_WAL, BACKFILL_TRANSACTIONS,
    CREATE_WAL, BACKUP, BACKUP_BYTES, RESTORE, FREEZE, COPY,
)  # fmt: skip

# names and addresses at random, as those of real people are: each create touches other pages
CREATES = r"""\set chance random(1, 9000000000000000000)
INSERT INTO users (full_name, email, age) VALUES (
    md5(:chance::bigint::text), format('%s@mail.example.org', md5((:chance::bigint + 1)::text)), 36
);
"""
CREATORS = 8  # connections
COLUMN = 'safely.add_column("users", sa.Column("country", sa.Text()))'
FILLED = """safely.backfill("users", "country = 'XX'", where="country IS NULL")"""
EMPTIED = 'safely.drop_column("users", "country")'

Figures = dict[str, float]


def measure(directory: Path, server: Server, size: int, seconds: int, *, changes: bool) -> Figures:
    """Return the figures of a table with so many users; with `changes`, import and backfill too."""
    psql = made(server, f"users_{size}")
    psql.migrate()
    fill(psql, size)
    figures = {
        name: int(psql.psql(f"SELECT pg_table_size('{relation}')")) / size
        for relation, name in BYTES.items()
    }
    figures[ALL] = sum(figures.values())
    figures[INDEXES] = size / timed(lambda: reindex(psql))
    psql.psql("CHECKPOINT")
    figures[FREEZE] = size / timed(lambda: psql.psql("VACUUM (FREEZE, ANALYZE) users"))
    figures |= backed_up(directory, psql, size)
    psql.psql("CHECKPOINT")
    whole = int(psql.psql("SELECT sum(pg_database_size(oid)) FROM pg_database"))
    began = time.monotonic()
    with standby_of(server, directory / f"copy_{size}"):
        figures[COPY] = whole / MIB / (time.monotonic() - began)
    psql.psql("CHECKPOINT")
    before = written_until_now(psql)
    creates = Load(directory, seconds).pgbench(psql, CREATES, CREATORS, size)
    figures[CREATE_WAL] = (written_until_now(psql) - before) / creates.answers
    if changes:
        figures |= imported(directory, server, size) | backfilled(directory, psql, size)
    return figures


def made(server: Server, name: str) -> Database:
    """Return a new, empty database."""
    server.call("createdb", *server.address(), name)
    return Database(server, name)


def timed(action: Callable[[], object]) -> float:
    """Return the seconds that it takes."""
    began = time.monotonic()
    action()
    return time.monotonic() - began


def reindex(psql: Database) -> None:
    """Build the indexes of users anew, one after the other, as safely builds one."""
    for index in [name for name in BYTES if name != "users"]:
        psql.psql(f"REINDEX INDEX CONCURRENTLY {index}")


def backed_up(directory: Path, psql: Database, size: int) -> Figures:
    """Return the figures of a backup and of its restore into another database."""
    place = directory / f"backup_{size}"
    backup = timed(lambda: psql.run("migrations", "backup", str(place)))
    [file] = place.glob("*.dump")
    other = made(psql.server, f"restored_{size}")
    restore = timed(lambda: other.run("migrations", "restore", str(file)))
    must(other.count() == size, "some were not restored")
    figures = {
        BACKUP: size / backup,
        BACKUP_BYTES: file.stat().st_size / size,
        RESTORE: size / restore,
    }
    file.unlink()
    psql.psql(f"DROP DATABASE {other.name}")
    return figures


def imported(directory: Path, server: Server, size: int) -> Figures:
    """Return how many rows a second the service's own command imports, with all indexes there."""
    psql = made(server, f"imported_{size}")
    psql.migrate()
    file = written(directory, size).by_format["CSV"]
    took = timed(lambda: psql.run("service", "import", str(file)))
    must(psql.count() == size, "some were not imported")
    return {IMPORT: size / took}


def backfilled(directory: Path, psql: Database, size: int) -> Figures:
    """Return the figures of a revision that adds a column and fills it in for all rows."""
    clone = directory / "clone"
    copy_repository(clone)
    write_revision(clone, 1, f"{COLUMN}\n{FILLED}", EMPTIED)
    rows = psql.count()
    wal, transactions = written_until_now(psql), transactions_until_now(psql)
    took = timed(lambda: psql.run("alembic", "upgrade", "head", directory=clone))
    empty = psql.psql("SELECT count(*) FROM users WHERE country IS NULL")
    must((rows, empty) == (psql.count(), "0") and rows >= size, f"{empty} rows were not filled in")
    return {
        BACKFILL: rows / took,
        BACKFILL_WAL: (written_until_now(psql) - wal) / rows,
        BACKFILL_TRANSACTIONS: rows / (transactions_until_now(psql) - transactions),
    }


def written_until_now(psql: Database) -> int:
    """Return the position in the WAL, in bytes."""
    return int(psql.psql("SELECT pg_current_wal_insert_lsn() - '0/0'::pg_lsn"))


def transactions_until_now(psql: Database) -> int:
    """Return the number of the next transaction that writes."""
    return int(psql.psql("SELECT pg_snapshot_xmax(pg_current_snapshot())"))


def report(measured: dict[int, Figures]) -> Iterable[list[str]]:
    """Yield the head of the table, and a line for each figure, with a column for each size."""
    yield ["figure", *(f"{size:,} users" for size in measured)]
    for name in ORDER:
        values = [figures.get(name) for figures in measured.values()]
        if any(values):
            yield [name, *("" if value is None else f"{value:,.0f}" for value in values)]


def conditions(load: float, seconds: int) -> str:
    """Return under which conditions it is measured."""
    return (
        f"{os.cpu_count()} cores for all processes, load average {load:.1f} at the start; "
        f"once each, creates for {seconds} seconds after a checkpoint by {CREATORS} connections "
        f"without the service"
    )
