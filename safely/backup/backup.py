"""Backing up: one file with the content of the database at one moment, while clients write.

pg_dump and the fingerprint share a snapshot. So a backup is compared exactly with the database,
however many clients write meanwhile.
"""

import logging
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple
from uuid import uuid4

import sqlalchemy as sa
from alembic.util import CommandError
from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from safely.backup import archive, fingerprint, sqlite_files
from safely.backup.backup_files import backup_file
from safely.backup.fingerprint import Fingerprint
from safely.backup.restore import into_scratch
from safely.database import is_there
from safely.environment import Environment
from safely.errors import causes
from safely.files import PartialFile
from safely.ledger import ledger
from safely.postgresql.programs import find_program, running
from safely.postgresql.server import autocommit_of, copied_rows, current_schema, major_of
from safely.progress import progress
from safely.run.retry import attempt

DIRECTORY = "backups"
# Milliseconds. While we wait for a lock on a table, all that come later wait behind us.
LOCK_WAIT = 10_000
LEDGER_PATIENCE = 10.0  # seconds for which writing the ledger's row is retried
DIFFERENCES = 10  # at most, in the ledger

WHY_NOT_LOCKED = {  # by SQLSTATE
    "42501": "this role may not read everything; use the one that owns the tables",
    "55P03": "somebody has locked a table for too long; run it again",
    "42P01": "the schema is being changed right now; run it again",
}
DISK_FULL = "No space left on device"
NO_SCRATCH = (
    "verifying a backup needs the directory safely/scratch, which this installation (an image for "
    "production) leaves out: back up without it, and verify where `pip install safely[rehearse]` "
    "was run. Nothing was written"
)
ESTIMATED_ROWS = sa.text("""\
SELECT sum(reltuples) FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace
WHERE relkind = 'r' AND reltuples > 0 AND nspname !~ '^pg_|^information_schema$'""")

log = logging.getLogger("safely")


class Backup(NamedTuple):
    """A backup that was written."""

    file: Path
    bytes: int
    seconds: float
    revision: str
    tables: int
    rows: int
    verified: bool | None = None  # None: not tried
    differences: list[str] = []  # noqa: RUF012  # nobody changes it

    def words(self) -> str:
        """Return the text that the ledger has of it."""
        words = f"{self.file.name}, {self.bytes} bytes"
        if self.verified:
            return f"{words}{ledger.VERIFIED}{self.tables} tables, {self.rows} rows"
        if self.verified is None:
            return f"{words}, not verified"
        return f"{words}, verification failed: {'; '.join(self.differences[:DIFFERENCES])}"


async def back_up(environment: Environment, directory: Path, *, verify: bool) -> Backup | None:
    """Write a backup into a directory and record it in the ledger; return None if there is no data.

    With `verify`, restore it into a scratch database and compare. Raise CommandError where it can't
    be done; then no file in the directory looks like a complete backup.
    """
    engine, work = environment.engine, ledger.Work()
    if not is_there(engine):
        raise CommandError(f"there is no {engine.url.database}")
    if verify:
        require_scratch()
    with backup_file(directory, environment.project.name, engine.dialect.name) as part:
        write = write_dump if engine.dialect.name == "postgresql" else write_copy
        content = await write(environment, part, checksums=verify)
        if content.is_empty:
            return None
        await read_to_end(part.path, content.rows)
        size, file = part.size, part.complete()
    backup = Backup(file, size, 0, content.revision, len(content.tables), content.rows)
    try:
        if verify:
            backup = await verified(environment, backup, content)
    finally:
        backup = backup._replace(seconds=round(time.monotonic() - work.began, 3))
        await record(environment, backup, work)
    return backup


async def before_migrating(environment: Environment, *, directory: Path, verify: bool) -> None:
    """Back up, unless there is no data; raise CommandError if that, or the verification, fails."""
    backup = await back_up(environment, directory, verify=verify)
    if backup is None:
        log.info("no backup: the database is empty")
    elif backup.verified is False:
        raise CommandError(f"{backup.words()}. Nothing was migrated")
    else:
        log.info("backed up: %s", backup.words())


async def write_dump(
    environment: Environment, part: PartialFile, *, checksums: bool
) -> Fingerprint:
    """Let pg_dump write the file; return the fingerprint of what it contains.

    The sequences in it are those from before pg_dump ran, which may be behind those in the dump.
    """
    engine = environment.engine
    async with autocommit_of(engine) as connection:
        program = find_program("pg_dump", await major_of(connection))
        tables = await fingerprint.read_tables(connection)
        rows = int(await connection.scalar(ESTIMATED_ROWS) or 0)
    async with snapshot(engine, [table.qualified_name for table in tables]) as connection:
        await connection.run_sync(environment.revision)  # raises CommandError for several heads
        exported = await connection.scalar(sa.text("SELECT pg_export_snapshot()"))
        sequences = await fingerprint.read_sequences(connection)
        name = f"migrations-{uuid4().hex[:8]}"  # of its connection, to watch its progress
        options = (
            "--format=custom",
            "--no-password",
            # to standard output it would write its table of contents again at the end, and a file
            # that was cut off would go unnoticed
            f"--file={part.path}",
            f"--snapshot={exported}",
            f"--lock-wait-timeout={LOCK_WAIT}",
        )
        with progress("backing up", rows) as advance:
            async with (
                running(
                    program,
                    *options,
                    url=engine.url,
                    application_name=name,
                    descriptors=(part.descriptor,),
                ) as dump,
                copied_rows(engine, name, advance),
            ):
                await dump.finish()
        content = await fingerprint.of_postgresql(connection, environment, checksums=checksums)
    return content._replace(sequences=sequences)


