"""The benchmarks run; at a size at which their figures mean nothing."""

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.world import ROOT


@pytest.fixture
def place() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as name:  # tmp_path is too long for a socket
        yield Path(name)


def test_the_benchmark_of_transfers_compares_them_with_psql(place: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.transfer", "--rows", "2000", "--rounds", "1"],
        cwd=ROOT,
        env={**os.environ, "TMPDIR": str(place)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    _, table = done.stdout.split("memory\n")
    figures = r" +[\d,]+ +\d+\.\d\d +\(\d+\.\d\d-\d+\.\d\d\)"
    for name in (r"in:  CSV, skip", "in:  NDJSON, skip", "out: CSV", "out: NDJSON"):
        assert re.search(f"^{name}{figures}", table, re.MULTILINE)
    if Path("/proc/self/status").exists():
        assert re.search(r"\d+ MiB idle, .* importing, .* exporting", table)
    assert not list(place.iterdir())  # it leaves nothing behind
