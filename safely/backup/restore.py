"""Restoring: a backup takes the place of what a database holds, all of it or nothing."""

import logging
import re
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import NamedTuple

import sqlalchemy as sa
from alembic.util import CommandError
from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from safely.backup import archive, fingerprint, sqlite_files
from safely.backup.archive import Archive
from safely.database import LOCK_TIMEOUT, read
from safely.ledger import drift
from safely.ledger.ledger import LOG
from safely.postgresql.programs import Advance, Program, pour, running, unheard
from safely.postgresql.server import asking, major_of, make_roles, unknown_roles
from safely.progress import progress
from safely.run.migration_lock import turn
from safely.run.published import BUILDS

PATIENCE = 0.0  # seconds: who migrates now must be done first, and somebody should look
SET_ROLE_SINCE = 16  # the major version since which a membership may come without that right
TOLD = 3  # things that are there

log = logging.getLogger("safely")

# the schema public stays, with the rights on it; what belongs to an extension is not ours
THERE = """
SELECT kind, name, command FROM (
  SELECT 'schema' AS kind, quote_ident(nspname) AS name,
         format('DROP SCHEMA IF EXISTS %I CASCADE', nspname) AS command, classid, objid
  FROM (SELECT *, tableoid AS classid, oid AS objid FROM pg_namespace) AS schemas
  WHERE nspname NOT IN ('public', 'information_schema') AND nspname !~ '^pg_'
  UNION ALL
  SELECT type, identity, format('DROP %s IF EXISTS %s CASCADE', CASE type
           WHEN 'composite type' THEN 'TYPE' WHEN 'statistics object' THEN 'STATISTICS'
           ELSE type END, identity), classid, objid
  FROM pg_depend, pg_identify_object(classid, objid, 0)
  WHERE refclassid = 'pg_namespace'::regclass AND refobjid = to_regnamespace('public')
    AND deptype = 'n' AND objsubid = 0 AND classid <> 'pg_extension'::regclass
) AS there
WHERE NOT EXISTS (SELECT FROM pg_depend AS owned WHERE owned.classid = there.classid
                  AND owned.objid = there.objid AND owned.objsubid = 0 AND deptype IN ('e', 'i'))
ORDER BY kind <> 'table', kind, name"""
DROP_ALL = f"""
BEGIN;
SET LOCAL lock_timeout = '10s';
SET LOCAL client_min_messages = warning;
DO $drop$
DECLARE
  commands text[] := ARRAY(SELECT command FROM ({THERE}) AS there);
  command text;
BEGIN
  FOREACH command IN ARRAY commands LOOP
    EXECUTE command;
  END LOOP;
  PERFORM lo_unlink(oid) FROM pg_largeobject_metadata;
  IF EXISTS (SELECT FROM ({BUILDS}) AS builds) THEN  -- and may have written before the locks
    RAISE EXCEPTION 'a service has connected meanwhile: stop it first';
  END IF;
END $drop$;
"""
NOT_MINE = sa.text("""\
SELECT owner FROM unnest(CAST(:owners AS text[])) AS owner
WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = owner
                  AND pg_has_role(oid, CAST(:right AS text)))""")
EXTENSION = re.compile(r"\d+; \d+ \d+ (?:EXTENSION -|COMMENT - EXTENSION) (\S+) ")
EXTENSIONS = sa.text("""\
SELECT extname FROM pg_extension JOIN pg_namespace ON pg_namespace.oid = extnamespace
WHERE nspname IN ('public', 'pg_catalog')""")


async def into_scratch(file: Path, url: str, advance: Advance = unheard) -> None:
    """Restore a backup into an empty scratch database.

    All of it belongs to whom the URL names; the roles that its grants name are made there if they
    are missing, without login. `advance` is told of rows as they arrive. Raises CommandError.
    """
    if archive.kind_of(file) == "sqlite":
        await sqlite_files.restore(file, sqlite_files.file_of(url), advance)
        return
    dump = await archive.listed(file)
    async with asking(url) as connection:
        await make_roles(connection, await archive.roles_named(dump))
        major = await major_of(connection)
    async with script(dump, ["--no-owner"]) as program:
        await pour(program, url, major=major, advance=advance)


class Restored(NamedTuple):
    """What a database holds once a backup was restored into it."""

    revision: str
    drift: list[str]  # from what its own ledger recorded last
    unknown: str | None  # why that can't be told

    def words(self) -> str:
        """The same for a person."""
        where = f"the database is at {self.revision}; `alembic upgrade head` goes on from there"
        if self.unknown:
            return (
                f"{where}. Whether its schema is as its ledger has it can't be told: {self.unknown}"
            )
        if self.drift:
            return "\n  ".join([f"{where}. Its schema is not as its ledger has it:", *self.drift])
        return where


