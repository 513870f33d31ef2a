"""How fast the service is beside its peers.

    python -m benchmarks.compare --rows 1000000 --rounds 5

It starts a PostgreSQL of its own with the settings that a server has by default, fills it, and
lets one server after the other answer wrk, never two at a time, each with one worker. Each has its
turn in every round, the order is another each time, and a ratio is that of two turns of a round,
so that a busy machine is busy for both. TMPDIR says on which disk all of it lies.

The service takes part twice: with everything on that it can have on, and with that switched off.
The peers are in benchmarks/peers; pgbench, with nothing between it and the database, shows what
the database itself can do.

The exit code is 0 unless something came out wrong; to fall short of an aim is not wrong.
"""

import argparse
import json
import os
import platform
import random
import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.chart import chart
from benchmarks.load import UNIQUE, WRK, Load
from benchmarks.people import people, written
from benchmarks.results import (
    ALONE,
    AT_ONCE,
    CREATE,
    HOT,
    LOOKUP,
    RANDOM,
    TITLES,
    Results,
    report,
    table,
)
from benchmarks.world import (
    ROOT,
    Database,
    Memory,
    Service,
    carried_out,
    database,
    must,
    positive,
    running,
)
from service.user_lists import Cursor, encode_cursor

PAGE = 50  # users
KNOWN = 17  # the id of a user who is looked at closely
FEWEST = 1000  # rows with which all of it works
DIFFERENT = 100_000  # requests, before one is made again
NEWCOMERS = 10_000
WARM_UP = 1  # second

STATEMENTS = {  # what a server says to the database
    LOOKUP: r"""\set id random(1, :rows)
SELECT id, full_name, email, age FROM users WHERE id = :id;
""",
    RANDOM: rf"""\set id random(1, :rows - {PAGE})
SELECT id, full_name, email, age FROM users WHERE id > :id ORDER BY id LIMIT {PAGE + 1};
""",
    CREATE: r"""\set chance random(1, 9000000000000000000)
INSERT INTO users (full_name, email, age)
VALUES ('Ada Lovelace', format('ada.%s@mail.example.org', :chance::bigint), 36)
RETURNING id, full_name, email, age;
""",
}

# they are installed apart: with advanced-alchemy at hand, Litestar loads it into our service too
PEERS = Path(sys.prefix, "peers", "bin", "python")
LOCK = ROOT / "requirements-bench.txt"
README = ROOT / "README.md"
CHART = ROOT / "docs" / "benchmark.svg"
HEADLINE = "Requests a second, ours with tokens, access log and metrics"
COMPARED = "In brackets: how many times that the service reaches with all of it on"
MARKED = re.compile(r"(?<=<!-- benchmark -->\n).*(?=<!-- /benchmark -->)", re.DOTALL)
PACKAGES = (
    *("granian", "litestar", "sqlalchemy", "asyncpg"),
    *("fastapi", "uvicorn", "advanced-alchemy"),
)


class Server(NamedTuple):
    """Somebody who serves users."""

    name: str
    module: str
    python: Path = PEERS
    ready: str = "/users"  # what it can be asked as soon as it serves
    settings: Mapping[str, str] = {}
    headers: Mapping[str, str] = {}
    cursor: Callable[[int], str] = str  # what asks for the page after a user


def servers(directory: Path) -> list[Server]:
    """All of them."""
    tokens = directory / "tokens.json"
    ours = partial(
        Server,
        module="service",
        python=Path(sys.executable),
        ready="/health/ready",
        cursor=cursor,
    )
    everything = {
        "TOKENS_FILE": str(tokens),
        "METRICS": "1",
        "ACCESS_LOG": str(directory / "access.log"),
    }
    return [
        ours("everything", settings=everything, headers=credentials(tokens)),
        ours("plain", settings={"METRICS": "0", "ACCESS_LOG": "off"}),
        Server("fastapi", "benchmarks.peers.fastapi_orm"),
        Server("litestar", "benchmarks.peers.litestar_repository"),
        Server("bare", "benchmarks.peers.bare_asyncpg"),
        Server("unreset", "benchmarks.peers.bare_asyncpg", settings={"RESET": "0"}),
    ]


def cursor(user_id: int) -> str:
    """What asks our service for the page after a user."""
    return encode_cursor(Cursor("id", None, None, user_id, None))


