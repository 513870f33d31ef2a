"""What many requests ask at the same time, done together."""

from collections.abc import Sequence
from typing import NamedTuple

from sqlalchemy.exc import DBAPIError

from service import users, wire
from service.database import Database
from service.gathering import Gathering
from service.outages import is_lock_timeout, why_unavailable
from service.settings import Settings

FOUND = 500  # users that one query looks up, at most
LISTED = 50  # pages that one query reads, at most
CREATED = 100  # users that one statement adds, at most


class Found(NamedTuple):
    """A page as it is sent."""

    body: bytes
    next: str | None


class Together:
    """The users' queries, shared by the requests of a worker."""

    def __init__(self, settings: Settings, database: Database) -> None:
        self.database = database
        seconds = settings.request_timeout
        self.lookups = Gathering(self.find, limit=FOUND, seconds=seconds, retried=harmless)
        self.listings = Gathering(self.read, limit=LISTED, seconds=seconds, retried=harmless)
        self.arrivals = Gathering(self.create, limit=CREATED, seconds=seconds, retried=undone)

    async def find(self, ids: Sequence[int]) -> list[wire.User | None]:
        """Look users up."""
        async with self.database.reading.connect() as connection:
            return await users.find(connection, ids)

    async def read(self, listings: Sequence[users.Listing]) -> list[Found]:
        """Read pages of lists; who asks for the same page gets the same bytes."""
        async with self.database.reading.connect() as connection:
            pages = await users.pages(connection, listings)
        found = {listing: Found(wire.encode(page), page.next) for listing, page in pages.items()}
        return [found[listing] for listing in listings]

    async def create(self, new: Sequence[wire.NewUser]) -> list[wire.User]:
        """Keep new users."""
        if len(new) == 1:
            async with self.database.one_statement() as connection:
                return await users.create(connection, new)
        async with self.database.writing.begin() as connection:
            await self.database.be_impatient(connection)
            return await users.create(connection, new)


def harmless(error: Exception) -> bool:
    """Whether a failed query may be tried again: one that is no outage."""
    return why_unavailable(error) is None


def undone(error: Exception) -> bool:
    """Whether the database refused: nothing was kept, and alone each gets its own answer."""
    return isinstance(error, DBAPIError) and (harmless(error) or is_lock_timeout(error))