async def restore(
    engine: AsyncEngine, file: Path, *, replace: bool, other_version: bool
) -> Restored:
    """Restore a backup; with `replace`, in the place of what the database holds now.

    `other_version`: also one of an older PostgreSQL. Raises CommandError, and leaves the database
    as it was, if it can't be done.
    """
    archive.refuse_other_kind(file, engine.dialect.name)
    url = engine.url.render_as_string(hide_password=False)
    if engine.dialect.name == "sqlite":
        await restore_file(file, sqlite_files.file_of(url), replace=replace)
        return await read(engine, look)
    dump = await archive.listed(file)
    async with turn(engine, PATIENCE, LOCK_TIMEOUT) as (_, connection):
        assert connection is not None  # noqa: S101  # it is PostgreSQL
        major = await major_of(connection)
        refuse_other_version(dump, major, accepted=other_version)
        await refuse_missing_roles(connection, dump)
        there = await connection.execute(sa.text(THERE.replace(":", r"\:")))
        refuse_what_is_there([f"{kind} {name}" for kind, name, _ in there], replace=replace)
        await refuse_builds(connection)
        with progress("reading the backup", 0) as advance:
            lines = await archive.read_through(dump, advance)
        options = await owners(connection, dump, major)
        dump = await without_extensions(connection, dump)
        with progress("restoring", lines) as advance:
            async with script(dump, options) as program:
                first = DROP_ALL if replace else ""
                await pour(program, url, major=major, advance=advance, first=first)
        with suppress(DBAPIError):  # it would come by itself, some minutes later
            await connection.execute(sa.text("ANALYZE"))
    return await read(engine, look)


async def restore_file(file: Path, target: Path, *, replace: bool) -> None:
    """The same on SQLite."""
    await sqlite_files.check(file)
    refuse_what_is_there(await sqlite_files.there(target), replace=replace)
    with progress("restoring", await sqlite_files.rows_in(file)) as advance:
        await sqlite_files.restore(file, target, advance)


def refuse_what_is_there(there: list[str], *, replace: bool) -> None:
    """Raise CommandError for a database that is not empty, unless that was said."""
    if there and not replace:
        more = f" and {len(there) - TOLD} more" if len(there) > TOLD else ""
        raise CommandError(
            f"the database is not empty: there is {', '.join(there[:TOLD])}{more}. Restore into an "
            "empty one, or say --replace to lose what it holds"
        )


def refuse_other_version(dump: Archive, major: int, *, accepted: bool) -> None:
    """Raise CommandError for a backup of another PostgreSQL; an older one can be accepted."""
    if dump.server > major:
        raise CommandError(
            f"{dump.file} is of PostgreSQL {dump.server}, and this server is {major}: what is new "
            "there it doesn't know. Restore it on a server of that version"
        )
    if dump.server < major and not accepted:
        raise CommandError(
            f"{dump.file} is of PostgreSQL {dump.server}, and this server is {major}: say "
            "--other-version if you mean to take it along"
        )


async def refuse_builds(connection: AsyncConnection) -> None:
    """Raise CommandError while a service is connected, which would go on writing in between."""
    builds = [f"{name} ({number})" for name, number in await connection.execute(sa.text(BUILDS))]
    if builds:
        raise CommandError(
            f"{', '.join(builds)} connected: stop the service first, so that it doesn't write what "
            "is then gone"
        )


async def refuse_missing_roles(connection: AsyncConnection, dump: Archive) -> None:
    """Raise CommandError where rights would be given to nobody."""
    if missing := await unknown_roles(connection, await archive.roles_named(dump)):
        raise CommandError(
            f"rights in {dump.file} are for {', '.join(missing)}, which this server doesn't have: "
            f"make it first (CREATE ROLE {missing[0]})"
        )


async def owners(connection: AsyncConnection, dump: Archive, major: int) -> list[str]:
    """The option that leaves owners out, where this role can't give to all of them."""
    right = "SET" if major >= SET_ROLE_SINCE else "MEMBER"
    asked = {"owners": sorted(dump.owners()), "right": right}
    strangers = list(await connection.scalars(NOT_MINE, asked))
    if not strangers:
        return []
    log.info("what belonged to %s will belong to who restores it", ", ".join(strangers))
    return ["--no-owner"]


async def without_extensions(connection: AsyncConnection, dump: Archive) -> Archive:
    """The same without extensions that are there: only who made them may comment on them."""
    there = set(await connection.scalars(EXTENSIONS))

    def is_there(entry: str) -> bool:
        found = EXTENSION.match(entry)
        return found is not None and found[1] in there

    return dump._replace(entries=[entry for entry in dump.entries if not is_there(entry)])


@asynccontextmanager
async def script(dump: Archive, options: list[str]) -> AsyncIterator[Program]:
    """The program that writes the archive's entries as one transaction."""
    asked = ("--file=-", "--single-transaction", "--use-list=/dev/stdin", *options, str(dump.file))
    with archive.selection(dump.entries) as entries:
        async with running(dump.program, *asked, stdin=entries, stdout=subprocess.PIPE) as program:
            yield program


def look(connection: Connection) -> Restored:
    """Where a database is, and whether its schema is as its ledger has it."""
    revision = fingerprint.revision_of(connection)
    if not sa.inspect(connection).has_table(LOG.name):
        return Restored(revision, [], f"there is no {LOG.name}")
    found = drift.drift(connection)
    return Restored(revision, found.differences, found.why_unknown())
