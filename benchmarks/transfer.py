r"""Import and export of a million people: rows a second beside psql's own, and memory.

    python -m benchmarks.transfer --rows 1000000 --rounds 3

It starts a PostgreSQL of its own with the settings that a server has by default, and the service
with one worker and the settings that it has by default. psql's turn comes before each of the
service's, loads begin with an empty table, and a ratio is that to psql's turn just before, so that
a busy machine is busy for both. TMPDIR says on which disk all of it lies.

The exit code is 0 unless something came out wrong.
"""

import argparse
import csv
import json
import os
import platform
import sys
import time
from collections import defaultdict
from functools import partial
from pathlib import Path
from statistics import median
from typing import NamedTuple

from benchmarks.people import DOMAINS, FORMATS, SAMPLE, Files, written
from benchmarks.world import (
    MIB,
    Database,
    Memory,
    Service,
    carried_out,
    database,
    must,
    positive,
    service,
)

SMALL = 1000  # lines of the files that warm the service up
ORDINARY = 20  # requests that warm it up


class Measure(NamedTuple):
    """One load or one dump."""

    rate: float  # rows a second
    ratio: float  # to that of psql's CSV in the same direction, just before
    growth: int | None  # bytes; None where none of the worker's was used


class Benchmark:
    """What takes part, and what came out until now."""

    def __init__(self, files: Files, database: Database, service: Service, memory: Memory) -> None:
        self.files = files
        self.database = database
        self.service = service
        self.memory = memory
        self.measures: defaultdict[str, list[Measure]] = defaultdict(list)
        self.exported = files.by_format["CSV"].with_name("exported")

    def warm_up(self, small: Files) -> None:
        """Let the service load what it needs for each kind of request."""
        for form, file in small.by_format.items():
            self.database.empty()
            self.service.bring_in(form, file, "skip")
            self.service.bring_out(form, self.exported)
        for _ in range(ORDINARY):
            with self.service.answer("GET", "/users?limit=50") as answer:
                answer.read()
        self.memory.rest()

    def round(self, *, last: bool) -> None:
        """Every load and every dump once; the other answers to a conflict in the last round."""
        loads = [("CSV", "skip"), ("NDJSON", "skip")]
        if last:
            loads += [("CSV", "fail"), ("CSV", "update")]
        for form, on_conflict in loads:
            self.load(form, on_conflict, self.load_by_psql())
        self.database.settle()
        for form in FORMATS:
            self.dump(form, psql := self.dump_by_psql("CSV"))
        self.dump_by_psql("NDJSON", psql)

    def load_by_psql(self) -> float:
        """The CSV into the empty table, as fast as can be; return the rows a second."""
        self.database.empty()
        started = time.perf_counter()
        self.database.copy_in(self.files.by_format["CSV"])
        rate = self.note(r"in:  psql \copy CSV", started)
        must(self.database.count() == self.files.rows, "psql lost some")
        return rate

    def load(self, form: str, on_conflict: str, psql: float) -> None:
        """Import the people into the empty table."""
        self.database.empty()
        self.memory.forget()
        started = time.perf_counter()
        counts = self.service.bring_in(form, self.files.by_format[form], on_conflict)
        self.note(f"in:  {form}, {on_conflict}", started, psql, self.memory.growth())
        wanted = {"created": self.files.rows, "updated": 0, "skipped": 0, "rejected": 0}
        must(counts == {**wanted, "rejections": []}, f"import of {form}: {counts}")
        must(self.database.count() == self.files.rows, f"import of {form}: some are lost")

    def dump_by_psql(self, form: str, psql: float | None = None) -> float:
        """The table as it stands there, as fast as can be; return the rows a second."""
        started = time.perf_counter()
        self.database.copy_out(form, self.exported)
        return self.note(rf"out: psql \copy {form}", started, psql)

    def dump(self, form: str, psql: float) -> None:
        """Export the people."""
        self.memory.forget()
        started = time.perf_counter()
        self.service.bring_out(form, self.exported)
        self.note(f"out: {form}", started, psql, self.memory.growth())
        self.check(form)

    def note(
        self, name: str, started: float, psql: float | None = None, growth: int | None = None
    ) -> float:
        """Remember, and say at once; return the rows a second."""
        rate = self.files.rows / (time.perf_counter() - started)
        self.measures[name].append(Measure(rate, rate / (psql or rate), growth))
        print(f"{name:24}{rate:>12,.0f} rows/s", flush=True)
        return rate

    def check(self, form: str) -> None:
        """Whether all are in the file that was exported, and the sample is as it came."""
        count, found = 0, ""
        with self.exported.open(encoding="utf-8", newline="\n") as lines:
            for count, line in enumerate(lines, 1):  # noqa: B007  # the last one is wanted
                if str(SAMPLE.email) in line:
                    found = line
        count -= form == "CSV"  # the header
        must(count == self.files.rows, f"export of {form}: {count} lines")
        row = next(csv.reader([found]), []) if form == "CSV" else [*json.loads(found).values()]
        must(row[1:3] == [*SAMPLE[:2]], f"export of {form}: {found!r}")
        must(str(row[3]) == str(SAMPLE.age), f"export of {form}: {found!r}")


