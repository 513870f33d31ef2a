"""An export as a response that is sent while it is read from the database."""

from collections.abc import Mapping
from typing import cast

from litestar.status_codes import HTTP_200_OK
from litestar.types import (
    ASGIApp,
    HTTPResponseBodyEvent,
    HTTPResponseStartEvent,
    Message,
    Receive,
    Scope,
    Send,
)

from service.errors import Refusal
from service.http import problems
from service.http.minimum_rate import READING_LAG, MinimumRate
from service.http.operations import CSV, NDJSON
from service.http.requests import StrictRequest, cancelled_on_disconnect
from service.replicas import Replica
from service.transfer.export import Formulas, export
from service.transfer.formats import Format
from service.user_lists import Listing

EXPORT_MEDIA_TYPES: dict[Format, str] = {"ndjson": NDJSON, "csv": CSV}


def export_response(
    request: StrictRequest,
    listing: Listing,
    form: Format,
    formulas: Formulas,
    replica: Replica | None,
) -> ASGIApp:
    """Return the ASGI app that sends all users of the list, as a replica has them if one is named.

    What fails on a replica before there is a first piece is repeated on the primary.
    Until there is a first piece, an exception is raised and becomes a problem document. Later it is
    logged and the response ends without its last message: then the server cuts the connection off,
    which shows the client that the export is not complete.
    """
    headers = {
        "content-type": EXPORT_MEDIA_TYPES[form],
        "content-disposition": f'attachment; filename="users.{form}"',
        "cache-control": "no-store",
    }

    async def send_export(scope: Scope, receive: Receive, send: Send) -> None:
        send_in_time = at_minimum_rate(request, send)
        started = False

        async def write(piece: bytes, *, more: bool = True) -> None:
            nonlocal started
            if not started:  # not before there is a piece: until then a refusal can be sent
                started = True
                await send(response_start(headers))
            await send_piece(send_in_time, piece, more=more)

        async def export_from(server: Replica | None) -> None:
            async with (
                cancelled_on_disconnect(receive),
                request.app.state.transfers.export_session(server) as session,
            ):
                await export(session, listing, form, write, formulas)

        try:
            if "head" not in scope:
                try:
                    await export_from(replica)
                except Exception as error:
                    if started or replica is None or isinstance(error, Refusal):
                        raise
                    await export_from(None)
            await write(b"", more=False)
        except Exception as error:
            if not started:
                raise
            problems.log_failure(request, error)

    return send_export


def at_minimum_rate(request: StrictRequest, send: Send) -> Send:
    """Return a `send` for a body; it raises RequestTimeout when the client reads too slowly."""
    rate = MinimumRate(request.app.state.settings.transfer_rate, READING_LAG)

    async def send_in_time(message: Message) -> None:
        await rate.wait_for(send(message))
        rate.add(len(cast("HTTPResponseBodyEvent", message)["body"]))

    return send_in_time


def response_start(headers: Mapping[str, str]) -> HTTPResponseStartEvent:
    """Return the message that starts a response with status 200."""
    encoded = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
    return {"type": "http.response.start", "status": HTTP_200_OK, "headers": encoded}


async def send_piece(send: Send, piece: bytes, *, more: bool = True) -> None:
    """Send a piece of a response's body."""
    await send({"type": "http.response.body", "body": piece, "more_body": more})
