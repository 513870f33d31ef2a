"""Requests with an Idempotency-Key: their work is done once, and its response repeated."""

import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from litestar import Response
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from service import idempotency
from service.database import Database, written
from service.errors import ImportRefused
from service.http import problems
from service.http.parameters import IF_MATCH, IF_NONE_MATCH, idempotency_key
from service.http.read_after import note_written
from service.http.requests import JSON, StrictRequest
from service.idempotency import Key, StoredResponse

Work = Callable[[AsyncSession], Awaitable[Response[Any]]]


async def write_session(request: StrictRequest) -> AsyncIterator[AsyncSession]:
    """Yield a session in one transaction: the dependency `session` of routes.

    Litestar commits by it before the response starts, so a failed commit reaches the client.
    """
    database: Database = request.app.state.database
    async with database.write() as session:
        yield session
    note_written(request, written(session))


async def respond_once(request: StrictRequest, digest: bytes, work: Work) -> Response[Any]:
    """Return the stored response to a request whose body is read as a whole, or else do the work.

    `digest` is that of the request's key. Raise InProgress while the first request with it is
    running, KeyReused for a key of another request.
    """
    body = hashlib.sha256(await request.body()).digest()
    async with (
        request.app.state.database.write() as session,
        idempotency.exclusive(session, digest),
    ):
        key = Key(digest, fingerprint(request, body))
        response = await respond_in(session, request, key, work)
    note_written(request, written(session))
    return response


async def respond_in_session(
    request: StrictRequest, session: AsyncSession, work: Work
) -> Response[Any]:
    """Do the work in this transaction; with an Idempotency-Key once, as `respond_once` does."""
    if (digest := key_digest(request)) is None:
        return await work(session)
    body = hashlib.sha256(await request.body()).digest()
    async with idempotency.exclusive(session, digest):
        return await respond_in(session, request, Key(digest, fingerprint(request, body)), work)


async def respond_in(
    session: AsyncSession, request: StrictRequest, key: Key, work: Work
) -> Response[Any]:
    """Return the stored response, or else do the work in this transaction and store its response.

    A refusal by the database's rules is stored, too: the work is undone, and the transaction goes
    on without it. The caller holds `idempotency.exclusive`.
    """

    async def stored_work() -> StoredResponse:
        try:
            async with session.begin_nested():
                response = await work(session)
        except (ImportRefused, IntegrityError) as error:
            response = problems.problem_response(request, error)
        return stored_response(response)

    return response_of(await idempotency.once(session, key, stored_work))


def key_digest(request: StrictRequest) -> bytes | None:
    """Return the request's key as it is stored, None without one; raise InvalidInput."""
    key = idempotency_key(request)
    return None if key is None else idempotency.key_digest(request.auth.token, key)


def fingerprint(request: StrictRequest, body: bytes) -> bytes:
    """Return what tells the request from others with the same key; `body` is the body's hash."""
    # not request.url: it fails for a Host that is none, and for a query that is not UTF-8
    path, query = request.scope["path"], request.scope["query_string"].decode("latin-1")
    body_type = request.body_type()
    charset = "" if body_type.is_utf8 else f";{body_type.charset}"
    head = f"{request.method} {path}?{query}\0{body_type.media_type}{charset}\0"
    # under other conditions it is another request: the first response would say that they are met
    for name in (IF_MATCH, IF_NONE_MATCH):
        head += "".join(f"{name.name}: {line}\0" for line in request.lines_of(name.key))
    return hashlib.sha256(head.encode() + body).digest()


def stored_response(response: Response[Any]) -> StoredResponse:
    """Return a response in the form in which it is stored."""
    headers = {"Content-Type": str(response.media_type or JSON), **response.headers}
    return StoredResponse(response.status_code or 200, headers, response.content)


def response_of(stored: StoredResponse) -> Response[Any]:
    """Return a stored response in the form in which it is sent."""
    headers = dict(stored.headers)
    media_type = headers.pop("Content-Type")
    return Response(stored.body, headers=headers, status_code=stored.status, media_type=media_type)
