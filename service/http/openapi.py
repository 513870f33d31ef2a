"""The OpenAPI document, and the Swagger UI page, whose files the service serves too.

Litestar generates most of the document from the routes; this module adds the rest: headers,
links, scopes, and examples.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
from litestar import Request, Router, get
from litestar.handlers import HTTPRouteHandler
from litestar.openapi import OpenAPIConfig
from litestar.openapi.plugins import SwaggerRenderPlugin
from litestar.openapi.spec import (
    Components,
    Contact,
    License,
    OpenAPI,
    OpenAPIHeader,
    OpenAPIType,
    Schema,
    Tag,
)
from litestar.response import File
from litestar.routes import BaseRoute
from litestar.types import ControllerRouterHandler
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
version, `If-None-Match` saves you what you have already. A condition that can't be read is refused.

**Nothing is overlooked.** A header or parameter that is empty, malformed, repeated or not UTF-8 is
refused, not taken for absent; so are unknown parameters of lists and changes, and a member that an
object has twice. A form of the response that you exclude by `q=0` is not sent.

**Repetition.** With an `Idempotency-Key` you may repeat a request that got no answer: what it asks
for is done once.

**Your own writes.** The answer to a write may have a `Read-After`, and a cookie with the same text.
A read that sends one of them back shows that write; any other read may be some seconds old.

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
    """Return a response header that several operations share."""
    schema = Schema(type=OpenAPIType.STRING)
    return OpenAPIHeader(schema, description=description, required=required, example=example)


HEADERS = {
    "X-Request-ID": header("The request's id, by which the log knows it.", "0c2f1c6e4d0f4b3a"),
    "Read-After": header(
        "Where this write is: send it with your next reads, the greatest of several, to see it. "
        "The cookie `users_read_after` has it as well. Not there unless the service reads from "
        "replicas.",
        "00000001-00000000016B3748",
        required=False,
    ),
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
WRITES = {"createUser", "changeUser", "deleteUser", "importUsers"}
NO_CONTENT_STATUS, NOT_MODIFIED_STATUS = "204", "304"
HEADERS_BY_STATUS = {
    "401": ["WWW-Authenticate"],
    "403": ["WWW-Authenticate"],
    "429": ["Retry-After"],
    "503": ["Retry-After"],
}

ADA = schemas.User(id=42, full_name="Ada Lovelace", email="ada@example.org", age=36)
SCHEMA_EXAMPLES = (
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
    schemas.Ready(status="ready", build=SCHEMA_REVISION, database=SCHEMA_REVISION, writes=True),
    EXAMPLE,
)

THE_USER = {"user_id": "$response.body#/id"}
THIS_VERSION = THE_USER | {"header.If-Match": "$response.header.ETag"}
IF_CHANGED = THE_USER | {"header.If-None-Match": "$response.header.ETag"}
LINKS = {  # by operation: the operations that may follow, and their parameters
    "createUser": {"getUser": THE_USER, "changeUser": THIS_VERSION, "deleteUser": THE_USER},
    "getUser": {"getUser": IF_CHANGED, "changeUser": THIS_VERSION, "deleteUser": THIS_VERSION},
    "changeUser": {"getUser": THE_USER, "changeUser": THIS_VERSION, "deleteUser": THIS_VERSION},
    "listUsers": {"listUsers": {"after": "$response.body#/next"}},
}


@dataclass
class Document(OpenAPI):
    """Litestar's document, completed when it is rendered."""

    def to_schema(self) -> dict[str, Any]:
        """Return the complete document, ready for JSON."""
        document = super().to_schema()
        document["components"]["schemas"] = component_schemas()
        for path in document["paths"].values():
            for operation in path.values():
                complete_operation(operation)
        return document


class Config(OpenAPIConfig):
    """Litestar's configuration, which creates a Document."""

    def to_openapi_schema(self) -> OpenAPI:
        """Return the document; Litestar adds the paths."""
        return Document(**vars(super().to_openapi_schema()))


