"""Backing up: one file with all that the database held at one moment, while everybody goes on.

The moment is a snapshot, which pg_dump and the counting of rows share; so a verified backup is
compared exactly, however many write meanwhile.
"""

import logging
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple
from uuid import uuid4

import sqlalchemy as sa
from alembic.runtime.migration import MigrationContext
from alembic.util import CommandError
from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from safely.backup import archive, fingerprint, sqlite_files
from safely.backup.backup_files import Part, part
from safely.backup.fingerprint import Fingerprint
from safely.backup.restore import into_scratch
from safely.database import LOCK_TIMEOUT, connected, read
from safely.ledger import ledger
from safely.postgresql.programs import running, tool
from safely.postgresql.server import beside, counted, major_of
from safely.progress import progress
from safely.run.retry import attempt
from safely.scratch import databases as scratch
from service.database_errors import causes
from service.settings import Settings

DIRECTORY = "backups"
LOCK_WAIT = 10_000  # milliseconds; who queues behind us for a lock lets everybody queue behind him
NOTING = 10.0  # seconds that the ledger's row is tried
MOST = 10  # differences that the ledger keeps

WHY = {  # a table can't be locked, by SQLSTATE
    "42501": "this role may not read everything; use the one that owns the tables",
    "55P03": "somebody has locked a table for too long; run it again",
    "42P01": "the schema is being changed right now; run it again",
}
NO_ROOM = "No space left on device"
ESTIMATE = sa.text("""\
SELECT sum(reltuples) FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace
WHERE relkind = 'r' AND reltuples > 0 AND nspname !~ '^pg_|^information_schema$'""")

log = logging.getLogger("safely")


class Backup(NamedTuple):
    """A backup that was made."""

    file: Path
    bytes: int
    seconds: float
    revision: str
    tables: int
    rows: int
    verified: bool | None = None  # None: nobody looked
    differences: list[str] = []  # noqa: RUF012  # never changed

    def words(self) -> str:
        """What the ledger says of it."""
        words = f"{self.file.name}, {self.bytes} bytes"
        if self.verified:
            return f"{words}{ledger.VERIFIED}{self.tables} tables, {self.rows} rows"
        if self.verified is None:
            return f"{words}, not verified"
        return f"{words}, verification failed: {'; '.join(self.differences[:MOST])}"


async def back_up(engine: AsyncEngine, directory: Path, *, verify: bool) -> Backup | None:
    """Write a backup into a directory, and note it in the ledger; None for an empty database.

    Raises CommandError, and leaves no file that looks like a backup, if it can't be done.
    """
    url, work = engine.url.render_as_string(hide_password=False), ledger.Work()
    with part(directory, engine.dialect.name) as file:
        write = dumped if engine.dialect.name == "postgresql" else copied
        seen = await write(engine, url, file, checksums=verify)
        if seen.is_empty:
            return None
        await read_to_its_end(file.path, seen.rows)
        size, kept = file.size, file.keep()
    made = Backup(kept, size, 0, seen.revision, len(seen.tables), seen.rows)
    try:
        if verify:
            made = await verified(engine, made, seen)
    finally:
        made = made._replace(seconds=round(time.monotonic() - work.began, 3))
        await note(engine, made, work)
    return made


async def before_migrating(engine: AsyncEngine, *, directory: Path, verify: bool) -> None:
    """Back up, unless there is nothing; raise CommandError if that, or verifying it, fails."""
    made = await back_up(engine, directory, verify=verify)
    if made is None:
        log.info("no backup: the database is empty")
    elif made.verified is False:
        raise CommandError(f"{made.words()}. Nothing was migrated")
    else:
        log.info("backed up: %s", made.words())


async def dumped(engine: AsyncEngine, url: str, file: Part, *, checksums: bool) -> Fingerprint:
    """Let pg_dump write the file; what it saw, and the sequences as they were before."""
    async with beside(engine) as other:
        program = tool("pg_dump", await major_of(other))
        places = [place for _, place in await fingerprint.tables_of(other)]
        rows = int(await other.scalar(ESTIMATE) or 0)
    async with frozen(engine, places) as connection:
        snapshot = await connection.scalar(sa.text("SELECT pg_export_snapshot()"))
        sequences = await fingerprint.sequences_of(connection)
        name = f"migrations-{uuid4().hex[:8]}"  # by which its progress is found
        # a name, since into an open file it writes its table of contents twice
        options = ("--format=custom", "--no-password", f"--file={file.path}")
        seeing = (f"--snapshot={snapshot}", f"--lock-wait-timeout={LOCK_WAIT}")
        keeps = (file.descriptor,)
        with progress("backing up", rows) as advance:
            async with (
                running(program, *options, *seeing, url=url, name=name, keeps=keeps) as dump,
                counted(engine, name, advance),
            ):
                await dump.finish()
        seen = await fingerprint.of_postgresql(connection, checksums=checksums)
    return seen._replace(sequences=sequences)


