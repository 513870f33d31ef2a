"""The schema revision that the database is at, and whether it takes writes."""

import os

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from service.errors import Unavailable
from service.models import SCHEMA_REVISION

HAS_VERSION_TABLE = "SELECT count(*) FROM sqlite_master WHERE name = 'alembic_version'"
SQLITE_REVISION = "SELECT max(version_num) FROM alembic_version"
PUBLISHED_REVISIONS = "SELECT substr(nspname, 4) FROM pg_namespace WHERE nspname ~ '^at_[0-9]+$'"
TAKES_WRITES = """
    SELECT NOT (pg_is_in_recovery() OR current_setting('default_transaction_read_only')::boolean)
"""
POSTGRESQL_REVISION = f"SELECT revision FROM at_{SCHEMA_REVISION}.schema_state"


async def revision_of(session: AsyncSession) -> str | None:
    """Return the revision that the database is at, or None for an empty database.

    Raise Unavailable where this build's published version was purged.
    On PostgreSQL the service's role may read the published version of its own build only, not the
    table `alembic_version`. Where that version is missing, the names of the others tell the
    revision.
    """
    revision: str | None
    if session.get_bind().dialect.name == "sqlite":
        if not await session.scalar(text(HAS_VERSION_TABLE)):
            return None
        revision = await session.scalar(text(SQLITE_REVISION))
        return revision
    published = (await session.scalars(text(PUBLISHED_REVISIONS))).all()
    if SCHEMA_REVISION in published:
        revision = await session.scalar(text(POSTGRESQL_REVISION))
        return revision
    newest = max(published, default=None)
    if newest is not None and newest > SCHEMA_REVISION:
        raise Unavailable(
            f"the database is at {newest}, and this build's schema, {SCHEMA_REVISION}, "
            "is no longer published there"
        )
    return newest


def refuse_ahead(session: AsyncSession, revision: str | None) -> None:
    """Raise Unavailable on SQLite where the database is ahead of this build.

    The build would fail on the columns of the newest revision, or write what that one can't read.
    On PostgreSQL the build goes on with its own version, while that is published.
    """
    if session.get_bind().dialect.name != "sqlite" or (revision or "") <= SCHEMA_REVISION:
        return
    raise Unavailable(
        f"the database is at {revision}, and this build's schema, {SCHEMA_REVISION}, is not there "
        "any more: SQLite has no published versions"
    )


async def takes_writes(session: AsyncSession) -> bool:
    """Return whether the database takes writes: a standby only reads, and so may any other."""
    engine = session.get_bind().engine
    if engine.dialect.name == "sqlite":
        return os.access(str(engine.url.database), os.W_OK)
    return bool(await session.scalar(text(TAKES_WRITES)))
