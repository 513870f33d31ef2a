"""Drift against a replay: the schema that the revisions make, for a ledger that isn't trusted."""

import json
import logging
from functools import partial

import sqlalchemy as sa
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import Connection

from safely.environment import Environment
from safely.ledger.drift import Drift
from safely.ledger.ledger import SNAPSHOT, as_text, unfinished_if_any
from safely.ledger.replay_rules import Schema, comparable, reworded
from safely.ledger.snapshot import undeclared_differences
from safely.postgresql.server import autocommit, create_roles
from safely.revisions import in_order

log = logging.getLogger("safely")


async def drift_against_replay(environment: Environment) -> Drift:
    """Return the differences from a database in which the revisions are run now.

    It needs no ledger. Raise CommandError where the two can't be compared.
    """
    revision = await environment.read(partial(revision_to_replay, environment))
    replayed = await replay(environment, revision)
    drift = compared(replayed, await environment.read(schema_of), revision, environment.script)
    granted = any(words.startswith("grant on schema at_") for words in drift.differences)
    if granted and not environment.project.app_role:
        log.warning(
            "env.py names no role of the application here: the rights that migrations gave it look "
            "like drift"
        )
    return drift


def revision_to_replay(environment: Environment, connection: Connection) -> str:
    """Return the revision that the database is at.

    Raise CommandError if no file, or an unfinished step, says how its schema should be.
    """
    revision = environment.revision(connection)
    if revision is None:
        raise CommandError("the database is at no revision: there is nothing to replay")
    if revision not in in_order(environment.script):
        raise CommandError(
            f"the database is at {revision}, which these files don't have: replay it with the "
            "build that does"
        )
    if half := unfinished_if_any(connection):
        raise CommandError(
            f"{half.direction} {half.revision} was begun and not finished, and the schema is "
            "between two revisions: run it again, or the way back"
        )
    return revision


async def replay(environment: Environment, revision: str) -> Schema:
    """Return what the revisions make of an empty database, on a server of the same version."""
    try:
        # production images leave it out
        from safely.scratch import databases as scratch  # noqa: PLC0415
    except ModuleNotFoundError:
        raise CommandError(
            "a replay needs the directory safely/scratch, which this installation lacks: run it "
            "where safely is installed as a whole"
        ) from None
    role = environment.project.app_role
    async with scratch.database(environment.engine) as url:
        if role and environment.engine.dialect.name == "postgresql":
            async with autocommit(url) as connection:
                await create_roles(connection, [role])
        await scratch.alembic(environment, url, "upgrade", revision)
        async with environment.at(url) as copy:
            return await copy.read(schema_of)


def schema_of(connection: Connection) -> Schema:
    """Return the schema as it stands."""
    text = connection.scalar(sa.select(as_text(SNAPSHOT[connection.dialect.name])))
    schema: Schema = json.loads(str(text))
    return reworded(schema) if connection.dialect.name == "sqlite" else schema


def compared(replayed: Schema, actual: Schema, revision: str, script: ScriptDirectory) -> Drift:
    """Return the differences that are drift."""
    schemas = comparable(replayed, actual, in_order(script))
    return Drift(f"a replay of the revisions to {revision}", undeclared_differences(*schemas))
