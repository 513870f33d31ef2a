"""How the service behaves as it grows: with more users, and with more workers.

    python -m benchmarks.growth --sizes 1000 100000 10000000 --rounds 5

It starts a PostgreSQL of its own with the settings that a server has by default, and fills a
database of each size. What is compared has its turn in every round, never two at a time and in
another order each time, and a ratio is that of two turns of a round, so that a busy machine is
busy for both. TMPDIR says on which disk all of it lies; 10,000,000 users take some 5 GB.

It has four parts, of which --only chooses some:

sizes    what 32 connections get a second, and what one waits for, with few and with many users.
         Of few users the same are asked for again and again, often at the same time: that helps
         them, and is not taken out.
start    how long the service takes to answer, and how much memory its processes take.
workers  how much more two workers answer than one, and which CPU time that costs whom.
alone    what a lookup that nobody shares pays for those that could be shared.

The exit code is 0 unless something came out wrong; to fall short of an aim is not wrong.
"""

import argparse
import os
import platform
import random
import sys
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from statistics import median
from typing import NamedTuple

import uvloop

from benchmarks.compare import DIFFERENT, FEWEST, PAGE, WARM_UP, asked, cursor, missing
from benchmarks.load import WRK, Figures, Load
from benchmarks.results import LOOKUP, RANDOM
from benchmarks.transfer import spread
from benchmarks.world import (
    MIB,
    PROC,
    START,
    Database,
    Service,
    carried_out,
    children,
    must,
    positive,
    postgresql,
    running,
    size_in,
    worked,
)
from safely.scratch.embedded import Server
from service import users
from service.app import freeze_garbage
from service.database import Database as Connections
from service.models import SCHEMA_REVISION
from service.schemas import User
from service.settings import Settings
from service.user_batches import ReadBatches
from service.user_lists import Cursor, encode_cursor

MANY = 32  # connections
USUAL = 1_000_000  # users, where there are so many, for what has nothing to do with their number
PLAIN = {"METRICS": "0", "ACCESS_LOG": "off"}

FIRST, FAR, NAMED, NAMED_FAR = (
    "first page",
    "page behind 10,000",
    "prefix, first page",
    "prefix, last full page",
)
PAGES = 10_000  # that FAR lies behind, where there are so many
WORKS = (LOOKUP, FIRST, FAR, RANDOM, NAMED, NAMED_FAR)
AIMED = (LOOKUP, FIRST, FAR, RANDOM)
SLOWER = 1.25  # times, at most, that the most users may make them

LOADED = 5  # seconds of work, before it is told again
REST = 0.2  # seconds without work, after which a worker is idle
MORE = 1.6  # times, at least, that two workers should answer what one does

BLOCK = 200  # lookups, one after the other
BLOCKS = 8  # in a round
PAID = 1.05  # times, at most, that it may take what it takes alone

GIVEN = (
    "Maria Mary Mark Martin Marta Max Maya Mateo Ana Anna Anders Andre Andrea Andreas Andrej "
    "John Johan Johanna Johannes Jonas Alan Alex Alice Alma Alva Elena Eli Elif Ella Elsa "
    "Karim Karl Kate Katya Kaya Li Lian Lily Lin Lisa Sally Sam Samir Sara Sasha "
    "Chen Clara David Emma Fatima Grace Hugo Ines Ivan Kenji Nadia Noah Olga Omar Priya Rosa Tomas"
)
FAMILY = (
    "Bauer Becker Brown Cohen Costa Davis Dubois Evans Ferrari Fischer Garcia Gonzalez Green "
    "Gruber Hansen Hernandez Hopper Huang Ito Ivanov Jansen Jensen Johansson Jones Khan Kim "
    "Kowalski Kumar Larsson Lee Lopez Lovelace Meyer Moreau Murphy Nguyen Nielsen Novak Olsen "
    "Park Patel Peeters Perez Petrov Popov Rodriguez Romero Rossi Santos Sato Schmidt Silva Singh "
    "Smith Suzuki Tanaka Taylor Thomas Tran Weber"
)
# each has more than a page of 1,000 users
PREFIXES = ("ma", "mar", "an", "and", "jo", "al", "el", "ka", "li", "sa")


