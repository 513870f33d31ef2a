"""The layer that ends idle connections looks at descriptors that are not its own."""

import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

from service.draining import Draining
from service.http.layers.idle_connections import IdleConnections
from service.stopping import Stop

OTHER_WRITER = """
import sqlite3, sys
sqlite3.connect(sys.argv[1], timeout=0).execute("BEGIN IMMEDIATE")
"""


async def nothing(*_: Any) -> None: ...


def test_a_look_at_all_descriptors_leaves_the_locks_of_files(tmp_path: Path) -> None:
    """A process that closes any descriptor of a file gives up all its locks on that file."""
    file = tmp_path / "users.sqlite"
    with closing(sqlite3.connect(file, isolation_level=None)) as writer:
        writer.execute("PRAGMA journal_mode = WAL")
        writer.execute("CREATE TABLE things (number)")
        writer.execute("BEGIN IMMEDIATE")
        layer = IdleConnections(nothing, Stop(Draining()), port=1, limit=1)
        for descriptor in Path("/proc/self/fd").iterdir():
            layer.look_at(int(descriptor.name), {})
        other = subprocess.run(
            [sys.executable, "-c", OTHER_WRITER, str(file)],
            capture_output=True,
            text=True,
            check=False,
        )
        assert "database is locked" in other.stderr
        writer.execute("COMMIT")
