"""The benchmarks run, at a size at which their figures mean nothing."""

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.load import WRK
from benchmarks.sizing import ARITHMETIC, DOCUMENT, arithmetic, part, tables
from tests.paths import ROOT


@pytest.fixture
def directory() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as name:  # tmp_path is too long for the path of a socket
        yield Path(name)


def benchmark(
    name: str, directory: Path, *options: str, **environment: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", f"benchmarks.{name}", *options],
        cwd=ROOT,
        env={**os.environ, "TMPDIR": str(directory), **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def path_without_wrk() -> str:
    directories = os.environ["PATH"].split(os.pathsep)
    return os.pathsep.join(path for path in directories if not Path(path, "wrk").exists())


def test_the_benchmark_of_transfers_compares_them_with_psql(directory: Path) -> None:
    done = benchmark("transfer", directory, "--rows", "2000", "--rounds", "1")
    assert done.returncode == 0, done.stdout + done.stderr
    _, table = done.stdout.split("memory\n")
    figures = r" +[\d,]+ +\d+\.\d\d +\(\d+\.\d\d-\d+\.\d\d\)"
    for name in (r"in:  CSV, skip", "in:  NDJSON, skip", "out: CSV", "out: NDJSON"):
        assert re.search(f"^{name}{figures}", table, re.MULTILINE)
    if Path("/proc/self/status").exists():
        assert re.search(r"\d+ MiB idle, .* importing, .* exporting", table)
    assert not list(directory.iterdir())  # it leaves nothing behind


def test_the_benchmark_of_growth_measures_without_wrk_what_needs_none(directory: Path) -> None:
    options = "--sizes 1000 --rounds 1 --seconds 1 --workers 2 --only start alone"
    done = benchmark("growth", directory, *options.split(), PATH=path_without_wrk())
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"^start to first answer: \d+ ms", done.stdout, re.MULTILINE)
    if Path("/proc/self/status").exists():
        assert re.search(r"^  2, idle( +\d+\.\d){4}$", done.stdout, re.MULTILINE)
    figures = r"\d+\.\d\d +\(\d+\.\d\d-\d+\.\d\d\)"  # one second on a busy machine: any figure
    ratio = rf"^batching to without: {figures}, wanted 1\.05: (holds|short)$"
    assert re.search(ratio, done.stdout, re.MULTILINE)
    assert not list(directory.iterdir())  # it leaves nothing behind


def test_the_arithmetic_of_scaling_follows_from_the_figures_in_the_document() -> None:
    document = DOCUMENT.read_text(encoding="utf-8")
    assert part(document, ARITHMETIC).strip() == arithmetic(document)
    lines = [cells for _, cells in tables(part(document, ARITHMETIC))][2:]
    assert len(lines) > 20
    for what, how, result, _ in lines:
        expression = how.replace(",", "").replace("^", "**").replace(" x ", " * ")
        assert re.fullmatch(r"[\d.*/ ]+", expression), what
        computed = eval(expression)  # noqa: S307  # digits and signs alone
        assert float(result.replace(",", "")) == pytest.approx(computed, rel=0.006), what


def test_the_arithmetic_leaves_out_the_lines_whose_figure_is_left_out() -> None:
    document = DOCUMENT.read_text(encoding="utf-8")
    lookups = re.compile(r"^(\| 1, replica +\|.*\|)[ \d,]+\|$", re.MULTILINE)  # the first table's
    idle, changed = lookups.subn(r"\1  |", document, count=1)
    assert changed
    before, after = (
        {cells[0] for _, cells in tables(arithmetic(text))} for text in (document, idle)
    )
    rates = ("10,000", "100,000")
    assert before - after == {f"look a user up, {rate}/s: cores, replicas" for rate in rates}


@pytest.mark.skipif(WRK is None, reason="wrk is not on the PATH")
def test_the_benchmark_of_scale_counts_the_cores_that_each_process_uses(directory: Path) -> None:
    done = benchmark("scale", directory, "--quick", "--only", "requests")
    assert done.returncode == 0, done.stdout + done.stderr
    head, _, *lines = (cells for _, cells in tables(done.stdout))
    assert len(lines) == 2 * (1 + ("Without PgBouncer" not in done.stdout))
    for line in lines:
        cells = dict(zip(head, line, strict=True))
        used = ["requests/s", "cores: service", "primary", "wrk"]
        for name in [*used, *cells["workers"].split(", ")[1:]]:
            assert float(cells[name].replace(",", "")) > 0, name
    assert not list(directory.iterdir())  # it leaves nothing behind


@pytest.mark.parametrize("name", ["compare", "growth", "scale"])
def test_a_benchmark_says_where_to_get_wrk(name: str, directory: Path) -> None:
    done = benchmark(name, directory, PATH=path_without_wrk())
    assert done.returncode == 2
    assert done.stderr.startswith("wrk is not on the PATH: `apt install wrk`")
    assert not done.stdout
