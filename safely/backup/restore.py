"""Restoring: a backup replaces the content of a database, in one transaction."""

import asyncio
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
from sqlalchemy.ext.asyncio import AsyncConnection

from safely.backup import archive, sqlite_files
from safely.backup.archive import Archive
from safely.cancellation import after_commit, finishing
from safely.environment import Environment
from safely.ledger import drift
from safely.ledger.ledger import LOG
from safely.postgresql.programs import Advance, Program, ignore, run_script, running
from safely.postgresql.server import (
    autocommit,
    builds_query,
    create_roles,
    major_of,
    unknown_roles,
)
from safely.progress import progress
from safely.run.migration_lock import migration_lock

PATIENCE = 0.0  # seconds: a migration that runs now must end first, and somebody should look at it
SET_ROLE_SINCE = 16  # the major version since which a membership may not include SET ROLE
OBJECTS_NAMED = 3  # at most, of those that make a database not empty

log = logging.getLogger("safely")

# All objects of all schemas, and the command that drops each. The schema public is kept, with the
# rights on it, since a dump does not create it; other schemas are dropped with their content.
# Members of extensions, and objects that other objects bring along, are left out.
OBJECTS = """
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
) AS objects
WHERE NOT EXISTS (SELECT FROM pg_depend AS owned WHERE owned.classid = objects.classid
                  AND owned.objid = objects.objid AND owned.objsubid = 0 AND deptype IN ('e', 'i'))
ORDER BY kind <> 'table', kind, name"""
DROP_ALL = """
BEGIN;
SET LOCAL lock_timeout = '10s';
SET LOCAL client_min_messages = warning;
DO $drop$
DECLARE
  commands text[] := ARRAY(SELECT command FROM ({objects}) AS objects);
  command text;
BEGIN
  FOREACH command IN ARRAY commands LOOP
    EXECUTE command;
  END LOOP;
  PERFORM lo_unlink(oid) FROM pg_largeobject_metadata;
  IF EXISTS (SELECT FROM ({builds}) AS builds) THEN  -- it may have written before the locks
    RAISE EXCEPTION 'a build has connected meanwhile: stop the application first';
  END IF;
END $drop$;
"""
OTHERS_ROLES = sa.text("""\
SELECT owner FROM unnest(CAST(:owners AS text[])) AS owner
WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = owner
                  AND pg_has_role(oid, CAST(:right AS text)))""")
EXTENSION = re.compile(r"\d+; \d+ \d+ (?:EXTENSION -|COMMENT - EXTENSION) (\S+) ")
KEPT_EXTENSIONS = sa.text("""\
SELECT extname FROM pg_extension JOIN pg_namespace ON pg_namespace.oid = extnamespace
WHERE nspname IN ('public', 'pg_catalog')""")


class Restored(NamedTuple):
    """The state of a database after a backup was restored into it."""

    revision: str
    drift: list[str]  # differences from what its own ledger recorded last
    unknown: str | None  # why there is nothing to compare with; None: there is

    def words(self) -> str:
        """Return the state in words."""
        words = f"the database is at {self.revision}; `alembic upgrade head` goes on from there"
        if self.unknown:
            return (
                f"{words}. Whether its schema is as its ledger has it can't be told: {self.unknown}"
            )
        if self.drift:
            return "\n  ".join([f"{words}. Its schema is not as its ledger has it:", *self.drift])
        return words


async def restore(
    environment: Environment, file: Path, *, replace: bool, other_version: bool
) -> Restored:
    """Restore a backup; with `replace`, also into a database that is not empty.

    `other_version`: also a backup of an older PostgreSQL. Raise CommandError, and leave the
    database unchanged, where it can't be done. A cancellation that comes after the restore raises
    CommandError, too, which says that.
    """
    dialect = environment.engine.dialect.name
    archive.refuse_other_kind(file, dialect)
    # if a cancellation comes after the COMMIT, go on and report the restore
    with finishing():
        if dialect == "sqlite":
            await restore_sqlite(environment, file, replace=replace)
        else:
            await restore_postgresql(
                environment, file, replace=replace, other_version=other_version
            )
    try:
        return await environment.read(read_state, environment)
    except asyncio.CancelledError:
        raise CommandError(
            f"interrupted when {file} was restored already: `alembic current` shows the revision"
        ) from None


async def restore_sqlite(environment: Environment, file: Path, *, replace: bool) -> None:
    """Check a backup of SQLite, and restore it."""
    target = sqlite_files.file_of(environment.engine.url)
    await sqlite_files.check(file)
    refuse_content(await sqlite_files.objects_in(target), replace=replace)
    with progress("restoring", await sqlite_files.rows_in(file)) as advance:
        await sqlite_files.restore(file, target, advance)


async def restore_postgresql(
    environment: Environment, file: Path, *, replace: bool, other_version: bool
) -> None:
    """Check that a dump can be restored, and restore it while this process has the migration lock.

    Nothing is changed before all checks have passed.
    """
    engine, project = environment.engine, environment.project.name
    dump = await archive.read_contents(file)
    lock = migration_lock(engine, environment.project.lock_key, PATIENCE, environment.lock_timeout)
    async with lock as (_, connection):
        assert connection is not None  # noqa: S101  # PostgreSQL has a second one
        major = await major_of(connection)
        refuse_other_version(dump, major, accepted=other_version)
        await refuse_missing_roles(connection, dump)
        objects = await connection.execute(sa.text(OBJECTS.replace(":", r"\:")))
        refuse_content([f"{kind} {name}" for kind, name, _ in objects], replace=replace)
        await refuse_builds(connection, project)
        with progress("reading the backup", 0) as advance:
            lines = await archive.read_to_end(dump, advance)
        options = await owner_options(connection, dump, major)
        dump = await without_extensions(connection, dump)
        drop_all = DROP_ALL.format(objects=OBJECTS, builds=builds_query(project))
        first = drop_all if replace else ""
        with progress("restoring", lines) as advance:
            async with sql_of(dump, options) as script:
                await run_script(script, engine.url, major=major, advance=advance, first=first)
        with suppress(DBAPIError), after_commit():  # autovacuum would do it some minutes later
            await connection.execute(sa.text("ANALYZE"))


