"""The route /metrics, which Prometheus scrapes."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from litestar import MediaType, Request, Response, get
from litestar.datastructures import CacheControlHeader
from litestar.openapi.spec import (
    OpenAPIMediaType,
    OpenAPIResponse,
    OpenAPIType,
    Operation,
    Schema,
)
from litestar.status_codes import HTTP_200_OK
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.openmetrics import exposition as openmetrics

from service.auth import access
from service.http.demands import ACCEPT, needs
from service.http.operations import OPERATE_REFUSALS
from service.http.problems import documented
from service.http.qualities import preferred_media_type, weights

if TYPE_CHECKING:
    from service.observability.metrics import Metrics

OPENMETRICS = "application/openmetrics-text"
SCRAPE_EXAMPLES = {
    MediaType.TEXT.value: "# TYPE db_pool_connections gauge\ndb_pool_connections 3.0\n",
    OPENMETRICS: "# TYPE db_pool_connections gauge\ndb_pool_connections 3.0\n# EOF\n",
}


@dataclass
class Scrape(Operation):
    """The route's OpenAPI operation, with both media types; the handler's signature has one."""

    def __post_init__(self) -> None:
        response = cast("OpenAPIResponse", (self.responses or {})[str(HTTP_200_OK)])
        response.content = {
            media_type: OpenAPIMediaType(Schema(type=OpenAPIType.STRING), example=example)
            for media_type, example in SCRAPE_EXAMPLES.items()
        }


@get(
    "/metrics",
    operation_id="metrics",
    cache_control=CacheControlHeader(no_store=True),
    operation_class=Scrape,
    summary="What is measured",
    tags=["operation"],
    before_request=needs("operate"),
    opt={"offers": (*SCRAPE_EXAMPLES,)},
    security=access.security("operate"),
    media_type=MediaType.TEXT,
    response_description="Everything, as it is now.",
    responses=documented(*OPERATE_REFUSALS),
)
async def scrape(request: Request[Any, Any, Any]) -> Response[bytes]:
    """Everything that is measured, in Prometheus' text format, or as OpenMetrics when asked for."""
    metrics: Metrics = request.app.state.metrics
    accepted = weights(value for name, value in request.scope["headers"] if name == ACCEPT)
    if preferred_media_type([*SCRAPE_EXAMPLES], accepted) == OPENMETRICS:
        content_type = openmetrics.CONTENT_TYPE_LATEST
        body = await metrics.render(openmetrics.generate_latest)
    else:
        content_type = CONTENT_TYPE_PLAIN_0_0_4
        body = await metrics.render(generate_latest)
    return Response(body, headers={"Content-Type": content_type})


ROUTES = (scrape,)
