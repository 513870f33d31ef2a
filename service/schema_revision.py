"""The schema's revision that the database is at."""

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from service.errors import Unavailable
from service.models import SCHEMA_REVISION

HAS_VERSION = "SELECT count(*) FROM sqlite_master WHERE name = 'alembic_version'"
PUBLISHED = "SELECT substr(nspname, 4) FROM pg_namespace WHERE nspname ~ '^at_[0-9]+$'"


async def revision_of(reader: AsyncSession) -> str | None:
    """The revision that the database is at; raise Unavailable where this build is too old for it.

    On PostgreSQL it is asked through this build's published version: the tables themselves are
    not ours to read. Where that is missing, the others tell.
    """
    if reader.get_bind().dialect.name == "sqlite":
        if not await reader.scalar(text(HAS_VERSION)):
            return None
        return await told(reader, "SELECT max(version_num) FROM alembic_version")
    published = (await reader.scalars(text(PUBLISHED))).all()
    if SCHEMA_REVISION in published:
        return await told(reader, f"SELECT revision FROM at_{SCHEMA_REVISION}.schema_state")
    newest = max(published, default=None)
    if newest is not None and newest > SCHEMA_REVISION:
        raise Unavailable(
            f"the database is at {newest}, and this build's schema, {SCHEMA_REVISION}, "
            "is no longer published there"
        )
    return newest


async def told(reader: AsyncSession, query: str) -> str | None:
    """The one text that a query gives."""
    found: str | None = await reader.scalar(text(query))
    return found
