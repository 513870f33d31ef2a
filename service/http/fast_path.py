"""A fast path for the routes that are asked most: a handler is called without Litestar's machinery.

For each request Litestar extracts a handler's arguments one by one, converts them by a model of its
signature, keeps a stack for what its dependencies clean up, and makes its response anew to merge
headers and cookies. For a lookup that takes longer than its share of a batched query
(docs/performance.md says what the fast path gives).

`FastPath` is the last middleware of such a route. Guards, `before_request` and the app's exception
handler work as on every route. A route that declares anything else that the fast path would ignore
(`ignored_declarations`) is refused when the app is created.
"""

from collections.abc import Collection, Iterator
from typing import cast

from litestar.exceptions import ImproperlyConfiguredException
from litestar.handlers import HTTPRouteHandler
from litestar.middleware import DefineMiddleware
from litestar.plugins import ReceiveRoutePlugin
from litestar.response import Response
from litestar.routes import BaseRoute, HTTPRoute
from litestar.status_codes import HTTP_200_OK
from litestar.types import ASGIApp, Receive, Scope, Send

from service.http.problems import exception_handlers, problem_response
from service.http.requests import JSON, StrictRequest


class FastPath:
    """The last middleware of a route, which answers in place of Litestar's own way to the handler.

    The handler gets the request, the path parameters as text, and the body as `data` if its
    signature has it. It returns a Response whose content is encoded; any other result goes
    Litestar's way from there.
    """

    def __init__(self, app: ASGIApp) -> None:
        """Ignore the app: it is Litestar's own way to the handler."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send what the handler returns, or the problem document of its exception."""
        handler = cast("HTTPRouteHandler", scope["route_handler"])
        request = StrictRequest(scope, receive, send)
        try:
            if handler.resolve_guards():
                await handler.authorize_connection(connection=request)
            before_request = handler.resolve_before_request()
            response = await before_request(request) if before_request else None
            if not response:
                arguments = request.path_params
                if handler.parsed_data_field is not None:
                    arguments = {**arguments, "data": await request.json()}
                response = await handler.fn(request=request, **arguments)
        except Exception as error:  # noqa: BLE001  # as Litestar does, inside the other middlewares
            response = problem_response(request, error)
        body = response.content if isinstance(response, Response) else None
        if not isinstance(body, bytes) or response.cookies or response.background:
            app = await handler.to_response(app=request.app, data=response, request=request)
            await app(scope, receive, send)
            return
        headers = [
            (name.lower().encode(), value.encode()) for name, value in response.headers.items()
        ]
        if body:
            headers.append((b"content-type", str(response.media_type or JSON).encode()))
            headers.append((b"content-length", b"%d" % len(body)))
        status = response.status_code or handler.status_code or HTTP_200_OK
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body, "more_body": False})


class FastPathPlugin(ReceiveRoutePlugin):
    """Refuses routes with FastPath that declare something which it would ignore."""

    def receive_route(self, route: BaseRoute) -> None:
        """Raise ImproperlyConfiguredException for a route that needs Litestar's own way."""
        if not isinstance(route, HTTPRoute):
            return
        typed_as_text = {
            name for name, parameter in route.path_parameters.items() if parameter.type is str
        }
        for handler in route.route_handlers:
            middleware = [
                each.middleware if isinstance(each, DefineMiddleware) else each
                for each in handler.resolve_middleware()
            ]
            if FastPath in middleware:
                declarations = [*ignored_declarations(handler, typed_as_text)]
                if middleware[0] is not FastPath:  # the innermost is the first
                    declarations.append("the middleware after it")
                if declarations or {*route.path_parameters} != typed_as_text:
                    raise ImproperlyConfiguredException(
                        f"{handler} has FastPath, which ignores "
                        f"{', '.join(declarations) or 'the types of its path parameters'}: "
                        "remove FastPath from its middleware, or the declaration"
                    )


def ignored_declarations(handler: HTTPRouteHandler, path: Collection[str]) -> Iterator[str]:
    """Yield, in words, what the route, its routers and the app declare and FastPath ignores.

    `path` has the names of the path parameters that are text.
    """
    layers = handler.ownership_layers
    headers = handler.resolve_response_headers()
    ignored = {
        "that it is a plain function, which needs a thread": handler.has_sync_callable,
        "a request_class of its own": handler.resolve_request_class() is not StrictRequest,
        "a dto": handler.resolve_data_dto() or handler.resolve_return_dto(),
        "cache": handler.cache,
        "background": handler.background,
        "exception_handlers": handler.resolve_exception_handlers() != exception_handlers(),
        "after_request": any(getattr(layer, "after_request", None) for layer in layers),
        "after_response": handler.resolve_after_response(),
        "response_headers": [header for header in headers if not header.documentation_only],
        "response_cookies": handler.resolve_response_cookies(),
        "response_class": handler.resolve_response_class() is not Response,
        "layered parameters": handler.resolve_layered_parameters(),
        "type_decoders": any(getattr(layer, "type_decoders", None) for layer in layers[1:]),
        "type_encoders": any(getattr(layer, "type_encoders", None) for layer in layers[1:]),
        "after_exception of the app": handler.app.after_exception,
        "pdb_on_exception of the app": handler.app.pdb_on_exception,
    }
    yield from (words for words, is_declared in ignored.items() if is_declared)
    signature = handler.parsed_fn_signature.parameters
    if "request" not in signature:
        yield "that the handler takes no request"
    yield from (f"the path parameter {name}" for name in path if name not in signature)
    for name, field in signature.items():
        constraints = getattr(field.kwarg_definition, "is_constrained", False)
        is_other_than_text = field.annotation is not str or constraints
        if name not in {"request", "data", *path} or (name in path and is_other_than_text):
            yield f"the parameter or dependency {name}"
