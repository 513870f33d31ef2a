"""The app in its lifespan, in the event loop of the test."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, cast

import httpx

from service.app import create_app
from service.settings import Settings
from tests.lifespan import lifespan


@asynccontextmanager
async def serving(**settings: Any) -> AsyncIterator[httpx.AsyncClient]:
    """Yield a client of an app with these settings, within its lifespan."""
    app = create_app(Settings(**settings))
    async with lifespan(app):
        transport = httpx.ASGITransport(cast("Any", app))  # the same calls, typed more narrowly
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            yield client