class Ground:
    """What all parts stand on: a database of each size, and who asks."""

    def __init__(self, directory: Path, server: Server, options: argparse.Namespace) -> None:
        self.directory = directory
        self.server = server
        self.sizes: list[int] = sorted({*options.sizes})
        self.usual = USUAL if USUAL in self.sizes else self.sizes[-1]
        self.rounds: int = options.rounds
        self.workers: list[int] = options.workers
        self.load = Load(directory, options.seconds)
        self.filled: dict[int, Database] = {}
        self.files = 0

    def database(self, size: int) -> Database:
        """The one of this size; it is made when somebody first asks for it."""
        if size not in self.filled:
            began = time.monotonic()
            made = Database(self.server, f"users_{size}")
            self.server.call("createdb", *self.server.address(), made.name)
            made.migrate()
            fill(made, size)
            self.filled[size] = made
            print(f"{size:,} users are there after {time.monotonic() - began:.0f} s", flush=True)
        return self.filled[size]

    def written(self, paths: Iterable[str]) -> Path:
        """What is asked for, in a file."""
        self.files += 1
        file = self.directory / f"{self.files}.requests"
        file.write_text("".join(f"GET {path}\n" for path in paths), encoding="utf-8")
        return file

    def ask(
        self, file: Path, port: int, connections: int = MANY, seconds: int | None = None
    ) -> Figures:
        """What comes of a run of wrk."""
        return self.load.wrk(file, port, {}, connections, seconds)


def fill(psql: Database, size: int) -> None:
    """So many users, the same each time, with ids from 1 on; the indexes come when all are there.

    One in 50 has no address, one in 10 no age.
    """
    indexes = r"FROM pg_indexes WHERE tablename = 'users' AND indexname LIKE 'idx\_%'"
    names = psql.psql(f"SELECT string_agg(indexname, ', ') {indexes}")
    definitions = psql.psql(f"SELECT indexdef {indexes}").splitlines()
    people = f"""
        INSERT INTO users (full_name, email, age)
        SELECT
            format('%s %s %s', given, family, number),
            CASE WHEN number % 50 > 0 THEN
                format('%s.%s%s@mail%s.example.org', lower(given), lower(family), number, domain)
            END,
            CASE WHEN number % 10 > 0 THEN age END
        FROM (
            SELECT
                number,
                {any_of(GIVEN)} AS given,
                {any_of(FAMILY)} AS family,
                floor(5000 * random()) AS domain,
                floor(100 * random()) AS age
            FROM generate_series(1, {size}) AS number
        ) AS people
    """
    psql.psql("SELECT setseed(0.4)", f"DROP INDEX {names}", people, *definitions)
    psql.settle()
    found = psql.psql("SELECT min(id), max(id), count(*) FROM users")
    must(found == f"1|{size}|{size}", f"{size} users were to be there: {found}")


def any_of(words: str) -> str:
    """SQL that takes one of them by chance."""
    return f"(string_to_array('{words}', ' '))[1 + floor({len(words.split())} * random())::int]"


def requests(psql: Database, size: int) -> dict[str, list[str]]:
    """What each work asks for; the same each time."""
    chance = random.Random(4)  # noqa: S311  # nothing is secret
    page = f"/users?limit={PAGE}"
    far = min(PAGES * PAGE, size - PAGE)
    anywhere = chance.choices(range(1, size - PAGE + 1), k=DIFFERENT)
    return {
        LOOKUP: lookups(size),
        FIRST: [page],
        FAR: [f"{page}&after={cursor(far)}"],
        RANDOM: [f"{page}&after={cursor(user)}" for user in anywhere],
        NAMED: [f"{page}&name={prefix}" for prefix in PREFIXES],
        NAMED_FAR: [f"{page}&name={prefix}&after={last(psql, prefix)}" for prefix in PREFIXES],
    }


def lookups(size: int) -> list[str]:
    """Anybody."""
    chance = random.Random(4)  # noqa: S311
    return [f"/users/{user}" for user in chance.choices(range(1, size + 1), k=DIFFERENT)]


def last(psql: Database, prefix: str) -> str:
    """What asks for the last full page of the names that begin so."""
    key = 'lower(full_name) COLLATE "C"'
    found = psql.psql(
        f"SELECT id, {key} FROM users WHERE {key} LIKE '{prefix}%' "
        f"ORDER BY {key} DESC, id DESC OFFSET {PAGE} LIMIT 1"
    )
    must(found, f"no more than a page of names begin with {prefix}")
    user, _, reached = found.partition("|")
    return encode_cursor(Cursor("full_name", prefix, None, int(user), reached))


