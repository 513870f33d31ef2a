"""The health checks: liveness and readiness."""

from typing import Any

from litestar import Request, get
from litestar.datastructures import CacheControlHeader
from litestar.di import NamedDependency
from sqlalchemy.ext.asyncio import AsyncSession

from service import schemas
from service.errors import Internal, SchemaBehind, TimedOut, Unavailable
from service.http.problems import documented
from service.models import SCHEMA_REVISION
from service.schema_revision import revision_of


@get(
    "/health/live",
    operation_id="live",
    cache_control=CacheControlHeader(no_store=True),
    summary="Is the process alive?",
    tags=["health"],
    response_description="It is.",
    responses=documented(Internal, TimedOut),
)
async def live() -> schemas.Live:
    """The process answers. Restart it when it doesn't."""
    return schemas.Live(status="live")


def refuse_while_draining(request: Request[Any, Any, Any]) -> None:
    """Raise Unavailable once the service has been told to stop, whatever the database says."""
    if request.app.state.draining:
        raise Unavailable("the service is about to stop")


@get(
    "/health/ready",
    operation_id="ready",
    before_request=refuse_while_draining,
    cache_control=CacheControlHeader(no_store=True),
    summary="Can it serve?",
    tags=["health"],
    response_description="It can.",
    responses=documented(Internal, SchemaBehind, Unavailable, TimedOut),
)
async def ready(reader: NamedDependency[AsyncSession]) -> schemas.Ready:
    """The database answers and has this build's schema, or a later one. Route traffic then."""
    revision = await revision_of(reader)
    if revision is None or revision < SCHEMA_REVISION:
        raise SchemaBehind(
            f"the database is at {revision or 'base'}, this build needs {SCHEMA_REVISION}"
        )
    return schemas.Ready(status="ready", build=SCHEMA_REVISION, database=revision)


ROUTES = (live, ready)
