"""Errors of a database in words that contain no secrets."""

import socket
import sqlite3
from collections.abc import Iterator, Mapping

from sqlalchemy.exc import DBAPIError

CONNECTION_REASONS = {  # SQLSTATE, or its class: why there is no connection
    "08": "the connection was lost",
    "28P01": "the password is wrong",
    "28": "the server does not let this user in",
    "3D000": "there is no database of that name",
    "53300": "the server has no connection to spare",
    "57P": "the server is starting or stopping",
}
SQLITE_CONNECTION_REASONS = {
    sqlite3.SQLITE_CANTOPEN: "the file can't be opened",
    sqlite3.SQLITE_NOTADB: "the file is not an SQLite database",
    sqlite3.SQLITE_READONLY: "the file can't be written",
    sqlite3.SQLITE_IOERR: "the file can't be read or written",
}
NO_RIGHT, NO_SCHEMA = "42501", "3F000"  # SQLSTATEs
IN_USE, UNSUPPORTED = "2BP01", "0A000"  # something depends on it; not with a view on it
POOLED = ("08P01", "26000", "42P05")  # start-up settings refused; prepared statement missing, taken
NO_SESSION = (
    "the address leads through a pooler, and migrating needs a session of its own (for locks, "
    "timeouts and the migration lock): connect to PostgreSQL directly. Nothing was changed"
)


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


def why_refused(error: BaseException) -> str | None:
    """Return what the server doesn't allow the migrator; None for any other error."""
    for cause in causes(error):
        state = getattr(cause, "sqlstate", None)
        if state == NO_RIGHT:
            return f"this role may not do that ({cause}): use the one that owns the tables"
        if state == NO_SCHEMA:
            return f"{cause}: create it first (CREATE SCHEMA), or name another one in env.py"
        if state == IN_USE or (state == UNSUPPORTED and "used by a view" in str(cause)):
            detail = getattr(cause, "detail", None) or "see its definition"
            return (
                f"{cause} ({' '.join(detail.split())}): published versions and other views rely on "
                "it. safely.drop_column, safely.drop_table and safely.change_type leave them be; "
                "python -m safely purge drops versions that no build needs"
            )
        if state in POOLED:
            return NO_SESSION
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


def is_lock_timeout(error: BaseException) -> bool:
    """Return whether a statement gave up waiting for a lock, on either database."""
    return any(
        getattr(cause, "sqlstate", None) == "55P03"
        or by_sqlite_code(cause, {sqlite3.SQLITE_BUSY: "locked"}) is not None
        for cause in causes(error)
    )


def causes(error: BaseException) -> Iterator[BaseException]:
    """Yield the error, the error it was raised from, and so on."""
    cause: BaseException | None = error
    while cause is not None:
        yield cause
        cause = cause.__cause__


def by_state(error: BaseException, reasons: Mapping[str, str]) -> str | None:
    """Return the reason for the error's SQLSTATE, else for its class; None without one."""
    state = getattr(error, "sqlstate", None) or ""
    for length in (5, 3, 2):
        if reason := reasons.get(state[:length]):
            return reason
    return None


def by_sqlite_code(error: BaseException, reasons: Mapping[int, str]) -> str | None:
    """Return the reason for SQLite's primary result code; None without one."""
    code = getattr(error, "sqlite_errorcode", None)
    return None if code is None else reasons.get(code & 0xFF)