def in_turn(who: Sequence[int], number: int) -> Iterable[int]:
    """All of them; who begins, and which way round it goes, is another in each round."""
    first, backwards = number % len(who), number // len(who) % 2
    turns = [*who[first:], *who[:first]]
    return reversed(turns) if backwards else turns


def verdict(*, holds: bool) -> str:
    """A word on an aim."""
    return "holds" if holds else "short"


class Asked(NamedTuple):
    """A service, and the files with what it is asked for."""

    port: int
    files: dict[str, Path]


class Growing:
    """The part on sizes: what came out until now."""

    def __init__(self, ground: Ground, asked: dict[int, Asked]) -> None:
        self.ground = ground
        self.asked = asked
        self.rates: defaultdict[tuple[str, int], list[float]] = defaultdict(list)
        self.times: defaultdict[tuple[str, int], list[float]] = defaultdict(list)

    def warm_up(self, work: str, size: int) -> None:
        """Let all that is needed be loaded and prepared."""
        port, files = self.asked[size]
        for connections in (MANY, 1):
            self.ground.ask(files[work], port, connections, WARM_UP)

    def turn(self, work: str, size: int) -> None:
        """Measure, and say at once."""
        port, files = self.asked[size]
        rate = self.ground.ask(files[work], port).rate
        time = self.ground.ask(files[work], port, connections=1).p50
        self.rates[work, size].append(rate)
        self.times[work, size].append(time)
        print(f"{work:24}{size:>12,}{rate:>10,.0f}/s{time:>10.3f} ms", flush=True)

    def report(self) -> None:
        """The table."""
        few, *more = self.asked
        slower = f"{'slower by rate':>20}{'by p50':>20}" if more else ""
        print(f"\n{'':24}{'users':>12}{'rate/s':>10}{'p50 ms':>10}{slower}")
        for work in WORKS:
            for size in self.asked:
                rates, times = self.rates[work, size], self.times[work, size]
                line = f"{work if size == few else '':24}{size:>12,}"
                line += f"{median(rates):>10,.0f}{median(times):>10.3f}"
                if size != few:
                    by_rate = ratios(self.rates[work, few], rates)
                    by_time = ratios(times, self.times[work, few])
                    line += f"{spread(by_rate):>20}{spread(by_time):>20}"
                    if work in AIMED and size == more[-1]:
                        line += f"  {verdict(holds=median(by_rate) <= SLOWER)}"
                print(line)
        if more:
            print(f"wanted: with {more[-1]:,} users at most {SLOWER} times slower by rate")


def ratios(own: Iterable[float], others: Iterable[float]) -> list[float]:
    """Of each round."""
    return [mine / its for mine, its in zip(own, others, strict=True)]


def sizes(ground: Ground) -> None:
    """What a service gives for each size; all of them stand, and one at a time is asked."""
    with ExitStack() as standing:
        services = {}
        for size in ground.sizes:
            psql = ground.database(size)
            wanted = requests(psql, size)
            service = running("service", DATABASE_URL=psql.url, **PLAIN)
            client, _ = standing.enter_context(service)
            check(client, wanted)
            files = {work: ground.written(paths) for work, paths in wanted.items()}
            services[size] = Asked(client.port, files)
        growing = Growing(ground, services)
        for work in WORKS:
            for size in ground.sizes:
                growing.warm_up(work, size)
        for number in range(ground.rounds):
            for work in WORKS:
                for size in in_turn(ground.sizes, number):
                    growing.turn(work, size)
    growing.report()


def check(client: Service, wanted: dict[str, list[str]]) -> None:
    """Whether pages are full, so that those of each size cost the same to send."""
    for work, paths in wanted.items():
        for path in paths[: len(PREFIXES)] if work != LOOKUP else ():
            users = len(asked(client, {}, "GET", path)["items"])
            must(users == PAGE, f"{path}: {users} on the page")


