"""The health checks: liveness and readiness."""

from typing import Any

from litestar import Request, get
from litestar.datastructures import CacheControlHeader
from sqlalchemy.ext.asyncio import AsyncSession

from service import schemas
from service.database import Database
from service.errors import BadRequest, Internal, InvalidInput, SchemaBehind, TimedOut, Unavailable
from service.http.parameters import NEEDS, Query, ReadyOperation
from service.http.problems import documented
from service.models import SCHEMA_REVISION
from service.replicas import Replicas
from service.schema_revision import refuse_ahead, revision_of, takes_writes


@get(
    "/health/live",
    operation_id="live",
    cache_control=CacheControlHeader(no_store=True),
    summary="Is the process alive?",
    tags=["health"],
    response_description="It is.",
    responses=documented(BadRequest, Internal, TimedOut),
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
    operation_class=ReadyOperation,
    before_request=refuse_while_draining,
    cache_control=CacheControlHeader(no_store=True),
    summary="Can it serve?",
    tags=["health"],
    response_description="It can. `writes` tells whether the database takes writes, too.",
    responses=documented(BadRequest, Internal, InvalidInput, SchemaBehind, Unavailable, TimedOut),
)
async def ready(request: Request[Any, Any, Any]) -> schemas.Ready:
    """The database answers and has this build's schema, or publishes it. Route traffic then."""
    query = Query(request.scope["query_string"])
    query.require_only(NEEDS.name)  # a misspelt one would find a database ready that only reads
    needs = query.value(NEEDS)
    revision, writes = await request.app.state.readiness.state()
    if revision is None or revision < SCHEMA_REVISION:
        raise SchemaBehind(
            f"the database is at {revision or 'base'}, this build needs {SCHEMA_REVISION}"
        )
    if needs == "writes" and not writes:
        raise Unavailable("the database only reads now")
    return schemas.Ready(status="ready", build=SCHEMA_REVISION, database=revision, writes=writes)


class Readiness:
    """The state of the database for readiness checks, kept from one request to the next."""

    def __init__(self, database: Database, replicas: Replicas) -> None:
        self.database = database
        self.replicas = replicas
        self.last: tuple[str | None, bool] | None = None

    async def state(self) -> tuple[str | None, bool]:
        """Return the revision that the database is at, and whether it takes writes.

        While requests use all connections, and the database answers them, both are as they were: a
        probe that waited for a connection would fail, and take a service that works out of use.
        While the primary is gone, a replica that goes on answering reads tells both.
        """
        busy = self.database.pools[0].is_busy and self.database.is_answering
        if self.last is None or not busy:
            self.last = None
            try:
                self.last = await self.database.query(state_of)
            except Exception:
                if (replica := self.replicas.choose(None)) is None:
                    raise
                self.last = await replica.query(state_of)
        return self.last


async def state_of(session: AsyncSession) -> tuple[str | None, bool]:
    """Return the revision that the database is at, and whether it takes writes."""
    revision = await revision_of(session)
    refuse_ahead(session, revision)
    return revision, await takes_writes(session)


ROUTES = (live, ready)