@asynccontextmanager
async def frozen(engine: AsyncEngine, places: list[str]) -> AsyncIterator[AsyncConnection]:
    """A connection that sees one moment, and whose tables nobody alters meanwhile.

    So the locks come first: pg_dump asks the catalogue of the snapshot and that of now. Who waits
    for a lock behind ours, and before pg_dump's, makes everybody wait: that ends after LOCK_WAIT.
    """
    options = {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True}
    async with engine.execution_options(**options).connect() as connection:
        await connection.execute(sa.text(f"SET LOCAL lock_timeout = {LOCK_WAIT}"))
        if places:
            tables = ", ".join(places).replace(":", r"\:")
            try:
                await connection.execute(sa.text(f"LOCK TABLE {tables} IN ACCESS SHARE MODE"))
            except DBAPIError as error:
                for cause in causes(error):
                    if reason := WHY.get(getattr(cause, "sqlstate", "")):
                        raise CommandError(f"{cause}: {reason}") from None
                raise
        yield connection


async def copied(_: AsyncEngine, url: str, file: Part, *, checksums: bool) -> Fingerprint:
    """Let SQLite write the file; what it held at that moment."""
    source = sqlite_files.file_of(url)
    with progress("backing up", await sqlite_files.rows_in(source)) as advance:
        return await sqlite_files.back_up(source, file.path, advance, checksums=checksums)


async def read_to_its_end(file: Path, rows: int) -> None:
    """Raise CommandError unless every byte of a backup can be read."""
    if archive.kind_of(file) == "sqlite":
        await sqlite_files.check(file)
        return
    with progress("reading the backup", rows) as advance:
        await archive.read_through(await archive.listed(file), advance)


async def verified(engine: AsyncEngine, made: Backup, seen: Fingerprint) -> Backup:
    """Restore it elsewhere, and compare; one that differs loses its name.

    Raises CommandError where there is no place for it.
    """
    try:
        async with scratch.database(engine) as url:
            differences = await compared(made.file, url, seen)
    except CommandError as error:
        raise CommandError(f"{made.file} was written, and is not verified: {error}") from None
    if differences:
        bad = made.file.rename(made.file.with_name(f"{made.file.name}.failed"))
        made = made._replace(file=bad)
    return made._replace(verified=not differences, differences=differences)


async def compared(file: Path, url: str, seen: Fingerprint) -> list[str]:
    """What differs once it is restored into a scratch database."""
    try:
        with progress("restoring it elsewhere", seen.rows) as advance:
            await into_scratch(file, url, advance)
    except CommandError as error:
        if NO_ROOM in str(error):
            raise  # which says nothing of the backup
        return [f"it can't be restored: {error}"]
    return fingerprint.differences(seen, await look(url))


async def look(url: str) -> Fingerprint:
    """What is in a database that nobody changes, with checksums."""
    if url.startswith("sqlite"):
        return await sqlite_files.look(sqlite_files.file_of(url))
    settings = Settings(database_url=url)
    async with connected(settings, LOCK_TIMEOUT) as engine, engine.connect() as connection:
        return await fingerprint.of_postgresql(connection, checksums=True)


async def note(engine: AsyncEngine, made: Backup, work: ledger.Work) -> None:
    """Note it in the ledger, if there is one that can be written."""
    entry = ledger.Entry("backup", made.revision, made.words())

    def noted(connection: Connection, _: dict[str, Any]) -> None:
        with connection.begin():
            ledger.note(MigrationContext.configure(connection), entry, work)

    try:
        if not await read(
            engine, lambda connection: sa.inspect(connection).has_table(ledger.LOG.name)
        ):
            log.info("there is no %s to note the backup in", ledger.LOG.name)
            return
        async with engine.connect() as connection:
            await attempt(connection, None, noted, {}, NOTING)
    except (CommandError, DBAPIError, OSError) as error:
        log.warning("the backup is not noted in %s: %s", ledger.LOG.name, [*causes(error)][-1])