def start(ground: Ground) -> None:
    """How long it takes until it answers, and its memory; what it does has its default settings."""
    size = ground.sizes[0]
    settings = {
        "DATABASE_URL": ground.database(size).url,
        "ACCESS_LOG": str(ground.directory / "access.log"),
        "LOG_LEVEL": "ERROR",  # it warns of more workers than cores
    }
    times = []
    for _ in range(ground.rounds):
        began = time.perf_counter()
        with running("service", "/health/live", **settings):
            times.append((time.perf_counter() - began) * 1000)
    shortest, longest = min(times), max(times)
    print(f"\nstart to first answer: {median(times):.0f} ms ({shortest:.0f}-{longest:.0f})")
    if not PROC.exists():
        print("memory: not known, since there is no /proc that tells it")
        return
    file = ground.written(lookups(size))
    kind, _ = memory(os.getpid())
    print(f"\n{f'memory in MiB, {kind}':24}{'all':>8}{'parent':>8}  workers")
    for count in ground.workers:
        with running("service", WORKERS=str(count), **settings) as (client, pid):
            workers = at_rest(pid, count)
            remembered(f"{count}, idle", pid, workers)
            if WRK is not None:
                ground.ask(file, client.port, seconds=LOADED)
                remembered(f"{count}, after a load", pid, workers)
    if WRK is None:
        print("after a load: not known, since wrk is not on the PATH")


def at_rest(server: int, count: int) -> list[int]:
    """The workers of a service, once all are there and have nothing to do."""
    deadline = time.monotonic() + START
    before: dict[int, float] = {}
    while True:
        now = {pid: worked(pid) for pid in children(server)}
        if len(now) == count and now == before:
            return [*now]
        must(time.monotonic() < deadline, f"{len(now)} of {count} workers, and no rest")
        before = now
        time.sleep(REST)


def remembered(words: str, server: int, workers: Sequence[int]) -> None:
    """Say what a service and its workers take now."""
    parent, *rest = (memory(pid)[1] / MIB for pid in (server, *workers))
    each = "".join(f"{size:>6.1f}" for size in rest)
    print(f"  {words:22}{parent + sum(rest):>8.1f}{parent:>8.1f}  {each}", flush=True)


def memory(pid: int) -> tuple[str, int]:
    """What a process takes, in bytes; if that is told, of what it shares only its part."""
    place = PROC / str(pid)
    try:
        return "PSS", size_in(place / "smaps_rollup", "Pss") or 0
    except OSError:
        return "RSS", size_in(place / "status", "VmRSS") or 0


class Turn(NamedTuple):
    """What so many workers did, and the CPU time that it took, in cores."""

    rate: float
    wrk: float
    postgresql: float
    workers: list[float]


def workers(ground: Ground) -> None:
    """What two workers answer and what one does; both services stand, and one is asked."""
    size = ground.usual
    url = ground.database(size).url
    file = ground.written(lookups(size))
    counts = (1, 2)
    turns: defaultdict[int, list[Turn]] = defaultdict(list)
    with ExitStack() as standing:
        services = {}
        for count in counts:
            service = running("service", WORKERS=str(count), DATABASE_URL=url, **PLAIN)
            client, pid = services[count] = standing.enter_context(service)
            at_rest(pid, count)
            ground.ask(file, client.port, seconds=WARM_UP)
        for number in range(ground.rounds):
            for count in in_turn(counts, number):
                client, pid = services[count]
                turn = with_cpu(partial(ground.ask, file, client.port), ground.server, pid)
                turns[count].append(turn)
                print(f"workers: {count}{turn.rate:>14,.0f}/s", flush=True)
    report_workers(turns, size)


def with_cpu(ask: Callable[[], Figures], postgresql: Server, service: int) -> Turn:
    """Ask, and look who works meanwhile."""

    def until_now() -> list[float]:
        times = os.times()
        server = int((postgresql.directory / "postmaster.pid").read_text().split()[0])
        database = sum(worked(pid) for pid in (server, *children(server)))
        own = (worked(pid) for pid in children(service))
        return [times.children_user + times.children_system, database, *own]

    before = until_now()
    figures = ask()
    seconds = figures.answers / figures.rate
    pairs = zip(until_now(), before, strict=True)
    wrk, database, *own = ((now - then) / seconds for now, then in pairs)
    return Turn(figures.rate, wrk, database, own)


