"""The same key and the same request: the same answer, for a day, in every worker.

What a request was answered is kept in the transaction that did what it asked for: there are both
or neither, whatever is killed. While that transaction runs, a repetition is told so.
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
from service.http.answers import JSON, Answer, header
from service.models import IdempotencyKey

KEPT = 24 * 60 * 60  # seconds
SWEPT = 2  # expired answers that each new one removes: the table never holds much more than a day

AS_IT_IS = {"synchronize_session": False}  # no object of the session is meant

running: set[tuple[str | None, bytes]] = set()  # the file and the key, in this worker (SQLite)


class Key(NamedTuple):
    """Whose key it is, and for which request."""

    digest: bytes
    request: bytes  # a hash of what was asked


def key_of(client: str, key: str) -> bytes:
    """The key as it is kept: one client never meets another's."""
    return hashlib.sha256(f"{client}\0{key}".encode()).digest()


@asynccontextmanager
async def alone(session: AsyncSession, digest: bytes) -> AsyncIterator[None]:
    """Keep repetitions away until the transaction ends; raise InProgress for them.

    On PostgreSQL in every worker. SQLite lets one transaction write at a time: there a repetition
    in another worker waits for the first, and finds its answer.
    """
    under_way = InProgress("a request with this Idempotency-Key is under way")
    engine = session.get_bind().engine
    if engine.dialect.name == "postgresql":
        number = int.from_bytes(digest[:8], signed=True)
        if not await session.scalar(select(func.pg_try_advisory_xact_lock(number))):
            raise under_way
        yield
        return
    mine = (engine.url.database, digest)
    if mine in running:
        raise under_way
    running.add(mine)
    try:
        yield
    finally:
        running.discard(mine)


async def once(session: AsyncSession, key: Key, work: Callable[[], Awaitable[Answer]]) -> Answer:
    """What the request was answered, or what `work` answers it now; inside `alone`.

    `work` answers what shall be kept, a refusal too, and raises what shall not. Raises KeyReused.
    """
    kept = select(IdempotencyKey).where(
        IdempotencyKey.key == key.digest, IdempotencyKey.expires > now()
    )
    if found := await session.scalar(kept):
        if found.request != key.request:
            raise KeyReused("this Idempotency-Key was used for another request")
        # an older build does not say it of JSON
        headers = {"Content-Type": JSON, **msgspec.json.decode(found.headers, type=dict[str, str])}
        return Answer(found.status, tuple(header(*each) for each in headers.items()), found.body)
    answer = await work()
    await keep(session, key, answer)
    return answer


async def keep(session: AsyncSession, key: Key, answer: Answer) -> None:
    """Add the answer, and remove a few that have expired, an older one of this key among them."""
    expired = (
        select(IdempotencyKey.key)
        .where(IdempotencyKey.expires <= now())
        .order_by(IdempotencyKey.expires)
        .limit(SWEPT)
        .with_for_update(skip_locked=True)  # nobody waits for another's sweeping
    )
    over = or_(IdempotencyKey.key == key.digest, IdempotencyKey.key.in_(expired))
    await session.execute(delete(IdempotencyKey).where(over), execution_options=AS_IT_IS)
    # older builds, which may read it, know Content-Type by this name
    headers = {name.decode().title(): value.decode() for name, value in answer.headers}
    await session.execute(
        insert(IdempotencyKey).values(
            key=key.digest,
            request=key.request,
            status=answer.status,
            headers=msgspec.json.encode(headers),
            body=answer.body,
            expires=now() + KEPT,
        )
    )


def now() -> int:
    """Seconds since 1970."""
    return int(time.time())
