"""Files are written completely or not at all."""

import fcntl
import os
import resource
import stat
from pathlib import Path

import pytest

from safely import files


def test_a_file_is_replaced_by_one_with_the_usual_permissions(tmp_path: Path) -> None:
    file = tmp_path / "metrics.prom"
    file.touch(mode=0o600)
    before = file.stat()
    umask = os.umask(0o022)
    try:
        files.write(file, b"schema_revision 9")
    finally:
        os.umask(umask)
    assert file.read_bytes() == b"schema_revision 9"
    assert stat.S_IMODE(file.stat().st_mode) == 0o644
    assert not os.path.samestat(file.stat(), before)  # a reader of the old file keeps reading it
    assert list(tmp_path.iterdir()) == [file]


def test_where_the_disk_is_full_the_old_file_stays(tmp_path: Path) -> None:
    file = tmp_path / "report.json"
    file.write_bytes(b"old")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000, before[1]))  # a write beyond it fails
    try:
        with pytest.raises(OSError, match="File too large"):
            files.write(file, bytes(2_000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert file.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [file]


def test_partial_files_of_killed_writers_are_removed_and_those_of_others_stay(
    tmp_path: Path,
) -> None:
    file = tmp_path / "[1].json"
    abandoned, busy = (tmp_path / f".{file.name}.{name}.part" for name in "ab")
    abandoned.touch()
    with busy.open("wb") as opened:
        fcntl.flock(opened, fcntl.LOCK_EX)
        files.write(file, b"new")
    assert sorted(tmp_path.iterdir()) == [busy, file]
