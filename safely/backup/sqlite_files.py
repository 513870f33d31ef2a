"""SQLite files, copied by its backup API: whole, and in one transaction on either side.

A restore writes *into* the file, as one more writer, and does not put another in its place.
A file that is replaced lives on for those who have it open: a service would go on writing to the
old one, and what it had acknowledged would be gone. Written into, the file shows everybody the
restored rows from their next transaction on, a killed restore leaves the old ones, and what was
in its -wal is never mistaken for a part of the new.
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

from safely.backup.fingerprint import Fingerprint, of_sqlite
from service.database import SQLITE_BUSY_TIMEOUT
from service.database_errors import why_unreachable
from service.settings import async_url

PAGES = 1000  # copied at once, between two looks at whether to go on
STEPS = 100_000  # of a query, likewise
PATIENCE = 30.0  # seconds that a restore waits for another writer

Advance = Callable[[int], None]
Result = TypeVar("Result")


def file_of(url: str) -> Path:
    """The file that a URL names."""
    return Path(str(async_url(url).database))


async def stoppable(work: Callable[[threading.Event], Result]) -> Result:
    """Do something in a thread that looks whether to stop; who cancels it waits for its end."""
    stop = threading.Event()
    task = asyncio.ensure_future(asyncio.to_thread(work, stop))
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        stop.set()
        await asyncio.wait([task])
        if task.exception() is None:
            return task.result()  # it was too late: all is done
        raise


@contextmanager
def opened(file: Path, stop: threading.Event, *options: str) -> Iterator[sqlite3.Connection]:
    """A connection that begins no transaction by itself, and ends a query when told to stop.

    Errors come as CommandError.
    """
    if not (file.exists() or "mode=rwc" in options):
        raise CommandError(f"there is no {file}")
    address = f"file:{quote(str(file.absolute()))}?{'&'.join(options)}"
    try:
        with closing(
            sqlite3.connect(address, uri=True, isolation_level=None, timeout=SQLITE_BUSY_TIMEOUT)
        ) as connection:
            connection.set_progress_handler(stop.is_set, STEPS)
            yield connection
    except sqlite3.Error as error:
        raise CommandError(f"{file}: {why_unreachable(error) or error}") from None


@contextmanager
def backup_opened(file: Path, stop: threading.Event) -> Iterator[sqlite3.Connection]:
    """A connection that reads a backup, and leaves nothing beside it.

    Where somebody keeps a living database, its -wal is read too.
    """
    alive = file.with_name(f"{file.name}-wal").exists()
    with opened(file, stop, "mode=ro", *([] if alive else ["immutable=1"])) as connection:
        yield connection


def copy(
    source: sqlite3.Connection,
    target: sqlite3.Connection,
    rows: int,
    advance: Advance,
    stop: threading.Event,
) -> None:
    """Copy all pages; told is as many of so many rows as pages are copied of all pages."""
    told, began = 0, time.monotonic()

    def look(_: int, remaining: int, total: int) -> None:
        nonlocal told
        if stop.is_set():
            raise CommandError("interrupted")
        if total == 0 and time.monotonic() - began > PATIENCE:
            raise CommandError("another process is writing: stop it first")
        done = rows * (total - remaining) // total if total else 0
        advance(done - told)
        told = done

    source.backup(target, pages=PAGES, progress=look)


async def back_up(file: Path, part: Path, advance: Advance, *, checksums: bool) -> Fingerprint:
    """Write a copy to an empty file, and say what was in the original at that moment.

    Both see one snapshot, so nobody who writes meanwhile makes it begin again.
    """

    def work(stop: threading.Event) -> Fingerprint:
        with opened(file, stop, "mode=rw") as source, opened(part, stop, "mode=rw") as target:
            target.execute("PRAGMA journal_mode = OFF")  # a file that fails is thrown away
            target.execute("PRAGMA synchronous = OFF")  # and one that is kept is synced at the end
            source.execute("BEGIN")
            seen = of_sqlite(source, checksums=checksums)
            copy(source, target, seen.rows, advance, stop)
            target.execute("PRAGMA journal_mode = DELETE")  # it can be read where nobody may write
            return seen

    return await stoppable(work)


async def check(file: Path) -> None:
    """Read a backup to its end; raise CommandError where it is damaged."""

    def work(stop: threading.Event) -> None:
        if file.stat().st_size < size_of(file):
            raise CommandError(f"{file} is cut off")
        with backup_opened(file, stop) as connection:
            try:
                (said,) = connection.execute("PRAGMA integrity_check(1)").fetchone()
                empty = connection.execute("SELECT 1 FROM sqlite_master").fetchone() is None
            except sqlite3.DatabaseError as error:
                raise CommandError(f"{file} is damaged or cut off ({error})") from None
        if said != "ok":
            raise CommandError(f"{file} is damaged or cut off ({said})")
        if empty:
            raise CommandError(f"{file} holds nothing")

    await stoppable(work)


async def rows_in(file: Path) -> int:
    """How many rows a file holds."""

    def work(stop: threading.Event) -> int:
        with backup_opened(file, stop) as connection:
            return of_sqlite(connection, checksums=False).rows

    return await stoppable(work)


async def there(file: Path) -> list[str]:
    """What a file has; raises CommandError for one that can't be a database any more."""

    def work(stop: threading.Event) -> list[str]:
        if not file.exists():
            return []
        with opened(file, stop, "mode=rw") as connection:
            found = connection.execute(
                "SELECT type || ' ' || name FROM sqlite_master WHERE name NOT GLOB 'sqlite_*'"
            )
            return [name for (name,) in found]

    try:
        return await stoppable(work)
    except CommandError as error:
        raise CommandError(
            f"{error}. Move it away, with its -wal and -shm, and restore again"
        ) from None


def size_of(file: Path) -> int:
    """How many bytes a file should have at least: a page that nothing needs is missed by nobody.

    https://www.sqlite.org/fileformat2.html#the_database_header
    """
    with file.open("rb") as beginning:
        header = beginning.read(100)
    changed, counted = header[24:28], header[92:96]
    page, pages = int.from_bytes(header[16:18]), int.from_bytes(header[28:32])
    return (page if page > 1 else 65_536) * pages if changed == counted else 0


async def look(file: Path) -> Fingerprint:
    """What is in a file that nobody else uses, with checksums."""

    def work(stop: threading.Event) -> Fingerprint:
        with opened(file, stop, "mode=rw") as connection:
            return of_sqlite(connection, checksums=True)

    return await stoppable(work)


async def restore(file: Path, target: Path, advance: Advance) -> None:
    """Write a backup into a file, which may be missing, as one transaction."""

    def work(stop: threading.Event) -> None:
        with backup_opened(file, stop) as source, opened(target, stop, "mode=rwc") as into:
            copy(source, into, of_sqlite(source, checksums=False).rows, advance, stop)
            into.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    await stoppable(work)
