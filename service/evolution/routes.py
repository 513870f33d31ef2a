"""The schema's evolution, for people and for machines.

The one door from the service to migrations, which import the service otherwise: only
`migrations.report` is imported here, and knows nothing of what is above it.
"""

import asyncio
import logging
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
from litestar import MediaType, Request, Response, get
from litestar.datastructures import CacheControlHeader
from litestar.openapi.spec import OpenAPIType
from litestar.status_codes import HTTP_200_OK
from sqlalchemy import Connection

from service.auth import access
from service.errors import Flaw, Internal, InvalidInput, TimedOut, Unavailable
from service.evolution import page
from service.evolution.schemas import Evolution
from service.http import list_parameters
from service.http.answers import Answer, Ready, header
from service.http.parameters import Taking, parameter
from service.http.problems import documented

if TYPE_CHECKING:
    from collections.abc import Sequence

    from migrations.report.files import File

LONGEST = 3600  # seconds between two looks
Refresh = Annotated[int, msgspec.Meta(ge=1, le=LONGEST)]
REFUSALS = (*access.REFUSALS, Internal, Unavailable, TimedOut)
HEADERS = (
    header("Content-Type", "text/html; charset=utf-8"),
    header("Cache-Control", "no-store"),
    header("Referrer-Policy", "no-referrer"),
    header("X-Content-Type-Options", "nosniff"),
)


class Refreshed(Taking):
    """Answers a page that may look again by itself."""

    taken = (
        parameter(
            "refresh",
            "query",
            "How many seconds the page stays before it looks again; without it, for ever.",
            type=OpenAPIType.INTEGER,
            minimum=1,
            maximum=LONGEST,
        ),
    )


@get(
    "/evolution.json",
    operation_id="evolution",
    cache_control=CacheControlHeader(no_store=True),
    summary="The schema's evolution",
    tags=["operation"],
    before_request=access.needs("operate", browsers=True),
    security=access.security("operate"),
    response_description="The history, and where everything stands at this moment.",
    responses=documented(*REFUSALS),
)
async def as_json(request: Request[Any, Any, Any]) -> Evolution:
    """When each revision was applied, by whom and how; who is connected; drift; what is pending.

    A browser may send the token as the password of `Basic`, under any name.
    """
    return await look(request)


@get(
    "/evolution",
    operation_id="evolutionPage",
    operation_class=Refreshed,
    summary="The schema's evolution, as a page",
    tags=["operation"],
    before_request=access.needs("operate", browsers=True),
    security=access.security("operate"),
    media_type=MediaType.HTML,
    response_description="The page. It needs neither scripts nor anything from elsewhere.",
    responses=documented(*REFUSALS, InvalidInput),
)
async def as_page(request: Request[Any, Any, Any]) -> Response[str]:
    """The same for people: on a phone, on a wall, on paper.

    A browser may send the token as the password of `Basic`, under any name.
    """
    refresh = refresh_of(request.scope["query_string"])
    evolution = await look(request)
    # in a thread: the first page imports Jinja2 and compiles the templates, which takes 40 ms
    body = await asyncio.to_thread(page.page, evolution, refresh)
    headers = (*HEADERS, header("Content-Security-Policy", page.policy()))
    return Ready(Answer(HTTP_200_OK, headers, body))


async def look(request: Request[Any, Any, Any]) -> Evolution:
    """Everything, as it is now, by one connection that only reads."""
    files = await asyncio.to_thread(revision_files)
    async with request.app.state.database.reading.connect() as connection:
        found: Evolution = await connection.run_sync(told, files)
    return found


def revision_files() -> "Sequence[File]":
    """Those of this build; in a thread, which reads them, and waits for the import at first."""
    logging.getLogger("alembic").setLevel(logging.WARNING)  # it would tell how it sets itself up
    from migrations.report.files import revision_files  # noqa: PLC0415  # see told

    return revision_files()


def told(connection: Connection, files: "Sequence[File]") -> Evolution:
    """What migrations have to tell."""
    # Alembic comes with it: 8 MiB and 0.2 s, for those workers only that are asked
    from migrations import report  # noqa: PLC0415

    return report.look(connection, files)


def refresh_of(query: bytes) -> int | None:
    """How often the page shall look again; raises InvalidInput."""
    given = list_parameters.parsed(query)
    list_parameters.check(given, ("refresh",))
    asked = dict(given).get("refresh")
    try:
        return None if asked is None else msgspec.convert(asked, Refresh, strict=False)
    except msgspec.ValidationError as error:
        raise InvalidInput(Flaw("/refresh", str(error))) from None


ROUTES = (as_page, as_json)
