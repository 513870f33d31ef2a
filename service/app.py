"""The whole service on one screen."""

import os
from http import HTTPStatus
from pathlib import Path
from typing import Any

from litestar import Litestar, Response, Router
from litestar.di import Provide
from litestar.exceptions import NotFoundException
from litestar.openapi import OpenAPIConfig
from litestar.openapi.plugins import SwaggerRenderPlugin
from litestar.static_files import create_static_files_router
from swagger_ui_bundle import swagger_ui_path

from service import health, problems, routes
from service.database import Database
from service.logs import configure_logging
from service.models import SCHEMA_REVISION
from service.settings import Settings

ASSETS = "/docs/assets"


def create_app(settings: Settings) -> Litestar:
    """The service as an ASGI application; it opens connections when the first request comes."""
    database = Database(settings, SCHEMA_REVISION)
    return Litestar(
        route_handlers=[
            *routes.ROUTES,
            *health.ROUTES,
            create_static_files_router(
                ASSETS, [Path(swagger_ui_path)], include_in_schema=False, name="docs-assets"
            ),
        ],
        dependencies={
            # a route takes one of them: a second generator would hide a failed commit
            "transaction": Provide(database.transaction),
            "reader": Provide(database.reader),
        },
        exception_handlers=problems.handlers(),
        request_class=routes.StrictRequest,
        request_max_body_size=settings.max_body,
        lifespan=[lambda _: database.open()],
        openapi_config=documentation(),
        logging_config=None,
    )


def documentation() -> OpenAPIConfig:
    """The OpenAPI document, and its page with everything it needs served from here."""
    page = SwaggerRenderPlugin(
        path="/docs",
        js_url=f"{ASSETS}/swagger-ui-bundle.js",
        css_url=f"{ASSETS}/swagger-ui.css",
        standalone_preset_js_url=f"{ASSETS}/swagger-ui-standalone-preset.js",
        favicon=f"<link rel='icon' type='image/png' href='{ASSETS}/favicon-32x32.png'>",
    )
    return OpenAPIConfig(
        title="Users",
        version=SCHEMA_REVISION,
        description="Keeps users. Every refusal is a problem document (RFC 9457).",
        openapi_router=Router(
            "/", route_handlers=[], include_in_schema=False, after_request=refuse_as_everywhere
        ),
        render_plugins=[page],
        use_handler_docstrings=True,
    )


def refuse_as_everywhere(response: Response[Any]) -> Response[Any]:
    """Litestar's documentation router has a 404 page of its own; ours is a problem document."""
    if response.status_code == HTTPStatus.NOT_FOUND:
        raise NotFoundException
    return response


def create() -> Litestar:
    """What a server's worker calls: the settings come from the environment."""
    settings = Settings.from_environment(os.environ)
    configure_logging(settings)
    return create_app(settings)
