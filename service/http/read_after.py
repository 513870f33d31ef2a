"""The position that the answer to a write carries, and that a read must show.

A client with a cookie jar sends it back by itself; one without sends the header.
`layers.read_after` puts it into responses.
"""

from http.cookies import CookieError, SimpleCookie
from typing import Any, cast

from litestar.connection import Request

from service.http.parameters import header_position
from service.http.requests import StrictRequest
from service.positions import Position, parse_position
from service.user_batches import ReadBatches, UserBatches

COOKIE = "users_read_after"
SCOPE_KEY = "written"  # where a route leaves the position for the layer


def note_written(request: Request[Any, Any, Any], position: Position | None) -> None:
    """Let the response to a write carry the position; nothing where there is none."""
    if position is not None:
        cast("dict[str, Any]", request.scope)[SCOPE_KEY] = position


def cookie_position(request: StrictRequest) -> Position | None:
    """Return the position in the request's cookie.

    One that can't be read is taken for absent: refused, it would lock a browser out, which sends it
    whatever its user does.
    """
    for line in request.lines_of(b"cookie"):
        if COOKIE in line:
            try:
                return parse_position(SimpleCookie(line)[COOKIE].value)
            except (CookieError, KeyError, ValueError):
                continue
    return None


def read_after(request: StrictRequest) -> Position | None:
    """Return the position that the answer must show: that of the header, or of the cookie."""
    header, cookie = header_position(request), cookie_position(request)
    if header is None or cookie is None:
        return header or cookie
    return header.joined(cookie)


def read_batches(request: StrictRequest) -> ReadBatches:
    """Return the batches of a server that shows what this client has written."""
    batches: UserBatches = request.app.state.batches
    # without replicas nothing is looked for among the headers, and nothing slower than before
    return batches.reads(read_after(request)) if batches.replicas else batches.primary
