"""/evolution: the schema's history and state, as a page and as JSON.

`safely.report` reads the database; nothing else of `safely` is used here.
"""

import asyncio
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

from litestar import MediaType, Request, Response, get
from litestar.datastructures import CacheControlHeader
from sqlalchemy.orm import Session

from service.auth import access
from service.errors import Unavailable
from service.evolution import from_report, page
from service.evolution.schemas import Evolution
from service.http.demands import needs
from service.http.layers.basic_challenge import BasicChallenge
from service.http.operations import OPERATE_REFUSALS
from service.http.parameters import REFRESH, Query, RefreshOperation
from service.http.problems import documented
from service.models import SCHEMA_REVISION

if TYPE_CHECKING:
    from collections.abc import Sequence

    from safely.report.files import RevisionFile

PROJECT = "users"  # builds connect as users@<revision>: see service.database
VERSIONS = Path(__file__).parent.parent.parent / "migrations/versions"  # beside the package
PAGE_HEADERS = {
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


@get(
    "/evolution.json",
    operation_id="evolution",
    cache_control=CacheControlHeader(no_store=True),
    summary="The schema's evolution",
    tags=["operation"],
    middleware=[BasicChallenge],
    before_request=needs("operate", basic=True),
    security=access.security("operate"),
    response_description="The history, and where everything stands at this moment.",
    responses=documented(*OPERATE_REFUSALS, Unavailable),
)
async def as_json(request: Request[Any, Any, Any]) -> Evolution:
    """When each revision was applied, by whom and how; who is connected; drift; what is pending.

    A browser may send the token as the password of `Basic`, under any name.
    """
    return await look(request)


@get(
    "/evolution",
    operation_id="evolutionPage",
    operation_class=RefreshOperation,
    summary="The schema's evolution, as a page",
    tags=["operation"],
    middleware=[BasicChallenge],
    before_request=needs("operate", basic=True),
    security=access.security("operate"),
    media_type=MediaType.HTML,
    opt={"offers": (MediaType.HTML.value,)},
    response_description="The page. It needs neither scripts nor anything from elsewhere.",
    responses=documented(*OPERATE_REFUSALS, Unavailable),
)
async def as_page(request: Request[Any, Any, Any]) -> Response[str]:
    """The same for people: on a phone, on a wall, on paper.

    A browser may send the token as the password of `Basic`, under any name.
    """
    query = Query(request.scope["query_string"])
    query.require_only(REFRESH.name)
    refresh = query.value(REFRESH)
    evolution = await look(request)
    # in a thread: the first page imports Jinja2 and compiles the templates, which takes 40 ms
    body = await asyncio.to_thread(page.page, evolution, refresh)
    headers = {**PAGE_HEADERS, "Content-Security-Policy": page.policy()}
    response: Response[Any] = Response(body, headers=headers, media_type="text/html")
    return response


async def look(request: Request[Any, Any, Any]) -> Evolution:
    """Return the state of the schema at this moment, read in one session."""
    files = await asyncio.to_thread(revision_files)
    async with request.app.state.database.read() as session:
        evolution: Evolution = await session.run_sync(report_on, files)
    return evolution


def revision_files() -> "Sequence[RevisionFile]":
    """Return what this build's revision files say; call it in a thread, since it reads them."""
    logging.getLogger("alembic").setLevel(logging.WARNING)  # it would log its own set-up
    from safely.report.files import revision_files  # noqa: PLC0415  # see report_on

    return revision_files(VERSIONS)


def report_on(session: Session, files: "Sequence[RevisionFile]") -> Evolution:
    """Return the report on the database of the session, on whose own connection it is made."""
    # Alembic comes with it, 8 MiB and 0.2 s: only those workers pay that are asked for the page
    from safely import report  # noqa: PLC0415

    return from_report.evolution(
        report.look(session.connection(), project=PROJECT, build=SCHEMA_REVISION, files=files)
    )


ROUTES = (as_page, as_json)
