"""Backups: exact while others write, verified, and restored whole or not at all."""

import asyncio
import fcntl
import json
import os
import re
import resource
import signal
import sqlite3
import stat
import sys
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, closing
from itertools import count
from pathlib import Path
from typing import Any

import asyncpg
import pytest
import sqlalchemy as sa
from alembic.config import Config
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy.ext.asyncio import AsyncEngine

from safely.backup import backup, fingerprint, sqlite_files
from safely.backup.archive import roles_in
from safely.backup.fingerprint import Fingerprint
from safely.backup.restore import into_scratch, restore
from safely.cancellation import CancelledTooLate, finishing
from safely.database import connected
from safely.environment import Environment
from safely.ledger.ledger import Work
from safely.postgresql import programs
from safely.postgresql.server import autocommit_of
from safely.project import Project, lock_key
from safely.scratch import databases as scratch
from service.models import Base
from tests.chain import HEAD, PREVIOUS
from tests.commands import run_alembic, run_migrations
from tests.databases import Databases, engine_for, name_of, path_of, query, revision_of, write
from tests.paths import ROOT

LEDGER = "SELECT direction, revision, message, snapshot FROM migration_log ORDER BY id"
SERIES = {
    "postgresql": "generate_series(1, {rows}) AS series (n)",
    "sqlite": "(WITH RECURSIVE s(n) AS (VALUES (1) UNION ALL SELECT n + 1 FROM s LIMIT {rows})"
    " SELECT n FROM s)",
}
Dump = Callable[[], Awaitable[Path]]


def files(directory: Path) -> list[Path]:
    return sorted(directory.iterdir())


async def insert_users(engine: AsyncEngine, rows: int) -> None:
    """Insert users, some with line ends, quotes and letters of other alphabets."""
    series = SERIES[engine.dialect.name].format(rows=rows)
    await write(
        engine,
        "INSERT INTO users (full_name, email, age) SELECT CASE WHEN n % 100 = 0 "
        "THEN 'Zoë \"O''Hara\"' || chr(10) || chr(9) || '\\\\.' || n ELSE 'Ada ' || n END, "
        f"n || '@example.org', n % 90 FROM {series}".replace(
            "chr", "chr" if engine.dialect.name == "postgresql" else "char"
        ),
    )


USERS = Project(name="users", metadata=Base.metadata)


@asynccontextmanager
async def environment(
    url: str, project: Project = USERS, **options: Any
) -> AsyncIterator[Environment]:
    """Yield a project's environment on the database at `url`."""
    config = Config(ROOT / "alembic.ini")
    script = ScriptDirectory.from_config(config)
    async with connected(url, schema=project.schema) as engine:
        yield Environment(project=project, config=config, script=script, engine=engine, **options)


async def contents(url: str, project: Project = USERS, **options: Any) -> Fingerprint:
    """Return a fingerprint of the database at `url`, with checksums."""
    async with environment(url, project, **options) as this:
        return await fingerprint.of_database(this, url, project.schema)


@pytest.fixture
def dump(url: str, tmp_path: Path) -> Dump:
    """Return a function that backs the database up and returns the file."""

    async def dumped() -> Path:
        async with environment(url) as users:
            result = await backup.back_up(users, tmp_path / "backups", verify=False)
        assert result is not None
        return result.file

    return dumped


async def restore_backup(
    url: str, file: Path, *, replace: bool = True, other: bool = False
) -> None:
    async with environment(url) as users:
        await restore(users, file, replace=replace, other_version=other)


async def drop_everything(databases: Databases, url: str) -> None:
    await databases.drop(url)
    if databases.kind == "postgresql":
        await databases.make("template0", name=name_of(url))


CONNECTED = (
    "SELECT count(*) FROM pg_stat_activity "
    "WHERE application_name ~ '^migrations' AND datname = current_database()"
)


async def wait_until_blocked(engine: AsyncEngine) -> None:
    """Return as soon as a migration, a backup or a restore waits for a lock."""
    while await query(engine, f"{CONNECTED} AND wait_event_type = 'Lock'") == [(0,)]:
        await asyncio.sleep(0.01)


async def wait_until_disconnected(engine: AsyncEngine) -> None:
    """Return when no migration, backup or restore is connected any more."""
    while await query(engine, CONNECTED) != [(0,)]:
        await asyncio.sleep(0.01)


async def start_migrations(url: str, *arguments: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "migrations", *arguments),
        cwd=ROOT,
        env={**os.environ, "DATABASE_URL": url},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )


async def test_a_backup_brings_everything_back(
    databases: Databases, url: str, engine: AsyncEngine, tmp_path: Path, *, full: bool
) -> None:
    """After everything was dropped, a restore gives the same schema, rows and sequences."""
    rows = 1_000_000 if full else 3_000
    await insert_users(engine, rows)
    # the sequence must stay ahead of the highest ids, which are gone
    await write(engine, "DELETE FROM users WHERE id > 2990 AND id < 3001")
    before = await contents(url)
    await engine.dispose()
    process = run_migrations(url, "backup", str(tmp_path / "new" / "b"), "--verify", "--json")
    assert process.returncode == 0, process.stderr
    report = json.loads(process.stdout)
    file = Path(report["file"])
    assert report["verified"] is True
    assert report["differences"] == []
    assert report["rows"] == before.rows >= rows
    assert report["tables"] == len(before.tables)
    assert [path.name for path in files(file.parent)] == [file.name]

    await drop_everything(databases, url)
    process = run_migrations(url, "restore", str(file))
    assert process.returncode == 0, process.stderr
    assert f"the database is at {HEAD}" in process.stdout
    assert await contents(url) == before
    assert run_migrations(url, "drift").returncode == 0
    assert "nothing to do" in run_alembic(url, "upgrade", "head").stderr
    again = "INSERT INTO users (full_name) VALUES ('B') RETURNING id"
    async with engine.begin() as connection:
        assert (await connection.exec_driver_sql(again)).scalar_one() == rows + 1
    if full:
        print(f"\n{databases.kind}: {report}")


