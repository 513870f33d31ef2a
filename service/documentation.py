"""The OpenAPI document, and its page with everything it needs served from here."""

from http import HTTPStatus
from pathlib import Path
from typing import Any

from litestar import Response, Router
from litestar.exceptions import NotFoundException
from litestar.openapi import OpenAPIConfig
from litestar.openapi.plugins import SwaggerRenderPlugin
from litestar.openapi.spec import Components
from litestar.static_files import create_static_files_router
from swagger_ui_bundle import swagger_ui_path

from service import access
from service.models import SCHEMA_REVISION

ASSETS = "/docs/assets"


def documentation() -> OpenAPIConfig:
    """Where the document comes from, and how it is shown."""
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
        components=Components(security_schemes={access.SCHEME: access.BEARER}),
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


def assets() -> Router:
    """The files of the page."""
    return create_static_files_router(
        ASSETS, [Path(swagger_ui_path)], include_in_schema=False, name="docs-assets"
    )
