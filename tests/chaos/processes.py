"""Processes as the kernel lists them."""

from pathlib import Path

LISTEN = "0A"  # a state in /proc/net/tcp


def children(process: int) -> list[int]:
    """Return the ids of the processes that a process started; empty where it has ended."""
    try:
        return [
            int(child)
            for child in Path(f"/proc/{process}/task/{process}/children").read_text("utf-8").split()
        ]
    except OSError:
        return []


def runs(process: int) -> bool:
    """Return whether a process runs; a zombie does not, once all of its threads have ended."""
    try:
        stat = Path(f"/proc/{process}/stat").read_text("utf-8")
        threads = list(Path(f"/proc/{process}/task").iterdir())
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] != "Z" or len(threads) > 1


def is_resource_tracker(process: int) -> bool:
    """Return whether a process only watches over the resources of Python's multiprocessing."""
    try:
        return b"resource_tracker" in Path(f"/proc/{process}/cmdline").read_bytes()
    except OSError:
        return False


def listeners(port: int) -> int:
    """Return how many sockets listen on a port of IPv4: one for all workers, or each its own."""
    lines = [line.split() for line in Path("/proc/net/tcp").read_text("utf-8").splitlines()]
    return sum(fields[3] == LISTEN and fields[1].endswith(f":{port:04X}") for fields in lines)