async def test_a_backup_is_exact_while_others_write(
    url: str, engine: AsyncEngine, tmp_path: Path
) -> None:
    await insert_users(engine, 2_000)
    done, over = 0, asyncio.Event()

    async def writing() -> None:
        nonlocal done
        for number in count():
            if over.is_set():
                return
            await write(engine, f"INSERT INTO users (full_name) VALUES ('W {number}')")
            await write(
                engine, f"UPDATE users SET age = {number % 90} WHERE id = {number % 99 + 1}"
            )
            await write(engine, f"DELETE FROM users WHERE id = {number + 100}")
            done += 1

    async with asyncio.TaskGroup() as tasks, environment(url) as users:
        tasks.create_task(writing())
        result = await backup.back_up(users, tmp_path, verify=True)
        over.set()
    assert result is not None
    assert result.differences == []
    assert result.verified is True
    assert done


async def test_a_backup_is_readable_by_its_owner_only(dump: Dump) -> None:
    file = await dump()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700
    assert re.fullmatch(r"users-\d{8}T\d{6}Z\.(dump|sqlite)", file.name)
    assert files(file.parent) == [file]


async def test_two_at_once_are_two_backups(dump: Dump) -> None:
    one, other = await asyncio.gather(dump(), dump())
    assert files(one.parent) == sorted({one, other})


async def test_partial_files_of_killed_runs_are_removed_and_those_being_written_stay(
    dump: Dump, tmp_path: Path
) -> None:
    directory = tmp_path / "backups"
    directory.mkdir()
    abandoned, busy = (directory / f"users-2020010{n}T000000Z.dump.part" for n in (1, 2))
    abandoned.touch()
    with busy.open("wb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        first = await dump()
        assert set(files(directory)) == {busy, first}
    second = await dump()
    assert set(files(directory)) == {first, second}


async def test_the_ledger_has_the_backup_and_no_drift_is_accepted_by_it(
    url: str, engine: AsyncEngine, tmp_path: Path
) -> None:
    await write(engine, "CREATE INDEX surprise ON users (age)")
    before = await query(engine, LEDGER)
    assert run_migrations(url, "backup", str(tmp_path)).returncode == 0
    *others, (direction, revision, message, snapshot) = await query(engine, LEDGER)
    assert (direction, revision, snapshot) == ("backup", HEAD, None)
    assert re.fullmatch(r"users-\S+, \d+ bytes, not verified", message)
    assert others == before
    process = run_migrations(url, "drift")
    assert process.returncode == 1
    assert "index surprise" in process.stdout
    assert "not verified" in run_migrations(url, "log").stdout
    first = ("-x", f"backup={tmp_path}")
    assert run_alembic(url, *first, "downgrade", "-1", check=False).returncode != 0
    assert len(files(tmp_path)) == 1  # drift is refused before anything is done


async def test_purge_names_the_last_verified_backup_before_it_asks(
    url: str, engine: AsyncEngine, tmp_path: Path
) -> None:
    run_alembic(url, "-x", f"backup={tmp_path}", "downgrade", "-1")
    process = run_migrations(url, "purge", "--undone")
    assert "There is no verified backup" in process.stdout
    assert json.loads(run_migrations(url, "purge", "--undone", "--json").stdout)["backup"] is None
    verified = backup.Backup(tmp_path / "users-x.dump", 5, 1, HEAD, 2, 3, verified=True)
    async with environment(url) as users:
        await backup.record(users, verified, Work())
    *_, (_, _, message, _) = await query(engine, LEDGER)
    assert message == "users-x.dump, 5 bytes, verified: 2 tables, 3 rows"
    process = run_migrations(url, "purge", "--undone")
    assert process.returncode == 1
    assert re.search(rf"The last verified backup is of \S+ \S+ UTC: {message}", process.stdout)


async def test_a_database_without_a_ledger_is_backed_up_and_an_empty_one_is_not(
    url: str, empty_url: str, engine: AsyncEngine, tmp_path: Path
) -> None:
    await write(engine, "DROP TABLE migration_log" + " CASCADE" * (engine.name == "postgresql"))
    process = run_migrations(url, "backup", str(tmp_path))
    assert process.returncode == 0
    assert "there is no migration_log to record the backup in" in process.stderr
    process = run_migrations(empty_url, "backup", str(tmp_path))
    assert process.returncode == 2
    assert re.search("the database is empty|there is no /", process.stderr)
    assert len(files(tmp_path)) == 1


@pytest.mark.only("postgresql")
async def test_where_the_ledger_cannot_be_written_the_backup_succeeds_and_says_so(
    databases: Databases, url: str, tmp_path: Path
) -> None:
    read_only = f'ALTER DATABASE "{name_of(url)}" SET default_transaction_read_only'
    await databases.execute(f"{read_only} = on")
    process = run_migrations(url, "backup", str(tmp_path))
    assert process.returncode == 0
    assert "the backup is not recorded in migration_log: cannot execute INSERT" in process.stderr


async def test_a_directory_that_cannot_be_written_is_reported_in_one_line(
    url: str, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    process = run_migrations(url, "backup", str(tmp_path / "file" / "inside"))
    assert process.returncode == 2
    assert process.stderr.startswith("FAILED: can't write a backup to ")
    assert "Not a directory" in process.stderr
    assert "Traceback" not in process.stderr


async def test_a_disk_that_is_full_leaves_no_file(
    url: str, engine: AsyncEngine, tmp_path: Path
) -> None:
    await insert_users(engine, 3_000)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, before[1]))  # a write beyond it fails
    try:
        process = await start_migrations(url, "backup", str(tmp_path))
        output, _ = await process.communicate()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert process.returncode == 2
    assert output.startswith(b"FAILED: ")
    assert output.count(b"\n") == 1
    assert files(tmp_path) == []


