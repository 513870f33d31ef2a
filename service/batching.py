"""Answer concurrent requests by one query, without knowing what a query is.

Most of a query's cost is its way to the database and back: a query for thirty ids costs hardly
more than a query for one.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import Context, copy_context
from functools import partial
from typing import Generic, NamedTuple, TypeVar, cast

Item = TypeVar("Item")
Result = TypeVar("Result")


class RunAlone(Exception):  # noqa: N818  # an instruction to the waiting request, not a fault
    """The batch failed for a reason that may be one item's alone."""


class BatchFailed(Exception):  # noqa: N818  # named after what happened, like asyncio's own
    """The batch failed for all its items; `__cause__` is the reason.

    Each request gets an exception of its own: one object that is raised by many would collect
    their tracebacks, and keep their requests alive.
    """


class Waiting(NamedTuple, Generic[Item, Result]):
    """An item whose request waits for a batch."""

    item: Item
    result: asyncio.Future[Result]
    context: Context


class Batcher(Generic[Item, Result]):
    """Run items that are submitted at the same time together.

    - A batch begins after its items were submitted: a client that writes and then reads finds what
      it wrote. Nobody joins a batch that is running.
    - A single item waits for nobody, and needs no task.
    - A batch ends when none of its requests waits for it any more.
    - At most one batch runs at a time, unless it takes longer than `patience`.
    - Where a batch fails, each item is run again alone if `retry_alone` says so; else all fail.
    """

    def __init__(
        self,
        run: Callable[[Sequence[Item]], Awaitable[Sequence[Result]]],
        *,
        retry_alone: Callable[[Exception], bool],
        limit: int,
        patience: float,
    ) -> None:
        """`run` returns a result for each item, in their order.

        It must end by itself: a request may give up waiting, and the batch goes on for others.
        `retry_alone` tells whether a failure left everything as it was, and may be one item's
        alone. A batch has at most `limit` items. After `patience` seconds the next batch no longer
        waits for it.
        """
        self.run = run
        self.retry_alone = retry_alone
        self.limit = limit
        self.patience = patience
        self.waiting: deque[Waiting[Item, Result]] = deque()
        self.running: object = None  # the batch, or single item, that new items wait for
        # all batches, also those past their patience, with the items of those that have begun
        self.tasks: dict[asyncio.Task[None], Sequence[Waiting[Item, Result]]] = {}

    async def submit(self, item: Item) -> Result:
        """Return the item's result; raise what `run` raised, or BatchFailed from it."""
        if self.running is None:
            with self.blocking_others():
                await asyncio.sleep(0)  # items submitted in the same turn of the loop come along
                if not self.waiting:
                    [result] = await self.run([item])
                    return result
        future: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        self.waiting.append(Waiting(item, future, copy_context()))
        if self.running is None:
            self.start_batch()
        try:
            return await future
        except RunAlone:
            [result] = await self.run([item])
            return result
        except asyncio.CancelledError:
            self.end_unwanted()
            raise
        finally:
            del future  # break the reference cycle future -> exception -> traceback -> frame

    def end_unwanted(self) -> None:
        """Cancel the batches for which no request waits any more: they use connections."""
        for task, batch in self.tasks.items():
            if batch and all(waiting.result.done() for waiting in batch):
                task.cancel()

    @contextmanager
    def blocking_others(self) -> Iterator[None]:
        """Let new items wait until the end of the block, or until `patience` is over."""
        self.running = me = object()
        timer = asyncio.get_running_loop().call_later(self.patience, self.start_batch)
        try:
            yield
        finally:
            timer.cancel()
            if self.running is me:
                self.start_batch()

    def start_batch(self) -> None:
        """Start a task for the items that wait; what it logs belongs to the first one's request."""
        self.running = None
        while self.waiting and self.waiting[0].result.done():  # its request gave up
            self.waiting.popleft()
        if self.waiting:
            self.running = placeholder = object()  # until the task runs
            context = self.waiting[0].context
            task = asyncio.get_running_loop().create_task(self.run_batch(), context=context)
            self.tasks[task] = ()
            task.add_done_callback(partial(self.end_batch, placeholder))

    def end_batch(self, placeholder: object, task: asyncio.Task[None]) -> None:
        """Forget a batch; start the next if this one was cancelled before it ran."""
        self.tasks.pop(task, None)
        if self.running is placeholder:
            self.start_batch()

    async def run_batch(self) -> None:
        """Run the items that wait now, and give each its result or its exception."""
        with self.blocking_others():
            taken = [self.waiting.popleft() for _ in range(min(self.limit, len(self.waiting)))]
            batch = [waiting for waiting in taken if not waiting.result.done()]
            if not batch:
                return
            task = cast("asyncio.Task[None]", asyncio.current_task())
            self.tasks[task] = batch
            try:
                results = await self.run([waiting.item for waiting in batch])
                for waiting, result in zip(batch, results, strict=True):
                    if not waiting.result.done():
                        waiting.result.set_result(result)
            except BaseException as error:
                self.fail(batch, error)
                # break the reference cycle exception -> traceback -> frame -> batch -> exception
                taken.clear()
                batch.clear()
                if not isinstance(error, Exception):
                    raise

    def fail(self, batch: Sequence[Waiting[Item, Result]], error: BaseException) -> None:
        """Give each item that still waits an exception of its own; a single one gets the error."""
        retry = isinstance(error, Exception) and self.retry_alone(error)
        for waiting in batch:
            if not waiting.result.done():
                exception = error
                if len(batch) > 1:
                    exception = RunAlone() if retry else BatchFailed()
                    exception.__cause__ = error
                waiting.result.set_exception(exception)
