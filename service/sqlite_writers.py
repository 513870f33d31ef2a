"""A queue for SQLite's write lock, so that the writers of all processes have it in turn.

SQLite's own way to wait is to sleep and to look again, up to 100 ms later: whoever looks at the
right moment has the lock, and among many writers one may wait until its timeout. Here only the
first in the queue waits for the lock itself. The queue is the kernel's, for a lock (flock) on a
file beside the database, and in one process asyncio's, which is fair as well.

Programs that don't queue, such as a migration or the shell of SQLite, still share the write lock.
"""

import asyncio
import fcntl
import sqlite3
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from typing import IO

QUEUE_TIMEOUT = 2.0  # seconds; the busy timeout follows, and both together are below 5
SUFFIX = "-writers"  # of the queue's file


class QueueTimeout(sqlite3.OperationalError):
    """The queue did not move in time; the error that SQLite raises for a locked database."""

    sqlite_errorcode = sqlite3.SQLITE_BUSY


class WriteQueue:
    """The queue of one database. Each process that writes has one, and so has each event loop."""

    def __init__(self, database: Path) -> None:
        self.path = database.with_name(f"{database.name}{SUFFIX}")
        self.file: IO[bytes] | None = None  # opened by the first writer, after processes are forked
        self.turn = asyncio.Lock()  # of the writers in this process
        self.place: asyncio.Future[None] | None = None  # in the queue of processes
        # flock has no timeout: its thread waits on after a writer has given up
        self.thread = ThreadPoolExecutor(1, "sqlite-writers")

    @asynccontextmanager
    async def first(self) -> AsyncIterator[None]:
        """Be the first in the queue meanwhile; see `enter` and `leave`."""
        await self.enter()
        try:
            yield
        finally:
            self.leave()

    async def enter(self) -> None:
        """Return when this writer is the first in the queue, and may wait for the write lock.

        It must `leave` as soon as it has the write lock, so that the next one can wait for that.
        Raise QueueTimeout after QUEUE_TIMEOUT seconds.
        """
        try:
            async with asyncio.timeout(QUEUE_TIMEOUT):
                await self.turn.acquire()
                try:
                    await self.arrive()
                except BaseException:
                    self.turn.release()
                    self.pass_on()
                    raise
        except TimeoutError:
            raise QueueTimeout("other processes were writing all the time") from None
        self.place = None

    def leave(self) -> None:
        """Let the next writer be the first."""
        fcntl.flock(self.opened(), fcntl.LOCK_UN)
        self.turn.release()

    async def arrive(self) -> None:
        """Wait until this process is the first in the queue."""
        if self.place is None:
            if self.is_free():
                return
            loop = asyncio.get_running_loop()
            file = self.opened()
            self.place = loop.run_in_executor(self.thread, fcntl.flock, file, fcntl.LOCK_EX)
            self.place.add_done_callback(self.pass_on)
        # the next writer of this process takes the place of one that gives up
        await asyncio.shield(self.place)

    def is_free(self) -> bool:
        """Take the lock of the queue's file if nobody has it, without a thread."""
        try:
            fcntl.flock(self.opened(), fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def pass_on(self, _: object = None) -> None:
        """Leave the queue if it is this process' turn, and its writers have given up."""
        if self.place is None or not self.place.done() or self.turn.locked():
            return
        self.place = None
        fcntl.flock(self.opened(), fcntl.LOCK_UN)

    def opened(self) -> IO[bytes]:
        """Return the queue's file, which stays empty."""
        if self.file is None:
            self.file = self.path.open("ab")
        return self.file

    def close(self, _: object = None) -> None:
        """Close the file, until the next writer opens it again (the event engine_disposed)."""
        if self.file is not None:
            self.file.close()
            self.file = None
