"""Bytes that wait on disk until they are sent, since there may be more than memory holds."""

import errno
import os
import tempfile
import zlib
from collections.abc import Iterator

PIECE = 64 * 1024  # bytes that are read at a time


class Spool:
    """A temporary file, compressed: rejected lines are much alike, and /tmp may be small.

    Raises OSError where there is no room.
    """

    def __init__(self) -> None:
        self.file = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115  # `close` closes it
        self.compressor = zlib.compressobj(1)

    def write(self, content: bytes) -> None:
        """Add to it."""
        self.keep(self.compressor.compress(content))

    def keep(self, compressed: bytes) -> None:
        """Write all of it, or raise."""
        if self.file.write(compressed) != len(compressed):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def pieces(self) -> Iterator[bytes]:
        """All that was written; it can't be added to any more."""
        self.keep(self.compressor.flush())
        self.file.seek(0)
        decompressor = zlib.decompressobj()
        while piece := self.file.read(PIECE):
            yield decompressor.decompress(piece)

    def close(self) -> None:
        """Give the room back."""
        self.file.close()
