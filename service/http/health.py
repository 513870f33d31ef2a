"""The health checks: liveness and readiness."""

from typing import Annotated, Any, Literal

from litestar import Request, get
from litestar.datastructures import CacheControlHeader
from litestar.params import QueryParameter
from sqlalchemy.ext.asyncio import AsyncSession

from service import schemas
from service.errors import BadRequest, Internal, InvalidInput, SchemaBehind, TimedOut, Unavailable
from service.http.problems import documented
from service.models import SCHEMA_REVISION
from service.schema_revision import refuse_ahead, revision_of, takes_writes


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
    response_description="It can. `writes` tells whether the database takes writes, too.",
    responses=documented(BadRequest, Internal, InvalidInput, SchemaBehind, Unavailable, TimedOut),
)
async def ready(
    request: Request[Any, Any, Any],
    needs: Annotated[
        Literal["reads", "writes"],
        QueryParameter(description="With `writes` a database that only reads is not ready, too."),
    ] = "reads",
) -> schemas.Ready:
    """The database answers and has this build's schema, or publishes it. Route traffic then."""
    revision, writes = await request.app.state.database.query(state_of)
    if revision is None or revision < SCHEMA_REVISION:
        raise SchemaBehind(
            f"the database is at {revision or 'base'}, this build needs {SCHEMA_REVISION}"
        )
    if needs == "writes" and not writes:
        raise Unavailable("the database only reads now")
    return schemas.Ready(status="ready", build=SCHEMA_REVISION, database=revision, writes=writes)


async def state_of(session: AsyncSession) -> tuple[str | None, bool]:
    """Return the revision that the database is at, and whether it takes writes."""
    revision = await revision_of(session)
    refuse_ahead(session, revision)
    return revision, await takes_writes(session)


ROUTES = (live, ready)
