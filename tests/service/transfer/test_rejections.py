"""Rejected lines: counted, and kept on disk until they can be sent."""

import random
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from service.errors import Flaw, Rejected, Unavailable
from service.transfer.rejections import Rejections, Spool

LINE = Rejected(2, (Flaw("/age", "must be between 0 and 150"),))
AS_NDJSON = b'{"line":2,"errors":[{"pointer":"/age","detail":"must be between 0 and 150"}]}\n'
INCOMPRESSIBLE = random.Random(1).randbytes(1_000_000)  # noqa: S311  # no secret


@contextmanager
def files_limited_to(size: int) -> Iterator[None]:
    """Let the kernel refuse to write more than `size` bytes to any file, as a full disk does."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_spool_returns_all_that_was_written() -> None:
    with Spool() as spool:
        for _ in range(100_000):
            spool.write(AS_NDJSON)
        spool.write(INCOMPRESSIBLE)
        spool.flush()
        assert b"".join(spool.pieces()) == AS_NDJSON * 100_000 + INCOMPRESSIBLE


def test_an_empty_spool_returns_nothing() -> None:
    with Spool() as spool:
        spool.flush()
        assert not list(spool.pieces())


def test_a_spool_closes_its_file_wherever_it_is_left() -> None:
    for steps in range(3):
        with Spool() as spool:
            if steps > 0:
                spool.write(AS_NDJSON)
            if steps > 1:
                spool.flush()
        assert spool.file.closed
        spool.close()


def test_a_spool_without_room_raises_and_still_closes() -> None:
    with files_limited_to(100_000):
        with Spool() as spool, pytest.raises(OSError, match="File too large"):
            spool.write(INCOMPRESSIBLE)
        assert spool.file.closed


def test_a_spool_whose_last_bytes_find_no_room_raises_before_it_is_read() -> None:
    with files_limited_to(0):
        with Spool() as spool:
            spool.write(AS_NDJSON)  # waits in a buffer
            with pytest.raises(OSError, match="File too large"):
                spool.flush()
        assert spool.file.closed


def test_a_full_disk_makes_the_import_unavailable() -> None:
    with Path("/dev/full").open("wb", buffering=0) as file:
        rejections = Rejections(file)
        with pytest.raises(Unavailable) as refused:
            rejections.add([LINE])
    assert (
        refused.value.detail == "there is no room for the rejected lines: No space left on device"
    )


def test_a_disk_that_is_full_at_the_last_line_makes_the_import_unavailable() -> None:
    with Spool() as spool, files_limited_to(0):
        rejections = Rejections(spool)
        rejections.add([LINE])
        with pytest.raises(Unavailable, match="there is no room for the rejected lines"):
            rejections.finish()


def test_all_lines_are_counted_and_written_and_the_first_hundred_named() -> None:
    with Spool() as spool:
        rejections = Rejections(spool)
        for _ in range(30):
            rejections.add([LINE] * 5)
        rejections.finish()
        assert rejections.count == 150
        assert rejections.first == [LINE] * 100
        assert b"".join(spool.pieces()) == AS_NDJSON * 150
