"""Errors of a database in words that contain no secrets."""

import errno
import socket
import sqlite3
import ssl
from collections.abc import Iterator, Mapping

import asyncpg
from sqlalchemy.engine import ExceptionContext
from sqlalchemy.exc import DBAPIError, PendingRollbackError

from safely.addresses import why_no_host

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
PRIMARY_ALONE = "08007"  # SQLSTATE of asyncpg.TransactionResolutionUnknownError; no server sends it
FAILURES = {  # SQLSTATE, or its class: why a server that answers can't do it now
    PRIMARY_ALONE: "stored a COMMIT on the primary alone, since its wait for a synchronous standby "
    "was cancelled, so a failover may take it back (see to it that a standby is there)",
    "25006": "is read-only (a standby, or default_transaction_read_only is on)",
    "25P": "ended the transaction, which had taken longer than a timeout of the server allows",
    "40P01": "ended a deadlock with another session",
    "40": "has another transaction in the way",
    "53100": "has no room left on its disk",
    "53200": "is out of memory",
    "53": "is short of resources",
    "54": "has met one of its limits",
    "55P03": "has a lock that another session held for too long",
    "57014": "was told to cancel the statement",
    "58": "has met an error of its operating system",
    "F0": "has a configuration file that it can't read",
    "XX001": "reports damaged data",
    "XX002": "reports a damaged index",
    "XX": "reports an error of its own",
}
SQLITE_FAILURES = {
    sqlite3.SQLITE_BUSY: "is being written by another process",
    sqlite3.SQLITE_LOCKED: "is being written by another connection",
    sqlite3.SQLITE_FULL: "has no room left on its disk",
    sqlite3.SQLITE_CORRUPT: "is damaged",
    sqlite3.SQLITE_NOMEM: "needs more memory than there is",
    sqlite3.SQLITE_PROTOCOL: "is being written by too many processes",
}
DETAILED = ("53", "54", "58", "XX")  # classes whose messages name the file or the limit
ABORTED = "25P02"  # the transaction has failed already: the error before tells why
CLOSED = ("connection is closed", "connection was closed", "connection has been released")
OURS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EMFILE, errno.ENFILE, errno.ENOMEM)
LOST = "the connection was lost"
OF_MIGRATOR = "is_of_migrator"  # an attribute of exceptions
NO_RIGHT, NO_SCHEMA = "42501", "3F000"  # SQLSTATEs
IN_USE, UNSUPPORTED = "2BP01", "0A000"  # something depends on it; not with a view on it
WRONG_OPTIONS = ("42601", "42704", "22023", "55P02")  # no such setting, no such value, not now
POOLED = ("08P01", "26000", "42P05")  # start-up settings refused; prepared statement missing, taken
NO_SESSION = (
    "the address leads through a pooler, and migrating needs a session of its own (for locks, "
    "timeouts and the migration lock): connect to PostgreSQL directly. Nothing was changed"
)


def why_unreachable(error: BaseException) -> str | None:
    """Return why there is no connection to the database; None for any other error."""
    for cause in causes(error):
        if getattr(cause, "sqlstate", None) == PRIMARY_ALONE:
            return None
        if reason := by_state(cause, CONNECTION_REASONS) or by_sqlite_code(
            cause, SQLITE_CONNECTION_REASONS
        ):
            return reason
        if isinstance(cause, asyncpg.TargetServerAttributeNotMatched):
            return why_no_host(cause)
        if isinstance(cause, OSError) and cause.errno not in OURS:
            return network_reason(cause)
        if is_disconnection(cause):
            return LOST
    return None


def note_migrators(context: ExceptionContext) -> None:
    """Mark an error as one of the migrator's connection; a listener of `handle_error`."""
    setattr(context.original_exception, OF_MIGRATOR, True)


def is_migrators(error: BaseException) -> bool:
    """Return whether an error came from the migrator's connection, and not from another one."""
    return any(getattr(cause, OF_MIGRATOR, False) for cause in causes(error))


def is_about_a_connection(error: BaseException) -> bool:
    """Return whether an error tells of some connection, file or server that fails."""
    about = (why_unreachable, why_failing, why_not_here, why_refused)
    return any(why(error) is not None for why in about)


def is_disconnection(error: BaseException) -> bool:
    """Return whether a driver, or SQLAlchemy, says by this error that the connection is gone."""
    return (
        (isinstance(error, DBAPIError) and error.connection_invalidated)
        # asyncpg, of an answer that does not belong to the question
        or isinstance(error, asyncpg.InternalClientError)
        # of a clean-up after the connection was lost
        or (isinstance(error, PendingRollbackError) and "Can't reconnect" in str(error))
        # asyncpg, of one that was lost before
        or any(words in str(error) for words in CLOSED)
    )


def why_failing(error: BaseException) -> str | None:
    """Return what a database that answers has met, as the rest of a sentence about it.

    Such as `has no room left on its disk`. None for any other error.
    """
    for cause in causes(error):
        state = str(getattr(cause, "sqlstate", None))
        if state != ABORTED and (reason := by_state(cause, FAILURES)):
            return f"{reason}: {first_line(cause)}" if state[:2] in DETAILED else reason
        if reason := by_sqlite_code(cause, SQLITE_FAILURES):
            return reason
    return None


def why_not_here(error: BaseException) -> str | None:
    """Return what this machine has met, such as a full disk; None for any other error."""
    for cause in causes(error):
        if isinstance(cause, OSError) and cause.errno in OURS:
            return str(cause.strerror)
    return None


def first_line(error: BaseException) -> str:
    """Return the first line of a message of the server; the next ones may hold a row."""
    return str(error).partition("\n")[0]


def why_refused(error: BaseException) -> str | None:
    """Return what the server doesn't allow the migrator; None for any other error."""
    for cause in causes(error):
        state = getattr(cause, "sqlstate", None)
        if state == NO_RIGHT and "row-level security" in str(cause):
            return (
                f"{cause}: a migration must see every row, and FORCE ROW LEVEL SECURITY hides some "
                "from the owner, too. Give the role that migrates BYPASSRLS (ALTER ROLE …)"
            )
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


def why_no_session(error: BaseException, *, has_options: bool) -> str | None:
    """Return why a session can't be set up as it is configured; None for other errors.

    `has_options`: the address has `options`, which the server may refuse while it is connected to.
    """
    for cause in causes(error):
        if isinstance(cause, asyncpg.ClientConfigurationError):
            return f"the connection is configured wrongly (address, or variables PG…): {cause}"
    if not (has_options and isinstance(error, DBAPIError) and error.statement is None):
        return None
    for cause in causes(error):
        if getattr(cause, "sqlstate", None) in WRONG_OPTIONS:
            return f"the server refuses the options in the database's address: {first_line(cause)}"
    return None


def network_reason(error: OSError) -> str:
    """Return what the operating system reports, in words."""
    if isinstance(error, socket.gaierror):
        return "there is no host of that name"
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate can't be trusted ({error.verify_message})"
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
    """Yield the error, the one it was raised from, and so on; of a group also its members.

    Where cleaning up after an error has failed as well, the first error is among them.
    """
    cause: BaseException | None = error
    while cause is not None:
        yield cause
        if isinstance(cause, BaseExceptionGroup):
            for member in cause.exceptions:
                yield from causes(member)
        before = None if cause.__suppress_context__ else cause.__context__
        cause = cause.__cause__ or before


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
