"""The layers around the app, which create_app lists in their order, and middlewares of routes."""

from collections.abc import Callable

from litestar.types import ASGIApp

Layer = Callable[[ASGIApp], ASGIApp]
