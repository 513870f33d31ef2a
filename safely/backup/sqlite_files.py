"""Copies of SQLite files by SQLite's backup API: complete, and in one transaction.

A restore writes *into* the file, as any other writer does, and does not replace the file. A file
that was replaced would live on for the processes that have it open: an application would go on
writing to the old one, and its acknowledged writes would be lost. When the file is written into,
every process sees the restored rows from its next transaction on, a killed restore leaves the old
rows, and the old -wal file is never mistaken for a part of the new database.
"""

import asyncio
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TypeVar
from urllib.parse import quote

from alembic.util import CommandError
from sqlalchemy import URL

from safely.cancellation import CancelledTooLate
from safely.database import usable
from safely.errors import why_unreachable

BUSY_TIMEOUT = 5.0  # seconds that a statement waits for another process's write lock
PAGES = 1000  # copied between two looks at whether to stop
INSTRUCTIONS = 100_000  # of SQLite's virtual machine, likewise
PATIENCE = 30.0  # seconds that a restore waits for another writer

Advance = Callable[[int], None]  # its argument: how many more rows are done
Result = TypeVar("Result")


def file_of(address: str | URL) -> Path:
    """Return the file in a URL."""
    return Path(str(usable(address).database))


async def in_thread(work: Callable[[threading.Event], Result]) -> Result:
    """Run the work in a thread; when cancelled, set its event and wait until the thread ends.

    Raise CancelledTooLate instead of CancelledError if the work was completed all the same.
    """
    stop = threading.Event()
    task = asyncio.ensure_future(asyncio.to_thread(work, stop))
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        stop.set()
        await asyncio.wait([task])
        if task.exception() is None:
            raise CancelledTooLate from None
        raise


@contextmanager
def opened(file: Path, stop: threading.Event, *options: str) -> Iterator[sqlite3.Connection]:
    """Yield a connection on which a query ends with an error once `stop` is set.

    It begins no transaction by itself. `options` are those of SQLite's URI, such as `mode=ro`.
    Raise CommandError for SQLite's errors.
    """
    if not (file.exists() or "mode=rwc" in options):
        raise CommandError(f"there is no {file}")
    address = f"file:{quote(str(file.absolute()))}?{'&'.join(options)}"
    try:
        with closing(
            sqlite3.connect(address, uri=True, isolation_level=None, timeout=BUSY_TIMEOUT)
        ) as connection:
            connection.set_progress_handler(stop.is_set, INSTRUCTIONS)
            yield connection
    except sqlite3.Error as error:
        raise CommandError(f"{file}: {why_unreachable(error) or error}") from None


@contextmanager
def backup_opened(file: Path, stop: threading.Event) -> Iterator[sqlite3.Connection]:
    """Yield a connection that reads a backup without making files beside it.

    The file may also be a database in use; then its -wal is read, too.
    """
    in_use = file.with_name(f"{file.name}-wal").exists()
    with opened(file, stop, "mode=ro", *([] if in_use else ["immutable=1"])) as connection:
        yield connection


def quoted(name: str) -> str:
    """Return a name as an identifier of SQL."""
    return '"{}"'.format(name.replace('"', '""'))


def tables_in(connection: sqlite3.Connection) -> list[str]:
    """Return the names of all tables."""
    names = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY 1")
    return [name for (name,) in names]


def count_rows(connection: sqlite3.Connection, *tables: str) -> int:
    """Return the number of rows in the tables."""
    queries = (f"SELECT count(*) FROM {quoted(table)}" for table in tables)
    return sum(connection.execute(query).fetchone()[0] for query in queries)


def copy(
    source: sqlite3.Connection,
    target: sqlite3.Connection,
    rows: int,
    advance: Advance,
    stop: threading.Event,
) -> None:
    """Copy all pages; raise CommandError when `stop` is set, or another process goes on writing.

    SQLite counts pages, so `advance` gets the same share of `rows`.
    """
    done, began = 0, time.monotonic()

    def report(_: int, remaining: int, total: int) -> None:
        nonlocal done
        if stop.is_set():
            raise CommandError("interrupted")
        if total == 0 and time.monotonic() - began > PATIENCE:
            raise CommandError("another process is writing: stop it first")
        share = rows * (total - remaining) // total if total else 0
        advance(share - done)
        done = share

    source.backup(target, pages=PAGES, progress=report)


