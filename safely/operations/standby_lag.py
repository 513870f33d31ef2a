"""Waits for standbys that lag, between batches and before statements that take long (PostgreSQL).

The wait holds no transaction, no snapshot and no lock but the migration lock: what the revision has
done before is committed.
"""

import asyncio
import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

from sqlalchemy import Connection
from sqlalchemy.exc import SQLAlchemyError

from safely.operations.connection import Refused
from safely.standbys import WAITING, Standby, standbys
from safely.words import duration, size

LOOK = 0.2  # seconds between two looks at the standbys; one takes less than a millisecond
SECONDS_BETWEEN_LINES = 5.0

# inactive slots for which the server keeps more WAL than max_wal_size
SLOTS = """\
SELECT slot_name, (pg_current_wal_lsn() - restart_lsn)::bigint FROM pg_replication_slots
WHERE NOT active AND wal_status IN ('extended', 'unreserved') ORDER BY 1"""

log = logging.getLogger("safely")


@dataclass
class LagLimit:
    """How far standbys may be behind while a migration goes on."""

    seconds: float
    is_given: bool
    """Whether the operator set it: then a lag that can't be read is refused."""
    ignored: frozenset[str]
    """The names of standbys that are never waited for, such as one that replays an hour later."""
    patience: float
    """Seconds until a wait is given up."""
    lock_key: int
    """The key of the migration lock."""
    looked: float = field(default=0.0, init=False)

    def behind(self, connection: Connection) -> list[Standby]:
        """Return the standbys that lag too much; raise Refused as `readable` does."""
        self.looked = time.monotonic()
        readable, _ = self.readable(connection)
        return [one for one in readable if one.lags_more_than(self.seconds)]

    def readable(self, connection: Connection) -> tuple[list[Standby], list[str]]:
        """Return the standbys whose lag this role may see, and the names of the others.

        Those that are ignored are left out. Raise Refused where the operator has set the limit, and
        there are others.
        """
        every = [one for one in standbys(connection) if one.name not in self.ignored]
        hidden = sorted({one.name for one in every if not one.is_readable})
        if hidden and self.is_given:
            raise Refused(f"-x max_lag can't be obeyed: {cannot_read(connection, hidden)}")
        return [one for one in every if one.is_readable], hidden

    def wait(self, connection: Connection) -> None:
        """Wait until no standby lags too much; look at most every 200 ms.

        Raise Refused where one still does after `patience` seconds.
        """
        if time.monotonic() - self.looked < LOOK or not (behind := self.behind(connection)):
            return
        began, logged = time.monotonic(), float("-inf")
        with announced(connection, self):
            while behind:
                names = ", ".join(map(str, behind))
                if time.monotonic() - began > self.patience:
                    ignored = ",".join(sorted({*self.ignored, *(one.name for one in behind)}))
                    raise Refused(
                        f"gave up after {self.patience:g} s: a standby is still more than "
                        f"max_lag={self.seconds:g}s behind: {names}. Look whether it replays, or "
                        f"don't wait for it: -x ignore_standbys={ignored}"
                    )
                if time.monotonic() - logged > SECONDS_BETWEEN_LINES:
                    logged = time.monotonic()
                    log.info("waiting for a standby: %s; max_lag=%gs", names, self.seconds)
                pause(connection)
                behind = self.behind(connection)
        log.info("no standby lags any more: going on after %s", duration(time.monotonic() - began))


def cannot_read(connection: Connection, names: list[str]) -> str:
    """Return the sentence for standbys whose lag is hidden from this role, with the way out."""
    role = connection.exec_driver_sql("SELECT quote_ident(current_user)").scalar()
    return (
        f"this role may not see how far {', '.join(names)} is behind. "
        f"As a superuser: GRANT pg_read_all_stats TO {role}"
    )


def look_ahead(connection: Connection, limit: LagLimit) -> None:
    """Warn of what the wait for standbys can't do; raise Refused where it is asked for.

    Call it before anything is changed (PostgreSQL).
    """
    try:
        _, hidden = limit.readable(connection)
    except Refused as error:
        raise error.followed_by("Nothing was changed") from None
    if hidden:
        log.warning("batches don't wait for standbys that lag: %s", cannot_read(connection, hidden))
    for slot, kept in connection.exec_driver_sql(SLOTS):
        log.warning(
            "nobody reads the replication slot %s, and %s of WAL are kept for it: what a migration "
            "writes is added, until the disk is full. If its standby is gone: "
            "SELECT pg_drop_replication_slot('%s')",
            slot,
            size(kept or 0),
            slot,
        )


@contextmanager
def announced(connection: Connection, limit: LagLimit) -> Iterator[None]:
    """Hold an advisory lock, by which a report of any role sees that the migration waits."""
    # two keys are of four bytes each, with a sign
    keys = f"({(limit.lock_key ^ 1 << 31) - (1 << 31)}, {WAITING})"
    connection.exec_driver_sql(f"SELECT pg_advisory_lock{keys}")
    try:
        yield
    finally:
        with suppress(SQLAlchemyError):  # a lost connection holds no lock
            connection.exec_driver_sql(f"SELECT pg_advisory_unlock{keys}")


def pause(connection: Connection) -> None:
    """Let the event loop run for a moment, so that ^C ends the wait at once."""
    driver = connection.connection.dbapi_connection
    assert driver is not None  # noqa: S101  # it is connected
    driver.run_async(lambda _: asyncio.sleep(LOOK))
