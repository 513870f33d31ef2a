"""Tell an outage of the database from a fault of ours, in words without secrets.

PostgreSQL's codes (SQLSTATE, Appendix A of its manual) were gone through class by class. What is
listed here is an outage: it ends without the client's or our doing, and the client may try again.
Everything else is the client's fault where a constraint is broken, or ours.
"""

import socket
import sqlite3
from collections.abc import Iterator

import asyncpg
from sqlalchemy.exc import DBAPIError, InvalidRequestError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from service.addresses import why_no_host

LOST = "the connection was lost"
CONNECTION_REASONS = {  # SQLSTATE, or its class: why there is no connection
    "08": LOST,
    "08P01": "the server, or a pooler before it, refused",
    "28P01": "the password is wrong",
    "28": "the server does not let this user in",
    "3D000": "there is no database of that name",
    "53300": "the server has no connection to spare",
    "57P": "the server is starting or stopping",
    "57P04": "the database was dropped",
    "57P05": "the server ended an idle session",
    "25P03": "the server ended a session that was idle in a transaction",
    "25P04": "the transaction took too long",
}
QUERY_REASONS = {  # SQLSTATE, or its class: why a query has no result
    "0A000": "the schema has just changed under a prepared statement",
    "25006": "it is read-only",
    "26000": "a pooler gave the session another server",
    "40": "another transaction was in the way",
    "42501": "this user may not use the schema of this build",
    "42703": "the schema is not the one of this build",
    "42P01": "the schema is not the one of this build",
    "53": "the server is short of resources",
    "53100": "the server's disk is full",
    "53200": "the server is short of memory",
    "54000": "the server accepts no more transactions",  # before its transaction ids run out
    "55000": "the server is not in a state to do this",
    "55006": "what it needs is in use",
    "55P03": "a lock was held for too long",
    "57000": "an operator intervened",
    "57014": "the query took too long",
    "58": "the server can't use its files",
}
SQLITE_CONNECTION_REASONS = {
    sqlite3.SQLITE_CANTOPEN: "the file can't be opened",
    sqlite3.SQLITE_NOTADB: "the file is not an SQLite database",
    sqlite3.SQLITE_IOERR: "the file can't be read or written",
}
SQLITE_QUERY_REASONS = {
    sqlite3.SQLITE_BUSY: "another process is writing",
    sqlite3.SQLITE_LOCKED: "another connection is writing",
    sqlite3.SQLITE_PROTOCOL: "other processes are using the file",
    sqlite3.SQLITE_READONLY: "it is read-only",
    sqlite3.SQLITE_FULL: "the disk is full",
    sqlite3.SQLITE_NOMEM: "there is no memory left",
}


def why_unreachable(error: BaseException) -> str | None:
    """Return why there is no connection to the database; None for any other error."""
    chain = [*causes(error)]
    for cause in chain:  # the server's own words first: what follows from them is less exact
        if reason := by_state(cause, CONNECTION_REASONS) or by_sqlite_code(
            cause, SQLITE_CONNECTION_REASONS
        ):
            return pooler_reason(cause) or reason
    if any(by_state(cause, QUERY_REASONS) for cause in chain):
        return None
    for cause in chain:
        if isinstance(cause, asyncpg.TargetServerAttributeNotMatched):
            return why_no_host(cause)
        if isinstance(cause, OSError):
            return network_reason(cause)
        if is_driver_failure(cause) or is_given_up(cause):
            return LOST
    return None


def pooler_reason(error: BaseException) -> str | None:
    """Return what a pooler says by an error of the protocol; None for any other error.

    PgBouncer has no other code for what it refuses. Its words contain no values but names of
    settings.
    """
    if getattr(error, "sqlstate", None) != "08P01":
        return None
    words = str(getattr(error, "message", None) or error).rpartition(">: ")[2]
    return f"the server, or a pooler before it, refused: {words}"


def network_reason(error: OSError) -> str:
    """Return what the operating system reports, in words."""
    if isinstance(error, socket.gaierror):
        return "there is no host of that name"
    if isinstance(error, ConnectionRefusedError):
        return "nothing listens there"
    if isinstance(error, TimeoutError):
        return "it does not answer in time"
    return error.strerror or "the connection failed"


def is_driver_failure(error: BaseException) -> bool:
    """Return whether the driver itself gave up: a closed connection, or answers out of order."""
    return isinstance(error, asyncpg.InternalClientError) or (
        isinstance(error, asyncpg.InterfaceError)
        # these are about a statement's values, before anything is sent
        and not isinstance(error, ValueError | asyncpg.UnsupportedClientFeatureError)
    )


def is_given_up(error: BaseException) -> bool:
    """Return whether SQLAlchemy gave the connection up, or its pool gave up to replace it."""
    return (isinstance(error, DBAPIError) and error.connection_invalidated) or (
        isinstance(error, InvalidRequestError) and "connection is closed" in str(error)
    )


def was_lost(error: BaseException) -> bool:
    """Return whether the connection is lost, or its state is not certain any more."""
    return has_code(error, "26000") or any(
        isinstance(cause, OSError)
        or is_driver_failure(cause)
        or by_state(cause, CONNECTION_REASONS) is not None
        or is_given_up(cause)
        for cause in causes(error)
    )


def was_never_sent(error: BaseException) -> bool:
    """Return whether the driver refused a statement before it sent anything to the server."""
    return any(
        isinstance(cause, asyncpg.InterfaceError) and not getattr(cause, "sqlstate", None)
        for cause in causes(error)
    )


def is_read_only(error: BaseException) -> bool:
    """Return whether the server refused a write because it only reads, on either database."""
    return has_code(error, "25006", sqlite3.SQLITE_READONLY)


def is_from_database(error: BaseException) -> bool:
    """Return whether the database itself raised the error, not the driver or the network."""
    return any(
        getattr(cause, "sqlstate", None) or getattr(cause, "sqlite_errorcode", None)
        for cause in causes(error)
    )


def is_lock_timeout(error: BaseException) -> bool:
    """Return whether a statement gave up waiting for a lock, on either database."""
    return has_code(error, "55P03", sqlite3.SQLITE_BUSY)


def is_stale_plan(error: BaseException) -> bool:
    """Return whether a prepared statement met a changed schema; prepared anew it works."""
    return has_code(error, "0A000")


def has_code(error: BaseException, state: str, sqlite_code: int | None = None) -> bool:
    """Return whether the error or a cause of it has the SQLSTATE, or SQLite's primary code."""
    return any(
        getattr(cause, "sqlstate", None) == state
        or (sqlite_code is not None and by_sqlite_code(cause, {sqlite_code: state}) is not None)
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
