"""Items that are submitted at the same time run in one batch."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextvars import ContextVar

import pytest

from service.batching import Batcher, BatchFailed

LONG = 60.0  # seconds; no test waits so long

requester = ContextVar("requester", default="nobody")


class Runner:
    """Returns items in capitals, once its gate is open; raises for items that begin with bad."""

    def __init__(self) -> None:
        self.batches: list[list[str]] = []
        self.started = asyncio.Event()
        self.gate = asyncio.Event()
        self.gate.set()

    async def run(self, items: Sequence[str]) -> list[str]:
        self.batches.append(list(items))
        self.started.set()
        await self.gate.wait()
        if bad := [item for item in items if item.startswith("bad")]:
            raise LookupError(*bad)
        return [item.upper() for item in items]


def make_batcher(
    run: Callable[[Sequence[str]], Awaitable[Sequence[str]]],
    *,
    limit: int = 100,
    patience: float = LONG,
    retry_alone: bool = False,
) -> Batcher[str, str]:
    return Batcher(run, retry_alone=lambda _: retry_alone, limit=limit, patience=patience)


async def one_turn() -> None:
    """Let the event loop run everything else that is ready."""
    await asyncio.sleep(0)


async def submit(batcher: Batcher[str, str], items: str) -> list[asyncio.Task[str]]:
    """Submit the items, a word each, in the same turn of the event loop; return their tasks."""
    tasks = [asyncio.create_task(batcher.submit(item)) for item in items.split()]
    await one_turn()
    return tasks


async def hold(batcher: Batcher[str, str], runner: Runner) -> None:
    """Start a batch that runs until the runner's gate is opened."""
    runner.gate.clear()
    await submit(batcher, "first")
    await runner.started.wait()
    runner.batches.clear()


async def submit_next(
    batcher: Batcher[str, str], runner: Runner, items: str
) -> list[asyncio.Task[str]]:
    """Submit items that form the next batch, which starts when the runner's gate is opened."""
    await hold(batcher, runner)
    return await submit(batcher, items)


async def submit_running(
    batcher: Batcher[str, str], runner: Runner, items: str
) -> list[asyncio.Task[str]]:
    """Submit items whose batch has started, and runs until the runner's gate is opened."""
    tasks = await submit_next(batcher, runner, items)
    runner.started.clear()
    runner.gate.set()  # for the batch before, which waits at the gate
    runner.gate.clear()
    await runner.started.wait()
    return tasks


async def outcomes(tasks: Sequence[asyncio.Task[str]]) -> list[str]:
    """Return the outcome of each task."""
    ends = await asyncio.gather(*tasks, return_exceptions=True)
    return [outcome(end) for end in ends]


def outcome(end: str | BaseException) -> str:
    """Return a result, or the type and text of an exception; of a batch's the reason."""
    if isinstance(end, str):
        return end
    reason = end.__cause__ if isinstance(end, BatchFailed) else end
    return f"{type(reason).__name__} {reason}".strip()


async def test_a_single_item_runs_alone_and_at_once() -> None:
    """It starts in the next turn of the event loop."""
    runner = Runner()
    [task] = await submit(make_batcher(runner.run), "a")
    await one_turn()
    assert runner.batches == [["a"]]
    assert await task == "A"


async def test_items_submitted_while_a_batch_runs_form_the_next_batch_in_their_order() -> None:
    runner = Runner()
    batcher = make_batcher(runner.run)
    await hold(batcher, runner)
    tasks = await submit(batcher, "c a") + await submit(batcher, "b")
    assert runner.batches == []
    runner.gate.set()
    assert await outcomes(tasks) == ["C", "A", "B"]
    assert runner.batches == [["c", "a", "b"]]


async def test_items_submitted_in_the_same_turn_form_one_batch() -> None:
    runner = Runner()
    tasks = await submit(make_batcher(runner.run), "a b c")
    assert sorted(await outcomes(tasks)) == ["A", "B", "C"]
    assert [sorted(batch) for batch in runner.batches] == [["a", "b", "c"]]


