"""Idempotency: a repeated key and request get the first response, for a day, from every worker.

The response is stored in the transaction that did the work: both are there or neither, whatever is
killed. While that transaction runs, a repetition is refused as in progress.
"""

import hashlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import NamedTuple

import msgspec
from sqlalchemy import delete, func, insert, or_, select
from sqlalchemy.ext.asyncio import AsyncSession

from service.errors import InProgress, KeyReused
from service.models import IdempotencyKey

LIFETIME = 24 * 60 * 60  # seconds
JSON = "application/json"
IN_PROGRESS = "a request with this Idempotency-Key is under way"
SWEEP = 2  # expired rows that each new one removes: the table never holds much more than a day

# no object of the session is meant: the rows are deleted by their keys
WITHOUT_OBJECTS = {"synchronize_session": False}

# the keys in use by this worker, each with its SQLite file
in_progress: set[tuple[str | None, bytes]] = set()


class Key(NamedTuple):
    """A client's key, and the request that it was used for."""

    digest: bytes  # of the client and the key
    request: bytes  # a hash of the request


class StoredResponse(NamedTuple):
    """A response as it is stored, to be repeated."""

    status: int
    headers: dict[str, str]  # with Content-Type, if it has a body
    body: bytes


def key_digest(client: str, key: str) -> bytes:
    """Return the key as it is stored: one client never meets another's."""
    return hashlib.sha256(f"{client}\0{key}".encode()).digest()


@asynccontextmanager
async def exclusive(session: AsyncSession, digest: bytes) -> AsyncIterator[None]:
    """Raise InProgress for repetitions until the transaction ends.

    On PostgreSQL from every worker. SQLite lets one transaction write at a time: there a repetition
    in another worker waits for the first, and finds its response.
    """
    engine = session.get_bind().engine
    if engine.dialect.name == "postgresql":
        lock = int.from_bytes(digest[:8], signed=True)
        if not await session.scalar(select(func.pg_try_advisory_xact_lock(lock))):
            raise InProgress(IN_PROGRESS)
        yield
        return
    key = (engine.url.database, digest)
    if key in in_progress:
        raise InProgress(IN_PROGRESS)
    in_progress.add(key)
    try:
        yield
    finally:
        in_progress.discard(key)


async def once(
    session: AsyncSession, key: Key, work: Callable[[], Awaitable[StoredResponse]]
) -> StoredResponse:
    """Return the stored response to the request, or else do the work and store its response.

    `work` returns what is to be stored, a refusal too, and raises what is not. Raise KeyReused for
    a key of another request. The caller holds `exclusive`.
    """
    unexpired = select(IdempotencyKey).where(
        IdempotencyKey.key == key.digest, IdempotencyKey.expires > now()
    )
    if row := await session.scalar(unexpired):
        if row.request != key.request:
            raise KeyReused("this Idempotency-Key was used for another request")
        # older builds don't store the type of JSON
        headers = {"Content-Type": JSON, **msgspec.json.decode(row.headers, type=dict[str, str])}
        return StoredResponse(row.status, headers, row.body)
    response = await work()
    await store(session, key, response)
    return response


async def store(session: AsyncSession, key: Key, response: StoredResponse) -> None:
    """Add the response; remove an expired one of this key, and a few other expired ones."""
    expired = (
        select(IdempotencyKey.key)
        .where(IdempotencyKey.expires <= now())
        .order_by(IdempotencyKey.expires)
        .limit(SWEEP)
        .with_for_update(skip_locked=True)  # nobody waits for another's sweep
    )
    over = or_(IdempotencyKey.key == key.digest, IdempotencyKey.key.in_(expired))
    await session.execute(delete(IdempotencyKey).where(over), execution_options=WITHOUT_OBJECTS)
    # older builds, which may read it, know the headers by these names
    headers = {name.title(): value for name, value in response.headers.items()}
    await session.execute(
        insert(IdempotencyKey).values(
            key=key.digest,
            request=key.request,
            status=response.status,
            headers=msgspec.json.encode(headers),
            body=response.body,
            expires=now() + LIFETIME,
        )
    )


def now() -> int:
    """Return the seconds since 1970."""
    return int(time.time())
