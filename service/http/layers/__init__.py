"""The layers around the app: each is a function from an ASGI app to an ASGI app."""

from collections.abc import Callable, Iterator
from functools import partial

from litestar.config.cors import CORSConfig
from litestar.types import ASGIApp

from service.auth.access import Access
from service.http.layers.cors import UnknownOrigins
from service.http.layers.head import HeadAndOptions
from service.http.layers.observation import Observation
from service.http.layers.rate_limit_headers import RateLimitHeaders
from service.http.layers.unread_body import UnreadBody

Layer = Callable[[ASGIApp], ASGIApp]


def layers(observation: Observation, access: Access, cors: CORSConfig | None) -> Iterator[Layer]:
    """Yield the layers around the app, the outermost first."""
    yield observation  # sees every request, also those that the framework refuses
    yield HeadAndOptions
    yield UnreadBody
    if access.limiter is not None:
        yield partial(RateLimitHeaders, policy=access.limiter.policy)
    if cors is not None:
        yield partial(UnknownOrigins, config=cors)


def wrap(app: ASGIApp, around: Iterator[Layer]) -> ASGIApp:
    """Return the app inside its layers."""
    for layer in reversed([*around]):
        app = layer(app)
    return app