@pytest.mark.only("postgresql")
async def test_a_role_that_may_not_read_everything_makes_no_backup(
    databases: Databases, url: str, tmp_path: Path
) -> None:
    role = f"reader_of_{name_of(url)}"
    await databases.execute(f"CREATE ROLE {role} LOGIN")
    process = run_migrations(url.replace("postgres@", f"{role}@"), "backup", str(tmp_path))
    assert process.returncode == 2
    assert "use the one that owns the tables" in process.stderr
    assert files(tmp_path) == []
    await databases.execute(f"DROP ROLE {role}")


@pytest.fixture
def interruptible() -> Iterator[None]:
    """Let SIGINT reach the processes that a test starts.

    A shell starts jobs in the background with SIGINT ignored, and all their children inherit that.
    """
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.only("postgresql")
@pytest.mark.usefixtures("interruptible")
async def test_an_interrupted_backup_leaves_no_file(
    url: str, engine: AsyncEngine, driver: Any, tmp_path: Path
) -> None:
    async with driver.transaction():
        await driver.execute("LOCK TABLE users")
        process = await start_migrations(url, "backup", str(tmp_path))
        await wait_until_blocked(engine)
        process.send_signal(signal.SIGINT)
        output, _ = await process.communicate()
    assert process.returncode == 2
    assert output.decode() == "FAILED: interrupted before the backup was complete and verified\n"
    assert files(tmp_path) == []


async def test_a_backup_that_is_cancelled_ends_and_leaves_no_file(url: str, tmp_path: Path) -> None:
    async with environment(url) as users:
        backing_up = asyncio.create_task(backup.back_up(users, tmp_path, verify=False))
        while not files(tmp_path):
            await asyncio.sleep(0)
        backing_up.cancel()
        with pytest.raises(asyncio.CancelledError):
            await backing_up
    assert files(tmp_path) == []


async def test_work_that_a_cancellation_came_too_late_to_stop_is_reported_as_done() -> None:
    started = threading.Event()

    def work(stop: threading.Event) -> None:
        started.set()
        stop.wait()

    async def report() -> str:
        with finishing():
            await sqlite_files.in_thread(work)
        return "done"

    task = asyncio.create_task(report())
    await asyncio.to_thread(started.wait)
    task.cancel()
    assert await task == "done"
    assert task.cancelling() == 0

    unprotected = asyncio.create_task(sqlite_files.in_thread(work))
    await asyncio.sleep(0)
    unprotected.cancel()
    with pytest.raises(asyncio.CancelledError):
        await unprotected


@pytest.mark.only("postgresql")
async def test_a_script_that_is_cancelled_while_psql_finishes_is_known_to_be_done(
    url: str, engine: AsyncEngine, tmp_path: Path
) -> None:
    started, release = tmp_path / "started", tmp_path / "release"
    os.mkfifo(started)
    os.mkfifo(release)
    (tmp_path / "script").write_text(
        "INSERT INTO users (full_name) VALUES ('Ada');\n"
        # psql lets SIGINT pass while it waits for a shell
        f"\\! echo >{started}; cat {release}\n"
    )

    async def run() -> None:
        cat = Path("/bin/cat")
        async with programs.running(
            cat, str(tmp_path / "script"), stdout=asyncio.subprocess.PIPE
        ) as script:
            await programs.run_script(script, url, major=18)

    task = asyncio.create_task(run())
    await asyncio.to_thread(started.read_bytes)
    task.cancel()
    await asyncio.to_thread(release.write_bytes, b"")
    with pytest.raises(CancelledTooLate):
        await task
    assert await query(engine, "SELECT full_name FROM users") == [("Ada",)]


