"""The rate limit: a token bucket for each name, in this process.

The headers are those of draft-ietf-httpapi-ratelimit-headers-11 (May 2026).
"""

import time
from collections.abc import Callable
from typing import NamedTuple

SECOND = 1_000_000_000  # nanoseconds


class Allowance(NamedTuple):
    """The rest of a bucket: `remaining` requests within the next `seconds`.

    Where the request was not granted, none remains, and the next is granted after `seconds`.
    """

    granted: bool
    remaining: int
    seconds: int  # at least 1

    @property
    def header(self) -> str:
        """The RateLimit header.

        A client that spreads the remaining requests over these seconds keeps to the rate. The
        draft warns of promising the whole quota for the next second, and wants `Retry-After` not
        to end before these seconds do.
        """
        return f'"default";r={self.remaining};t={self.seconds}'


class RateLimiter:
    """A bucket of `quota` requests for each name, refilled evenly in `seconds`.

    `rate` is "quota/seconds". The clock counts nanoseconds and never goes back.
    A bucket is one number, and there are as many as there are tokens: none is ever removed.
    """

    def __init__(self, rate: str, clock: Callable[[], int] = time.monotonic_ns) -> None:
        self.quota, self.seconds = map(int, rate.split("/"))
        self.policy = f'"default";q={self.quota};w={self.seconds}'  # the RateLimit-Policy header
        requests = "1 request" if self.quota == 1 else f"{self.quota} requests"
        self.limit = f"{requests} in {self.seconds} s"
        self.clock = clock
        self.full_at: dict[str, int] = {}

    def take(self, name: str) -> Allowance:
        """Take a request from the bucket if there is one, and return what is left."""
        # times are in nanoseconds / quota: a request is a whole number of them, and nothing is
        # lost by rounding, however often
        now = self.clock() * self.quota
        request = self.seconds * SECOND
        size = self.quota * request
        missing = max(self.full_at.get(name, now) - now, 0)
        granted = missing + request <= size
        if granted:
            missing += request
            self.full_at[name] = now + missing
        remaining = (size - missing) // request
        until_next = missing + request - size  # positive where none remains
        seconds = -(-max(remaining * request, until_next) // (self.quota * SECOND))
        return Allowance(granted, remaining, seconds)