def report(benchmark: Benchmark) -> None:
    """The table."""
    print(f"\n{'':24}{'rows/s':>12}{'to psql CSV':>14}{'(min-max)':>14}{'memory':>12}")
    for name, measures in sorted(benchmark.measures.items(), key=lambda item: item[0][:3]):
        rate = median(measure.rate for measure in measures)
        ratios = [measure.ratio for measure in measures]
        print(f"{name:24}{rate:>12,.0f}{spread(ratios):>28}{mebibytes(grown(measures)):>12}")

    print()
    own, theirs = (benchmark.measures[name] for name in ("out: NDJSON", r"out: psql \copy NDJSON"))
    ratios = [mine.rate / its.rate for mine, its in zip(own, theirs, strict=True)]
    print(f"export of NDJSON to psql's own NDJSON: {spread(ratios)}")
    if benchmark.memory.idle is None:
        print("memory of the worker: not known, since there is no /proc that tells it")
        return
    directions = {
        word: grown([m for name, ms in benchmark.measures.items() if name[:3] == key for m in ms])
        for key, word in (("in:", "importing"), ("out", "exporting"))
    }
    said = ", ".join(f"{mebibytes(bytes_)} {word}" for word, bytes_ in directions.items())
    print(f"memory of the worker: {benchmark.memory.idle / MIB:.0f} MiB idle, at its peak {said}")


def spread(ratios: list[float]) -> str:
    """The median, and how far they lie apart."""
    return f"{median(ratios):.2f} {f'({min(ratios):.2f}-{max(ratios):.2f})':>13}"


def grown(measures: list[Measure]) -> int | None:
    """The most that memory grew."""
    return max((m.growth for m in measures if m.growth is not None), default=None)


def mebibytes(size: int | None) -> str:
    """What came on top."""
    return "" if size is None else f"{size / MIB:+.1f} MiB"


def run(directory: Path, rows: int, rounds: int) -> None:
    """The whole benchmark; raises WrongError for a wrong result."""
    files = written(directory, rows)
    small = written(directory, min(SMALL, rows))
    with (
        database(directory / "postgresql") as psql,
        service(psql.url, directory) as (client, pid),
    ):
        benchmark = Benchmark(files, psql, client, Memory(pid))
        benchmark.warm_up(small)
        print(
            f"{rows:,} people in {DOMAINS:,} domains, rounds: {rounds}; "
            f"{os.cpu_count()} cores ({platform.machine()}), Python {platform.python_version()}, "
            f"PostgreSQL {psql.psql('SHOW server_version')}\n"
        )
        for number in range(1, rounds + 1):
            benchmark.round(last=number == rounds)
        report(benchmark)


def main() -> int:
    """Run it as the command line says."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.transfer", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--rows", type=positive, default=1_000_000)
    parser.add_argument("--rounds", type=positive, default=3)
    options = parser.parse_args()
    return carried_out(partial(run, rows=options.rows, rounds=options.rounds))


if __name__ == "__main__":
    sys.exit(main())
