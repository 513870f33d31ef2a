"""The app in its lifespan, in the event loop of the test."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, cast

import httpx

from service.app import create_app
from service.settings import Settings


@asynccontextmanager
async def serving(**settings: Any) -> AsyncIterator[httpx.AsyncClient]:
    """Yield a client of an app with these settings, within its lifespan."""
    app = create_app(Settings(**settings))
    ready, finished = asyncio.Event(), asyncio.Event()

    async def live() -> None:
        async with app.lifespan():
            ready.set()
            await finished.wait()

    # pytest runs the two halves of a fixture in two tasks; a lifespan must end in the task in which
    # it began
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(live())
        await ready.wait()
        transport = httpx.ASGITransport(cast("Any", app))  # the same calls, typed more narrowly
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            yield client
        finished.set()