async def into_scratch(file: Path, url: str, advance: Advance = ignore) -> None:
    """Restore a backup into an empty scratch database; raise CommandError if that fails.

    The role in the URL owns everything. Roles in the backup's grants that the server lacks are
    created there, without login. `advance` gets the number of further rows.
    """
    if archive.dialect_of(file) == "sqlite":
        await sqlite_files.restore(file, sqlite_files.file_of(url), advance)
        return
    dump = await archive.read_contents(file)
    async with autocommit(url) as connection:
        await create_roles(connection, await archive.roles_with_rights(dump))
        major = await major_of(connection)
    async with sql_of(dump, ["--no-owner"]) as script:
        await run_script(script, url, major=major, advance=advance)


def refuse_content(objects: list[str], *, replace: bool) -> None:
    """Raise CommandError for a database that is not empty, unless it is to be replaced."""
    if objects and not replace:
        others = len(objects) - OBJECTS_NAMED
        more = f" and {others} more" if others > 0 else ""
        raise CommandError(
            f"the database is not empty: there is {', '.join(objects[:OBJECTS_NAMED])}{more}. "
            "Restore into an empty one, or say --replace to lose what it holds"
        )


def refuse_other_version(dump: Archive, major: int, *, accepted: bool) -> None:
    """Raise CommandError for a dump of a newer PostgreSQL, or of an older one unless accepted."""
    if dump.server > major:
        raise CommandError(
            f"{dump.file} is of PostgreSQL {dump.server}, and this server is {major}, which may "
            "not know what the dump uses: restore it on a server of that version"
        )
    if dump.server < major and not accepted:
        raise CommandError(
            f"{dump.file} is of PostgreSQL {dump.server}, and this server is {major}: say "
            "--other-version if you mean to move to this version"
        )


async def refuse_builds(connection: AsyncConnection, project: str) -> None:
    """Raise CommandError while builds of the project are connected."""
    rows = await connection.execute(sa.text(builds_query(project)))
    if builds := [f"{name} ({number})" for name, number in rows]:
        raise CommandError(
            f"{', '.join(builds)} connected: stop the application first, since what it writes now "
            "would be lost. To close connections that remain: SELECT pg_terminate_backend(pid) "
            f"FROM pg_stat_activity WHERE application_name LIKE '{project}@%'"
        )


async def refuse_missing_roles(connection: AsyncConnection, dump: Archive) -> None:
    """Raise CommandError where the server lacks a role to which the dump gives rights."""
    if missing := await unknown_roles(connection, await archive.roles_with_rights(dump)):
        raise CommandError(
            f"rights in {dump.file} are for {', '.join(missing)}, which this server doesn't have: "
            f"make it first (CREATE ROLE {missing[0]})"
        )


async def owner_options(connection: AsyncConnection, dump: Archive, major: int) -> list[str]:
    """Return the option that omits owners if this role can't make all of them owners."""
    right = "SET" if major >= SET_ROLE_SINCE else "MEMBER"
    parameters = {"owners": sorted(dump.owners()), "right": right}
    others = list(await connection.scalars(OTHERS_ROLES, parameters))
    if not others:
        return []
    log.info(
        "what belonged to %s will belong to the role that restores it, which can't give it away",
        ", ".join(others),
    )
    return ["--no-owner"]


async def without_extensions(connection: AsyncConnection, dump: Archive) -> Archive:
    """Return the dump without the extensions that are kept.

    Their comments would fail, since only an extension's owner may comment on it.
    """
    kept = set(await connection.scalars(KEPT_EXTENSIONS))

    def is_kept(entry: str) -> bool:
        extension = EXTENSION.match(entry)
        return extension is not None and extension[1] in kept

    return dump._replace(entries=[entry for entry in dump.entries if not is_kept(entry)])


@asynccontextmanager
async def sql_of(dump: Archive, options: list[str]) -> AsyncIterator[Program]:
    """Yield the pg_restore that prints a dump's entries as a script of one transaction."""
    arguments = (
        "--file=-",
        "--single-transaction",
        "--use-list=/dev/stdin",
        *options,
        str(dump.file),
    )
    with archive.entry_list(dump.entries) as stdin:
        async with running(
            dump.program, *arguments, stdin=stdin, stdout=subprocess.PIPE
        ) as program:
            yield program


def read_state(connection: Connection, environment: Environment) -> Restored:
    """Return the database's revision, and whether its schema is as its ledger has it."""
    heads = environment.migration(connection).get_current_heads()  # a dump may have several
    revision = ", ".join(sorted(heads)) or "base"
    if not sa.inspect(connection).has_table(LOG.name):
        return Restored(revision, [], f"there is no {LOG.name}")
    schema = drift.schema_drift(connection)
    return Restored(revision, schema.differences, schema.why_unknown())
