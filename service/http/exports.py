"""An export as a response that is sent while it is read from the database."""

from collections.abc import Mapping

from litestar.status_codes import HTTP_200_OK
from litestar.types import ASGIApp, HTTPResponseStartEvent, Receive, Scope, Send

from service.errors import RequestTimeout
from service.http import problems
from service.http.operations import CSV, NDJSON
from service.http.requests import StrictRequest, cancelled_on_disconnect
from service.transfer.export import export
from service.transfer.formats import Format
from service.user_lists import Listing

EXPORT_MEDIA_TYPES: dict[Format, str] = {"ndjson": NDJSON, "csv": CSV}


def export_response(request: StrictRequest, listing: Listing, form: Format) -> ASGIApp:
    """Return the ASGI app that sends all users of the list.

    Until there is a first piece, an exception is raised and becomes a problem document. Later the
    server cuts the connection off.
    """
    headers = {
        "content-type": EXPORT_MEDIA_TYPES[form],
        "content-disposition": f'attachment; filename="users.{form}"',
        "cache-control": "no-store",
    }

    async def send_export(scope: Scope, receive: Receive, send: Send) -> None:
        started = False

        async def write(piece: bytes, *, more: bool = True) -> None:
            nonlocal started
            if not started:  # not before there is a piece: until then a refusal can be sent
                started = True
                await send(response_start(headers))
            await send_piece(send, piece, more=more)

        if "head" not in scope:
            try:
                async with (
                    cancelled_on_disconnect(receive),
                    request.app.state.transfers.export_session() as session,
                ):
                    await export(session, listing, form, write)
            except Exception as error:
                if not started:
                    raise
                problems.log_failure(request, error)
                if isinstance(error, RequestTimeout):
                    return  # the client is gone
                raise  # too late for a refusal: the server cuts the connection off
        await write(b"", more=False)

    return send_export


def response_start(headers: Mapping[str, str]) -> HTTPResponseStartEvent:
    """Return the message that starts a response with status 200."""
    encoded = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
    return {"type": "http.response.start", "status": HTTP_200_OK, "headers": encoded}


async def send_piece(send: Send, piece: bytes, *, more: bool = True) -> None:
    """Send a piece of a response's body."""
    await send({"type": "http.response.body", "body": piece, "more_body": more})
