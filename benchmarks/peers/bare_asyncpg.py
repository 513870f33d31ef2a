"""The practical limit: an ASGI function, a pool of asyncpg and nothing else, on granian.

The pool is as asyncpg's documentation has it or, with RESET=0, as fast as it can be.
"""

import os
from collections.abc import Awaitable, Callable, MutableMapping
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qsl

import asyncpg
import msgspec

from benchmarks.peers.serving import serve

FIELDS = "id, full_name, email, age"
LOOKUP = f"SELECT {FIELDS} FROM users WHERE id = $1"
PAGE = f"SELECT {FIELDS} FROM users WHERE id > $1 ORDER BY id LIMIT $2"
CREATE = f"INSERT INTO users (full_name, email, age) VALUES ($1, $2, $3) RETURNING {FIELDS}"
POOL = 10  # connections, as many as the service has; 32 are slower

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


class User(msgspec.Struct):
    """A row."""

    id: int
    full_name: str
    email: str | None
    age: int | None


class NewUser(msgspec.Struct):
    """What creates one."""

    full_name: str
    email: str | None = None
    age: int | None = None


class Page(msgspec.Struct):
    """A stretch of the table."""

    items: list[User]
    next: int | None


class Users:
    """The application."""

    pool: asyncpg.Pool

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answer a request, or open and close the pool."""
        if scope["type"] == "lifespan":
            await self.live(receive, send)
            return
        status, answer = await self.answer(scope, receive)
        body = msgspec.json.encode(answer)
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", str(len(body)).encode()),
        ]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    async def live(self, receive: Receive, send: Send) -> None:
        """The pool is there as long as the worker."""
        await receive()
        # RESET=0: the server is not asked to reset each connection that is given back, which takes
        # as long as the query; SQLAlchemy's pool doesn't ask either
        reset = leave if os.environ.get("RESET") == "0" else None
        async with asyncpg.create_pool(
            os.environ["DATABASE_URL"], min_size=POOL, max_size=POOL, reset=reset
        ) as self.pool:
            await send({"type": "lifespan.startup.complete"})
            await receive()
        await send({"type": "lifespan.shutdown.complete"})

    async def answer(self, scope: Message, receive: Receive) -> tuple[int, Any]:
        """The status, and what is to be sent as JSON."""
        if scope["method"] == "POST":
            return HTTPStatus.CREATED, await self.create(await read(receive))
        if scope["path"] == "/users":
            query = dict(parse_qsl(scope["query_string"].decode()))
            return HTTPStatus.OK, await self.page(
                int(query.get("limit", 50)), int(query.get("after", 0))
            )
        row = await self.pool.fetchrow(LOOKUP, int(scope["path"].removeprefix("/users/")))
        return (HTTPStatus.NOT_FOUND, None) if row is None else (HTTPStatus.OK, User(*row))

    async def page(self, limit: int, after: int) -> Page:
        """A page by keyset; one row more tells whether there is a next."""
        users = [User(*row) for row in await self.pool.fetch(PAGE, after, limit + 1)]
        more = len(users) > limit
        return Page(users[:limit], users[limit - 1].id if more else None)

    async def create(self, body: bytes) -> User:
        """Keep a new user."""
        new = msgspec.json.decode(body, type=NewUser)
        row = await self.pool.fetchrow(CREATE, new.full_name, new.email, new.age)
        return User(*row)


async def leave(_: asyncpg.Connection) -> None:
    """Nothing was changed that would have to be reset."""


async def read(receive: Receive) -> bytes:
    """The whole body."""
    message = await receive()
    body: bytes = message["body"]
    while message.get("more_body"):
        message = await receive()
        body += message["body"]
    return body


if __name__ == "__main__":
    serve("__main__:Users")
