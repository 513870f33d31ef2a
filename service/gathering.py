"""Doing together what is asked at the same time.

Most of a query's cost is its way to the database and back: one for thirty ids costs hardly more
than one for one.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from contextvars import Context, copy_context
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
        self.last: asyncio.Task[None] | None = None  # batch, which others wait for
        self.batches: set[asyncio.Task[None]] = set()  # those that took long, too

    async def ask(self, question: Question) -> Answer:
        """The answer; raises what answering raised."""
        answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self.waiting.append(Asked(question, answer, copy_context()))
        if self.last is None:
            self.begin()
        try:
            return await answer
        except OneByOne:
            [alone] = await self.answer([question])
            return alone

    def begin(self) -> None:
        """Answer the next batch, if anybody waits; what it logs belongs to its first request."""
        self.last = None
        while self.waiting and self.waiting[0].answer.done():  # who gave up meanwhile
            self.waiting.popleft()
        if self.waiting:
            work = self.answer_some()
            context = self.waiting[0].context
            self.last = asyncio.get_running_loop().create_task(work, context=context)
            self.batches.add(self.last)
            self.last.add_done_callback(self.batches.discard)

    async def answer_some(self) -> None:
        """Answer those who wait now, then begin with those who have come meanwhile."""
        me = asyncio.current_task()
        taken = [self.waiting.popleft() for _ in range(min(self.limit, len(self.waiting)))]
        batch = [asked for asked in taken if not asked.answer.done()]
        timer = asyncio.get_running_loop().call_later(self.patience, self.begin)
        try:
            await self.settle(batch)
        finally:
            timer.cancel()
            if self.last is me:
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
            failure = error
            if isinstance(error, Exception) and len(batch) > 1 and self.retried(error):
                failure = OneByOne()
            for asked in batch:
                if not asked.answer.done():
                    asked.answer.set_exception(failure)
            if not isinstance(error, Exception):
                raise
