"""Items that are submitted at the same time run in one batch."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextvars import ContextVar

import pytest

from service.batching import Batcher, BatchFailed

LONG = 60.0  # seconds; no test waits so long

speaker = ContextVar("speaker", default="nobody")


class Oracle:
    """Answers in capitals, and only while its door is open; knows no answer to what is bad."""

    def __init__(self) -> None:
        self.batches: list[list[str]] = []
        self.begun = asyncio.Event()
        self.door = asyncio.Event()
        self.door.set()

    async def answer(self, questions: Sequence[str]) -> list[str]:
        self.batches.append(list(questions))
        self.begun.set()
        await self.door.wait()
        if bad := [question for question in questions if question.startswith("bad")]:
            raise LookupError(*bad)
        return [question.upper() for question in questions]


def asking(
    answer: Callable[[Sequence[str]], Awaitable[Sequence[str]]],
    *,
    limit: int = 100,
    patience: float = LONG,
    seconds: float = LONG,
    retry_alone: bool = False,
) -> Batcher[str, str]:
    return Batcher(
        answer, retry_alone=lambda _: retry_alone, limit=limit, patience=patience, timeout=seconds
    )


async def turn() -> None:
    """Let everything else that is ready have its turn of the loop."""
    await asyncio.sleep(0)


async def asked(batcher: Batcher[str, str], questions: str) -> list[asyncio.Task[str]]:
    """Tasks that have asked, all in one turn of the loop."""
    tasks = [asyncio.create_task(batcher.submit(question)) for question in questions.split()]
    await turn()
    return tasks


async def held(batcher: Batcher[str, str], oracle: Oracle, questions: str = "first") -> None:
    """A batch is under way, and stays so until the oracle's door is opened."""
    oracle.door.clear()
    await asked(batcher, questions)
    await oracle.begun.wait()
    oracle.batches.clear()


async def gathered(
    batcher: Batcher[str, str], oracle: Oracle, questions: str
) -> list[asyncio.Task[str]]:
    """Tasks whose questions go together, as soon as the oracle's door is opened."""
    await held(batcher, oracle)
    return await asked(batcher, questions)


async def under_way(
    batcher: Batcher[str, str], oracle: Oracle, questions: str
) -> list[asyncio.Task[str]]:
    """Tasks whose questions are being answered together, until the oracle's door is opened."""
    tasks = await gathered(batcher, oracle, questions)
    oracle.begun.clear()
    oracle.door.set()  # for who stands there already
    oracle.door.clear()
    await oracle.begun.wait()
    return tasks


async def outcomes(tasks: Sequence[asyncio.Task[str]]) -> list[str]:
    """What each got: an answer, or the words and the kind of a failure."""
    ends = await asyncio.gather(*tasks, return_exceptions=True)
    return [outcome(end) for end in ends]


def outcome(end: str | BaseException) -> str:
    """Return a result, or the type and text of an exception; of a batch's the reason."""
    if isinstance(end, str):
        return end
    reason = end.__cause__ if isinstance(end, BatchFailed) else end
    return f"{type(reason).__name__} {reason}".strip()


async def test_a_question_that_comes_alone_is_answered_alone_and_waits_for_nobody() -> None:
    """Its answering begins in the very next turn of the loop."""
    oracle = Oracle()
    [task] = await asked(asking(oracle.answer), "a")
    await turn()
    assert oracle.batches == [["a"]]
    assert await task == "A"


async def test_questions_asked_while_others_are_answered_go_together_in_their_order() -> None:
    oracle = Oracle()
    batcher = asking(oracle.answer)
    await held(batcher, oracle)
    tasks = await asked(batcher, "c a") + await asked(batcher, "b")
    assert oracle.batches == []
    oracle.door.set()
    assert await outcomes(tasks) == ["C", "A", "B"]
    assert oracle.batches == [["c", "a", "b"]]


async def test_questions_asked_in_the_same_turn_go_together() -> None:
    oracle = Oracle()
    tasks = await asked(asking(oracle.answer), "a b c")
    assert sorted(await outcomes(tasks)) == ["A", "B", "C"]
    assert [sorted(batch) for batch in oracle.batches] == [["a", "b", "c"]]


