"""The OpenAPI document, and its page with everything it needs served from here.

Litestar reads most of the document off the routes; what it can't know is added here.
"""

from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any

import msgspec
from litestar import Response, Router
from litestar.exceptions import NotFoundException
from litestar.openapi import OpenAPIConfig
from litestar.openapi.plugins import SwaggerRenderPlugin
from litestar.openapi.spec import Components, OpenAPI, OpenAPIHeader, OpenAPIType, Schema, Tag
from litestar.static_files import create_static_files_router
from swagger_ui_bundle import swagger_ui_path

from service import schemas
from service.auth import access
from service.evolution.schemas import EXAMPLE
from service.models import SCHEMA_REVISION

ASSETS = "/docs/assets"

ABOUT = """\
Keeps users.

**Refusals** are problem documents (RFC 9457). Their `type` is stable, and tells a program what is
wrong; their `detail` tells people. Input is judged as a whole: `errors` names every flaw.

**Tokens.** Send `Authorization: Bearer usr_…`. Every operation says which scope the token must
have: `read`, `write` or `operate`.

**Versions.** `ETag` names the version of a user. `If-Match` with it changes or deletes no other
version, `If-None-Match` saves you what you have already.

**Repetition.** With an `Idempotency-Key` you may repeat a request that got no answer: what it asks
for is done once.

**Every URL** that answers GET answers HEAD as well; OPTIONS names the methods in `Allow`.
Lists and exports are compressed for who accepts `br` or `gzip`. An `X-Request-ID` of yours (1 to
128 letters, digits, `.`, `_`, `:` or `-`) comes back, and stands in the log.
"""

TAGS = {
    "users": "One user at a time, and lists of them.",
    "transfer": "Many users at once, in files of any length.",
    "health": "For who starts, restarts and routes to the service. No token is needed.",
    "operation": "For who watches the service.",
}


def header(description: str, example: str, *, required: bool = True) -> OpenAPIHeader:
    """A header of more than one operation."""
    schema = Schema(type=OpenAPIType.STRING)
    return OpenAPIHeader(schema, description=description, required=required, example=example)


HEADERS = {
    "X-Request-ID": header("The request's id, by which the log knows it.", "0c2f1c6e4d0f4b3a"),
    "RateLimit": header(
        "What is left: of which policy, how many requests, in how many seconds. "
        "Not there where requests are not limited.",
        '"default";r=599;t=60',
        required=False,
    ),
    "RateLimit-Policy": header(
        "The limits: of which name, how many requests, in how many seconds.",
        '"default";q=600;w=60',
        required=False,
    ),
    "WWW-Authenticate": header("What is wrong with the token (RFC 6750).", access.CHALLENGE),
    "Retry-After": header("Seconds to wait before another try.", "1"),
    "Retry-After-In-Progress": header(
        "Seconds to wait before another try, where the problem is `in-progress`.",
        "1",
        required=False,
    ),
}
NOT_MODIFIED = "304"
HEADERS_OF = {
    "401": ["WWW-Authenticate"],
    "403": ["WWW-Authenticate"],
    "429": ["Retry-After"],
    "503": ["Retry-After"],
}

ADA = schemas.User(id=42, full_name="Ada Lovelace", email="ada@example.org", age=36)
EXAMPLES = (
    ADA,
    schemas.NewUser(full_name=ADA.full_name, email=ADA.email, age=ADA.age),
    schemas.UserChanges(age=37, email=None),
    schemas.Page(items=[ADA], next=None),
    schemas.ImportReport(
        created=2,
        updated=0,
        skipped=1,
        rejected=1,
        rejections=[
            schemas.Rejection(
                line=3,
                errors=[schemas.FlawMessage(pointer="/age", detail="must be between 0 and 150")],
            )
        ],
    ),
    schemas.Live(status="live"),
    schemas.Ready(status="ready", build=SCHEMA_REVISION, database=SCHEMA_REVISION),
    EXAMPLE,
)

