"""Tell an outage of the database from a fault of ours, in words without secrets."""

import socket
import sqlite3
from collections.abc import Iterator

from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

CONNECTION_REASONS = {  # SQLSTATE, or its class: why there is no connection
    "08": "the connection was lost",
    "28P01": "the password is wrong",
    "28": "the server does not let this user in",
    "3D000": "there is no database of that name",
    "53300": "the server has no connection to spare",
    "57P": "the server is starting or stopping",
}
QUERY_REASONS = {  # SQLSTATE: why a query has no result
    "57014": "the query took too long",
    "55P03": "a lock was held for too long",
    "40": "another transaction was in the way",
    "53": "the server is short of resources",
    "42P01": "the schema is not the one of this build",
    "42703": "the schema is not the one of this build",
    "42501": "this user may not use the schema of this build",
    "0A000": "the schema has just changed under a prepared statement",
}
SQLITE_CONNECTION_REASONS = {
    sqlite3.SQLITE_CANTOPEN: "the file can't be opened",
    sqlite3.SQLITE_NOTADB: "the file is not an SQLite database",
    sqlite3.SQLITE_READONLY: "the file can't be written",
    sqlite3.SQLITE_IOERR: "the file can't be read or written",
}
SQLITE_QUERY_REASONS = {
    sqlite3.SQLITE_BUSY: "another process is writing",
    sqlite3.SQLITE_LOCKED: "another connection is writing",
    sqlite3.SQLITE_FULL: "the disk is full",
}


def why_unreachable(error: BaseException) -> str | None:
    """Return why there is no connection to the database; None for any other error."""
    for cause in causes(error):
        if reason := by_state(cause, CONNECTION_REASONS) or by_sqlite_code(
            cause, SQLITE_CONNECTION_REASONS
        ):
            return reason
        if isinstance(cause, OSError):
            return network_reason(cause)
        if isinstance(cause, DBAPIError) and cause.connection_invalidated:
            return "the connection was lost"
        if "connection is closed" in str(cause):  # asyncpg, of one that was lost before
            return "the connection was lost"
    return None


def network_reason(error: OSError) -> str:
    """Return what the operating system reports, in words."""
    if isinstance(error, socket.gaierror):
        return "there is no host of that name"
    if isinstance(error, ConnectionRefusedError):
        return "nothing listens there"
    if isinstance(error, TimeoutError):
        return "it does not answer in time"
    return error.strerror or "the connection failed"


def is_from_database(error: BaseException) -> bool:
    """Return whether the database itself raised the error, not the driver or the network."""
    return any(
        getattr(cause, "sqlstate", None) or getattr(cause, "sqlite_errorcode", None)
        for cause in causes(error)
    )


def is_lock_timeout(error: BaseException) -> bool:
    """Return whether a statement gave up waiting for a lock, on either database."""
    return any(
        getattr(cause, "sqlstate", None) == "55P03"
        or by_sqlite_code(cause, {sqlite3.SQLITE_BUSY: "locked"}) is not None
        for cause in causes(error)
    )


def why_unavailable(error: BaseException) -> str | None:
    """Return why the database can't run this query now; None if the fault is ours."""
    if isinstance(error, PoolTimeoutError):
        return "all connections are busy"
    if reason := why_unreachable(error):
        return reason
    for cause in causes(error):
        if reason := by_state(cause, QUERY_REASONS) or by_sqlite_code(cause, SQLITE_QUERY_REASONS):
            return reason
        if isinstance(cause, sqlite3.OperationalError) and "no such" in str(cause):
            return "the schema is not the one of this build"
    return None


def causes(error: BaseException) -> Iterator[BaseException]:
    """Yield the error, the error it was raised from, and so on; of a group also its members.

    Litestar raises a group where a session can't be closed after its handler has failed.
    """
    cause: BaseException | None = error
    while cause is not None:
        yield cause
        if isinstance(cause, BaseExceptionGroup):
            for member in cause.exceptions:
                yield from causes(member)
        cause = cause.__cause__


def by_state(error: BaseException, reasons: dict[str, str]) -> str | None:
    """Return the reason for the error's SQLSTATE, else for its class; None without one."""
    state = getattr(error, "sqlstate", None) or ""
    for length in (5, 3, 2):
        if reason := reasons.get(state[:length]):
            return reason
    return None


def by_sqlite_code(error: BaseException, reasons: dict[int, str]) -> str | None:
    """Return the reason for SQLite's primary result code; None without one."""
    code = getattr(error, "sqlite_errorcode", None)
    return None if code is None else reasons.get(code & 0xFF)
