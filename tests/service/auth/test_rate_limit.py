"""The rate limit: the requests it allows, and the headers for clients."""

import math
from random import Random

import pytest

from service.auth.rate_limit import SECOND, RateLimiter


class Clock:
    """A clock that the test advances."""

    def __init__(self) -> None:
        self.now = 5 * SECOND

    def __call__(self) -> int:
        return self.now

    def forward(self, seconds: float) -> None:
        self.now += math.ceil(seconds * SECOND)


def test_the_quota_may_be_used_at_once_and_returns_one_request_at_a_time() -> None:
    limiter = RateLimiter("3/60", clock := Clock())
    assert [limiter.take("shop").granted for _ in range(5)] == [True, True, True, False, False]
    clock.forward(19.9)
    assert not limiter.take("shop").granted
    clock.forward(0.1)
    assert [limiter.take("shop").granted for _ in range(2)] == [True, False]


def test_a_long_pause_restores_no_more_than_the_quota() -> None:
    limiter = RateLimiter("3/60", clock := Clock())
    limiter.take("shop")
    clock.forward(1_000_000)
    assert sum(limiter.take("shop").granted for _ in range(10)) == 3


def test_each_client_has_its_own_quota() -> None:
    limiter = RateLimiter("1/60", Clock())
    assert limiter.take("shop").granted
    assert limiter.take("mill").granted
    assert not limiter.take("shop").granted


def test_the_headers_are_those_of_the_draft() -> None:
    limiter = RateLimiter("600/60", clock := Clock())
    assert limiter.policy == '"default";q=600;w=60'
    assert limiter.take("shop").header == '"default";r=599;t=60'
    for _ in range(300):
        limiter.take("shop")
    assert limiter.take("shop").header == '"default";r=298;t=30'
    clock.forward(3600)
    assert limiter.take("shop").header == '"default";r=599;t=60'


def test_a_refused_client_gets_the_seconds_until_the_next_request_is_allowed() -> None:
    limiter = RateLimiter("1/60", clock := Clock())
    assert limiter.take("shop").header == '"default";r=0;t=60'
    clock.forward(22.5)
    assert limiter.take("shop") == (False, 0, 38)
    clock.forward(38)
    assert limiter.take("shop").granted


rates = pytest.mark.parametrize("rate", ["1/1", "1/60", "3/2", "7/60", "50/3", "600/60"])


def pauses(rate: str) -> list[float]:
    """Seconds, of every order of magnitude; the same in each run."""
    dice = Random(rate)  # noqa: S311  # no secret
    return [dice.random() * 10 ** dice.uniform(-3, 2) for _ in range(100)]


@rates
def test_nobody_gets_more_than_the_quota_and_what_came_back_since(rate: str) -> None:
    limiter = RateLimiter(rate, clock := Clock())
    granted_at = []
    for pause in pauses(rate):
        clock.forward(pause)
        granted_at += [clock.now for _ in range(10) if limiter.take("shop").granted]
    for first, start in enumerate(granted_at):
        for count, end in enumerate(granted_at[first:], start=1):
            back = (end - start) * limiter.quota / (limiter.seconds * SECOND)
            assert count <= limiter.quota + back + 1e-6


@rates
def test_a_client_that_spreads_what_remains_as_told_is_never_refused(rate: str) -> None:
    limiter = RateLimiter(rate, clock := Clock())
    for pause in pauses(rate):
        allowance = limiter.take("shop")
        assert allowance.granted
        assert allowance.seconds >= 1
        # the header promises no more than the rate
        assert allowance.remaining * limiter.seconds <= allowance.seconds * limiter.quota
        clock.forward(allowance.seconds / max(allowance.remaining, 1) + pause / 100)