def credentials(tokens: Path) -> dict[str, str]:
    """A token in a file of its own, and the header that shows it."""
    command = "-m service token create --name benchmark --scope read --scope write --scope operate"
    made = subprocess.run(  # noqa: S603  # a module of ours
        [sys.executable, *command.split(), "--file", str(tokens)],
        check=True,
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    return {"Authorization": f"Bearer {made.stdout.strip()}"}


def requests(rows: int, cursor: Callable[[int], str]) -> dict[str, list[str]]:
    """What each work asks for; the same each time."""
    chance = random.Random(4)  # noqa: S311  # nothing is secret
    users = chance.sample(range(1, rows - PAGE), min(rows - PAGE - 1, DIFFERENT))
    lookups = [f"GET /users/{user}" for user in users]
    return {
        LOOKUP: lookups,
        ALONE: lookups,
        HOT: [f"GET /users?limit={PAGE}"],
        RANDOM: [f"GET /users?limit={PAGE}&after={cursor(user)}" for user in users],
        CREATE: [f"POST /users {json.dumps(new)}" for new in newcomers()],
    }


def newcomers() -> Iterator[dict[str, Any]]:
    """People to be created, with addresses that wrk makes another each time."""
    for person in people(NEWCOMERS):
        if person.email:
            local, domain = person.email.split("@")
            yield {**person._asdict(), "email": f"{local}.{UNIQUE}@{domain}"}


class Comparison:
    """What takes part, and what came out until now."""

    def __init__(self, directory: Path, psql: Database, options: argparse.Namespace) -> None:
        self.directory = directory
        self.database = psql
        self.rows: int = options.rows
        self.connections: int = options.connections
        self.load = Load(directory, options.seconds)
        self.results = Results()
        self.known = next(islice(people(self.rows), KNOWN - 1, None))
        self.turns: list[Callable[[], None]] = [
            partial(self.serve, server, self.written(server))
            for server in servers(directory)
            if server.name in options.only
        ]
        if "pgbench" in options.only:
            self.turns.append(self.pgbench)

    def written(self, server: Server) -> dict[str, Path]:
        """What the server is asked, in a file for each work."""
        files = {}
        for number, (work, lines) in enumerate(requests(self.rows, server.cursor).items()):
            files[work] = self.directory / f"{server.name}-{number}.requests"
            files[work].write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        return files

    def round(self, number: int) -> None:
        """Everybody's turn; who begins, and which way round it goes, is another each time."""
        first = number % len(self.turns)
        turns = self.turns[first:] + self.turns[:first]
        for turn in reversed(turns) if number % 2 else turns:
            turn()

    def serve(self, server: Server, files: Mapping[str, Path]) -> None:
        """A server's turn."""
        answers = 0
        with running(
            server.module,
            server.ready,
            str(server.python),
            DATABASE_URL=self.database.url,
            **server.settings,
        ) as (client, pid):
            self.check(server, client)
            memory = Memory(pid)
            memory.forget()
            for work, file in files.items():
                connections = 1 if work == ALONE else self.connections
                ask = partial(self.load.wrk, file, client.port, server.headers, connections)
                warm, figures = ask(WARM_UP), ask()
                self.results.note(server.name, work, figures)
                answers += warm.answers + figures.answers
            created = warm.answers + figures.answers  # by the last
            must(self.newcomers() >= created, f"{server.name}: not all were kept")
            self.results.peaks[server.name].append(memory.read("VmHWM") or 0)
        check_log(server, answers)
        self.restore()

    def pgbench(self) -> None:
        """The database's own turn."""
        for work, statement in STATEMENTS.items():
            figures = self.load.pgbench(self.database, statement, self.connections, self.rows)
            self.results.note("pgbench", work, figures)
        self.restore()

    def newcomers(self) -> int:
        """How many were created in this turn."""
        return int(self.database.psql(f"SELECT count(*) FROM users WHERE id > {self.rows}"))

    def restore(self) -> None:
        """Leave the table as it was found."""
        self.database.psql(f"DELETE FROM users WHERE id > {self.rows}")
        self.database.settle()

    def check(self, server: Server, client: Service) -> None:
        """Whether it serves what it should, to whom it should."""
        ask = partial(asked, client, server.headers)
        known = {"id": KNOWN, **self.known._asdict()}
        must((found := ask("GET", f"/users/{KNOWN}")) == known, f"{server.name}: {found}")
        for after, query in ((0, ""), (KNOWN, f"&after={server.cursor(KNOWN)}")):
            page = ask("GET", f"/users?limit={PAGE}{query}")
            ids = [user["id"] for user in page["items"]]
            must(ids == [*range(after + 1, after + PAGE + 1)], f"{server.name}: {ids}")
            must(str(page["next"]) == server.cursor(ids[-1]), f"{server.name}: {page['next']}")
        new = {"full_name": "Ada Lovelace", "email": "ada@new.example.org", "age": 36}
        created = ask("POST", "/users", json.dumps(new))
        must(created == {"id": created["id"], **new}, f"{server.name}: {created}")
        kept = f"SELECT row_to_json(users) FROM users WHERE id = {created['id']}"
        must(json.loads(self.database.psql(kept)) == created, f"{server.name}: not kept")
        if server.headers:  # less would be on than is said
            must(not client.is_ready("/users"), f"{server.name} asks for no token")
            with client.answer("GET", "/metrics", None, server.headers) as metrics:
                must(b"http_request" in metrics.read(), f"{server.name} measures nothing")


def asked(
    client: Service, headers: Mapping[str, str], method: str, path: str, body: str | None = None
) -> Any:
    """The JSON that is answered."""
    given = {**headers, "Content-Type": "application/json"}
    with client.answer(method, path, body, given) as answer:
        return json.load(answer)


def check_log(server: Server, answers: int) -> None:
    """Whether it told of every request, if it was to."""
    log = Path(server.settings.get("ACCESS_LOG", "off"))
    if log.is_absolute():
        with log.open("rb") as lines:
            must(sum(1 for _ in lines) >= answers, f"{server.name} didn't tell of every request")
        log.unlink()


def conditions(psql: Database, options: argparse.Namespace) -> tuple[str, str]:
    """Under which it was measured, and what took part."""
    locked = dict(re.findall(r"^([\w.-]+)==(\S+)", LOCK.read_text(encoding="utf-8"), re.MULTILINE))
    versions = {
        "Python": platform.python_version(),
        "PostgreSQL": psql.psql("SHOW server_version").split()[0],
        **{package: locked[package] for package in PACKAGES},
    }
    return (
        f"{datetime.now(UTC):%Y-%m-%d}, {options.rows:,} users, "
        f"{options.connections} connections of wrk, one worker each, "
        f"{os.cpu_count()} cores ({platform.machine()}) for all, "
        f"medians of {options.rounds} x {options.seconds} seconds",
        ", ".join(" ".join(named) for named in versions.items()),
    )


def publish(results: Results, conditions: tuple[str, str]) -> None:
    """Write it into the README, and draw it."""
    rates = {
        words: {
            title: results.middle(name, work, "rate")
            for name, title in TITLES.items()
            if name in results.peaks
        }
        for work, words in AT_ONCE.items()
    }
    CHART.write_text(chart(HEADLINE, rates, conditions), encoding="utf-8")
    said = "".join(f"{line}.\n" for line in (COMPARED, *conditions))
    words = f"![{HEADLINE}]({CHART.relative_to(ROOT)})\n\n{table(results)}\n{said}"
    text, count = MARKED.subn(lambda _: words, README.read_text(encoding="utf-8"))
    must(count == 1, f"{README.name} has no place for it")
    README.write_text(text, encoding="utf-8")


def run(options: argparse.Namespace, directory: Path) -> None:
    """The whole comparison; raises WrongError for a wrong result."""
    with database(directory / "postgresql") as psql:
        psql.copy_in(written(directory, options.rows).by_format["CSV"])
        psql.settle()
        known = conditions(psql, options)
        print(*known, "", sep="\n", flush=True)
        comparison = Comparison(directory, psql, options)
        for number in range(options.rounds):
            comparison.round(number)
        report(comparison.results)
        if options.write:
            publish(comparison.results, known)


def missing() -> str | None:
    """What has to be had first."""
    if WRK is None:
        return "wrk is not on the PATH: `apt install wrk` (Debian) or `brew install wrk` (Homebrew)"
    return None if PEERS.exists() else "the peers are not installed: `make bench` does it"


def main() -> int:
    """Run it as the command line says."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.compare", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--rows", type=positive, default=1_000_000)
    parser.add_argument("--rounds", type=positive, default=5)
    parser.add_argument("--seconds", type=positive, default=5, help="of each run")
    parser.add_argument("--connections", type=positive, default=32)
    parser.add_argument(
        "--only",
        nargs="+",
        choices=TITLES,
        default=[*TITLES],
        metavar="NAME",
        help="who takes part",
    )
    parser.add_argument("--write", action="store_true", help="into README.md and docs/")
    options = parser.parse_args()
    if options.rows < FEWEST:
        parser.error(f"there must be at least {FEWEST} rows")
    if options.write and {*options.only} != {*TITLES}:
        parser.error("what is written has all of them")
    if lack := missing():
        print(lack, file=sys.stderr)
        return 2
    return carried_out(partial(run, options))


if __name__ == "__main__":
    sys.exit(main())
