"""The drain: the time between the signal to stop and the end of the listener."""

from multiprocessing.sharedctypes import RawValue


class Draining:
    """Whether the service is about to stop; the parent and all its workers share the answer.

    Workers get the shared memory when they are started, forked or spawned, also during the drain.
    """

    def __init__(self) -> None:
        self.shared = RawValue("b", 0)

    def begin(self) -> None:
        """Tell all workers that the service is about to stop."""
        self.shared.value = 1

    def end(self) -> None:
        """Tell all workers that the service stops now."""
        self.shared.value = 2

    def __bool__(self) -> bool:
        return bool(self.shared.value > 0)

    @property
    def ended(self) -> bool:
        """Whether the service stops now."""
        return bool(self.shared.value > 1)
