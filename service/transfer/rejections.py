"""The lines of an import that can't be users, and the file where all of them may wait."""

import gzip
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from types import TracebackType
from typing import Any, Protocol, Self

from service import schemas, validation
from service.errors import Rejected, Unavailable

NAMED_LIMIT = 100  # rejected lines that a response names
PIECE = 64 * 1024  # bytes that are read from the file at a time


class RejectionsFile(Protocol):
    """A file to which rejected lines are written, as NDJSON."""

    def write(self, content: bytes, /) -> Any:
        """Write the content, or raise OSError."""

    def flush(self) -> None:
        """Leave nothing in a buffer, or raise OSError."""


class Rejections:
    """How many lines were rejected, and the first of them; a file, if any, gets all of them."""

    def __init__(self, file: RejectionsFile | None = None) -> None:
        self.count = 0
        self.first: list[Rejected] = []
        self.file = file

    def add(self, rejected: Sequence[Rejected]) -> None:
        """Count the lines and write them; raise Unavailable where the file has no room."""
        self.count += len(rejected)
        self.first += rejected[: NAMED_LIMIT - len(self.first)]
        if self.file is not None:
            lines = (schemas.encode(validation.rejection(line)) + b"\n" for line in rejected)
            with unavailable_without_room():
                self.file.write(b"".join(lines))

    def finish(self) -> None:
        """Flush the file after the last line; raise Unavailable where it has no room.

        Call it before the import commits: later, a full disk could not undo the import.
        """
        if self.file is not None:
            with unavailable_without_room():
                self.file.flush()


@contextmanager
def unavailable_without_room() -> Iterator[None]:
    """Raise Unavailable in place of the OSError of a full disk."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or "they can't be written"
        raise Unavailable(f"there is no room for the rejected lines: {reason}") from error


class Spool:
    """A temporary file in which rejected lines wait until they can be sent.

    They wait on disk, since there may be more than memory holds, and compressed, since they are
    much alike and /tmp may be small. Write, flush once, then read `pieces`. Leaving the context, or
    `close`, gives the disk space back.
    """

    def __init__(self) -> None:
        # buffered: a raw file may write a part of the content and return, which GzipFile ignores
        self.file = tempfile.TemporaryFile()  # noqa: SIM115  # `close` closes it
        self.compressor = gzip.GzipFile(fileobj=self.file, mode="wb", compresslevel=1)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        _type: type[BaseException] | None,
        _error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        self.close()

    def write(self, content: bytes) -> None:
        """Add the content; raise OSError where there is no room."""
        self.compressor.write(content)

    def flush(self) -> None:
        """End the compressed stream, to which nothing can be added afterwards.

        Raise OSError where there is no room.
        """
        self.compressor.close()
        self.file.flush()

    def pieces(self) -> Iterator[bytes]:
        """Yield all that was written before `flush`; raise EOFError or OSError if any is lost."""
        self.file.seek(0)
        with gzip.GzipFile(fileobj=self.file, mode="rb") as content:
            while piece := content.read(PIECE):
                yield piece

    def close(self) -> None:
        """Close the file, which is deleted then; it may be closed again."""
        # both write what they still buffer, which fails on a full disk and which nobody reads
        with suppress(OSError):
            self.compressor.close()
        with suppress(OSError):
            self.file.close()
