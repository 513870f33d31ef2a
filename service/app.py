"""The whole service on one screen."""

import gc
import os
from functools import partial, reduce
from typing import TYPE_CHECKING

from litestar import Litestar
from litestar.datastructures import State
from litestar.di import Provide
from litestar.middleware import DefineMiddleware
from litestar.types import ASGIApp

from service.auth.access import Access
from service.auth.tokens import check_access
from service.database import Database
from service.draining import Draining
from service.http import evolution_routes, health, metrics, transfer_routes, user_routes
from service.http.fast_path import FastPathPlugin
from service.http.keyed_requests import write_session
from service.http.layers.connection_close import ConnectionClose
from service.http.layers.cors import UnknownOrigins, cors_config
from service.http.layers.deadline import Deadline
from service.http.layers.exact_paths import ExactPaths
from service.http.layers.framing import UnambiguousFraming
from service.http.layers.head import HeadAndOptions
from service.http.layers.idle_connections import IdleConnections
from service.http.layers.observation import Observation
from service.http.layers.rate_limit_headers import RateLimitHeaders
from service.http.layers.read_after import ReadAfter
from service.http.layers.unread_body import UnreadBody
from service.http.openapi import assets, documentation
from service.http.problems import exception_handlers
from service.http.requests import StrictRequest
from service.models import SCHEMA_REVISION
from service.observability.logs import configure_logging
from service.replicas import Replicas
from service.settings import Settings
from service.stopping import Stop
from service.transfer.sessions import Transfers
from service.user_batches import UserBatches

if TYPE_CHECKING:
    from service.http.layers import Layer

GC_THRESHOLDS = (50_000, 20, 100)  # generations 0, 1, 2


def create_app(settings: Settings, draining: Draining | None = None) -> ASGIApp:
    """Return the service as an ASGI app; it connects to the database at the first request.

    `draining` tells whether it is about to stop; by default it never is.
    """
    draining = Draining() if draining is None else draining
    database = Database(settings, SCHEMA_REVISION)
    access = Access(settings)
    replicas = Replicas(settings, SCHEMA_REVISION)
    observation = Observation(settings, database, replicas)
    cors = cors_config(settings.cors_origins)
    app = Litestar(
        route_handlers=[
            *user_routes.ROUTES,
            *transfer_routes.ROUTES,
            *health.ROUTES,
            *evolution_routes.ROUTES,
            *(metrics.ROUTES if settings.metrics else ()),
            assets(),
        ],
        dependencies={"session": Provide(write_session)},
        state=State(
            {
                "settings": settings,
                "database": database,
                "readiness": health.Readiness(database, replicas),
                "replicas": replicas,
                "batches": UserBatches(database, replicas),
                "transfers": Transfers(settings, database),
                "access": access,
                "metrics": observation.metrics,
                "draining": draining,
            }
        ),
        middleware=[
            DefineMiddleware(
                Deadline,
                request_timeout=settings.request_timeout,
                transfer_timeout=settings.transfer_timeout,
            )
        ],
        exception_handlers=exception_handlers(),
        request_class=StrictRequest,
        request_max_body_size=settings.max_body,
        cors_config=cors,
        lifespan=[
            lambda _: database.open(),
            lambda _: replicas.watched(),
            lambda _: observation.open(),
        ],
        openapi_config=documentation(),
        plugins=[FastPathPlugin()],
        logging_config=None,
    )
    layers: list[Layer] = [  # the outermost first
        UnreadBody,
        observation,  # sees every request, also those that the framework refuses
        partial(ConnectionClose, draining=draining),
        UnambiguousFraming,
        HeadAndOptions,
        *([ReadAfter] if replicas else []),
        *([partial(RateLimitHeaders, policy=access.limiter.policy)] if access.limiter else []),
        *([partial(UnknownOrigins, config=cors)] if cors else []),
        ExactPaths,
    ]
    return reduce(lambda inner, layer: layer(inner), reversed(layers), app)


def create(draining: Draining, connections: int) -> ASGIApp:
    """Return the app of a server's worker, with settings from the environment.

    The worker accepts at most so many `connections`.
    """
    settings = Settings.from_environment(os.environ)
    check_access(settings)
    configure_logging(settings)
    app = create_app(settings, draining)
    app = IdleConnections(app, Stop(draining), settings.port, connections)
    freeze_garbage()
    return app


def freeze_garbage() -> None:
    """Keep the garbage collector away from the modules, and from most requests.

    It would search all that was imported again and again: the longest pause of all.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLDS)
