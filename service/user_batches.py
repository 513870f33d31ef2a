"""The users' queries of one worker, batched."""

from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import NamedTuple, TypeVar

from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncSession

from service import users
from service.batching import Batcher
from service.database import Database, written
from service.database_errors import is_from_database, is_lock_timeout, why_unavailable
from service.positions import Position
from service.replicas import Replica, Replicas
from service.schemas import NewUser, User
from service.user_lists import EncodedPage, Listing, read_pages

LOOKUP_LIMIT = 500  # ids that one query looks up, at most
PAGE_LIMIT = 50  # pages that one batch reads, at most
CREATE_LIMIT = 100  # users that one statement adds, at most
PATIENCE = 0.1  # seconds until the next batch no longer waits: a lock may be in this one's way
LOCK_TIMEOUT = "100ms"  # of a batch of creates; then each is retried alone, and waits


Item = TypeVar("Item")
Result = TypeVar("Result")


class Created(NamedTuple):
    """A new user, and the position that covers it; None where there are no replicas."""

    user: User
    written: Position | None


class ReadBatches:
    """Lookups and pages, each answered together with others of its kind by the same server."""

    def __init__(self, database: Database, replica: Replica | None = None) -> None:
        """Read from the replica, and from the primary where that fails."""
        self.lookups: Batcher[int, User | None] = Batcher(
            lambda ids: read(database, replica, users.find, ids),
            retry_alone=was_one_items,
            limit=LOOKUP_LIMIT,
            patience=PATIENCE,
        )
        self.pages: Batcher[Listing, EncodedPage] = Batcher(
            lambda listings: read(database, replica, read_pages, listings),
            retry_alone=was_one_items,
            limit=PAGE_LIMIT,
            patience=PATIENCE,
        )


async def read(
    database: Database,
    replica: Replica | None,
    work: Callable[[AsyncSession, Sequence[Item]], Awaitable[list[Result]]],
    items: Sequence[Item],
) -> list[Result]:
    """Return what `work` reads from the replica; from the primary without one, or where it fails.

    Reads are safe to repeat. Whatever is wrong with the items is wrong on the primary, too.
    """
    if replica is not None:
        with suppress(Exception):
            results = await replica.query(work, items)
            replica.answered += len(items)
            return results
    results = await database.query(work, items)
    database.answered += len(items)
    return results


class UserBatches:
    """Lookups, pages and creates, each answered together with others of its kind."""

    def __init__(self, database: Database, replicas: Replicas) -> None:
        self.replicas = replicas
        self.primary = ReadBatches(database)
        self.by_replica = {replica: ReadBatches(database, replica) for replica in replicas}
        self.creates: Batcher[NewUser, Created] = Batcher(
            lambda new_users: create_users(database, new_users),
            retry_alone=was_refused,
            limit=CREATE_LIMIT,
            patience=PATIENCE,
        )

    def reads(self, after: Position | None) -> ReadBatches:
        """Return the batches of a server that shows all that was written until `after`."""
        replica = self.replicas.choose(after)
        return self.primary if replica is None else self.by_replica[replica]


async def create_users(database: Database, new_users: Sequence[NewUser]) -> list[Created]:
    """Store a batch of new users, all or none.

    A single insert waits for row locks; a batch gives up after LOCK_TIMEOUT, so that nobody waits
    for another's address, and each is retried alone.
    """
    lock_timeout = LOCK_TIMEOUT if len(new_users) > 1 else None
    async with database.write() as session:
        created = await users.create(session, new_users, lock_timeout)
    return [Created(user, written(session)) for user in created]


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
