"""Positions in PostgreSQL's write-ahead log: how far a server has written, or a replica replayed.

A position has the timeline of its server as well: after a failover the new primary goes on from
some position on a timeline of its own, and what the old one wrote after it is no part of that.
"""

import re
from typing import Any, NamedTuple

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

TEXT = re.compile(r"([0-9A-F]{8})-([0-9A-F]{16})", re.ASCII)
PAGE = 8192  # bytes of a page of the log
# where the first record of a page begins; the second is for the first page of a segment
PAGE_HEADERS = (24, 40)
# after a commit: "insert", since a commit that does not wait for the disk is not flushed yet
WRITTEN = text("""
    SELECT ('x' || substr(pg_walfile_name(lsn), 1, 8))::bit(32)::bigint, lsn - '0/0'::pg_lsn
    FROM pg_current_wal_insert_lsn() AS lsn
""")


class Position(NamedTuple):
    """A position in the write-ahead log of one timeline."""

    timeline: int
    lsn: int  # bytes from the beginning of the log

    def covers(self, other: "Position") -> bool:
        """Return whether a server that is here has all that was written until `other`.

        One on an earlier timeline has not: it may have gone its own way since.
        """
        return self.timeline >= other.timeline and self.lsn >= other.lsn

    def joined(self, other: "Position") -> "Position":
        """Return the first position that covers both."""
        return Position(max(self.timeline, other.timeline), max(self.lsn, other.lsn))

    def __str__(self) -> str:
        """Return it for a header or a cookie; of two texts the later position is the greater."""
        return f"{self.timeline:08X}-{self.lsn:016X}"


# no replica comes here, so what has to be after it is read from the primary
UNREACHED = Position(0xFFFFFFFF, 0xFFFFFFFFFFFFFFFF)


def parse_position(text: str) -> Position:
    """Return the position that a text names; raise ValueError with what is wrong."""
    match = TEXT.fullmatch(text)
    if match is None:
        raise ValueError("is no position that this service gave")
    return Position(int(match[1], 16), int(match[2], 16))


def position_of(timeline: Any, lsn: Any) -> Position:
    """Return the position that PostgreSQL tells.

    At the end of a page it tells where the next record will begin, behind the page's header. No
    replica replays a header alone: an idle one would seem to lag for ever.
    """
    lsn = int(lsn)
    if lsn % PAGE in PAGE_HEADERS:
        lsn -= lsn % PAGE
    return Position(int(timeline), lsn)


async def written_position(session: AsyncSession) -> Position:
    """Return the position until which the primary has written, and so all that was committed."""
    return position_of(*(await session.execute(WRITTEN)).one())
