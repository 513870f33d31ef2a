"""The stop of a worker: it happens once, whatever asks for it, and in bounded time."""

import asyncio
import multiprocessing
import os
import signal
import time

from service.draining import Draining

INTERVAL = 1.0  # seconds between two looks at what the parent says, and whether it lives
GRACE = 15.0  # seconds for requests in flight; less than STOP_TIMEOUT, when the parent kills
LAST_RESORT = 25  # seconds after which the kernel ends a worker that could not end itself


class Stop:
    """Tells granian to stop: at SIGTERM, when the parent says so, and when the parent is gone.

    granian's signal handler blocks its worker for ever when it is called a second time, and a
    worker may well get several signals. Its handler keeps SIGINT, which this process blocks and
    sends to itself once; its handler of SIGTERM is replaced.
    """

    def __init__(self, draining: Draining) -> None:
        self.draining = draining
        self.since: float | None = None  # when it began, by the monotonic clock
        self.begun = asyncio.Event()

    @property
    def is_grace_over(self) -> bool:
        """Whether requests in flight have had their time."""
        return self.since is not None and time.monotonic() - self.since >= GRACE

    async def watch(self) -> None:
        """Take over SIGTERM, and stop granian when it is time.

        `hold_signals` must have been called before granian set its handlers.
        """
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, self.begin)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
        # a signal can be lost: uvloop forgets one that comes while the loop does not run
        while not (self.draining.ended or is_orphan()):  # noqa: ASYNC110  # no event tells that
            await asyncio.sleep(INTERVAL)
        self.begin()

    def begin(self) -> None:
        """Tell granian to stop, unless it was told before."""
        if self.since is not None:
            return
        self.since = time.monotonic()
        self.begun.set()
        signal.alarm(LAST_RESORT)  # an orphan has no parent that would kill it
        # to the process, where it is one with a SIGINT from elsewhere that waits already
        os.kill(os.getpid(), signal.SIGINT)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})


def hold_signals() -> None:
    """Let signals wait until `Stop.watch` takes them over."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})


def is_orphan() -> bool:
    """Return whether the process that started this worker has ended."""
    parent = multiprocessing.parent_process()
    return parent is not None and os.getppid() != parent.pid
