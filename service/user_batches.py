"""What many requests ask at the same time, done together."""

from collections.abc import Sequence

from sqlalchemy.exc import DBAPIError

from service import schemas, users
from service.batching import Gathering
from service.database import Database
from service.database_errors import is_answer, is_lock_timeout, why_unavailable
from service.settings import Settings

FOUND = 500  # users that one query looks up, at most
LISTED = 50  # pages that one batch reads, at most
AT_ONCE = 2000  # rows that one query reads for several pages: others shall get their turn
PATIENCE = 0.1  # seconds, after which the next batch no longer waits: a lock may be in its way
LOCK_TIMEOUT = "100ms"  # for those who came together: then each waits for himself
CREATED = 100  # users that one statement adds, at most


class Together:
    """The users' queries, shared by the requests of a worker."""

    def __init__(self, settings: Settings, database: Database) -> None:
        self.database = database
        times = {"patience": PATIENCE, "seconds": settings.request_timeout}
        self.lookups = Gathering(self.find, retried=harmless, limit=FOUND, **times)
        self.listings = Gathering(self.read, retried=harmless, limit=LISTED, **times)
        self.arrivals = Gathering(self.create, retried=undone, limit=CREATED, **times)

    async def find(self, ids: Sequence[int]) -> list[schemas.User | None]:
        """Look users up."""
        return await users.find(self.database.rows, ids)

    async def read(self, listings: Sequence[users.Listing]) -> list[users.Found]:
        """Read pages of lists; who asks for the same page gets the same bytes."""
        at_once = AT_ONCE if self.database.is_postgresql else 1
        pages = await users.pages(self.database.rows, listings, at_once=at_once)
        return [pages[listing] for listing in listings]

    async def create(self, new: Sequence[schemas.NewUser]) -> list[schemas.User]:
        """Keep new users; alone one waits for whoever wants the same address, together none do."""
        if self.database.is_postgresql:
            patience = LOCK_TIMEOUT if len(new) > 1 else None
            return await users.create_at_once(self.database.rows, new, patience)
        async with self.database.writing.begin() as connection:
            return await users.create(connection, new)


def harmless(error: Exception) -> bool:
    """Whether to read again: not where there was no connection to be had."""
    return isinstance(error, DBAPIError)


def undone(error: Exception) -> bool:
    """Whether the database itself refused: nothing was kept, and alone each gets its own answer."""
    refused = isinstance(error, DBAPIError) and is_answer(error)
    return refused and (why_unavailable(error) is None or is_lock_timeout(error))