def report_workers(turns: dict[int, list[Turn]], size: int) -> None:
    """The table."""
    print(f"\n{f'lookup, {size:,} users':24}{'rate/s':>10}", end="")
    print(f"{'cores:':>10}{'wrk':>8}{'PostgreSQL':>12}  workers" if PROC.exists() else "")
    for count, measured in turns.items():
        line = f"  {f'workers: {count}':22}{median(turn.rate for turn in measured):>10,.0f}"
        if PROC.exists():
            wrk = median(turn.wrk for turn in measured)
            database = median(turn.postgresql for turn in measured)
            own = map(median, zip(*(turn.workers for turn in measured), strict=True))
            line += f"{wrk:>18.2f}{database:>12.2f}  {' + '.join(f'{each:.2f}' for each in own)}"
        print(line)
    one, two = ([turn.rate for turn in turns[count]] for count in (1, 2))
    more = ratios(two, one)
    word = verdict(holds=median(more) >= MORE)
    print(f"two to one: {spread(more)}, wanted {MORE} where cores allow: {word}")
    print(f"there are {os.cpu_count()} cores for all")


def alone(ground: Ground) -> None:
    """What one connection's lookup takes where others could share it, and where not."""
    size = ground.usual
    settings = Settings(database_url=ground.database(size).url)
    batched, direct = uvloop.run(blocks(settings, size, ground.rounds * BLOCKS))
    print(f"\nlookup by one alone, {size:,} users, {len(direct)} x {BLOCK}{'µs':>8}")
    print(f"  {'batching':22}{median(batched):>10.1f}")
    print(f"  {'without':22}{median(direct):>10.1f}")
    paid = ratios(batched, direct)
    word = verdict(holds=median(paid) <= PAID)
    print(f"batching to without: {spread(paid)}, wanted {PAID}: {word}")


async def blocks(settings: Settings, size: int, count: int) -> tuple[list[float], list[float]]:
    """Return the time of a lookup in each block, with batching and without, in microseconds."""
    connections = Connections(settings, SCHEMA_REVISION)
    batches = ReadBatches(connections)

    async def find(user: int) -> User | None:
        async with connections.read() as session:
            [row] = await users.find(session, [user])
            return row

    chance = random.Random(4)  # noqa: S311
    times: dict[bool, list[float]] = {True: [], False: []}
    async with connections.open():
        for number in range(-1, count):
            if number == 0:  # it is warm
                times = {True: [], False: []}
                freeze_garbage()
            for batching in (True, False) if number % 2 else (False, True):
                ids = chance.choices(range(1, size + 1), k=BLOCK)
                ask = batches.lookups.submit if batching else find
                times[batching].append(await timed(ask, ids))
    return times[True], times[False]


async def timed(ask: Callable[[int], Awaitable[User | None]], ids: Sequence[int]) -> float:
    """What one of them takes, one after the other: the median."""
    times = []
    for user in ids:
        began = time.perf_counter()
        found = await ask(user)
        times.append((time.perf_counter() - began) * 1e6)
        must(found is not None and found.id == user, f"{user} was asked for: {found}")
    return median(times)


PARTS: dict[str, Callable[[Ground], None]] = {
    "sizes": sizes,
    "start": start,
    "workers": workers,
    "alone": alone,
}
WITHOUT_WRK = {"start", "alone"}


def run(options: argparse.Namespace, directory: Path) -> None:
    """The parts that are wanted; raises WrongError for a wrong result."""
    with postgresql(directory / "postgresql") as server:
        version = Database(server).psql("SHOW server_version").split()[0]
        print(
            f"{datetime.now(UTC):%Y-%m-%d}, {os.cpu_count()} cores ({platform.machine()}), "
            f"Python {platform.python_version()}, PostgreSQL {version}; "
            f"{options.rounds} rounds, {options.seconds} seconds each, {MANY} connections",
            flush=True,
        )
        ground = Ground(directory, server, options)
        for name, part in PARTS.items():
            if name in options.only:
                part(ground)


def main() -> int:
    """Run it as the command line says."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.growth", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument(
        "--sizes", nargs="+", type=positive, default=[1000, 100_000, 10_000_000], metavar="USERS"
    )
    parser.add_argument("--rounds", type=positive, default=5)
    parser.add_argument("--seconds", type=positive, default=2, help="of each run")
    parser.add_argument(
        "--workers", nargs="+", type=positive, default=[1, 2, 4], help="whose memory is told"
    )
    parser.add_argument("--only", nargs="+", choices=PARTS, default=[*PARTS], metavar="PART")
    options = parser.parse_args()
    if min(options.sizes) < FEWEST:
        parser.error(f"there must be at least {FEWEST} users")
    if WRK is None and not WITHOUT_WRK.issuperset(options.only):
        print(missing(), file=sys.stderr)
        return 2
    return carried_out(partial(run, options))


if __name__ == "__main__":
    sys.exit(main())