THE_USER = {"user_id": "$response.body#/id"}
THIS_VERSION = THE_USER | {"header.If-Match": "$response.header.ETag"}
IF_CHANGED = THE_USER | {"header.If-None-Match": "$response.header.ETag"}
LINKS = {  # where an answer leads, and with which parameters
    "createUser": {"getUser": THE_USER, "changeUser": THIS_VERSION, "deleteUser": THE_USER},
    "getUser": {"getUser": IF_CHANGED, "changeUser": THIS_VERSION, "deleteUser": THIS_VERSION},
    "changeUser": {"getUser": THE_USER, "changeUser": THIS_VERSION, "deleteUser": THIS_VERSION},
    "listUsers": {"listUsers": {"after": "$response.body#/next"}},
}


@dataclass
class Document(OpenAPI):
    """The document, complete."""

    def to_schema(self) -> dict[str, Any]:
        """The document as JSON has it."""
        document = super().to_schema()
        document["components"]["schemas"] = components()
        for path in document["paths"].values():
            for operation in path.values():
                complete(operation)
        return document


class Config(OpenAPIConfig):
    """Makes a Document of what Litestar knows."""

    def to_openapi_schema(self) -> OpenAPI:
        """The document, yet without paths."""
        return Document(**vars(super().to_openapi_schema()))


def components() -> dict[str, Any]:
    """What is sent and received.

    By msgspec: Litestar's own lose bounds, and don't say that unknown fields are refused.
    """
    kinds = [type(example) for example in EXAMPLES]
    _, found = msgspec.json.schema_components(
        [*kinds, schemas.Problem], ref_template="#/components/schemas/{name}"
    )
    for example in EXAMPLES:
        found[type(example).__name__]["examples"] = [msgspec.to_builtins(example)]
    found["UserChanges"]["minProperties"] = 1
    return found


def complete(operation: dict[str, Any]) -> None:
    """Add what every answer has, where it leads, and in words what is needed."""
    for needed in operation.get("security", ()):
        (scope,) = needed[access.SCHEME]
        operation["description"] += f"\n\nNeeds a token with the scope `{scope}`."
    responses = operation["responses"]
    for status, response in responses.items():
        names = ["X-Request-ID", *HEADERS_OF.get(status, [])]
        if "security" in operation:
            names += ["RateLimit", "RateLimit-Policy"]
        headers = {name: {"$ref": f"#/components/headers/{name}"} for name in names}
        response["headers"] = response.get("headers", {}) | headers
        for content in response.get("content", {}).values():
            if examples := content.get("examples"):
                content["examples"] = {e["summary"]: e for e in examples.values()}
                if "in-progress" in content["examples"]:
                    response["headers"]["Retry-After"] = {
                        "$ref": "#/components/headers/Retry-After-In-Progress"
                    }
    good = next(iter(responses.values()))
    if NOT_MODIFIED in responses:
        responses[NOT_MODIFIED]["headers"] = good["headers"]
    if links := LINKS.get(operation["operationId"]):
        good["links"] = {
            name: {"operationId": name, "parameters": parameters}
            for name, parameters in links.items()
        }


def documentation() -> OpenAPIConfig:
    """Where the document comes from, and how it is shown."""
    page = SwaggerRenderPlugin(
        path="/docs",
        js_url=f"{ASSETS}/swagger-ui-bundle.js",
        css_url=f"{ASSETS}/swagger-ui.css",
        standalone_preset_js_url=f"{ASSETS}/swagger-ui-standalone-preset.js",
        favicon=f"<link rel='icon' type='image/png' href='{ASSETS}/favicon-32x32.png'>",
    )
    return Config(
        title="Users",
        version=SCHEMA_REVISION,
        description=ABOUT,
        tags=[Tag(name, description) for name, description in TAGS.items()],
        components=Components(
            headers=dict(HEADERS), security_schemes={access.SCHEME: access.BEARER}
        ),
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