async def test_an_item_cancelled_in_the_turn_of_its_submission_delays_no_other() -> None:
    runner = Runner()
    batcher = make_batcher(runner.run)
    first, *others = await submit(batcher, "a b c")
    first.cancel()
    assert await outcomes(others) == ["B", "C"]
    assert runner.batches == [["b", "c"]]
    assert batcher.running is None


async def test_a_batch_starts_after_its_items_were_submitted() -> None:
    """An item does not join a running batch with the same item, whose result may be out of date."""
    values = ["old"]
    started, gate = asyncio.Event(), asyncio.Event()

    async def run(items: Sequence[str]) -> list[str]:
        value = values[-1]
        started.set()
        await gate.wait()
        return [value for _ in items]

    batcher = make_batcher(run)
    before = await submit(batcher, "a")
    await started.wait()
    values.append("new")
    after = await submit(batcher, "a")
    gate.set()
    assert await outcomes(before + after) == ["old", "new"]


async def test_a_batch_has_at_most_limit_items_and_the_next_batch_the_rest() -> None:
    runner = Runner()
    tasks = await submit_next(make_batcher(runner.run, limit=3), runner, "a b c d e f g")
    runner.gate.set()
    assert await outcomes(tasks) == ["A", "B", "C", "D", "E", "F", "G"]
    assert runner.batches == [["a", "b", "c"], ["d", "e", "f"], ["g"]]


async def test_at_most_one_batch_runs_at_a_time() -> None:
    running = asyncio.Lock()

    async def run(items: Sequence[str]) -> Sequence[str]:
        assert not running.locked()
        async with running:
            for _ in range(3):
                await one_turn()
        return items

    batcher = make_batcher(run, limit=2)
    tasks = [task for _ in range(10) for task in await submit(batcher, "a b c")]
    assert await outcomes(tasks) == ["a", "b", "c"] * 10


async def test_where_a_batch_fails_and_may_be_retried_each_item_runs_alone() -> None:
    """Each gets its own result, or its own exception."""
    runner = Runner()
    tasks = await submit_next(make_batcher(runner.run, retry_alone=True), runner, "a bad b bad-too")
    runner.gate.set()
    assert await outcomes(tasks) == ["A", "LookupError bad", "B", "LookupError bad-too"]
    assert runner.batches == [["a", "bad", "b", "bad-too"], ["a"], ["bad"], ["b"], ["bad-too"]]


async def test_a_failure_without_retry_reaches_all_items_of_the_batch_and_no_others() -> None:
    runner = Runner()
    batcher = make_batcher(runner.run, limit=3)
    failing = await submit_next(batcher, runner, "a bad b")
    later = await submit(batcher, "c d")
    runner.gate.set()
    assert await outcomes(failing) == ["LookupError bad"] * 3
    assert await outcomes(later) == ["C", "D"]
    assert runner.batches == [["a", "bad", "b"], ["c", "d"]]


@pytest.mark.parametrize("retried", [True, False])
async def test_a_single_item_that_fails_is_not_retried(*, retried: bool) -> None:
    runner = Runner()
    tasks = await submit(make_batcher(runner.run, retry_alone=retried), "bad")
    assert await outcomes(tasks) == ["LookupError bad"]
    assert runner.batches == [["bad"]]


@pytest.mark.parametrize("cancelled", [(0,), (1,), (2,), (0, 1), (0, 2), (0, 1, 2)])
async def test_an_item_cancelled_before_its_batch_starts_is_left_out(
    cancelled: tuple[int, ...],
) -> None:
    runner = Runner()
    batcher = make_batcher(runner.run)
    await hold(batcher, runner)
    tasks = await submit(batcher, "a b c")
    for number in cancelled:
        tasks[number].cancel()
    await one_turn()
    runner.gate.set()
    remaining = [letter for number, letter in enumerate("abc") if number not in cancelled]
    others = [task for number, task in enumerate(tasks) if number not in cancelled]
    assert await outcomes(others) == [letter.upper() for letter in remaining]
    assert [tasks[number].cancelled() for number in cancelled] == [True] * len(cancelled)
    await one_turn()
    assert runner.batches == ([remaining] if remaining else [])
    assert batcher.running is None