async def test_who_gives_up_in_the_turn_in_which_it_asked_holds_nobody_up() -> None:
    oracle = Oracle()
    batcher = asking(oracle.answer)
    first, *others = await asked(batcher, "a b c")
    first.cancel()
    assert await outcomes(others) == ["B", "C"]
    assert oracle.batches == [["b", "c"]]
    assert batcher.running is None


async def test_what_answers_a_question_begins_after_it_was_asked() -> None:
    """Also where the same question is just being answered: that may have missed what is new."""
    known = ["old"]
    begun, door = asyncio.Event(), asyncio.Event()

    async def answer(questions: Sequence[str]) -> list[str]:
        seen = known[-1]
        begun.set()
        await door.wait()
        return [seen for _ in questions]

    batcher = asking(answer)
    before = await asked(batcher, "a")
    await begun.wait()
    known.append("new")
    after = await asked(batcher, "a")
    door.set()
    assert await outcomes(before + after) == ["old", "new"]


async def test_a_batch_has_the_limit_at_most_and_the_rest_comes_next() -> None:
    oracle = Oracle()
    tasks = await gathered(asking(oracle.answer, limit=3), oracle, "a b c d e f g")
    oracle.door.set()
    assert await outcomes(tasks) == ["A", "B", "C", "D", "E", "F", "G"]
    assert oracle.batches == [["a", "b", "c"], ["d", "e", "f"], ["g"]]


async def test_at_most_one_batch_is_under_way() -> None:
    alone = asyncio.Lock()

    async def answer(questions: Sequence[str]) -> Sequence[str]:
        assert not alone.locked()
        async with alone:
            for _ in range(3):
                await turn()
        return questions

    batcher = asking(answer, limit=2)
    tasks = [task for _ in range(10) for task in await asked(batcher, "a b c")]
    assert await outcomes(tasks) == ["a", "b", "c"] * 10


async def test_where_a_batch_fails_and_may_be_retried_each_is_asked_alone() -> None:
    """And gets its own answer, or its own failure."""
    oracle = Oracle()
    tasks = await gathered(asking(oracle.answer, retry_alone=True), oracle, "a bad b bad-too")
    oracle.door.set()
    assert await outcomes(tasks) == ["A", "LookupError bad", "B", "LookupError bad-too"]
    assert oracle.batches == [["a", "bad", "b", "bad-too"], ["a"], ["bad"], ["b"], ["bad-too"]]


async def test_a_failure_that_is_everybodys_is_told_to_the_batch_and_nobody_else() -> None:
    oracle = Oracle()
    batcher = asking(oracle.answer, limit=3)
    unlucky = await gathered(batcher, oracle, "a bad b")
    later = await asked(batcher, "c d")
    oracle.door.set()
    assert await outcomes(unlucky) == ["LookupError bad"] * 3
    assert await outcomes(later) == ["C", "D"]
    assert oracle.batches == [["a", "bad", "b"], ["c", "d"]]


@pytest.mark.parametrize("retried", [True, False])
async def test_a_lone_question_that_fails_is_not_asked_twice(*, retried: bool) -> None:
    oracle = Oracle()
    tasks = await asked(asking(oracle.answer, retry_alone=retried), "bad")
    assert await outcomes(tasks) == ["LookupError bad"]
    assert oracle.batches == [["bad"]]


@pytest.mark.parametrize("leaving", [(0,), (1,), (2,), (0, 1), (0, 2), (0, 1, 2)])
async def test_who_gives_up_before_the_batch_begins_is_left_out(leaving: tuple[int, ...]) -> None:
    oracle = Oracle()
    batcher = asking(oracle.answer)
    await held(batcher, oracle)
    tasks = await asked(batcher, "a b c")
    for number in leaving:
        tasks[number].cancel()
    await turn()
    oracle.door.set()
    stayed = [letter for number, letter in enumerate("abc") if number not in leaving]
    patient = [task for number, task in enumerate(tasks) if number not in leaving]
    assert await outcomes(patient) == [letter.upper() for letter in stayed]
    assert [tasks[number].cancelled() for number in leaving] == [True] * len(leaving)
    await turn()
    assert oracle.batches == ([stayed] if stayed else [])
    assert batcher.running is None