@pytest.mark.only("postgresql")
async def test_the_password_stands_on_no_command_line_and_in_no_output(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = tmp_path / "programs"
    directory.mkdir()
    for name in ("pg_dump", "pg_restore", "psql"):
        real = programs.find_program(name, 18)
        (directory / name).write_text(
            f'#!/bin/bash\ntr "\\0" " " </proc/$$/cmdline >>{tmp_path}/command_lines\n'
            f'echo "$PGPASSWORD" >>{tmp_path}/password\nexec {real} "$@"\n'
        )
        (directory / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{directory}:{os.environ['PATH']}")
    secret = url.replace("postgres@", "postgres:hunter2@")
    backed_up = run_migrations(secret, "backup", str(tmp_path / "backups"), "--json")
    file = json.loads(backed_up.stdout)["file"]
    for process in (backed_up, run_migrations(secret, "restore", file, "--replace")):
        assert process.returncode == 0, process.stderr
        assert "hunter2" not in process.stdout + process.stderr
    command_lines = (tmp_path / "command_lines").read_text()
    assert "--snapshot=" in command_lines
    assert "ON_ERROR_STOP" in command_lines
    assert "hunter2" not in command_lines
    # twice: pg_restore reads a file without a password
    assert (tmp_path / "password").read_text().count("hunter2") == 2


@pytest.mark.only("postgresql")
async def test_a_database_that_is_in_use_can_be_cloned(
    databases: Databases, url: str, engine: AsyncEngine
) -> None:
    await insert_users(engine, 1_000)
    copy, arrived = await databases.empty(), 0

    def advance(rows: int) -> None:
        nonlocal arrived
        arrived += rows

    async with engine.connect() as user:
        await user.exec_driver_sql("SELECT count(*) FROM users")
        await programs.clone(url, copy, advance)
    assert await contents(copy) == await contents(url)
    assert arrived > 1_000
    with pytest.raises(CommandError, match=r'psql: .* "at_0001" already exists'):
        await programs.clone(url, copy)
    await databases.drop(copy)


def test_a_program_that_is_too_old_is_named_with_what_to_install() -> None:
    program = programs.find_program("pg_dump", 18)
    with pytest.raises(CommandError) as refusal:
        programs.find_program("pg_dump", 99)
    assert f"{program}, of PostgreSQL 18" in str(refusal.value)
    assert "postgresql-client-99" in str(refusal.value)


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        (
            "postgresql://o%40k:p%2Fw@[::1]:5433/us?sslmode=require",
            {
                "PGHOST": "::1",
                "PGPORT": "5433",
                "PGUSER": "o@k",
                "PGPASSWORD": "p/w",
                "PGDATABASE": "us",
                "PGSSLMODE": "require",
            },
        ),
        (
            "postgresql://a,b:5433/us?target_session_attrs=primary&options=-c%20geqo%3Doff",
            {
                "PGHOST": "a,b",
                "PGPORT": "5432,5433",
                "PGDATABASE": "us",
                "PGTARGETSESSIONATTRS": "primary",
                "PGOPTIONS": "-c geqo=off",
            },
        ),
        (
            "postgresql://me@/us?host=/run/x",
            {"PGHOST": "/run/x", "PGUSER": "me", "PGDATABASE": "us"},
        ),
    ],
)
def test_a_program_connects_where_the_url_leads(url: str, expected: dict[str, str]) -> None:
    variables = programs.connection_variables(url)
    assert variables.pop("PGCONNECT_TIMEOUT")
    assert variables == expected


async def test_where_a_backup_differs_from_the_database_is_reported(
    databases: Databases, url: str, engine: AsyncEngine, dump: Dump
) -> None:
    await insert_users(engine, 10)
    file = await dump()
    await write(engine, "DELETE FROM users WHERE id = 10")
    await write(engine, "CREATE INDEX surprise ON users (age)")
    await write(engine, "UPDATE alembic_version SET version_num = '0001'")
    await write(engine, "CREATE TABLE another (id int)")
    async with environment(url) as users:
        differences = await backup.compare(
            users, file, await databases.empty(), None, await contents(url)
        )
    index, table, *others = (words for words in differences if "migration_log" not in words)
    assert index.startswith("schema: index surprise: is gone")
    assert table.startswith("schema: table another: is gone")
    assert others == [
        "table alembic_version: some of its 1 rows differ",
        "table another: is only in the database",
        "table users: 9 rows in the database, 10 in the backup",
    ]


@pytest.mark.only("sqlite")  # where it is quick
async def test_a_backup_that_differs_loses_its_name(
    url: str, engine: AsyncEngine, dump: Dump
) -> None:
    file = await dump()
    await insert_users(engine, 10)
    unverified = backup.Backup(file, 1, 1, HEAD, 1, 1)
    async with environment(url) as users:
        result = await backup.verified(users, unverified, await contents(url))
    assert result.verified is False
    assert "verification failed: table " in result.words()
    assert files(file.parent) == [result.file]
    assert result.file.name == f"{file.name}.failed"


def test_a_sequence_that_would_give_a_number_again_is_reported() -> None:
    ahead, behind = (Fingerprint(HEAD, {}, {}, {"users_id_seq": n}) for n in (7, 5))
    assert fingerprint.differences(behind, ahead) == []
    assert fingerprint.differences(ahead, behind) == [
        "sequence users_id_seq: has reached 7 in the database, 5 in the backup"
    ]


@pytest.mark.only("postgresql")
async def test_where_no_server_of_its_version_is_at_hand_a_backup_is_tried_beside_the_database(
    databases: Databases, url: str, engine: AsyncEngine, dump: Dump
) -> None:
    await insert_users(engine, 10)
    file = await dump()
    expected = await contents(url)
    async with connected(url) as migrating, autocommit_of(migrating) as connection:
        async with scratch.neighbour(connection, migrating.url) as neighbour:
            await into_scratch(file, neighbour)
            restored = await contents(neighbour)
        names = "SELECT count(*) FROM pg_database WHERE datname ~ 'scratch'"
        assert await query(engine, names) == [(0,)]
    differences = fingerprint.differences(expected, restored)
    assert [words for words in differences if "migration_log" not in words] == []

    role = f"poor_{name_of(url)}"
    await databases.execute(f"CREATE ROLE {role} LOGIN")
    poor_url = url.replace("postgres@", f"{role}@")
    async with connected(poor_url) as poor, autocommit_of(poor) as connection:
        with pytest.raises(CommandError, match="give the role CREATEDB"):
            async with scratch.neighbour(connection, poor.url):
                raise AssertionError
    await databases.execute(f"DROP ROLE {role}")