@pytest.mark.parametrize("cancelled", [0, 1, 2])
async def test_an_item_cancelled_in_a_running_batch_takes_no_result_from_the_others(
    cancelled: int,
) -> None:
    runner = Runner()
    tasks = await submit_running(make_batcher(runner.run), runner, "a b c")
    tasks[cancelled].cancel()
    await one_turn()
    runner.gate.set()
    expected = ["A", "B", "C"]
    expected[cancelled] = "CancelledError"
    assert await outcomes(tasks) == expected
    assert runner.batches == [["a", "b", "c"]]


async def test_an_item_cancelled_in_a_batch_that_fails_is_not_retried() -> None:
    runner = Runner()
    tasks = await submit_running(make_batcher(runner.run, retry_alone=True), runner, "a bad b")
    tasks[0].cancel()
    await one_turn()
    runner.gate.set()
    assert await outcomes(tasks) == ["CancelledError", "LookupError bad", "B"]
    assert runner.batches == [["a", "bad", "b"], ["bad"], ["b"]]


async def test_a_batch_that_times_out_fails_and_the_next_runs() -> None:
    runner = Runner()

    async def run(items: Sequence[str]) -> list[str]:
        if "endless" in items:
            async with asyncio.timeout(0.01):
                await asyncio.Event().wait()
        return await runner.run(items)

    batcher = make_batcher(run)
    failing = await submit_next(batcher, runner, "a endless")
    runner.gate.set()
    await one_turn()
    await one_turn()
    later = await submit(batcher, "b c")
    assert await outcomes(failing) == ["TimeoutError"] * 2
    assert await outcomes(later) == ["B", "C"]
    assert runner.batches == [["b", "c"]]


@pytest.mark.parametrize("items", ["slow", "quick slow too"])
async def test_a_slow_batch_delays_others_for_its_patience_only(items: str) -> None:
    """The slow batch still gets its results."""
    runner = Runner()

    async def run(items: Sequence[str]) -> list[str]:
        await one_turn()
        return await runner.run(items) if "slow" in items else list(items)

    batcher = make_batcher(run, patience=0.01)
    runner.gate.clear()
    slow = await submit(batcher, items)
    await runner.started.wait()
    assert await outcomes(await submit(batcher, "b c")) == ["b", "c"]
    assert not slow[-1].done()
    assert await outcomes(await submit(batcher, "d")) == ["d"]
    runner.gate.set()
    assert " ".join(await outcomes(slow)).lower() == items
    assert await outcomes(await submit(batcher, "e")) == ["e"]


async def test_a_batch_with_too_few_results_fails() -> None:
    async def run(items: Sequence[str]) -> Sequence[str]:
        await one_turn()
        return items[1:]

    types = [end.split()[0] for end in await outcomes(await submit(make_batcher(run), "a b"))]
    assert types.count("ValueError") == 1


@pytest.mark.parametrize("items", ["a", "a b c", "bad", "a bad"])
async def test_when_all_items_are_done_no_task_runs(items: str) -> None:
    before = asyncio.all_tasks()
    batcher = make_batcher(Runner().run, limit=2)
    await outcomes(await submit(batcher, items))
    await one_turn()
    assert batcher.running is None
    assert not batcher.waiting
    assert asyncio.all_tasks() == before
    assert await outcomes(await submit(batcher, "more")) == ["MORE"]


async def test_a_batch_runs_in_the_context_of_its_first_item() -> None:
    async def run(items: Sequence[str]) -> list[str]:
        await one_turn()
        return [requester.get() for _ in items]

    batcher = make_batcher(run, limit=2)

    async def request(name: str) -> str:
        requester.set(name)
        return await batcher.submit("an item")

    async with asyncio.TaskGroup() as tasks:
        requests = [tasks.create_task(request(name)) for name in ("Ada", "Alan", "Grace", "Edsger")]
    assert [request.result() for request in requests] == ["Edsger", "Alan", "Alan", "Edsger"]
