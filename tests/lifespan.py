"""The lifespan of an ASGI app, as a server drives it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, cast

from litestar.types import ASGIApp


@asynccontextmanager
async def lifespan(app: ASGIApp) -> AsyncIterator[None]:
    """Start the app, and shut it down at the end of the block.

    The app runs in a task of its own: a fixture's two halves run in two, and a lifespan must end
    in the task in which it began.
    """
    to_app: asyncio.Queue[Any] = asyncio.Queue()
    from_app: asyncio.Queue[Any] = asyncio.Queue()
    scope = {"type": "lifespan", "asgi": {"version": "3.0"}, "state": {}}

    async def exchange(event: str) -> None:
        await to_app.put({"type": f"lifespan.{event}"})
        message = await from_app.get()
        assert message["type"] == f"lifespan.{event}.complete", message

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(cast("Any", app)(scope, to_app.get, from_app.put))
        await exchange("startup")
        yield
        await exchange("shutdown")
