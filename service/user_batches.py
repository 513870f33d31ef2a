"""The users' queries of one worker, batched."""

from collections.abc import Sequence

from sqlalchemy.exc import DBAPIError

from service import user_lists, users
from service.batching import Batcher
from service.database import Database
from service.database_errors import is_from_database, is_lock_timeout, why_unavailable
from service.schemas import NewUser, User
from service.settings import Settings
from service.user_lists import EncodedPage, Listing

LOOKUP_LIMIT = 500  # ids that one query looks up, at most
PAGE_LIMIT = 50  # pages that one batch reads, at most
ROWS_AT_ONCE = 2000  # rows that one query reads for several pages: others must get their turn
CREATE_LIMIT = 100  # users that one statement adds, at most
PATIENCE = 0.1  # seconds until the next batch no longer waits: a lock may be in this one's way
LOCK_TIMEOUT = "100ms"  # of a batch of creates; then each is retried alone, and waits


class UserBatches:
    """Lookups, pages and creates, each answered together with others of its kind."""

    def __init__(self, settings: Settings, database: Database) -> None:
        self.database = database
        times = {"patience": PATIENCE, "timeout": settings.request_timeout}
        self.lookups = Batcher(
            self.find, retry_alone=is_database_error, limit=LOOKUP_LIMIT, **times
        )
        self.pages = Batcher(
            self.read_pages, retry_alone=is_database_error, limit=PAGE_LIMIT, **times
        )
        self.creates = Batcher(self.create, retry_alone=was_refused, limit=CREATE_LIMIT, **times)

    async def find(self, ids: Sequence[int]) -> list[User | None]:
        """Return the users of a batch of ids."""
        async with self.database.read() as session:
            return await users.find(session, ids)

    async def read_pages(self, listings: Sequence[Listing]) -> list[EncodedPage]:
        """Return the pages of a batch of listings; equal listings get the same bytes."""
        rows_at_once = ROWS_AT_ONCE if self.database.is_postgresql else 1
        async with self.database.read() as session:
            pages = await user_lists.read_pages(session, listings, rows_at_once)
        return [pages[listing] for listing in listings]

    async def create(self, new_users: Sequence[NewUser]) -> list[User]:
        """Store a batch of new users, all or none.

        A single insert waits for row locks; a batch gives up after LOCK_TIMEOUT, so that nobody
        waits for another's address, and each is retried alone.
        """
        lock_timeout = LOCK_TIMEOUT if len(new_users) > 1 else None
        async with self.database.write() as session:
            return await users.create(session, new_users, lock_timeout)


def is_database_error(error: Exception) -> bool:
    """Return whether to retry reads alone: not where there was no connection to be had."""
    return isinstance(error, DBAPIError)


def was_refused(error: Exception) -> bool:
    """Return whether the database itself refused: then nothing was stored, and a retry is safe.

    Not so where it is unavailable, or where the connection was lost and a commit may have
    succeeded.
    """
    if not isinstance(error, DBAPIError) or not is_from_database(error):
        return False
    return why_unavailable(error) is None or is_lock_timeout(error)
