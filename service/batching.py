"""Doing together what is asked at the same time.

Most of a query's cost is its way to the database and back: one for thirty ids costs hardly more
than one for one.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import Context, copy_context
from functools import partial
from typing import Generic, NamedTuple, TypeVar

Question = TypeVar("Question")
Answer = TypeVar("Answer")


class OneByOne(Exception):  # noqa: N818  # an instruction, not a fault
    """A batch failed, for a reason that may be one question's alone."""


class Asked(NamedTuple, Generic[Question, Answer]):
    """A question that waits."""

    question: Question
    answer: asyncio.Future[Answer]
    context: Context


class Gathering(Generic[Question, Answer]):
    """Answers questions; those that come while others are being answered go together.

    What answers a question begins after it was asked: who writes and then asks, finds what was
    written. A question that comes alone waits for nobody. Where a batch fails, each of its
    questions is asked again alone, unless the failure is everybody's.
    """

    def __init__(
        self,
        answer: Callable[[Sequence[Question]], Awaitable[Sequence[Answer]]],
        *,
        retried: Callable[[Exception], bool],
        limit: int,
        patience: float,
        seconds: float,
    ) -> None:
        """`answer` gives an answer to each question of a batch, in their order.

        `retried` says which failures left everything as it was, and may be one question's alone.
        A batch has `limit` questions at most. One that takes longer than `patience` is waited for
        no more before the next begins, and after so many seconds it ends in TimeoutError: the
        requests that ask may give up, but then nobody would end what they wait for.
        """
        self.answer = answer
        self.retried = retried
        self.limit = limit
        self.patience = patience
        self.seconds = seconds
        self.waiting: deque[Asked[Question, Answer]] = deque()
        self.current: object = None  # what those who come now wait for
        self.batches: set[asyncio.Task[None]] = set()  # those that took long, too

    async def ask(self, question: Question) -> Answer:
        """The answer; raises what answering raised."""
        if self.current is None:
            self.current = me = object()
            with self.waited_for(me):
                await asyncio.sleep(0)  # who asks in the same turn of the loop goes along
                if not self.waiting:
                    [alone] = await self.answer([question])
                    return alone
        answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self.waiting.append(Asked(question, answer, copy_context()))
        if self.current is None:
            self.begin()
        try:
            return await answer
        except OneByOne:
            [alone] = await self.answer([question])
            return alone
        finally:
            del answer  # its failure knows this frame: a circle that would keep the request

    def begin(self) -> None:
        """Answer the next batch, if anybody waits; what it logs belongs to its first request."""
        self.current = None
        while self.waiting and self.waiting[0].answer.done():  # who gave up meanwhile
            self.waiting.popleft()
        if self.waiting:
            self.current = me = object()
            context = self.waiting[0].context
            task = asyncio.get_running_loop().create_task(self.answer_some(me), context=context)
            self.batches.add(task)
            task.add_done_callback(partial(self.end, me))

    async def answer_some(self, me: object) -> None:
        """Answer those who wait now."""
        taken = [self.waiting.popleft() for _ in range(min(self.limit, len(self.waiting)))]
        with self.waited_for(me):
            await self.settle([asked for asked in taken if not asked.answer.done()])

    def end(self, me: object, task: asyncio.Task[None]) -> None:
        """A batch is over; it may have been cancelled before it began."""
        self.batches.discard(task)
        if self.current is me:
            self.begin()

    @contextmanager
    def waited_for(self, me: object) -> Iterator[None]:
        """Begin with those who have come meanwhile at the end, or when it takes too long."""
        timer = asyncio.get_running_loop().call_later(self.patience, self.begin)
        try:
            yield
        finally:
            timer.cancel()
            if self.current is me:
                self.begin()

    async def settle(self, batch: Sequence[Asked[Question, Answer]]) -> None:
        """Give each its answer, or the failure."""
        if not batch:
            return
        try:
            async with asyncio.timeout(self.seconds):
                answers = await self.answer([asked.question for asked in batch])
            for asked, answer in zip(batch, answers, strict=True):
                if not asked.answer.done():
                    asked.answer.set_result(answer)
        except BaseException as error:
            ours = isinstance(error, Exception) and len(batch) > 1 and self.retried(error)
            for asked in batch:
                if not asked.answer.done():
                    asked.answer.set_exception(OneByOne() if ours else error)
            if not isinstance(error, Exception):
                raise
