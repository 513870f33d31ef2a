"""Whether the service lives, and whether it can serve."""

from litestar import get
from litestar.di import NamedDependency
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from service.errors import SchemaBehind, Unavailable
from service.models import SCHEMA_REVISION
from service.problems import documented


@get("/health/live", operation_id="live", summary="Is the process alive?", tags=["health"])
async def live() -> dict[str, str]:
    """The process answers. Restart it when it doesn't."""
    return {"status": "live"}


@get(
    "/health/ready",
    operation_id="ready",
    summary="Can it serve?",
    tags=["health"],
    responses=documented(SchemaBehind, Unavailable),
)
async def ready(reader: NamedDependency[AsyncSession]) -> dict[str, str | None]:
    """The database answers and has this build's schema, or a later one. Route traffic then."""
    found = (await reader.execute(text("SELECT version_num FROM alembic_version"))).scalar()
    if found is None or found < SCHEMA_REVISION:
        raise SchemaBehind(
            f"the database is at {found or 'base'}, this build needs {SCHEMA_REVISION}"
        )
    return {"status": "ready", "build": SCHEMA_REVISION, "database": found}


ROUTES = (live, ready)
