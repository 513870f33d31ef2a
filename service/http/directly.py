"""Calling a route's function without what the framework does around it.

Litestar reads the signature's parameters one by one, keeps a stack for what the function might
depend on, and wraps what it returns: for a lookup that takes longer than the query.
"""

from typing import TYPE_CHECKING, cast

from litestar.types import ASGIApp, Receive, Scope, Send

from service.errors import MalformedJson
from service.http import problems
from service.http.answers import Ready
from service.http.requests import StrictRequest

if TYPE_CHECKING:
    from litestar.handlers import HTTPRouteHandler


class Directly:
    """The last middleware of a route, which answers in place of what it surrounds.

    The function gets the request, what the path says and, where its signature has it, `data`. It
    returns something Ready, or raises. Of what can be declared with a route only `before_request`
    is heeded: guards, dependencies and `after_request` are not.
    """

    def __init__(self, app: ASGIApp) -> None:
        """It never calls the app, which is what the framework does."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or refuse."""
        request = StrictRequest(scope, receive, send)
        try:
            answer = await self.ask(cast("HTTPRouteHandler", scope["route_handler"]), request)
        except Exception as error:  # noqa: BLE001  # as the framework would, and in the same place
            answer = Ready(problems.answer_to(request, error))
        await answer.send(scope, receive, send)

    async def ask(self, route: "HTTPRouteHandler", request: StrictRequest) -> Ready:
        """Do what comes before the route, then call its function."""
        if before := route.resolve_before_request():
            await before(request)
        given = dict(request.path_params)
        if route.parsed_data_field is not None:
            if not await request.body():
                raise MalformedJson("the body is empty; it must be JSON")
            given["data"] = await request.json()
        return cast("Ready", await route.fn(request, **given))
