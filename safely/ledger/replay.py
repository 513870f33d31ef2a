"""Drift against a replay: the schema that the revisions make, for a ledger that isn't trusted."""

import json
import logging

import sqlalchemy as sa
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import Connection
from sqlalchemy.ext.asyncio import AsyncEngine

from safely.database import LOCK_TIMEOUT, connected, read
from safely.ledger.drift import Drift
from safely.ledger.ledger import LOG, SNAPSHOT, as_text, unfinished
from safely.ledger.replay_rules import Schema, comparable, reworded
from safely.ledger.snapshot import differences
from safely.postgresql.server import autocommit, create_roles
from safely.scratch import databases as scratch
from service.settings import Settings

log = logging.getLogger("migrations")


async def look(engine: AsyncEngine, script: ScriptDirectory, app_role: str) -> Drift:
    """How a database differs from one in which its revisions are run now, with this APP_ROLE.

    It needs no ledger. Raises CommandError where nothing can be said.
    """
    revision = await read(engine, where_it_stands, script)
    replayed = await replay(engine, revision, app_role)
    drift = compared(replayed, await read(engine, schema_of), revision, script)
    if not app_role and any(words.startswith("grant on schema at_") for words in drift.differences):
        log.warning("APP_ROLE is not set here: the rights that migrations gave it look like drift")
    return drift


def where_it_stands(connection: Connection, script: ScriptDirectory) -> str:
    """The revision to replay to; raises CommandError if none says how the schema should be."""
    heads = MigrationContext.configure(connection).get_current_heads()
    revision = min(heads, default="base")
    if revision == "base":
        raise CommandError("the database is at no revision: there is nothing to replay")
    if revision not in numbers(script):
        raise CommandError(
            f"the database is at {revision}, which these files don't have: replay it with the "
            "build that does"
        )
    half = unfinished(connection) if sa.inspect(connection).has_table(LOG.name) else None
    if half:
        raise CommandError(
            f"{half.direction} {half.revision} was begun and not finished, and the schema is "
            "between two revisions: run it again, or the way back"
        )
    return revision


def numbers(script: ScriptDirectory) -> set[str]:
    """The revisions that there are files for."""
    return {revision.revision for revision in script.walk_revisions()}


async def replay(engine: AsyncEngine, revision: str, app_role: str) -> Schema:
    """What the revisions make of an empty database, on a server of the same version."""
    async with scratch.database(engine) as url:
        if app_role and engine.dialect.name == "postgresql":
            async with autocommit(url) as connection:
                await create_roles(connection, [app_role])
        await scratch.alembic(url, "upgrade", revision, app_role=app_role)
        async with connected(Settings(database_url=url), LOCK_TIMEOUT) as copy:
            return await read(copy, schema_of)


def schema_of(connection: Connection) -> Schema:
    """The schema as it stands."""
    found = connection.scalar(sa.select(as_text(SNAPSHOT[connection.dialect.name])))
    schema: Schema = json.loads(str(found))
    return reworded(schema) if connection.dialect.name == "sqlite" else schema


def compared(replayed: Schema, found: Schema, revision: str, script: ScriptDirectory) -> Drift:
    """What is drift of all that differs."""
    due, there = comparable(replayed, found, numbers(script))
    return Drift(f"a replay of the revisions to {revision}", differences(due, there))