async def back_up(
    file: Path,
    target: Path,
    fingerprint: Callable[[sqlite3.Connection], Result],
    rows: int,
    advance: Advance,
) -> Result:
    """Copy a database into an empty file; return the fingerprint of the same snapshot of it.

    Because of the snapshot, a process that writes meanwhile does not make the copy begin again.
    """

    def work(stop: threading.Event) -> Result:
        with opened(file, stop, "mode=rw") as source, opened(target, stop, "mode=rw") as copied:
            copied.execute("PRAGMA journal_mode = OFF")  # a copy that fails is deleted
            copied.execute("PRAGMA synchronous = OFF")  # and a complete one is synced at the end
            source.execute("BEGIN")
            result = fingerprint(source)
            copy(source, copied, rows, advance, stop)
            copied.execute("PRAGMA journal_mode = DELETE")  # readable in a read-only directory
            return result

    return await in_thread(work)


async def check(file: Path) -> None:
    """Read a backup to its end; raise CommandError where it is damaged."""

    def work(stop: threading.Event) -> None:
        if file.stat().st_size < minimum_size(file):
            raise CommandError(f"{file} is cut off")
        with backup_opened(file, stop) as connection:
            try:
                (verdict,) = connection.execute("PRAGMA integrity_check(1)").fetchone()
                empty = connection.execute("SELECT 1 FROM sqlite_master").fetchone() is None
            except sqlite3.DatabaseError as error:
                raise CommandError(f"{file} is damaged or cut off ({error})") from None
        if verdict != "ok":
            raise CommandError(f"{file} is damaged or cut off ({verdict})")
        if empty:
            raise CommandError(f"{file} contains no tables")

    await in_thread(work)


async def rows_in(file: Path) -> int:
    """Return the number of rows in a database's file."""

    def work(stop: threading.Event) -> int:
        with backup_opened(file, stop) as connection:
            return count_rows(connection, *tables_in(connection))

    return await in_thread(work)


async def objects_in(file: Path) -> list[str]:
    """Return the tables, indexes and so on in a file, such as `table orders`; none without a file.

    Raise CommandError for a file that is no database.
    """

    def work(stop: threading.Event) -> list[str]:
        if not file.exists():
            return []
        with opened(file, stop, "mode=rw") as connection:
            objects = connection.execute(
                "SELECT type || ' ' || name FROM sqlite_master WHERE name NOT GLOB 'sqlite_*'"
            )
            return [name for (name,) in objects]

    try:
        return await in_thread(work)
    except CommandError as error:
        raise CommandError(
            f"{error}. Move it away, with its -wal and -shm, and restore again"
        ) from None


def minimum_size(file: Path) -> int:
    """Return the size in bytes that the header promises; 0 where it promises none.

    Reading all tables does not notice that unused pages at the end are missing.
    https://www.sqlite.org/fileformat2.html#the_database_header
    """
    with file.open("rb") as beginning:
        header = beginning.read(100)
    change_counter, valid_for = header[24:28], header[92:96]
    page, pages = int.from_bytes(header[16:18]), int.from_bytes(header[28:32])
    return (page if page > 1 else 65_536) * pages if change_counter == valid_for else 0


async def read(file: Path, query: Callable[[sqlite3.Connection], Result]) -> Result:
    """Return what a function reads from a file."""

    def work(stop: threading.Event) -> Result:
        with opened(file, stop, "mode=rw") as connection:
            return query(connection)

    return await in_thread(work)


async def restore(file: Path, target: Path, advance: Advance) -> None:
    """Write a backup into a file, which may be missing, as one transaction.

    Raise CancelledTooLate if it was cancelled after that transaction.
    """

    def work(stop: threading.Event) -> None:
        with backup_opened(file, stop) as source, opened(target, stop, "mode=rwc") as database:
            rows = count_rows(source, *tables_in(source))
            copy(source, database, rows, advance, stop)
            database.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    await in_thread(work)