async def test_without_scratch_databases_nothing_is_written_that_was_to_be_verified(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Images for production leave safely/scratch out."""
    monkeypatch.setitem(sys.modules, "safely.scratch.databases", None)
    async with environment(url) as users:
        with pytest.raises(CommandError, match="needs the directory safely/scratch"):
            await backup.back_up(users, tmp_path, verify=True)
    assert files(tmp_path) == []


async def test_a_database_with_several_heads_is_refused_in_words(
    url: str, engine: AsyncEngine, tmp_path: Path
) -> None:
    await write(engine, "INSERT INTO alembic_version VALUES ('ae1027a6acf1')")
    process = run_migrations(url, "backup", str(tmp_path))
    assert process.returncode == 2
    assert f"the database is at 2 heads, {HEAD}, ae1027a6acf1: merge them" in process.stderr
    assert files(tmp_path) == []


async def test_a_backup_of_several_heads_is_restored_and_says_so(
    url: str, engine: AsyncEngine, tmp_path: Path
) -> None:
    """Other programs than ours make such backups."""
    await write(engine, "INSERT INTO alembic_version VALUES ('ae1027a6acf1')")
    file = tmp_path / "two_heads"
    if engine.dialect.name == "postgresql":
        options = ("--format=custom", f"--file={file}")
        async with programs.running(
            programs.find_program("pg_dump", 18), *options, url=url
        ) as pg_dump:
            await pg_dump.finish()
    else:
        with closing(sqlite3.connect(path_of(url))) as connection:
            connection.execute(f"VACUUM INTO '{file}'")
    async with environment(url) as users:
        restored = await restore(users, file, replace=True, other_version=False)
    assert restored.revision == f"{HEAD}, ae1027a6acf1"


ORDERS = sa.Table("orders", sa.MetaData(), sa.Column("id", sa.Integer), schema="shop")
SHOP = Project(name="shop", metadata=ORDERS.metadata)


@pytest.mark.only("postgresql")
async def test_a_project_in_a_schema_of_its_own_is_backed_up_verified_and_restored(
    empty_url: str, empty: AsyncEngine, tmp_path: Path
) -> None:
    """Its revision ids are hashes, and its version table has a name and a schema of its own."""
    options = {"version_table": "Shop version", "version_table_schema": "meta"}
    for statement in (
        "CREATE SCHEMA shop",
        "CREATE SCHEMA meta",
        'CREATE TABLE meta."Shop version" (version_num varchar(32) PRIMARY KEY)',
    ):
        await write(empty, statement)
    async with environment(empty_url, SHOP, **options) as shop:
        assert await backup.back_up(shop, tmp_path, verify=False) is None  # it is empty
    for statement in (
        "CREATE TABLE shop.orders (id serial PRIMARY KEY, note text)",
        "INSERT INTO shop.orders (note) SELECT 'a:b ' || n FROM generate_series(1, 50) AS n",
        "CREATE TABLE unrelated (id int)",
        "INSERT INTO meta.\"Shop version\" VALUES ('ae1027a6acf1')",
    ):
        await write(empty, statement)
    before = await contents(empty_url, SHOP, **options)
    assert before.tables.keys() == {"orders", "public.unrelated", 'meta."Shop version"'}
    assert before.sequences == {"orders_id_seq": 50}

    async with environment(empty_url, SHOP, **options) as shop:
        result = await backup.back_up(shop, tmp_path, verify=True)
        assert result is not None
        assert (result.verified, result.differences) == (True, [])
        assert result.revision == "ae1027a6acf1"
        assert re.fullmatch(r"shop-\d{8}T\d{6}Z\.dump", result.file.name)

        await write(empty, "DELETE FROM shop.orders")
        await write(empty, "CREATE TABLE shop.more (id int)")
        other = await asyncpg.connect(empty_url, server_settings={"application_name": "users@0009"})
        build = await asyncpg.connect(
            empty_url, server_settings={"application_name": "shop@ae1027a6acf1"}
        )
        with pytest.raises(CommandError, match=r"^shop@ae1027a6acf1 \(1\) connected: stop the app"):
            await restore(shop, result.file, replace=True, other_version=False)
        await build.close()
        restored = await restore(shop, result.file, replace=True, other_version=False)
        await other.close()
    assert restored.revision == "ae1027a6acf1"
    assert await contents(empty_url, SHOP, **options) == before


async def test_a_backup_comes_before_the_first_step_and_only_where_there_is_one(
    url: str, engine: AsyncEngine, tmp_path: Path
) -> None:
    directory = ("-x", f"backup={tmp_path}")
    assert "nothing to do" in run_alembic(url, *directory, "upgrade", "head").stderr
    assert files(tmp_path) == []
    await write(engine, "INSERT INTO users (full_name) VALUES ('Ada')")
    log = run_alembic(url, *directory, "downgrade", "-1").stderr
    (file,) = files(tmp_path)
    assert log.index(f"backed up: {file.name}") < log.index("Running downgrade")
    steps = [(direction, revision) for direction, revision, *_ in await query(engine, LEDGER)]
    assert steps[-2:] == [("backup", HEAD), ("downgrade", HEAD)]
    await restore_backup(url, file)
    assert await revision_of(engine) == HEAD


@pytest.mark.only("sqlite")  # where it is quick
async def test_before_a_migration_too_a_backup_can_be_verified(url: str, tmp_path: Path) -> None:
    directory = ("-x", f"backup={tmp_path}")
    log = run_alembic(url, *directory, "-x", "verify=yes", "downgrade", "-1").stderr
    assert ", verified: " in log


async def test_the_first_migration_of_all_needs_no_backup(
    empty_url: str, empty: AsyncEngine, tmp_path: Path
) -> None:
    log = run_alembic(empty_url, "-x", f"backup={tmp_path}", "upgrade", "0001").stderr
    assert "no backup: the database is empty" in log
    assert await revision_of(empty) == "0001"


@pytest.mark.only("sqlite")  # where it is quick
async def test_without_its_backup_nothing_is_migrated(url: str, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    refused = {
        ("-x", f"backup={tmp_path}/file/inside", "downgrade", "-1"): "can't write a backup",
        ("-x", "backup", "downgrade", "-1"): "say -x backup=DIRECTORY",
        ("-x", "verify=yes", "downgrade", "-1"): "say -x backup=DIRECTORY",
        ("-x", "backup=b", "downgrade", f"{HEAD}:{PREVIOUS}", "--sql"): "leave it out",
    }
    before = await contents(url)
    for command, words in refused.items():
        process = run_alembic(url, *command, check=False)
        assert process.returncode != 0
        assert words in process.stdout
    assert await contents(url) == before


def edited(file: Path, pattern: bytes, replacement: bytes) -> Path:
    """Return a copy of a dump with another header."""
    content, times = re.subn(pattern, replacement, file.read_bytes(), count=1)
    assert times == 1
    copy = file.with_name("edited.dump")
    copy.write_bytes(content)
    return copy


async def test_a_damaged_backup_is_refused_and_nothing_is_touched(
    url: str, engine: AsyncEngine, dump: Dump
) -> None:
    await insert_users(engine, 1_000)
    file = await dump()
    before, content = await contents(url), file.read_bytes()
    short = file.with_name("short")
    for length in (0, 4, 90, len(content) // 2, len(content) - 4096, len(content) - 1):
        short.write_bytes(content[:length])
        with pytest.raises(CommandError, match=r"cut off|is not a backup"):
            await restore_backup(url, short)
    damaged = bytearray(content)
    middle = len(content) // 2
    damaged[middle : middle + 100] = bytes(100)
    short.write_bytes(damaged)
    with pytest.raises(CommandError, match="damaged or cut off"):
        await restore_backup(url, short)
    assert await contents(url) == before


@pytest.mark.only("postgresql")
async def test_a_dump_of_another_version_is_refused_before_anything_is_touched(
    url: str, dump: Dump
) -> None:
    file = await dump()
    before = await contents(url)
    newer = edited(file, rb"\0\0\0\d\d\.", b"\0\0\00099.")
    with pytest.raises(CommandError, match="is of PostgreSQL 99, and this server is 18"):
        await restore_backup(url, newer, other=True)
    older = edited(file, rb"\0\0\0\d\d\.", b"\0\0\00014.")
    with pytest.raises(CommandError, match=r"PostgreSQL 14.* say --other-version"):
        await restore_backup(url, older)
    format_of_tomorrow = edited(file, rb"^PGDMP..", b"PGDMP\x01\x63")
    process = run_migrations(url, "restore", str(format_of_tomorrow), "--replace")
    assert process.returncode == 2
    assert "was written by a newer pg_dump than" in process.stderr
    assert "install PostgreSQL's client programs" in process.stderr
    assert await contents(url) == before
    older = edited(file, rb"\0\0\0\d\d\.", b"\0\0\00014.")
    await restore_backup(url, older, other=True)


async def test_a_backup_goes_back_to_the_kind_of_database_it_is_of(
    databases: Databases, all_databases: dict[str, Databases], url: str, tmp_path: Path
) -> None:
    (other,) = (one for kind, one in all_databases.items() if kind != databases.kind)
    elsewhere = await other.at_head()
    assert run_migrations(elsewhere, "backup", str(tmp_path)).returncode == 0
    (file,) = files(tmp_path)
    before = await contents(url)
    process = run_migrations(url, "restore", str(file), "--replace")
    assert process.returncode == 2
    assert re.search(r"is a backup of (\S+), and the database is (?!\1)", process.stderr)
    script, missing, odd = tmp_path / "a.sql", tmp_path / "missing", tmp_path / "odd"
    script.write_text("-- PostgreSQL database dump")
    odd.write_text("users!")
    for path, words in (
        (script, "is an SQL script"),
        (missing, "can't read"),
        (odd, "is not a backup"),
    ):
        with pytest.raises(CommandError, match=words):
            await restore_backup(url, path)
    assert await contents(url) == before
    await other.drop(elsewhere)


async def test_a_database_that_is_not_empty_is_replaced_only_on_request(
    url: str, engine: AsyncEngine, dump: Dump
) -> None:
    file = await dump()
    expected = (await contents(url)).tables["users"]
    await insert_users(engine, 5)
    await write(engine, "CREATE VIEW names AS SELECT full_name FROM users")
    before = await contents(url)
    with pytest.raises(CommandError, match=r"not empty: there is table .* say --replace"):
        await restore_backup(url, file, replace=False)
    assert await contents(url) == before

    await restore_backup(url, file)
    after = await contents(url)
    assert after.tables["users"] == expected
    assert not any("names" in name for name in after.schema)
    # by an engine that was connected before
    assert await query(engine, "SELECT count(*) FROM users") == [(0,)]


@pytest.mark.only("postgresql")
async def test_everything_of_every_kind_is_replaced(
    url: str, engine: AsyncEngine, dump: Dump
) -> None:
    file = await dump()
    before = await contents(url)
    for statement in (
        "CREATE TYPE mood AS ENUM ('happy')",
        "CREATE DOMAIN weight AS int",
        "CREATE FUNCTION feel(mood) RETURNS int LANGUAGE sql AS 'SELECT 1'",
        "CREATE AGGREGATE total (int) (sfunc = int4pl, stype = int)",
        "CREATE SEQUENCE counter",
        "CREATE TABLE visits (day date) PARTITION BY RANGE (day)",
        "CREATE TABLE visits_2020 PARTITION OF visits FOR VALUES FROM ('2020-01-01') TO "
        "('2021-01-01')",
        "CREATE MATERIALIZED VIEW everybody AS SELECT * FROM users",
        "CREATE COLLATION plain (locale = 'C')",
        "CREATE OPERATOR === (leftarg = int, rightarg = int, function = int4eq)",
        "CREATE EXTENSION citext",
        "CREATE SCHEMA theirs",
        "CREATE TABLE theirs.things (id serial, word citext)",
        "SELECT lo_from_bytea(0, 'abc')",
    ):
        await write(engine, statement)
    assert (await contents(url)).schema != before.schema
    await restore_backup(url, file)
    after = await contents(url)
    assert after.schema == before.schema
    assert after.tables.keys() == before.tables.keys()
    assert await query(engine, "SELECT count(*) FROM pg_largeobject_metadata") == [(0,)]
    assert await query(engine, "SELECT count(*) FROM pg_type WHERE typname = 'citext'") == [(1,)]


@pytest.mark.only("postgresql")
async def test_a_restore_that_fails_midway_leaves_everything_as_it_was(
    databases: Databases, engine: AsyncEngine, dump: Dump
) -> None:
    """The last object in the dump can be made by superusers only."""
    await write(engine, "CREATE FUNCTION watch() RETURNS event_trigger LANGUAGE plpgsql AS "
                "'BEGIN END'")  # fmt: skip
    await write(engine, "CREATE EVENT TRIGGER watching ON sql_drop EXECUTE FUNCTION watch()")
    file = await dump()
    async with two_roles(databases) as (owner, app):
        run_alembic(owner, "upgrade", "head", APP_ROLE=app)
        before = await contents(owner)
        process = run_migrations(owner, "restore", str(file), "--replace")
        assert process.returncode == 2
        assert "permission denied to create event trigger" in process.stderr
        assert await contents(owner) == before


@pytest.mark.only("postgresql")
async def test_a_killed_restore_leaves_everything_as_it_was(
    url: str, engine: AsyncEngine, driver: Any, dump: Dump
) -> None:
    file = await dump()
    await insert_users(engine, 10)
    before = await contents(url)
    async with driver.transaction():
        await driver.execute("SELECT FROM users")
        process = await start_migrations(url, "restore", str(file), "--replace")
        await wait_until_blocked(engine)
        process.kill()
        await process.communicate()
    await wait_until_disconnected(engine)
    assert await contents(url) == before


@pytest.mark.only("postgresql")
async def test_a_build_that_connects_meanwhile_stops_a_restore(
    url: str, engine: AsyncEngine, driver: Any, dump: Dump
) -> None:
    file = await dump()
    before = await contents(url)
    async with driver.transaction():
        await driver.execute("SELECT FROM users")
        process = await start_migrations(url, "restore", str(file), "--replace")
        await wait_until_blocked(engine)
        service = await asyncpg.connect(url, server_settings={"application_name": "users@0009"})
    output, _ = await process.communicate()
    await service.close()
    assert process.returncode == 2
    assert "a build has connected meanwhile: stop the application first" in output.decode()
    assert await contents(url) == before


@pytest.mark.only("sqlite")
async def test_a_restore_that_stops_midway_leaves_the_file_as_it_was(
    url: str, engine: AsyncEngine, dump: Dump
) -> None:
    await write(engine, "CREATE TABLE big (content BLOB)")
    await write(engine, "INSERT INTO big VALUES (zeroblob(9000000)), (zeroblob(9000000))")
    file = await dump()
    await write(engine, "DELETE FROM big")
    await insert_users(engine, 10)
    before = await contents(url)

    def stop(_: int) -> None:
        raise CommandError("here")

    with pytest.raises(CommandError, match="here"):
        await sqlite_files.restore(file, path_of(url), stop)
    assert await contents(url) == before
    await restore_backup(url, file)
    assert await query(engine, "SELECT count(*) FROM big") == [(2,)]


@pytest.mark.only("sqlite")
async def test_a_file_that_is_no_database_any_more_is_not_written_into(dump: Dump) -> None:
    file = await dump()
    broken = file.with_name("broken.sqlite")
    broken.write_bytes(b"not a database at all, " * 100)
    with pytest.raises(CommandError, match="Move it away"):
        await restore_backup(f"sqlite:///{broken}", file)
    assert broken.read_bytes().startswith(b"not a database")


@pytest.mark.only("postgresql")
async def test_nothing_is_restored_while_a_build_is_connected_or_a_migrator_runs(
    url: str, driver: Any, dump: Dump
) -> None:
    file = await dump()
    before = await contents(url)
    build = await asyncpg.connect(url, server_settings={"application_name": f"users@{HEAD}"})
    with pytest.raises(
        CommandError, match=rf"users@{HEAD} \(1\) connected: stop the application first"
    ):
        await restore_backup(url, file)
    await build.close()
    await driver.execute(f"SELECT pg_advisory_lock({lock_key('users')})")
    with pytest.raises(CommandError, match="another migrator is at work"):
        await restore_backup(url, file)
    assert await contents(url) == before


@asynccontextmanager
async def two_roles(databases: Databases) -> AsyncIterator[tuple[str, str]]:
    """Yield the address of a database for its owner, and the role of the service (compose.yaml)."""
    url = await databases.empty()
    owner, app = f"owner_of_{name_of(url)}", f"app_of_{name_of(url)}"
    for statement in (
        f"CREATE ROLE {owner} LOGIN",
        f"CREATE ROLE {app} LOGIN",
        f'ALTER DATABASE "{name_of(url)}" OWNER TO {owner}',
    ):
        await databases.execute(statement)
    connection = await asyncpg.connect(url)
    await connection.execute("REVOKE ALL ON SCHEMA public FROM PUBLIC")
    await connection.close()
    yield url.replace("postgres@", f"{owner}@"), app
    await databases.drop(url)
    await databases.execute(f"DROP ROLE {owner}")
    await databases.execute(f"DROP ROLE {app}")


@pytest.mark.only("postgresql")
async def test_the_owner_restores_with_the_rights_of_the_services_role(
    databases: Databases, tmp_path: Path
) -> None:
    async with two_roles(databases) as (url, app):
        run_alembic(url, "upgrade", "head", APP_ROLE=app)
        before = await contents(url)
        async with environment(url) as users:
            result = await backup.back_up(users, tmp_path, verify=False)
        assert result is not None
        owner, service = engine_for(url), engine_for(re.sub("//[^@]+@", f"//{app}@", url))
        await write(owner, f"DROP SCHEMA at_{HEAD} CASCADE")
        await write(owner, "DROP TABLE users CASCADE")
        await restore_backup(url, result.file)
        assert await contents(url) == before
        owners = "SELECT DISTINCT tableowner FROM pg_tables WHERE schemaname = 'public'"
        assert await query(owner, owners) == [(f"owner_of_{name_of(url)}",)]
        assert await query(service, f"SELECT count(*) FROM at_{HEAD}.users") == [(0,)]
        with pytest.raises(Exception, match="permission denied"):
            await query(service, "SELECT count(*) FROM public.users")
        await owner.dispose()
        await service.dispose()


@pytest.mark.only("postgresql")
async def test_a_scratch_database_gets_the_roles_that_are_missing_there(
    databases: Databases, url: str, engine: AsyncEngine, dump: Dump
) -> None:
    role = f'odd "{name_of(url)}'
    quoted = '"{}"'.format(role.replace('"', '""'))
    await databases.execute(f"CREATE ROLE {quoted}")
    await write(engine, f"GRANT SELECT ON users TO {quoted}")
    file, before = await dump(), await contents(url)
    await write(engine, f"REVOKE ALL ON users FROM {quoted}")
    await databases.execute(f"DROP ROLE {quoted}")
    copy = await databases.empty()
    await into_scratch(file, copy)
    assert (await contents(copy)).schema == before.schema
    login = "SELECT rolcanlogin FROM pg_roles WHERE rolname = :role"
    assert await query(engine, login, role=role) == [(False,)]
    await databases.drop(copy)
    await databases.execute(f"DROP ROLE {quoted}")


@pytest.mark.only("postgresql")
async def test_rights_for_a_role_that_is_missing_are_named_before_anything_is_touched(
    databases: Databases, url: str, engine: AsyncEngine, dump: Dump
) -> None:
    role = f"gone {name_of(url)}"
    await databases.execute(f'CREATE ROLE "{role}"')
    await write(engine, f'GRANT SELECT ON users TO "{role}"')
    file = await dump()
    await write(engine, f'REVOKE ALL ON users FROM "{role}"')
    await databases.execute(f'DROP ROLE "{role}"')
    before = await contents(url)
    with pytest.raises(CommandError, match=f"are for {role}, which this server"):
        await restore_backup(url, file)
    assert await contents(url) == before


def test_the_roles_of_a_script_are_those_that_get_or_lose_something() -> None:
    script = """\
-- Name: users; Type: ACL; GRANT ALL TO nobody;
GRANT SELECT ON TABLE public.users TO plain;
GRANT SELECT(age) ON TABLE public."to whom" TO "odd ""role" WITH GRANT OPTION;
REVOKE ALL ON FUNCTION public.f() FROM PUBLIC;
ALTER DEFAULT PRIVILEGES FOR ROLE owner IN SCHEMA public REVOKE ALL ON TABLES FROM reader;
SET SESSION AUTHORIZATION giver;
CREATE POLICY p ON public.users TO one, "2nd" USING ((age IS DISTINCT FROM full_name));
"""
    assert roles_in(script) == {"plain", 'odd "role', "owner", "reader", "giver", "one", "2nd"}
