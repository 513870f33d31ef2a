"""A fast path for the routes that are asked most: it calls a handler without collecting arguments.

For each request Litestar extracts a handler's arguments one by one, converts them by a model of its
signature, and keeps a stack for what its dependencies clean up. For a lookup that takes as long as
its share of a batched query (docs/performance.md says what the fast path gives).

`FastPath` is the last middleware of such a route. Guards, `before_request`, `after_request`,
`after_response`, headers and cookies work as on every route. What the fast path would ignore
(`ignored_declarations`) is refused when the app is created: the route then has to go without it.
"""

from collections.abc import Collection, Iterator
from typing import cast

from litestar.exceptions import ImproperlyConfiguredException
from litestar.handlers import HTTPRouteHandler
from litestar.plugins import ReceiveRoutePlugin
from litestar.routes import BaseRoute, HTTPRoute
from litestar.types import ASGIApp, Receive, Scope, Send

from service.http.problems import exception_handlers, problem_response
from service.http.requests import StrictRequest


class FastPath:
    """The last middleware of a route, which answers in place of Litestar's route.

    The handler gets the request, the path parameters as text, and the body as `data` if its
    signature has it.
    """

    def __init__(self, app: ASGIApp) -> None:
        """Ignore the app: it is Litestar's own way to the handler."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send what the handler returns, or the problem document of its exception.

        The order is Litestar's: guards, `before_request` (which may answer itself), the handler,
        `after_request` (in `to_response`), and `after_response`.
        """
        handler = cast("HTTPRouteHandler", scope["route_handler"])
        request = StrictRequest(scope, receive, send)
        try:
            if handler.resolve_guards():
                await handler.authorize_connection(connection=request)
            before_request = handler.resolve_before_request()
            result = await before_request(request) if before_request else None
            if not result:
                arguments = request.path_params
                if handler.parsed_data_field is not None:
                    arguments = {**arguments, "data": await request.json()}
                result = await handler.fn(request=request, **arguments)
            response = await handler.to_response(app=request.app, data=result, request=request)
        except Exception as error:  # noqa: BLE001  # as Litestar does, inside the other middlewares
            response = problem_response(request, error).to_asgi_response(None, request)
        await response(scope, receive, send)
        if after_response := handler.resolve_after_response():
            await after_response(request)


class FastPathPlugin(ReceiveRoutePlugin):
    """Refuses routes with FastPath that declare something which it would ignore."""

    def receive_route(self, route: BaseRoute) -> None:
        """Raise ImproperlyConfiguredException for a route that needs Litestar's own way."""
        if not isinstance(route, HTTPRoute):
            return
        for handler in route.route_handlers:
            if FastPath in handler.resolve_middleware():
                for declaration in ignored_declarations(handler, route.path_parameters):
                    raise ImproperlyConfiguredException(
                        f"{handler} has FastPath, which ignores {declaration}: "
                        "remove FastPath from its middleware, or the declaration"
                    )


def ignored_declarations(
    handler: HTTPRouteHandler, path_parameters: Collection[str]
) -> Iterator[str]:
    """Yield, in words, what the route, its routers and the app declare and FastPath ignores."""
    ignored = {
        "the middleware after it": handler.resolve_middleware()[0]
        is not FastPath,  # innermost first
        "that the handler is a plain function, which needs a thread": handler.has_sync_callable,
        "a request_class of its own": handler.resolve_request_class() is not StrictRequest,
        "a dto": handler.resolve_data_dto() or handler.resolve_return_dto(),
        "cache": handler.cache,
        "exception_handlers": handler.resolve_exception_handlers() != exception_handlers(),
        "after_exception of the app": handler.app.after_exception,
    }
    yield from (words for words, is_declared in ignored.items() if is_declared)
    for name, field in handler.parsed_fn_signature.parameters.items():
        is_path_parameter = name in path_parameters and field.annotation is str
        if not is_path_parameter and name not in {"request", "data"}:
            yield f"the parameter or dependency {name}"