def component_schemas() -> dict[str, Any]:
    """Return the JSON schemas of requests and responses, by msgspec.

    Litestar's own schemas lose bounds, and don't say that unknown fields are refused.
    """
    types = [type(example) for example in SCHEMA_EXAMPLES]
    _, by_name = msgspec.json.schema_components(
        [*types, schemas.Problem], ref_template="#/components/schemas/{name}"
    )
    for example in SCHEMA_EXAMPLES:
        by_name[type(example).__name__]["examples"] = [msgspec.to_builtins(example)]
    by_name["UserChanges"]["minProperties"] = 1
    for schema in by_name.values():
        for field in schema.get("properties", {}).values():
            # generators take a field with a default for one that is always there: a client would
            # have to send `age`, and would read `errors` where a problem has none
            field.pop("default", None)
    return by_name


def complete_operation(operation: dict[str, Any]) -> None:
    """Add headers and links to the responses, and the required scope to the description."""
    # empty: it needs no token, and was not forgotten
    for requirement in operation.setdefault("security", []):
        (scope,) = requirement[access.SCHEME]
        operation["description"] += f"\n\nNeeds a token with the scope `{scope}`."
    responses = operation["responses"]
    if NO_CONTENT_STATUS in responses:  # Litestar describes null in JSON
        responses[NO_CONTENT_STATUS].pop("content", None)
    for status, response in responses.items():
        names = header_names(operation, status)
        headers = {name: {"$ref": f"#/components/headers/{name}"} for name in names}
        response["headers"] = response.get("headers", {}) | headers
        for content in response.get("content", {}).values():
            if examples := content.get("examples"):
                content["examples"] = {e["summary"]: e for e in examples.values()}
                if "in-progress" in content["examples"]:
                    response["headers"]["Retry-After"] = {
                        "$ref": "#/components/headers/Retry-After-In-Progress"
                    }
    success = next(iter(responses.values()))
    if NOT_MODIFIED_STATUS in responses:
        responses[NOT_MODIFIED_STATUS]["headers"] = success["headers"]
    if links := LINKS.get(operation["operationId"]):
        success["links"] = {
            name: {"operationId": name, "parameters": parameters}
            for name, parameters in links.items()
        }


def header_names(operation: dict[str, Any], status: str) -> list[str]:
    """Return the headers, of those that operations share, that a response of this status has."""
    names = ["X-Request-ID", *HEADERS_BY_STATUS.get(status, [])]
    if operation["operationId"] in WRITES and status < "300":
        names.append("Read-After")
    if operation["security"]:
        names += ["RateLimit", "RateLimit-Policy"]
    return names


def documentation() -> OpenAPIConfig:
    """Return Litestar's configuration of the document and its page."""
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
        contact=Contact(name="the operators of this service"),
        license=License("MIT", identifier="MIT"),
        tags=[Tag(name, description) for name, description in TAGS.items()],
        components=Components(
            headers=dict(HEADERS), security_schemes={access.SCHEME: access.BEARER}
        ),
        openapi_router=DocumentationRouter("/", route_handlers=[], include_in_schema=False),
        render_plugins=[page],
        use_handler_docstrings=True,
    )


class DocumentationRouter(Router):
    """Litestar's router of the document and its page, without its page for all other URLs.

    That one would be found at each URL of one segment, which then had methods and no 404.
    """

    def register(self, value: ControllerRouterHandler) -> list[BaseRoute]:
        """Register a handler, unless its path is a parameter."""
        paths = value.paths if isinstance(value, HTTPRouteHandler) else ()
        return [] if any("{" in path for path in paths) else super().register(value)


def assets() -> HTTPRouteHandler:
    """Return the route of the files of the Swagger UI page.

    Each file is a path of its own: another one is 404, whatever the method.
    """
    directory = Path(swagger_ui_path)

    @get([f"{ASSETS}/{file.name}" for file in directory.iterdir()], include_in_schema=False)
    async def asset(request: Request[Any, Any, Any]) -> File:
        """Send the file of this path."""
        file = directory / Path(request.scope["path"]).name
        return File(file, content_disposition_type="inline")

    return asset
