"""Some of the faults of `make chaos`, with fewer clients and for less time; and its judgement."""

from collections.abc import Iterator

import pytest

from tests.chaos import database_faults, network_faults, service_faults
from tests.chaos.acknowledged import Comparison, Fields, Owned, compare
from tests.chaos.request_log import CUT_OFF, UNANSWERED, Entry, RequestLog
from tests.chaos.run import SMALL, Fault, execute
from tests.chaos.worlds import Shared, shared_world

SOME = (
    database_faults.restarted_immediate,
    network_faults.commit_lost,
    service_faults.one_of_two_workers_killed,
    service_faults.killed_on_sqlite,
)
OLD, NEW = Fields("c00-000001 0", None, 36), Fields("c00-000001 1", "ada@chaos.example", 36)


@pytest.fixture(scope="module")
def shared() -> Iterator[Shared]:
    with shared_world() as shared:
        yield shared


@pytest.mark.parametrize("fault", SOME, ids=lambda fault: str(fault.key))
async def test_nothing_is_lost_and_every_answer_is_honest(fault: Fault, shared: Shared) -> None:
    result = await execute(fault, shared, SMALL)

    assert result.flaws() == []
    assert len(result.log.entries) > 50


def created() -> Owned:
    user = Owned("c00-000001", identity=1)
    user.acknowledge(OLD)
    return user


def faults(user: Owned, *rows: tuple[int, Fields]) -> list[str]:
    comparison: Comparison = compare([user], [], rows)
    return [kind for kind, sentences in comparison.faults.items() for _ in sentences]


def test_a_user_as_acknowledged_is_no_fault() -> None:
    assert faults(created(), (1, OLD)) == []


def test_an_acknowledged_user_who_is_missing_is_lost() -> None:
    assert faults(created()) == ["lost"]


def test_an_acknowledged_change_that_is_missing_is_lost() -> None:
    user = created()
    user.acknowledge(NEW)

    assert faults(user, (1, OLD)) == ["lost"]


def test_a_user_who_is_there_twice_is_duplicated() -> None:
    assert faults(created(), (1, OLD), (2, OLD)) == ["duplicated"]


def test_a_value_that_nobody_wrote_is_wrong() -> None:
    assert faults(created(), (1, OLD._replace(age=37))) == ["wrong"]


def test_a_change_that_was_denied_and_is_there_is_wrong() -> None:
    user = created()
    user.deny(NEW)

    assert faults(user, (1, NEW)) == ["wrong"]


@pytest.mark.parametrize("kept", [OLD, NEW])
def test_a_change_of_unknown_outcome_may_be_there_or_not(kept: Fields) -> None:
    user = created()
    user.doubt(NEW)

    assert faults(user, (1, kept)) == []


def test_a_user_of_another_id_is_wrong() -> None:
    assert faults(created(), (2, OLD)) == ["wrong"]


def test_a_user_whom_nobody_wrote_is_wrong() -> None:
    assert faults(created(), (1, OLD), (2, Fields("c09-000001 0", None, 1))) == ["wrong"]


def test_half_an_import_is_wrong() -> None:
    lines = [Owned(f"c00-{number:06}") for number in (1, 2)]
    for line in lines:
        line.doubt(Fields(f"{line.marker} 0", None, None))

    comparison = compare(lines, [lines], [(1, Fields("c00-000001 0", None, None))])

    assert len(comparison.faults["wrong"]) == 1


@pytest.mark.parametrize(
    ("status", "problem", "seconds", "is_allowed"),
    [
        (200, "", 9, True),
        (404, "user-not-found", 0, True),
        (409, "in-progress", 0, True),
        (409, "email-taken", 0, False),
        (503, "unavailable", 4.9, True),
        (503, "unavailable", 5.1, False),
        (500, "internal", 0, False),
        (UNANSWERED, "", 0, False),
        (CUT_OFF, "", 0, False),
    ],
)
def test_an_answer_is_success_or_the_clients_fault_or_503_within_five_seconds(
    status: int, problem: str, seconds: float, *, is_allowed: bool
) -> None:
    entry = Entry(0, 100, 100 + seconds, "POST /users", status, problem, "")

    assert RequestLog(1).is_allowed(entry) is is_allowed


@pytest.mark.parametrize(("start", "is_allowed"), [(9.9, True), (10.5, False)])
def test_only_what_a_killed_process_had_accepted_may_be_unanswered(
    start: float, *, is_allowed: bool
) -> None:
    log = RequestLog(1, kills=[(10, 10)])

    assert log.is_allowed(Entry(0, start, 11, "GET /users/1", UNANSWERED, "", "")) is is_allowed


def test_recovery_takes_until_the_last_client_has_written_again() -> None:
    log = RequestLog(2, returned=10)
    log.entries += [
        Entry(0, 9, 10.1, "POST /users", 201, "", "it"),
        Entry(1, 9, 12.0, "POST /users", 503, "timed-out", ""),  # under way at the return
        Entry(1, 12, 12.7, "POST /users", 201, "", "it"),
    ]

    assert log.recovery() == pytest.approx(0.7)


def test_a_client_that_never_writes_again_has_not_recovered() -> None:
    log = RequestLog(2, returned=10)
    log.entries += [
        Entry(0, 10, 10.1, "POST /users", 201, "", "it"),
        Entry(1, 10, 10.1, "GET /users/1", 200, "", ""),
    ]

    assert log.recovery() is None
