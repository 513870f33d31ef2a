"""The whole service on one screen."""

import gc
import os

from litestar import Litestar
from litestar.datastructures import State
from litestar.di import Provide
from litestar.middleware import DefineMiddleware

from service.auth.access import Access
from service.auth.tokens import check_access
from service.database import Database
from service.evolution import routes as evolution
from service.http import health, problems, transfer_routes, user_routes
from service.http.layers.cors import cors, without_strangers
from service.http.layers.deadline import Deadline
from service.http.layers.head import with_head
from service.http.layers.observation import Observed
from service.http.layers.unread_body import reading_the_rest
from service.http.openapi import assets, documentation
from service.http.requests import StrictRequest
from service.models import SCHEMA_REVISION
from service.observability.logs import configure_logging
from service.settings import Settings
from service.transfer.sessions import Transfers
from service.user_batches import Together

SELDOM = (50_000, 20, 100)  # new objects, then collections of the young, then of the middle-aged


def create_app(settings: Settings) -> Litestar:
    """The service as an ASGI application; it opens connections when the first request comes."""
    database = Database(settings, SCHEMA_REVISION)
    observed = Observed(settings, database)
    origins = cors(settings.cors_origins)
    app = Litestar(
        route_handlers=[
            *user_routes.ROUTES,
            *transfer_routes.ROUTES,
            *health.ROUTES,
            *evolution.ROUTES,
            *observed.routes,
            assets(),
        ],
        dependencies={"reader": Provide(database.reader)},
        state=State(
            {
                "settings": settings,
                "database": database,
                "together": Together(settings, database),
                "transfers": Transfers(settings, database),
                "access": Access(settings),
                "metrics": observed.metrics,
            }
        ),
        middleware=[
            DefineMiddleware(
                Deadline,
                request_timeout=settings.request_timeout,
                transfer_timeout=settings.transfer_timeout,
            )
        ],
        exception_handlers=problems.handlers(),
        request_class=StrictRequest,
        request_max_body_size=settings.max_body,
        cors_config=origins,
        lifespan=[lambda _: database.open(), lambda _: observed.open()],
        openapi_config=documentation(),
        logging_config=None,
    )
    app.asgi_handler = observed.around(
        with_head(reading_the_rest(without_strangers(app.asgi_handler, origins)))
    )
    return app


def create() -> Litestar:
    """What a server's worker calls: the settings come from the environment."""
    settings = Settings.from_environment(os.environ)
    check_access(settings)
    configure_logging(settings)
    app = create_app(settings)
    settle()
    return app


def settle() -> None:
    """Keep the garbage collector away from what was made until now, and from most requests.

    It would look through all modules again and again, and find nothing: the longest pause of all.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*SELDOM)