@pytest.mark.parametrize("leaving", [0, 1, 2])
async def test_who_gives_up_when_the_batch_has_begun_takes_no_answer_away(leaving: int) -> None:
    oracle = Oracle()
    tasks = await under_way(asking(oracle.answer), oracle, "a b c")
    tasks[leaving].cancel()
    await turn()
    oracle.door.set()
    expected = ["A", "B", "C"]
    expected[leaving] = "CancelledError"
    assert await outcomes(tasks) == expected
    assert oracle.batches == [["a", "b", "c"]]


async def test_who_gives_up_in_a_batch_that_fails_is_not_asked_again() -> None:
    oracle = Oracle()
    tasks = await under_way(asking(oracle.answer, retry_alone=True), oracle, "a bad b")
    tasks[0].cancel()
    await turn()
    oracle.door.set()
    assert await outcomes(tasks) == ["CancelledError", "LookupError bad", "B"]
    assert oracle.batches == [["a", "bad", "b"], ["bad"], ["b"]]


async def test_a_batch_that_takes_too_long_is_given_up_and_the_next_goes_on() -> None:
    oracle = Oracle()

    async def answer(questions: Sequence[str]) -> list[str]:
        if "endless" in questions:
            await asyncio.Event().wait()
        return await oracle.answer(questions)

    batcher = asking(answer, seconds=0.01)
    unlucky = await gathered(batcher, oracle, "a endless")
    oracle.door.set()
    await turn()
    await turn()
    later = await asked(batcher, "b c")
    assert await outcomes(unlucky) == ["TimeoutError"] * 2
    assert await outcomes(later) == ["B", "C"]
    assert oracle.batches == [["b", "c"]]


@pytest.mark.parametrize("questions", ["slow", "quick slow too"])
async def test_what_takes_long_holds_up_nobody_but_itself(questions: str) -> None:
    """And gets its answers when they are there."""
    oracle = Oracle()

    async def answer(questions: Sequence[str]) -> list[str]:
        await turn()
        return await oracle.answer(questions) if "slow" in questions else list(questions)

    batcher = asking(answer, patience=0.01)
    oracle.door.clear()
    slow = await asked(batcher, questions)
    await oracle.begun.wait()
    assert await outcomes(await asked(batcher, "b c")) == ["b", "c"]
    assert not slow[-1].done()
    assert await outcomes(await asked(batcher, "d")) == ["d"]
    oracle.door.set()
    assert " ".join(await outcomes(slow)).lower() == questions
    assert await outcomes(await asked(batcher, "e")) == ["e"]


async def test_a_batch_that_is_given_too_few_answers_fails() -> None:
    async def answer(questions: Sequence[str]) -> Sequence[str]:
        await turn()
        return questions[1:]

    kinds = [end.split()[0] for end in await outcomes(await asked(asking(answer), "a b"))]
    assert kinds.count("ValueError") == 1


@pytest.mark.parametrize("questions", ["a", "a b c", "bad", "a bad"])
async def test_when_all_is_answered_nothing_runs_any_more(questions: str) -> None:
    before = asyncio.all_tasks()
    batcher = asking(Oracle().answer, limit=2)
    await outcomes(await asked(batcher, questions))
    await turn()
    assert batcher.running is None
    assert not batcher.waiting
    assert asyncio.all_tasks() == before
    assert await outcomes(await asked(batcher, "more")) == ["MORE"]


async def test_what_is_said_while_answering_is_said_for_the_first_of_the_batch() -> None:
    async def answer(questions: Sequence[str]) -> list[str]:
        await turn()
        return [speaker.get() for _ in questions]

    batcher = asking(answer, limit=2)

    async def ask(name: str) -> str:
        speaker.set(name)
        return await batcher.submit("who?")

    async with asyncio.TaskGroup() as tasks:
        answers = [tasks.create_task(ask(name)) for name in ("Ada", "Alan", "Grace", "Edsger")]
    assert [answer.result() for answer in answers] == ["Edsger", "Alan", "Alan", "Edsger"]
