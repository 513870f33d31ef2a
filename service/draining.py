"""The drain: the time between the signal to stop and the end of the listener."""

import mmap


class Draining:
    """Whether the service is about to stop; the parent and all its workers share the answer.

    Workers inherit the memory when they are forked, also those that start during the drain.
    """

    def __init__(self) -> None:
        self.shared = mmap.mmap(-1, 1)

    def begin(self) -> None:
        """Tell all workers that the service is about to stop."""
        self.shared[0] = 1

    def end(self) -> None:
        """Tell all workers that the service stops now."""
        self.shared[0] = 2

    def __bool__(self) -> bool:
        return self.shared[0] > 0

    @property
    def ended(self) -> bool:
        """Whether the service stops now."""
        return self.shared[0] > 1
