"""The cores that processes use: their CPU time, divided by the time that passed."""

import os
import time
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

from benchmarks.world import PROC, children, worked
from safely.scratch.embedded import Server

LOAD, OTHERS = "wrk", "others"
BUSY = 8  # columns of /proc/stat that are times of a CPU; guests are in the first two already
IDLE = slice(3, 5)  # those in which it did nothing, or waited for a disk


class Usage(NamedTuple):
    """CPU seconds until now, by group of processes, and the time at which they were read."""

    at: float
    seconds: dict[str, float]


class Cores:
    """Groups of processes, each by a function that lists its process ids at the moment."""

    def __init__(self, groups: Mapping[str, Callable[[], Iterable[int]]]) -> None:
        self.groups = groups

    def now(self) -> Usage:
        """Return the CPU time that each group has used until now.

        The load generator is a child that has ended; `OTHERS` are all other processes of the
        machine, which take cores away from those that are measured.
        """
        own = os.times()
        seconds = {name: sum(map(worked, pids())) for name, pids in self.groups.items()}
        seconds[LOAD] = own.children_user + own.children_system
        seconds[OTHERS] = machine() - sum(seconds.values())
        return Usage(time.monotonic(), seconds)


def machine() -> float:
    """Return the seconds for which the machine's CPUs were busy, since it was started."""
    ticks = [int(word) for word in (PROC / "stat").read_text().splitlines()[0].split()[1:]]
    return (sum(ticks[:BUSY]) - sum(ticks[IDLE])) / os.sysconf("SC_CLK_TCK")


def between(before: Usage, after: Usage) -> dict[str, float]:
    """Return the cores that each group used between two readings."""
    passed = after.at - before.at
    used = {name: (now - before.seconds[name]) / passed for name, now in after.seconds.items()}
    # the machine's time is counted by ticks, that of a process exactly: the rest may be below 0
    return {**used, OTHERS: max(used[OTHERS], 0.0)}


def with_children(pid: int) -> list[int]:
    """Return a process and those that it has started."""
    return [pid, *children(pid)]


def postmaster(server: Server) -> int:
    """Return the process id of a PostgreSQL's main process."""
    return int((server.directory / "postmaster.pid").read_text().split()[0])
