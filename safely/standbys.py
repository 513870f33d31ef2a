"""The streaming standbys of a PostgreSQL, and how far the replay of each is behind."""

from dataclasses import dataclass

from sqlalchemy import Connection, text

from safely.words import duration, size

# Only a role with the rights of pg_read_all_stats sees more than the names. Logical subscribers,
# pg_basebackup and pg_receivewal replay nothing, and are left out. What can be sent is what is
# flushed: a standby that has replayed that has no lag, while replay_lag keeps its last value for
# some 20 seconds.
STANDBYS = """\
SELECT coalesce(nullif(application_name, ''), 'a standby without a name'), state, sync_state,
  CASE WHEN state IS NOT NULL THEN greatest(CASE WHEN pg_is_in_recovery()
    THEN pg_last_wal_receive_lsn() ELSE pg_current_wal_flush_lsn() END - replay_lsn, 0)::bigint END,
  extract(epoch FROM replay_lag)::float
FROM pg_stat_replication LEFT JOIN pg_replication_slots ON active_pid = pid
WHERE slot_type IS DISTINCT FROM 'logical' AND (state IS NULL OR replay_lsn IS NOT NULL)
ORDER BY 1, pid"""

# A migration that waits for a standby holds an advisory lock of two keys: that of its migration
# lock, and this one.
WAITING = 1
AWAITED = text(f"""\
SELECT EXISTS (
  SELECT FROM pg_locks WHERE locktype = 'advisory' AND objsubid = 2 AND pid = :pid
    AND classid = :key AND objid = {WAITING})""")


@dataclass(frozen=True)
class Standby:
    """A standby, as the primary sees it at one moment."""

    name: str
    """Its application_name."""
    state: str | None
    """`startup`, `catchup` or `streaming`; None where this role may not see it."""
    sync: str | None
    """`async`, `potential`, `sync` or `quorum`; None where this role may not see it."""
    lag_bytes: int | None
    """WAL that it has not replayed yet; None where this role may not see it."""
    lag_seconds: float | None
    """The age of what it replays; None where that is not known."""

    @property
    def is_readable(self) -> bool:
        """Whether this role may see how far the standby is behind."""
        return self.state is not None

    def lags_more_than(self, seconds: float) -> bool:
        """Return whether it is so far behind; one that still catches up is, whatever it says."""
        return bool(self.lag_bytes) and (
            self.state != "streaming" or (self.lag_seconds or 0) > seconds
        )

    def __str__(self) -> str:
        behind = size(self.lag_bytes or 0)
        if self.state != "streaming" or self.lag_seconds is None:
            return f"{self.name} ({self.state}, {behind} behind)"
        return f"{self.name} ({duration(self.lag_seconds)} and {behind} behind)"


def standbys(connection: Connection) -> list[Standby]:
    """Return the standbys that are connected to this server (PostgreSQL)."""
    return [Standby(*row) for row in connection.exec_driver_sql(STANDBYS)]
