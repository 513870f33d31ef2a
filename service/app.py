"""The whole service on one screen."""

import os

from litestar import Litestar
from litestar.config.cors import CORSConfig
from litestar.datastructures import State
from litestar.di import Provide

from service import health, problems, routes, transfer_routes
from service.access import Access
from service.database import Database
from service.deadline import Deadline
from service.documentation import assets, documentation
from service.head import with_head
from service.logs import configure_logging
from service.models import SCHEMA_REVISION
from service.observing import Observed
from service.requests import StrictRequest
from service.settings import Settings
from service.tokens import check_access

READABLE = ["ETag", "Link", "Location", "RateLimit", "RateLimit-Policy", "Retry-After"]


def create_app(settings: Settings) -> Litestar:
    """The service as an ASGI application; it opens connections when the first request comes."""
    database = Database(settings, SCHEMA_REVISION)
    observed = Observed(settings, database)
    app = Litestar(
        route_handlers=[
            *routes.ROUTES,
            *transfer_routes.ROUTES,
            *health.ROUTES,
            *observed.routes,
            assets(),
        ],
        dependencies={
            # a route takes one of them: a second generator would hide a failed commit
            "transaction": Provide(database.transaction),
            "reader": Provide(database.reader),
        },
        state=State(
            {
                "settings": settings,
                "database": database,
                "access": Access(settings),
                "metrics": observed.metrics,
            }
        ),
        middleware=[Deadline],
        exception_handlers=problems.handlers(),
        request_class=StrictRequest,
        request_max_body_size=settings.max_body,
        cors_config=cors(settings.cors_origins),
        lifespan=[lambda _: database.open(), lambda _: observed.open()],
        openapi_config=documentation(),
        logging_config=None,
    )
    app.asgi_handler = observed.around(with_head(app.asgi_handler))
    return app


def cors(origins: str) -> CORSConfig | None:
    """Which pages' scripts may call: none, unless they are named."""
    if not origins:
        return None
    return CORSConfig(
        allow_origins=[origin.strip() for origin in origins.split(",")],
        allow_methods=["GET", "POST", "PATCH", "DELETE"],
        allow_headers=[
            "Authorization",
            "Content-Type",
            "Idempotency-Key",
            "If-Match",
            "If-None-Match",
            "X-Request-ID",
        ],
        expose_headers=[*READABLE, "X-Request-ID"],
    )


def create() -> Litestar:
    """What a server's worker calls: the settings come from the environment."""
    settings = Settings.from_environment(os.environ)
    check_access(settings)
    configure_logging(settings)
    return create_app(settings)
