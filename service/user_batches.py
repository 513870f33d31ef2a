"""The users' queries of one worker, batched."""

from collections.abc import Sequence

from sqlalchemy.exc import DBAPIError

from service import users
from service.batching import Batcher
from service.database import Database
from service.database_errors import is_from_database, is_lock_timeout, why_unavailable
from service.schemas import NewUser, User
from service.user_lists import EncodedPage, Listing, read_pages

LOOKUP_LIMIT = 500  # ids that one query looks up, at most
PAGE_LIMIT = 50  # pages that one batch reads, at most
CREATE_LIMIT = 100  # users that one statement adds, at most
PATIENCE = 0.1  # seconds until the next batch no longer waits: a lock may be in this one's way
LOCK_TIMEOUT = "100ms"  # of a batch of creates; then each is retried alone, and waits


class UserBatches:
    """Lookups, pages and creates, each answered together with others of its kind."""

    def __init__(self, database: Database) -> None:
        self.lookups: Batcher[int, User | None] = Batcher(
            lambda ids: database.query(users.find, ids),
            retry_alone=was_one_items,
            limit=LOOKUP_LIMIT,
            patience=PATIENCE,
        )
        self.pages: Batcher[Listing, EncodedPage] = Batcher(
            lambda listings: database.query(read_pages, listings),
            retry_alone=was_one_items,
            limit=PAGE_LIMIT,
            patience=PATIENCE,
        )
        self.creates: Batcher[NewUser, User] = Batcher(
            lambda new_users: create_users(database, new_users),
            retry_alone=was_refused,
            limit=CREATE_LIMIT,
            patience=PATIENCE,
        )


async def create_users(database: Database, new_users: Sequence[NewUser]) -> list[User]:
    """Store a batch of new users, all or none.

    A single insert waits for row locks; a batch gives up after LOCK_TIMEOUT, so that nobody waits
    for another's address, and each is retried alone.
    """
    lock_timeout = LOCK_TIMEOUT if len(new_users) > 1 else None
    async with database.write() as session:
        return await users.create(session, new_users, lock_timeout)


def was_one_items(error: Exception) -> bool:
    """Return whether a failed read may be one item's fault: then the others can be answered.

    In an outage all would wait once more in vain.
    """
    return isinstance(error, DBAPIError) and why_unavailable(error) is None


def was_refused(error: Exception) -> bool:
    """Return whether the database itself refused: then nothing was stored, and a retry is safe.

    Not so where it is unavailable, or where the connection was lost and a commit may have
    succeeded.
    """
    if not isinstance(error, DBAPIError) or not is_from_database(error):
        return False
    return why_unavailable(error) is None or is_lock_timeout(error)
