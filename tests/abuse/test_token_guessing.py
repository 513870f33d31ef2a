"""The time of a refusal does not tell how much of a token was right; measured with --full."""

import http.client
import random
import statistics
import time
from bisect import bisect_left, bisect_right
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest

from service.auth import tokens
from service.auth.tokens import PREFIX, Tokens
from tests import forkserver
from tests.servers import free_port, listening_event

ALLOWED = 0.02  # how far a probability may be from a half; chance alone makes some 0.003
RIGHT = {"nothing": 0, "half": 0.5, "all but the last character": 1}  # of the secret


def guesses(token: str) -> dict[str, str]:
    """Return a wrong token of the right length for each part of it that is right."""
    made = {}
    for name, part in RIGHT.items():
        end = len(PREFIX) + int((len(token) - len(PREFIX) - 1) * part)
        wrong = ["B" if character == "A" else "A" for character in token[end:]]
        made[name] = token[:end] + "".join(wrong)
    return made


def interleaved(measure: Callable[[str], float], token: str, rounds: int) -> dict[str, list[float]]:
    """Return the times of each guess, measured in turns and in random order."""
    random_order = random.Random(7)  # noqa: S311  # an order, no secret
    made = list(guesses(token).items())
    times: dict[str, list[float]] = {name: [] for name, _ in made}
    for _ in range(rounds):
        random_order.shuffle(made)
        for name, guess in made:
            times[name].append(measure(guess))
    return times


def probability_of_longer(first: list[float], second: list[float]) -> float:
    """Return how probable it is that one of the first takes longer than one of the second.

    Half tells nothing (Mann and Whitney's U, divided by its greatest value).
    """
    ordered = sorted(second)
    wins = sum(bisect_left(ordered, one) + bisect_right(ordered, one) for one in first)
    return wins / 2 / len(first) / len(second)


def check(times: dict[str, list[float]], unit: float, name: str) -> None:
    """Print the medians and the probabilities, and fail where one tells something."""
    for kind, measured in times.items():
        print(f"{name}, {kind} right: median {statistics.median(measured) / unit:.2f}")
    for (one, first), (other, second) in pairwise([*times.items(), *list(times.items())[:1]]):
        probability = probability_of_longer(first, second)
        print(f"{name}: {one} takes longer than {other} in {probability:.4f}")
        assert abs(probability - 0.5) < ALLOWED


@pytest.fixture
def rounds(full: bool) -> int:  # noqa: FBT001  # pytest passes fixtures by name
    if not full:
        pytest.skip("needs --full")
    return 20_000


@pytest.mark.usefixtures("no_pauses")
def test_the_time_of_a_comparison_tells_nothing(tmp_path: Path, rounds: int) -> None:
    file = str(tmp_path / "tokens.json")
    token = tokens.create(file, "shop", ["read"])
    known = Tokens(file)

    def measure(guess: str) -> float:
        start = time.perf_counter()
        known.find(guess)
        return time.perf_counter() - start

    check(interleaved(measure, token, rounds), 1e-6, "find, µs")


@pytest.mark.only("sqlite")  # no token is looked for in a database
async def test_the_time_of_a_refusal_tells_nothing(url: str, tmp_path: Path, rounds: int) -> None:
    file = str(tmp_path / "tokens.json")
    token = tokens.create(file, "shop", ["read"])
    port = free_port()
    async with forkserver.service(
        DATABASE_URL=url, PORT=str(port), TOKENS_FILE=file, ACCESS_LOG="off", LOG_FORMAT="json"
    ) as service:
        await listening_event(service)
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)

        def measure(guess: str) -> float:
            start = time.perf_counter()
            connection.request("GET", "/users/1", headers={"Authorization": f"Bearer {guess}"})
            response = connection.getresponse()
            response.read()
            assert response.status == http.client.UNAUTHORIZED
            return time.perf_counter() - start

        check(interleaved(measure, token, rounds), 1e-3, "HTTP, ms")
        connection.close()
