"""The minimum rate at which a client must send or read: a slow one holds what others need."""

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

from service.errors import RequestTimeout

T = TypeVar("T")

SENDING_LAG = 2**19  # bytes that a client may be behind while it sends
# Linux buffers 4 MiB for a client and wants more only when a third of them was read: at any rate,
# a client seems to read nothing for a long time, and then 1.3 to 1.7 MiB at once
READING_LAG = 2**21


class MinimumRate:
    """A token bucket: it loses `rate` bytes a second while we wait for the client.

    It regains what the client sends or reads. It holds `lag` bytes at most: by so many the client
    may be behind. The time in which the client waits for us does not count.
    """

    def __init__(self, rate: int, lag: int) -> None:
        self.rate = rate
        self.longest = lag / rate  # seconds that a client which does nothing may make us wait
        self.left = self.longest

    async def wait_for(self, work: Awaitable[T]) -> T:
        """Return the result of sending or receiving; raise RequestTimeout for a slow client."""
        clock = asyncio.get_running_loop().time
        began = clock()
        try:
            async with asyncio.timeout(self.left) as timeout:
                return await work
        except TimeoutError:
            if not timeout.expired():
                raise
            detail = f"the client was slower than {self.rate} bytes a second for too long"
            raise RequestTimeout(detail) from None
        finally:
            self.left -= clock() - began

    def add(self, size: int) -> None:
        """Count the bytes that the client has sent or read."""
        self.left = min(self.longest, self.left + size / self.rate)