@asynccontextmanager
async def snapshot(engine: AsyncEngine, tables: list[str]) -> AsyncIterator[AsyncConnection]:
    """Yield a connection that sees one moment, with locks that keep the tables from being altered.

    The locks come before the snapshot, since pg_dump reads the catalogue both as of the snapshot
    and as of now. A client that waits for a lock behind ours, and before pg_dump's, makes all
    clients wait; LOCK_WAIT ends that.
    """
    options = {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True}
    async with engine.execution_options(**options).connect() as connection:
        await connection.execute(sa.text(f"SET LOCAL lock_timeout = {LOCK_WAIT}"))
        if tables:
            names = ", ".join(tables).replace(":", r"\:")
            try:
                await connection.execute(sa.text(f"LOCK TABLE {names} IN ACCESS SHARE MODE"))
            except DBAPIError as error:
                for cause in causes(error):
                    if reason := WHY_NOT_LOCKED.get(getattr(cause, "sqlstate", "")):
                        raise CommandError(f"{cause}: {reason}") from None
                raise
        yield connection


async def write_copy(
    environment: Environment, part: PartialFile, *, checksums: bool
) -> Fingerprint:
    """Let SQLite write the file; return the fingerprint of what it contains."""
    file = sqlite_files.file_of(environment.engine.url)
    await environment.read(environment.revision)  # raises CommandError for several heads
    rows = await sqlite_files.rows_in(file)
    of_sqlite = partial(fingerprint.of_sqlite, environment=environment, checksums=checksums)
    with progress("backing up", rows) as advance:
        return await sqlite_files.back_up(file, part.path, of_sqlite, rows, advance)


async def read_to_end(file: Path, rows: int) -> None:
    """Raise CommandError unless every byte of a backup can be read."""
    if archive.dialect_of(file) == "sqlite":
        await sqlite_files.check(file)
        return
    with progress("reading the backup", rows) as advance:
        await archive.read_to_end(await archive.read_contents(file), advance)


def require_scratch() -> None:
    """Raise CommandError where scratch databases can't be made."""
    try:
        import safely.scratch.databases  # noqa: F401, PLC0415  # production images leave it out
    except ImportError:
        raise CommandError(NO_SCRATCH) from None


async def verified(environment: Environment, backup: Backup, content: Fingerprint) -> Backup:
    """Restore a backup into a scratch database, compare, and return the backup with the result.

    A backup that differs is renamed to `….failed`. Raise CommandError where there is no place for
    a scratch database.
    """
    from safely.scratch import databases as scratch  # noqa: PLC0415  # production images lack it

    engine = environment.engine
    schema = await current_schema(engine) if engine.dialect.name == "postgresql" else None
    try:
        async with scratch.database(engine) as url:
            differences = await compare(environment, backup.file, url, schema, content)
    except CommandError as error:
        raise CommandError(f"{backup.file} was written, and is not verified: {error}") from None
    if differences:
        failed = backup.file.rename(backup.file.with_name(f"{backup.file.name}.failed"))
        backup = backup._replace(file=failed)
    return backup._replace(verified=not differences, differences=differences)


async def compare(
    environment: Environment, file: Path, url: str, schema: str | None, content: Fingerprint
) -> list[str]:
    """Restore a backup into an empty scratch database; return how it differs from `content`.

    `schema` is that of the application's tables (PostgreSQL).
    """
    try:
        with progress("restoring it elsewhere", content.rows) as advance:
            await into_scratch(file, url, advance)
    except CommandError as error:
        if DISK_FULL in str(error):
            raise  # the backup may be good
        return [f"it can't be restored: {error}"]
    restored = await fingerprint.of_database(environment, url, schema)
    return fingerprint.differences(content, restored)


async def record(environment: Environment, backup: Backup, work: ledger.Work) -> None:
    """Record a backup in the ledger; where that is impossible, log why."""
    entry = ledger.Entry("backup", backup.revision, backup.words())

    def insert(connection: Connection, _: dict[str, Any]) -> None:
        with connection.begin():
            ledger.note(environment.migration(connection), entry, work)

    def has_ledger(connection: Connection) -> bool:
        return sa.inspect(connection).has_table(ledger.LOG.name)

    try:
        if not await environment.read(has_ledger):
            log.info("there is no %s to record the backup in", ledger.LOG.name)
            return
        async with environment.engine.connect() as connection:
            await attempt(connection, None, insert, {}, LEDGER_PATIENCE)
    except (CommandError, DBAPIError, OSError) as error:
        *_, first_cause = causes(error)
        log.warning("the backup is not recorded in %s: %s", ledger.LOG.name, first_cause)
