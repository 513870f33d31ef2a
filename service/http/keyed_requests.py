"""Requests with an Idempotency-Key: work that is done once, and its response repeated."""

import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from typing import Any

from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from service import idempotency
from service.errors import ImportRefused
from service.http import problems
from service.http.parameters import idempotency_key
from service.http.requests import StrictRequest
from service.http.responses import EncodedResponse
from service.idempotency import Key, StoredResponse

Work = Callable[[AsyncSession], Awaitable[EncodedResponse[Any]]]


class KeyedRequest:
    """A request with an Idempotency-Key, and the transaction in which it is answered."""

    def __init__(self, request: StrictRequest, session: AsyncSession, key: Key) -> None:
        self.request = request
        self.session = session
        self.key = key

    async def respond(self, work: Work) -> EncodedResponse[Any]:
        """Return the stored response, or else do the work and store its response.

        A refusal by the database's rules is stored, too: the work is undone, the transaction goes
        on without it.
        """
        stored = await idempotency.once(self.session, self.key, partial(self.stored_work, work))
        return response_of(stored)

    async def stored_work(self, work: Work) -> StoredResponse:
        """Return what the work responds, or its refusal."""
        try:
            async with self.session.begin_nested():
                response = await work(self.session)
        except (ImportRefused, IntegrityError) as error:
            response = problems.problem_response(self.request, error)
        return stored_response(response)


async def keyed_request(request: StrictRequest) -> AsyncIterator[KeyedRequest | None]:
    """Yield a request with an Idempotency-Key in its transaction; None for one without a key.

    A dependency of routes whose body is read as a whole. Raise InvalidInput for a malformed key,
    InProgress while the first request with it is running.
    """
    digest = key_digest(request)
    if digest is None:
        yield None
        return
    key = Key(digest, fingerprint(request, hashlib.sha256(await request.body()).digest()))
    async with (
        request.app.state.database.write() as session,
        idempotency.exclusive(session, digest),
    ):
        yield KeyedRequest(request, session, key)


def key_digest(request: StrictRequest) -> bytes | None:
    """Return the request's key as it is stored, None without one; raise InvalidInput."""
    key = idempotency_key(request)
    return None if key is None else idempotency.key_digest(request.auth.token, key)


def fingerprint(request: StrictRequest, body: bytes) -> bytes:
    """Return what tells the request from others with the same key; `body` is the body's hash."""
    head = f"{request.method} {request.url.path}?{request.url.query}\0{request.content_type[0]}\0"
    return hashlib.sha256(head.encode() + body).digest()


def stored_response(response: EncodedResponse[Any]) -> StoredResponse:
    """Return a response in the form in which it is stored."""
    headers = {"Content-Type": str(response.media_type), **response.headers}
    return StoredResponse(response.status_code or 200, headers, response.content)


def response_of(stored: StoredResponse) -> EncodedResponse[Any]:
    """Return a stored response in the form in which it is sent."""
    headers = dict(stored.headers)
    media_type = headers.pop("Content-Type")
    return EncodedResponse(stored.body, headers, status_code=stored.status, media_type=media_type)
