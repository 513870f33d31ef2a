"""Telling an outage of the database from a fault of ours, in words without secrets."""

import socket
import sqlite3
from collections.abc import Iterator

from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

CONNECTING = {  # SQLSTATE, or its class: why there is no connection
    "08": "the connection was lost",
    "28P01": "the password is wrong",
    "28": "the server does not let this user in",
    "3D000": "there is no database of that name",
    "53300": "the server has no connection to spare",
    "57P": "the server is starting or stopping",
}
WORKING = {  # SQLSTATE: why a query got no answer
    "57014": "the query took too long",
    "55P03": "a lock was held for too long",
    "40": "another transaction was in the way",
    "53": "the server is short of resources",
    "42P01": "the schema is not the one of this build",
    "42703": "the schema is not the one of this build",
    "42501": "this user may not use the schema of this build",
    "0A000": "the schema has just changed under a prepared statement",
}
SQLITE_CONNECTING = {
    sqlite3.SQLITE_CANTOPEN: "the file can't be opened",
    sqlite3.SQLITE_NOTADB: "the file is not an SQLite database",
    sqlite3.SQLITE_READONLY: "the file can't be written",
    sqlite3.SQLITE_IOERR: "the file can't be read or written",
}
SQLITE_WORKING = {
    sqlite3.SQLITE_BUSY: "another process is writing",
    sqlite3.SQLITE_LOCKED: "another connection is writing",
    sqlite3.SQLITE_FULL: "the disk is full",
}


def why_unreachable(error: BaseException) -> str | None:
    """Why there is no connection to the database; None if the error says nothing of the kind."""
    for cause in causes(error):
        if reason := by_state(cause, CONNECTING) or by_sqlite_code(cause, SQLITE_CONNECTING):
            return reason
        if isinstance(cause, OSError):
            return by_kind(cause)
        if isinstance(cause, DBAPIError) and cause.connection_invalidated:
            return "the connection was lost"
        if "connection is closed" in str(cause):  # asyncpg, of one that was lost before
            return "the connection was lost"
    return None


def by_kind(error: OSError) -> str:
    """What the network said."""
    if isinstance(error, socket.gaierror):
        return "there is no host of that name"
    if isinstance(error, ConnectionRefusedError):
        return "nothing listens there"
    if isinstance(error, TimeoutError):
        return "it does not answer in time"
    return error.strerror or "the connection failed"


def is_answer(error: BaseException) -> bool:
    """Whether the database itself said so, and not the driver or the network."""
    return any(
        getattr(cause, "sqlstate", None) or getattr(cause, "sqlite_errorcode", None)
        for cause in causes(error)
    )


def is_lock_timeout(error: BaseException) -> bool:
    """Whether a statement gave up waiting for a lock, on either database."""
    return any(
        getattr(cause, "sqlstate", None) == "55P03"
        or by_sqlite_code(cause, {sqlite3.SQLITE_BUSY: "locked"}) is not None
        for cause in causes(error)
    )


def why_unavailable(error: BaseException) -> str | None:
    """Why the database can't serve this query now; None if that is a fault of ours."""
    if isinstance(error, PoolTimeoutError):
        return "all connections are busy"
    if reason := why_unreachable(error):
        return reason
    for cause in causes(error):
        if reason := by_state(cause, WORKING) or by_sqlite_code(cause, SQLITE_WORKING):
            return reason
        if isinstance(cause, sqlite3.OperationalError) and "no such" in str(cause):
            return "the schema is not the one of this build"
    return None


def causes(error: BaseException) -> Iterator[BaseException]:
    """The error and what it was raised from."""
    cause: BaseException | None = error
    while cause is not None:
        yield cause
        cause = cause.__cause__


def by_state(error: BaseException, reasons: dict[str, str]) -> str | None:
    """Look a driver's error up by its SQLSTATE, then by the beginning of it."""
    state = getattr(error, "sqlstate", None) or ""
    for length in (5, 3, 2):
        if reason := reasons.get(state[:length]):
            return reason
    return None


def by_sqlite_code(error: BaseException, reasons: dict[int, str]) -> str | None:
    """Look an SQLite error up by its primary result code."""
    code = getattr(error, "sqlite_errorcode", None)
    return None if code is None else reasons.get(code & 0xFF)
