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
    app = create_app(Settings(**settings))
    ready, over = asyncio.Event(), asyncio.Event()

    async def live() -> None:
        async with app.lifespan():
            ready.set()
            await over.wait()

    # a task of its own: a fixture's two halves run in two, and a lifespan must end where it began
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(live())
        await ready.wait()
        transport = httpx.ASGITransport(cast("Any", app))  # the same calls, typed more narrowly
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            yield client
        over.set()
